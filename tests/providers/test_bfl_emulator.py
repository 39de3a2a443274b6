"""BFL's emulator against the protocol sheet of BFL (cited as "bfl sheet §5"), over real sockets."""

import base64
import hashlib
import io
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from anykontext.sandbox import Sandbox
from anykontext_bfl.emulator import Emulator

pytestmark = pytest.mark.sandbox


# Verbatim payloads of bfl sheet §10 (number: source).
SUBMITTED = json.loads(  # 2: recorded 2025-12-18, flux-dev; Kontext has this shape
    '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","polling_url":"https://api.eu4.bfl.ai/v1/get_result?id='
    '4ca5b657-4b04-4afc-9c4b-7445c578d324","cost":null,"input_mp":null,"output_mp":null}'
)
PENDING = json.loads(  # 5: recorded
    '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","status":"Pending","result":null,"progress":0.1,'
    '"details":null,"preview":null}'
)
READY = json.loads(  # 7: recorded, flux-dev
    '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","status":"Ready","result":{"sample":"https://'
    "bfldeliveryprodeu4.blob.core.windows.net/results/8e/3470338ce49379/8ce49379183c4d1eaf3900e161a9839e/"
    "sample.jpeg?se=2025-12-18T15%3A49%3A07Z&sp=r&sv=2024-11-04&sr=b&rsct=image/jpeg&sig="
    'TCGRVM3fn0TzwZwvuRPy5uRe2ySXpdoQgJJebQcaINw%3D","prompt":"...","seed":42,"start_time":1766072345.188173,'
    '"end_time":1766072347.676069,"duration":2.487895965576172},"progress":null,"details":null,"preview":null}'
)
MODERATED = json.loads(  # 10: a real body of BFL in vercel/ai's tests
    '{"id":"fe7256d1-50d9-4663-8592-85eaf002e80c","status":"Request Moderated","result":null,"progress":null,'
    '"details":{"Moderation Reasons":["Derivative Works Filter"]},"preview":null}'
)
WRONG_KEY = {"detail": "Not authenticated - Invalid Authentication"}  # 12: recorded
MALFORMED_KEY = {"detail": "Invalid API key format"}  # 13: recorded
TOO_LARGE = json.loads(  # 14: recorded, of another endpoint
    '{"detail":[{"type":"less_than_equal","loc":["body","upscale_factor"],"msg":"Input should be less than or '
    'equal to 3","input":5,"ctx":{"le":3.0}}]}'
)
MISSING = json.loads(  # 15: recorded, of another endpoint
    '{"detail":[{"type":"missing","loc":["body","input_video"],"msg":"Field required","input":{"upscale_factor":2}}]}'
)
UNKNOWN_PATH = {"detail": "Not Found"}  # 16: recorded
WEBHOOK = json.loads(  # 20: the shape of the OpenAPI
    '{"id":"<string>","status":"<string>","webhook_url":"<string>","cost":null,"input_mp":null,"output_mp":null}'
)


def photo(width: int = 96, height: int = 64, image_format: str = "jpeg") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(buffer, image_format)
    return buffer.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def shape(value: Any) -> Any:
    """The keys in their order, and the types of the values."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    return type(value).__name__


class Bfl:
    """Speaks to the emulator as a client would; tasks end when its clock is moved."""

    def __init__(self, emulator: Emulator, client: httpx.Client) -> None:
        self.emulator, self.client = emulator, client

    def post(self, body: Any, model: str = "flux-kontext-pro", key: str | None = "sandbox") -> httpx.Response:
        headers = {} if key is None else {"x-key": key}
        return self.client.post(f"{self.emulator.origins['api']}/v1/{model}", json=body, headers=headers)

    def submit(self, model: str = "flux-kontext-pro", **fields: Any) -> str:
        reply = self.post({"prompt": "make it blue", **fields}, model)
        return str(reply.raise_for_status().json()["polling_url"])

    def finish(self, polling_url: str) -> dict[str, Any]:
        self.emulator.advance(self.emulator.seconds)
        reply: dict[str, Any] = self.client.get(polling_url).json()
        return reply

    def credits(self, key: str | None = "sandbox") -> httpx.Response:
        headers = {} if key is None else {"x-key": key}
        return self.client.get(f"{self.emulator.origins['api']}/v1/credits", headers=headers)


@pytest.fixture
def bfl() -> Iterator[Bfl]:
    with (
        Sandbox(providers=["bfl"], seconds=1000) as sandbox,
        httpx.Client(trust_env=False, timeout=10, verify=False) as client,
    ):
        emulator = sandbox.emulators["bfl"]
        assert isinstance(emulator, Emulator)
        emulator.megapixels = 0.02
        yield Bfl(emulator, client)


# Submits


def test_a_submit_has_the_recorded_shape_and_polls_on_another_host(bfl: Bfl) -> None:
    reply = bfl.post({"prompt": "a cat"})

    assert reply.status_code == 200
    assert shape(reply.json()) == shape(SUBMITTED)
    assert uuid.UUID(reply.json()["id"]).version == 4
    assert reply.json()["polling_url"] == f"{bfl.emulator.origins['region']}/v1/get_result?id={reply.json()['id']}"


def test_a_webhook_takes_the_polling_url_away(bfl: Bfl) -> None:
    reply = bfl.post({"prompt": "a cat", "webhook_url": "https://example.com/hook"}).json()

    assert shape(reply) == shape(WEBHOOK)
    assert reply["webhook_url"] == "https://example.com/hook"


@pytest.mark.parametrize(
    ("key", "status", "reply"),
    [
        ("bfl_wrong", 403, WRONG_KEY),
        ("x", 422, MALFORMED_KEY),
        ("a key with spaces", 422, MALFORMED_KEY),
        (None, 403, {"detail": "Not authenticated"}),
    ],
)
def test_a_bad_key_is_refused_everywhere_on_the_api(bfl: Bfl, key: str | None, status: int, reply: Any) -> None:
    for refused in (bfl.post({"prompt": "a cat"}, key=key), bfl.credits(key)):
        assert (refused.status_code, refused.json()) == (status, reply)


def test_both_keys_of_the_sandbox_are_good_and_have_limits_of_their_own(bfl: Bfl) -> None:
    for key in ("sandbox", "sandbox:sandbox"):
        assert [bfl.post({"prompt": "x"}, key=key).status_code for _ in range(25)] == [200] * 24 + [429]


def test_an_unknown_path_is_not_found(bfl: Bfl) -> None:
    reply = bfl.post({"prompt": "a cat"}, "flux-kontext")

    assert (reply.status_code, reply.json()) == (404, UNKNOWN_PATH)


def test_a_missing_field_echoes_the_whole_body_with_its_image(bfl: Bfl) -> None:
    body = {"input_image": base64_of(photo())}
    reply = bfl.post(body)

    assert reply.status_code == 422
    assert shape(reply.json()) == shape(MISSING)
    assert reply.json()["detail"] == [
        {"type": "missing", "loc": ["body", "prompt"], "msg": "Field required", "input": body}
    ]


def test_a_value_out_of_range_is_explained_as_recorded(bfl: Bfl) -> None:
    reply = bfl.post({"prompt": "a cat", "safety_tolerance": 7})
    expected = {
        **TOO_LARGE["detail"][0],
        "loc": ["body", "safety_tolerance"],
        "msg": "Input should be less than or equal to 6",
        "input": 7,
        "ctx": {"le": 6},
    }

    assert (reply.status_code, reply.json()) == (422, {"detail": [expected]})


@pytest.mark.parametrize("raw", [b"{", b"\xff", b""])
def test_what_is_no_json_is_refused_before_the_key_is_read(bfl: Bfl, raw: bytes) -> None:
    url = f"{bfl.emulator.origins['api']}/v1/flux-kontext-pro"
    reply = bfl.client.post(url, content=raw, headers={"x-key": "sandbox"})

    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize(
    ("ratio", "status"),
    [("21:9", 200), ("7:3", 200), ("3:7", 200), ("1:1", 200), ("22:9", 422), ("1:3", 422), ("wide", 422)],
)
def test_an_aspect_ratio_lies_between_21_9_and_9_21(bfl: Bfl, ratio: str, status: int) -> None:
    assert bfl.post({"prompt": "a cat", "aspect_ratio": ratio}).status_code == status


def test_the_field_image_is_ignored_and_a_paid_text_to_image_made(bfl: Bfl) -> None:
    """Quirk of bfl sheet §13.3."""
    url = bfl.submit(image=base64_of(photo()), steps=50)

    assert bfl.emulator.requests[0]["images"] == []
    assert bfl.emulator.requests[0]["ignored"] == ["image", "steps"]
    assert bfl.finish(url)["status"] == "Ready"
    assert bfl.credits().json() == {"credits": 996.0}


def test_what_was_sent_is_remembered_without_its_images(bfl: Bfl) -> None:
    data = photo()
    bfl.submit(input_image=base64_of(data), input_image_2="https://example.com/a.png", seed=0)

    request = bfl.emulator.requests[0]
    assert request["model"] == "flux-kontext-pro"
    assert request["body"] == {"prompt": "make it blue", "seed": 0}
    assert request["images"] == [
        {"field": "input_image", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        {"field": "input_image_2", "url": "https://example.com/a.png"},
    ]


def test_more_than_tolerance_2_with_an_image_is_taken_and_counted(bfl: Bfl) -> None:
    for tolerance, image in ((2, photo()), (6, None), (3, photo())):
        bfl.submit(safety_tolerance=tolerance, input_image=image and base64_of(image))

    assert bfl.emulator.counters["accepted"] == 3
    assert bfl.emulator.counters["safety_above_edit_limit"] == 1


def test_six_tasks_of_kontext_max_are_the_limit_until_one_ends(bfl: Bfl) -> None:
    replies = [bfl.post({"prompt": "x"}, "flux-kontext-max") for _ in range(7)]
    assert [reply.status_code for reply in replies] == [200] * 6 + [429]
    assert isinstance(replies[-1].json()["detail"], str)
    assert bfl.post({"prompt": "x"}).status_code == 200

    bfl.emulator.advance(1000)
    assert bfl.post({"prompt": "x"}, "flux-kontext-max").status_code == 200


def test_a_moderated_task_is_no_longer_active(bfl: Bfl) -> None:
    bfl.emulator.inject("moderated")

    assert [bfl.post({"prompt": "x"}).status_code for _ in range(30)] == [200] * 30


def test_an_empty_account_is_refused(bfl: Bfl) -> None:
    bfl.emulator.credits = 7.0
    bfl.finish(bfl.submit())

    assert bfl.credits().json() == {"credits": 3.0}
    assert bfl.post({"prompt": "x"}).json() == {"detail": "Insufficient credits"}


def test_a_task_that_nobody_polls_is_charged_all_the_same(bfl: Bfl) -> None:
    bfl.submit("flux-kontext-max")
    bfl.emulator.advance(1000)

    assert bfl.credits().json() == {"credits": 992.0}


# Polls


def test_polls_have_the_recorded_shapes_from_pending_to_ready(bfl: Bfl) -> None:
    url = bfl.submit(seed=42)
    assert shape(bfl.client.get(url).json()) == shape(PENDING)

    ready = bfl.finish(url)
    assert shape(ready) == [*shape(READY), ("cost", "float")]
    assert ready["result"]["duration"] == pytest.approx(1000)


def test_a_moderated_poll_is_the_recorded_one(bfl: Bfl) -> None:
    bfl.emulator.inject("moderated")
    url = bfl.submit()

    assert {**bfl.finish(url), "id": MODERATED["id"]} == MODERATED


def test_progress_grows_to_1_stays_there_and_vanishes(bfl: Bfl) -> None:
    url = bfl.submit()
    seen = []
    for _ in range(10):
        seen.append(bfl.client.get(url).json()["progress"])
        bfl.emulator.advance(105)

    assert seen[0] == 0.1
    assert seen.count(1.0) >= 2
    assert seen[-1] is None
    assert [step for step in seen if step] == sorted(step for step in seen if step)


def test_bfl_4_polls_carry_rate_headers_and_a_retry_after_that_means_nothing(bfl: Bfl) -> None:
    """Quirk of bfl sheet §13.4."""
    url = bfl.submit()
    headers = [bfl.client.get(url).headers for _ in range(2)]

    assert {header["retry-after"] for header in headers} == {"0", "1"}
    assert headers[0]["x-ratelimit-limit"] == "1200"
    assert int(headers[0]["x-ratelimit-remaining"]) in range(1190, 1200)
    assert re.fullmatch(r"\d{10}\.\d+", headers[0]["x-ratelimit-reset"])


def test_the_global_host_does_not_find_what_the_region_has(bfl: Bfl) -> None:
    """Quirk of bfl sheet §13.1."""
    url = bfl.submit()
    path = urlsplit(url)
    reply = bfl.client.get(f"{bfl.emulator.origins['api']}{path.path}?{path.query}")

    assert reply.status_code == 404
    assert reply.json() == {
        "id": path.query.removeprefix("id="),
        "status": "Task not found",
        "result": None,
        "progress": None,
        "details": None,
        "preview": None,
    }
    assert bfl.client.get(f"{bfl.emulator.origins['region']}/v1/get_result?id=x").json()["status"] == "Task not found"


def test_polls_need_no_key(bfl: Bfl) -> None:
    url = bfl.submit()

    assert bfl.client.get(url).status_code == 200
    assert bfl.client.get(url, headers={"x-key": "wrong"}).status_code == 200


@pytest.mark.parametrize(
    ("model", "price"),
    [("flux-kontext-pro", 4), ("flux-kontext-max", 8), ("flux-pro-1.1", 4), ("flux-pro-1.1-ultra", 6)],
)
def test_the_settled_cost_comes_with_ready_in_credits_and_noise(bfl: Bfl, model: str, price: int) -> None:
    cost = bfl.finish(bfl.submit(model))["cost"]

    assert cost != price
    assert round(cost, 4) == price


def test_seed_0_is_a_seed_and_bfls_own_may_pass_2_to_the_31(bfl: Bfl) -> None:
    """Quirk of bfl sheet §13.18."""
    assert bfl.finish(bfl.submit(seed=0))["result"]["seed"] == 0
    own = [bfl.finish(bfl.submit())["result"]["seed"] for _ in range(4)]

    assert max(own) > 2**31
    assert max(own) < 2**32


def test_an_upsampled_prompt_comes_back_rewritten(bfl: Bfl) -> None:
    assert bfl.finish(bfl.submit())["result"]["prompt"] == "make it blue"
    assert bfl.finish(bfl.submit(prompt_upsampling=True))["result"]["prompt"] != "make it blue"
