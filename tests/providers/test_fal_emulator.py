"""fal's emulator against the protocol sheet over real sockets, and the clients against the emulator."""

import asyncio
import base64
import inspect
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import anykontext as ak
from anykontext.engine.policy import Policy
from anykontext.plugins import Plugin, Registry
from anykontext.sandbox import FAULTS
from anykontext.sandbox.server import ServerThread
from anykontext_fal import Fal
from anykontext_fal.emulator import Emulator
from anykontext_fal.emulator.service import OWN_FAULTS

pytestmark = pytest.mark.sandbox

EDIT = "fal-ai/flux-pro/kontext"
WORDS = "fal-ai/flux-pro/kontext/text-to-image"
KEY = {"Authorization": "Key sandbox:sandbox"}
REGISTRY = Registry([Plugin("fal", "", "anykontext_fal", (Fal(),))])


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    server = ServerThread()
    one = Emulator(seconds=0.0)
    one.megapixels = 0.02
    one.origins = {name: server.bind(one, name) for name in one.origin_names}
    server.start()
    yield one
    server.stop()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10, verify=False) as client:
        yield client


class Speaker:
    """Speaks to the emulator as a client of fal would."""

    def __init__(self, emulator: Emulator, http: httpx.Client) -> None:
        self.emulator, self.http = emulator, http

    def post(
        self,
        endpoint: str = WORDS,
        *,
        host: str = "queue",
        key: str | None = "Key sandbox:sandbox",
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> httpx.Response:
        known = {**({} if key is None else {"Authorization": key}), **(headers or {})}
        content = json.dumps({"prompt": "a cat", **fields}).encode() if raw is None else raw
        return self.http.post(f"{self.emulator.origins[host]}/{endpoint}", content=content, headers=known)

    def submit(self, endpoint: str = WORDS, **fields: Any) -> dict[str, Any]:
        reply = self.post(endpoint, **fields)
        assert reply.status_code == 200
        return reply.json()  # type: ignore[no-any-return]

    def get(self, url: str, **query: Any) -> httpx.Response:
        return self.http.get(url, params=query or None, headers=KEY)

    def result(self, endpoint: str = WORDS, **fields: Any) -> httpx.Response:
        task = self.submit(endpoint, **fields)
        self.emulator.advance(self.emulator.seconds)
        return self.get(task["response_url"])


@pytest.fixture
def fal(emulator: Emulator, http: httpx.Client) -> Speaker:
    return Speaker(emulator, http)


def photo(width: int = 96, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def data_uri(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


# ------------------------------------------------------------------------------------------------- the emulator itself


def test_fal_1_a_submit_is_answered_with_urls_below_owner_and_alias(emulator: Emulator, fal: Speaker) -> None:
    found = fal.submit("fal-ai/flux-pro/kontext/max/multi", image_urls=[data_uri(photo())])
    url = f"{emulator.origins['queue']}/fal-ai/flux-pro/requests/{found['request_id']}"

    assert list(found) == [
        *("status", "request_id", "response_url", "status_url", "cancel_url", "logs", "metrics", "queue_position"),
    ]
    assert (found["response_url"], found["status_url"], found["cancel_url"]) == (url, f"{url}/status", f"{url}/cancel")
    assert (found["status"], found["logs"], found["metrics"], found["queue_position"]) == ("IN_QUEUE", None, {}, 0)


@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("GET", "/status"), ("PUT", "/cancel")])
def test_fal_1_below_the_full_endpoint_everything_is_405(
    emulator: Emulator, fal: Speaker, http: httpx.Client, method: str, end: str
) -> None:
    name = fal.submit()["request_id"]
    reply = http.request(method, f"{emulator.origins['queue']}/{WORDS}/requests/{name}{end}", headers=KEY)

    assert (reply.status_code, reply.headers["allow"], reply.content) == (405, "POST", b"")


def test_fal_1_a_slash_at_the_end_and_a_response_alias_lead_to_the_same(fal: Speaker) -> None:
    task = fal.submit()

    assert fal.get(task["status_url"] + "/").json()["status"] == "COMPLETED"
    assert fal.get(task["response_url"] + "/response").json() == fal.get(task["response_url"]).json()


def test_fal_2_a_status_is_202_until_it_is_200(emulator: Emulator, fal: Speaker) -> None:
    emulator.seconds = 1000
    task = fal.submit()
    seen = []
    for seconds in (0, 1, 1000):
        emulator.advance(seconds)
        reply = fal.get(task["status_url"])
        body = reply.json()
        seen.append((reply.status_code, body["status"], "queue_position" in body, bool(body["metrics"]), body["logs"]))

    assert seen == [
        (202, "IN_QUEUE", True, False, None),
        (202, "IN_PROGRESS", False, False, None),
        (200, "COMPLETED", False, True, None),
    ]


@pytest.mark.parametrize(("asked", "told"), [("0", False), ("false", False), ("1", True), ("true", True)])
def test_fal_2_logs_are_null_unless_asked_for(fal: Speaker, asked: str, told: bool) -> None:
    body = fal.get(fal.submit()["status_url"], logs=asked).json()

    assert (body["logs"] is not None) is told
    assert not told or list(body["logs"][0]) == ["message", "level", "source", "timestamp"]


def test_fal_25_a_position_counts_those_before_and_only_an_asked_for_limit_refuses(
    emulator: Emulator, fal: Speaker
) -> None:
    emulator.seconds = 1000

    assert [fal.submit()["queue_position"] for _ in range(3)] == [0, 1, 2]
    assert fal.post(WORDS + "?fal_max_queue_length=3").status_code == 429
    assert fal.post(WORDS + "?fal_max_queue_length=4").status_code == 200


def test_fal_2_the_stream_tells_every_change_and_ends(emulator: Emulator, fal: Speaker) -> None:
    emulator.seconds = 1.0
    reply = fal.get(fal.submit()["status_url"] + "/stream", logs=1)
    events = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n") if line]

    assert reply.headers["content-type"].startswith("text/event-stream")
    assert [event["status"] for event in events] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


@pytest.mark.parametrize(
    ("endpoint", "fields", "kind", "place"),
    [
        (WORDS, {"prompt": None}, "string_type", ["body", "prompt"]),
        (WORDS, {"safety_tolerance": 2}, "enum", ["body", "safety_tolerance"]),
        (WORDS, {"safety_tolerance": "0"}, "enum", ["body", "safety_tolerance"]),
        (WORDS, {"guidance_scale": 21}, "less_than_equal", ["body", "guidance_scale"]),
        (WORDS, {"num_images": 0}, "greater_than_equal", ["body", "num_images"]),
        (WORDS, {"num_images": 5}, "less_than_equal", ["body", "num_images"]),
        (WORDS, {"seed": "x"}, "int_parsing", ["body", "seed"]),
        (WORDS, {"seed": 1.5}, "int_from_float", ["body", "seed"]),
        (WORDS, {"seed": []}, "int_type", ["body", "seed"]),
        (WORDS, {"guidance_scale": "inf"}, "finite_number", ["body", "guidance_scale"]),
        (WORDS, {"sync_mode": "maybe"}, "bool_parsing", ["body", "sync_mode"]),
        (WORDS, {"aspect_ratio": "4:5"}, "enum", ["body", "aspect_ratio"]),
        (WORDS, {"output_format": "webp"}, "enum", ["body", "output_format"]),
        (EDIT, {}, "missing", ["body", "image_url"]),
        (EDIT, {"image_url": data_uri(b"no picture")}, "image_load_error", ["body", "image_url"]),
        (EDIT, {"image_url": "https://example.com/x.jpg"}, "file_download_error", ["body", "image_url"]),
        (EDIT, {"image_url": "data:image/png;base64,!"}, "file_download_error", ["body", "image_url"]),
        (EDIT + "/multi", {"image_url": data_uri(photo())}, "missing", ["body", "image_urls"]),
        (EDIT + "/multi", {"image_urls": []}, "sequence_too_short", ["body", "image_urls"]),
        (EDIT + "/multi", {"image_urls": "x"}, "list_type", ["body", "image_urls"]),
        ("fal-ai/flux-kontext/dev", {"image_url": "x", "resolution_mode": "2:1"}, "enum", ["body", "resolution_mode"]),
        ("fal-ai/flux-pro/v1.1", {"image_size": "huge"}, "enum", ["body", "image_size"]),
        ("fal-ai/flux-pro/v1.1-ultra", {"aspect_ratio": "wide"}, "value_error", ["body", "aspect_ratio"]),
        (WORDS, {"raw": b"{"}, "json_invalid", ["body", 1]),
        (WORDS, {"raw": b"[]"}, "model_attributes_type", ["body"]),
    ],
)
def test_fal_4_a_wrong_body_is_accepted_and_refused_as_its_result(
    emulator: Emulator, fal: Speaker, endpoint: str, fields: dict[str, Any], kind: str, place: list[Any]
) -> None:
    task = fal.submit(endpoint, **fields)
    status, result = fal.get(task["status_url"]), fal.get(task["response_url"])
    (one,) = result.json()["detail"]

    assert (status.status_code, status.json()["status"], "error" in status.json()) == (200, "COMPLETED", False)
    assert (result.status_code, one["type"], one["loc"]) == (422, kind, place)
    assert one["url"] == f"https://docs.fal.ai/errors/#{kind}"
    assert list(one)[:4] == ["loc", "msg", "type", "url"]
    assert emulator.credit == 10


def test_fal_9_an_error_echoes_its_input(fal: Speaker) -> None:
    body = {"prompt": "secret words", "image_url": data_uri(b"no picture")}
    (echo,) = fal.result(EDIT, **body).json()["detail"]
    (missing,) = fal.result(EDIT + "/multi", **body).json()["detail"]

    assert echo["input"] == body["image_url"]
    assert missing["input"] == body


def test_fal_16_units_are_0_for_an_invalid_body_and_missing_for_an_error_of_the_model(
    emulator: Emulator, fal: Speaker
) -> None:
    emulator.inject("moderated", times=1)

    assert "x-fal-billable-units" not in fal.result().headers
    assert fal.result(num_images=9).headers["x-fal-billable-units"] == "0"
    assert fal.result(num_images=3).headers["x-fal-billable-units"] == "3"


def test_fal_5_a_result_that_is_asked_for_too_early_is_400(emulator: Emulator, fal: Speaker) -> None:
    emulator.seconds = 1000
    early = fal.get(fal.submit()["response_url"])

    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})


def test_fal_6_an_unknown_task_is_404_in_two_shapes(emulator: Emulator, fal: Speaker, http: httpx.Client) -> None:
    url = f"{emulator.origins['queue']}/fal-ai/flux-pro/requests/nobody"
    known = fal.submit()["status_url"].replace("flux-pro", "flux-kontext")

    assert [(one.status_code, one.json()) for one in (http.get(f"{url}/status"), http.put(f"{url}/cancel"))] == [
        (404, {"status": "NOT_FOUND"}),
        (404, {"status": "NOT_FOUND"}),
    ]
    assert (http.get(url).status_code, http.get(url).json()) == (404, {"detail": "Request not found"})
    assert fal.get(known).status_code == 404


@pytest.mark.parametrize(("inline", "kept_s"), [(False, 3600), (True, 360)])
def test_fal_6_a_result_is_kept_for_an_hour_and_a_large_one_for_six_minutes(
    emulator: Emulator, fal: Speaker, inline: bool, kept_s: float
) -> None:
    emulator.megapixels = 0.2
    task = fal.submit(sync_mode=inline, output_format="png")
    fal.get(task["response_url"])
    emulator.advance(kept_s - 30)
    assert fal.get(task["response_url"]).status_code == 200
    emulator.advance(30)

    assert fal.get(task["response_url"]).json() == {"detail": "Request not found"}
    assert fal.get(task["status_url"]).json() == {"status": "NOT_FOUND"}


@pytest.mark.parametrize("passed", [0, 10])
def test_fal_7_a_cancelled_task_is_completed_and_499(emulator: Emulator, fal: Speaker, passed: float) -> None:
    emulator.seconds = 1000
    task = fal.submit()
    emulator.advance(passed)
    wish = fal.http.put(task["cancel_url"], headers=KEY)
    again = fal.http.put(task["cancel_url"], headers=KEY)
    status, result = fal.get(task["status_url"]), fal.get(task["response_url"])

    assert (wish.status_code, wish.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})
    assert (status.status_code, status.json()["error_type"]) == (200, "client_cancelled")
    assert (result.status_code, result.headers["x-fal-error-type"]) == (499, "client_cancelled")
    assert (emulator.counters["cancels"], emulator.credit) == (2, 10)


def test_fal_7_a_wish_to_cancel_may_be_ignored_and_is_billed(emulator: Emulator, fal: Speaker) -> None:
    emulator.seconds = 1000
    emulator.inject("cancel-ignored")
    task = fal.submit()

    assert fal.http.put(task["cancel_url"], headers=KEY).status_code == 202
    emulator.advance(1000)
    assert fal.get(task["response_url"]).status_code == 200
    assert emulator.credit == Decimal("9.96")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "Authorization header is required"),
        ("Bearer sandbox", "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."),
        ("Key nocolon", "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."),
        ("Key some:one", "No user found for Key ID and Secret"),
    ],
)
def test_fal_17_a_wrong_key_is_401_at_the_submit(emulator: Emulator, fal: Speaker, key: str | None, text: str) -> None:
    reply = fal.post(key=key)

    assert (reply.status_code, reply.json()) == (401, {"detail": text})
    assert emulator.counters["accepted"] == 0


def test_fal_17_either_key_of_the_sandbox_is_good(fal: Speaker) -> None:
    assert [fal.post(key=f"Key {key}").status_code for key in ("sandbox", "sandbox:sandbox")] == [200, 200]


def test_fal_17_an_empty_account_is_locked_with_403(emulator: Emulator, fal: Speaker) -> None:
    emulator.credit = Decimal("0.05")
    assert fal.result(num_images=2).status_code == 200
    reply = fal.post()

    assert (reply.status_code, emulator.credit) == (403, Decimal("-0.03"))
    assert reply.json()["detail"].startswith("User is locked. Reason: Exhausted balance.")


def test_fal_23_a_status_needs_no_key(emulator: Emulator, fal: Speaker, http: httpx.Client) -> None:
    task = fal.submit()

    assert http.get(task["status_url"]).status_code == 200
    assert http.get(task["status_url"], headers={"Authorization": "Key some:one"}).status_code == 401
    assert emulator.counters["unsigned"] == 1


def test_another_endpoint_is_not_found(fal: Speaker) -> None:
    reply = fal.post("fal-ai/flux-pro/kontext/nano")

    assert (reply.status_code, reply.json()) == (404, {"detail": "Path /fal-ai/flux-pro/kontext/nano not found"})
    assert reply.headers["x-fal-billable-units"] == "0"
    assert fal.get(str(reply.url)).status_code == 405


def test_fal_13_26_the_result_has_a_seed_beyond_doubles_and_links_to_media(emulator: Emulator, fal: Speaker) -> None:
    reply = fal.result(num_images=2, output_format="png")
    body = reply.json()

    assert list(body) == ["images", "timings", "seed", "has_nsfw_concepts", "prompt"]
    assert (body["timings"], body["has_nsfw_concepts"], body["prompt"]) == ({}, [False, False], "a cat")
    assert body["seed"] >= 2**53
    assert {"x-fal-request-id", "x-fal-billable-units", "x-fal-served-from"} <= set(reply.headers)
    for one in body["images"]:
        picture = opened(fal.http.get(one["url"]).content)
        assert list(one) == ["url", "width", "height", "content_type"]
        assert (picture.format, picture.size) == ("PNG", (one["width"], one["height"]))
        assert one["url"].startswith(emulator.origins["media"] + "/files/")


def test_fal_13_an_edit_has_an_empty_prompt_and_images_without_a_type(fal: Speaker) -> None:
    body = fal.result(EDIT, image_url=data_uri(photo()), seed=0).json()
    words = fal.result(EDIT, image_url=data_uri(photo()), enhance_prompt=True).json()["prompt"]

    assert (body["seed"], body["prompt"], body["images"][0]["content_type"]) == (0, "", None)
    assert (body["images"][0]["width"], body["images"][0]["height"]) == (176, 112)
    assert words.startswith("a cat, ")


def test_an_edit_shows_its_input_and_what_arrived_is_remembered(emulator: Emulator, fal: Speaker) -> None:
    asked = {"prompt": "make it blue", "seed": 7}
    edited = fal.result(
        EDIT,
        image_url=data_uri(photo()),
        foo=1,
        headers={"X-Fal-Request-Timeout": "90", "x-app-fal-disable-fallback": "true"},
        **asked,
    ).json()
    other = fal.result(EDIT, image_url=data_uri(photo(64, 96)), **asked).json()
    sizes = [(one["images"][0]["width"], one["images"][0]["height"]) for one in (edited, other)]
    first = emulator.requests[0]

    assert sizes == [(176, 112), (112, 176)]
    assert (first["model"], first["body"], first["ignored"]) == (EDIT, asked, ["foo"])
    assert (first["images"][0]["field"], first["images"][0]["bytes"]) == ("image_url", len(photo()))
    assert len(first["images"][0]["sha256"]) == 64
    assert first["headers"] == {"x-fal-request-timeout": "90", "x-app-fal-disable-fallback": "true"}
    assert emulator.counters["ignored_fields"] == 1


@pytest.mark.parametrize(
    ("endpoint", "fields", "size"),
    [
        (WORDS, {}, (144, 144)),
        (WORDS, {"aspect_ratio": "21:9"}, (224, 96)),
        (EDIT, {"image_url": data_uri(photo()), "aspect_ratio": "9:21"}, (96, 224)),
        (EDIT + "/max/multi", {"image_urls": [data_uri(photo()), data_uri(photo(64, 64))]}, (224, 96)),
        ("fal-ai/flux-kontext/dev", {"image_url": data_uri(photo())}, (176, 112)),
        ("fal-ai/flux-kontext/dev", {"image_url": data_uri(photo()), "resolution_mode": "4:5"}, (128, 160)),
        ("fal-ai/flux-pro/v1.1", {}, (1024, 768)),
        ("fal-ai/flux-pro/v1.1", {"image_size": {"width": 256, "height": 320}}, (256, 320)),
        ("fal-ai/flux-pro/v1.1-ultra", {"aspect_ratio": "3:1"}, (256, 80)),
        ("fal-ai/flux-pro/v1.1-ultra", {"image_url": data_uri(photo()), "aspect_ratio": "1:1"}, (144, 144)),
    ],
)
def test_fal_12_each_endpoint_has_a_word_of_its_own_for_the_shape(
    emulator: Emulator, fal: Speaker, endpoint: str, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    (one,) = fal.result(endpoint, **fields).json()["images"]

    assert (one["width"], one["height"]) == size
    assert emulator.counters["ignored_fields"] == 0


def test_fal_20_a_submit_with_a_webhook_is_answered_without_urls(emulator: Emulator, fal: Speaker) -> None:
    found = fal.submit(WORDS + "?fal_webhook=https%3A%2F%2Fexample.com%2Fhook")

    assert list(found) == ["request_id", "gateway_request_id"]
    assert emulator.requests[0]["webhook"] == "https://example.com/hook"


def test_fal_15_only_the_start_deadline_ends_a_stuck_task(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("stuck-in-queue")
    patient, hasty = fal.submit(), fal.submit(headers={"X-Fal-Request-Timeout": "30"})
    emulator.advance(29)
    assert fal.get(hasty["status_url"]).json()["status"] == "IN_QUEUE"
    emulator.advance(1)
    status, result = fal.get(hasty["status_url"]), fal.get(hasty["response_url"])
    waiting = fal.get(patient["status_url"])

    assert (waiting.status_code, waiting.json()["status"], waiting.json()["queue_position"]) == (202, "IN_QUEUE", 0)
    assert (status.status_code, status.json()["error_type"]) == (200, "request_timeout")
    assert (result.status_code, result.json()) == (
        *(504, {"detail": "Request timed out", "error_type": "request_timeout"}),
    )
    assert result.headers["x-fal-request-timeout-type"] == "user"
    assert emulator.credit == 10


def test_a_start_deadline_does_not_end_what_has_started(emulator: Emulator, fal: Speaker) -> None:
    emulator.seconds = 1000
    task = fal.submit(headers={"X-Fal-Request-Timeout": "2"})
    emulator.advance(500)

    assert fal.get(task["status_url"]).json()["status"] == "IN_PROGRESS"


def test_fal_19_a_key_at_the_media_host_is_counted(emulator: Emulator, fal: Speaker) -> None:
    url = fal.result().json()["images"][0]["url"]
    fal.http.get(url)
    assert emulator.counters["key_leaks"] == 0
    fal.http.get(url, headers=KEY)

    assert (emulator.counters["key_leaks"], emulator.counters["downloads"]) == (1, 2)


def test_media_is_deleted_after_a_week_or_when_it_was_asked_to(emulator: Emulator, fal: Speaker) -> None:
    short = {"X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds":3600}'}
    urls = [fal.result(headers=headers).json()["images"][0]["url"] for headers in ({}, short)]
    emulator.advance(3601)
    assert [fal.http.get(url).status_code for url in urls] == [200, 404]
    emulator.advance(7 * 86_400)

    assert [fal.http.get(url).status_code for url in urls] == [404, 404]


# -------------------------------------------------------------------------------------------------------- the run host


def test_the_run_host_answers_at_once_with_the_models_own_status(emulator: Emulator, fal: Speaker) -> None:
    emulator.seconds = 0.2
    began = time.monotonic()
    good, bad = fal.post(host="run", num_images=2), fal.post(host="run", num_images=9)

    assert (good.status_code, len(good.json()["images"]), good.headers["x-fal-billable-units"]) == (200, 2, "2")
    assert (bad.status_code, bad.json()["detail"][0]["type"]) == (422, "less_than_equal")
    assert 0.4 <= time.monotonic() - began < 2
    assert emulator.credit == Decimal("9.92")


def test_the_clock_ends_a_request_that_waits_at_the_run_host(emulator: Emulator, fal: Speaker) -> None:
    emulator.seconds = 1000
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(partial(fal.post, host="run"))
        while not emulator.counters["accepted"]:
            time.sleep(0.005)
        emulator.advance(1000)

        assert reply.result(timeout=5).status_code == 200


def test_a_submit_at_the_run_host_may_be_lost_or_slow(emulator: Emulator, fal: Speaker) -> None:
    emulator.slow_seconds = 0.2
    emulator.inject("submit-slow", times=1)
    began = time.monotonic()
    assert fal.post(host="run").status_code == 200
    assert time.monotonic() - began >= 0.2
    emulator.inject("submit-lost", times=1)
    with pytest.raises(httpx.ReadError):
        fal.post(host="run")

    assert emulator.counters["accepted"] == 2


def test_a_request_that_waits_at_the_run_host_may_be_given_up(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("never-ends")
    with pytest.raises(httpx.ReadTimeout):
        fal.http.post(f"{emulator.origins['run']}/{WORDS}", json={"prompt": "a cat"}, headers=KEY, timeout=0.2)

    assert (emulator.counters["accepted"], emulator.counters["images"]) == (1, 0)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("moderated", 422), ("failed", 500), ("outage", 503), ("rate-limited", 429), ("gateway-page", 502)],
)
def test_faults_of_the_run_host_have_their_real_status(
    emulator: Emulator, fal: Speaker, fault: str, status: int
) -> None:
    emulator.inject(fault)

    assert fal.post(host="run").status_code == status


# ------------------------------------------------------------------------------------------------------------- storage


def test_fal_21_an_uploaded_file_can_be_edited_and_is_public(emulator: Emulator, fal: Speaker) -> None:
    token = fal.http.post(
        f"{emulator.origins['rest']}/storage/auth/token?storage_type=fal-cdn-v3", json={}, headers=KEY
    ).json()
    headers = {"Authorization": f"Bearer {token['token']}", "Content-Type": "image/jpeg", "X-Fal-File-Name": "a.jpg"}
    url = fal.http.post(f"{token['base_url']}/files/upload", content=photo(), headers=headers).json()["access_url"]
    body = fal.result(EDIT, image_url=url).json()

    assert list(token) == ["token", "token_type", "base_url", "expires_at"]
    assert (body["images"][0]["width"], body["images"][0]["height"]) == (176, 112)
    assert fal.http.get(url).content == photo()
    assert emulator.requests[0]["images"] == [{"field": "image_url", "url": url}]
    assert (emulator.counters["uploads"], emulator.counters["key_leaks"]) == (1, 0)


def test_a_link_of_this_machine_is_fetched_and_one_that_is_gone_is_an_error(emulator: Emulator, fal: Speaker) -> None:
    url = fal.result().json()["images"][0]["url"].replace("127.0.0.1", "localhost")
    good, gone = fal.result(EDIT, image_url=url), fal.result(EDIT, image_url=url + "x")

    assert (good.status_code, emulator.counters["downloads"]) == (200, 2)
    assert (gone.status_code, gone.json()["detail"][0]["type"]) == (422, "file_download_error")


@pytest.mark.parametrize("lifecycle", ["{", "[]", '{"expiration_duration_seconds":null}', "{}"])
def test_a_lifecycle_that_says_nothing_leaves_a_week(emulator: Emulator, fal: Speaker, lifecycle: str) -> None:
    reply = fal.result(headers={"X-Fal-Object-Lifecycle-Preference": lifecycle})
    emulator.advance(6 * 86_400)

    assert fal.http.get(reply.json()["images"][0]["url"]).status_code == 200


def test_an_unknown_storage_type_is_refused(emulator: Emulator, http: httpx.Client) -> None:
    for path in ("auth/token", "upload/initiate?storage_type=tape"):
        assert http.post(f"{emulator.origins['rest']}/storage/{path}", json={}, headers=KEY).status_code == 400


def test_fal_22_a_signed_link_takes_a_file_and_a_key_there_is_a_leak(emulator: Emulator, fal: Speaker) -> None:
    for store in ("gcs", "fal-cdn-v3"):
        way = fal.http.post(
            f"{emulator.origins['rest']}/storage/upload/initiate?storage_type={store}",
            json={"file_name": "a.jpg", "content_type": "image/jpeg"},
            headers=KEY,
        ).json()
        assert fal.http.put(way["upload_url"], content=photo()).status_code == 200
        assert fal.http.get(way["file_url"]).content == photo()
    fal.http.put(way["upload_url"], content=photo(), headers=KEY)

    assert emulator.counters["key_leaks"] == 1
    assert fal.http.put(f"{emulator.origins['media']}/files/lion/x", content=b"").status_code == 403


def test_a_file_in_parts_is_put_together(emulator: Emulator, fal: Speaker) -> None:
    token = fal.http.post(
        f"{emulator.origins['rest']}/storage/auth/token?storage_type=fal-cdn-v3", json={}, headers=KEY
    ).json()["token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
    begun = fal.http.post(f"{emulator.origins['media']}/files/upload/multipart", headers=headers).json()
    below = f"{begun['access_url']}/multipart/{begun['uploadId']}"
    tags = [
        fal.http.put(f"{below}/{number}", content=part, headers=headers).headers["etag"]
        for number, part in ((2, b"def"), (1, b"abc"))
    ]
    parts = [{"partNumber": number, "etag": tag} for number, tag in zip((2, 1), tags, strict=True)]
    done = fal.http.post(f"{below}/complete", json={"parts": parts}, headers=headers)

    assert (done.status_code, fal.http.get(begun["access_url"]).content) == (200, b"abcdef")
    assert fal.http.post(f"{below}/complete", json={"parts": parts[:1]}, headers=headers).status_code == 400
    assert emulator.counters["uploads"] == 1


@pytest.mark.parametrize("path", ["/storage/auth/token?storage_type=fal-cdn-v3", "/storage/upload/initiate"])
def test_fal_23_storage_needs_a_good_key(emulator: Emulator, http: httpx.Client, path: str) -> None:
    replies = [
        http.post(emulator.origins["rest"] + path, json={}, headers=headers)
        for headers in ({}, {"Authorization": "Key some:one"})
    ]

    assert [reply.status_code for reply in replies] == [401, 401]
    assert http.post(f"{emulator.origins['media']}/files/upload", headers=KEY).status_code == 401


# ---------------------------------------------------------------------------------------------------- faults, as sent


DOORS = {
    "outage": (503, {"detail": "No runner available", "error_type": "runner_scheduling_failure"}),
    "server-error": (500, {"detail": "Internal Server Error"}),
    "rate-limited": (429, {"detail": "Too many requests", "error_type": "concurrent_requests_limit"}),
    "bad-key": (401, {"detail": "invalid key credentials"}),
}


@pytest.mark.parametrize("fault", DOORS)
def test_fal_8_what_is_refused_at_the_submit_is_fals_own_json(emulator: Emulator, fal: Speaker, fault: str) -> None:
    emulator.inject(fault, times=1)
    reply = fal.post()

    assert (reply.status_code, reply.json()) == DOORS[fault]
    assert reply.headers.get("x-fal-error-type") == reply.json().get("error_type")
    assert (emulator.counters["submits"], emulator.counters["accepted"]) == (1, 0)


def test_fal_24_25_too_many_requests_has_the_advice_in_a_header(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("rate-limited", times=1)

    assert fal.post().headers["x-fal-needs-retry"] == "1"


def test_fal_18_only_a_page_with_an_id_was_accepted(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("gateway-page", times=1)
    accepted = fal.post()
    assert emulator.counters["accepted"] == 1
    emulator.inject("ingress-page", times=1)
    lost = fal.post()

    assert [(one.status_code, "nginx" in one.text) for one in (accepted, lost)] == [(502, True)] * 2
    assert ["x-fal-request-id" in one.headers for one in (accepted, lost)] == [True, False]
    assert (emulator.counters["submits"], emulator.counters["accepted"]) == (2, 1)


def test_a_lost_submit_is_made_and_billed_all_the_same(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("submit-lost", times=1)
    with pytest.raises(httpx.ReadError):
        fal.post()
    fal.submit()  # a task that has ended is billed by the next submit at the latest

    assert emulator.credit == Decimal("9.96")


RESULTS = {
    "moderated": (422, "content_policy_violation"),
    "failed": (500, "downstream_service_error"),
    "infra-error": (503, "runner_connection_error"),
}


@pytest.mark.parametrize("fault", RESULTS)
def test_fal_3_a_failed_task_is_completed_and_its_result_tells(emulator: Emulator, fal: Speaker, fault: str) -> None:
    emulator.inject(fault, times=1)
    task = fal.submit()
    status, result = fal.get(task["status_url"]), fal.get(task["response_url"])
    detail = result.json()["detail"]
    word = detail[0]["type"] if isinstance(detail, list) else result.json()["error_type"]

    assert (status.status_code, status.json()["status"]) == (200, "COMPLETED")
    assert status.json().get("error_type") == (word if fault == "infra-error" else None)
    assert (result.status_code, word) == RESULTS[fault]
    assert fal.get(task["response_url"]).json() == result.json()
    assert emulator.credit == 10


def test_fal_8_an_upstream_quota_has_a_shape_of_its_own(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("resource-exhausted", times=1)
    result = fal.result()

    assert (result.status_code, list(result.json()), list(result.json()["error"])) == (
        429,
        ["error"],
        ["message", "code"],
    )


@pytest.mark.parametrize(
    ("fault", "flags", "black"),
    [
        ("moderated-output", [True, True], [True, True]),
        ("one-flagged", [True, False], [True, False]),
        ("nsfw-length", [False], [False, False]),
    ],
)
def test_fal_10_a_flagged_image_is_listed_black_and_billed(
    emulator: Emulator, fal: Speaker, fault: str, flags: list[bool], black: list[bool]
) -> None:
    emulator.inject(fault, times=1)
    reply = fal.result(num_images=2)
    images = [opened(fal.http.get(one["url"]).content) for one in reply.json()["images"]]

    assert (reply.status_code, reply.json()["has_nsfw_concepts"]) == (200, flags)
    assert [image.convert("L").getextrema() == (0, 0) for image in images] == black
    assert (reply.headers["x-fal-billable-units"], emulator.credit) == ("2", Decimal("9.92"))


def test_fal_13_16_a_result_may_have_data_uris_and_no_units(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("data-uri", times=1)
    emulator.inject("no-units", times=1)
    reply = fal.result()
    (one,) = reply.json()["images"]

    assert opened(base64.b64decode(one["url"].removeprefix("data:image/jpeg;base64,"))).format == "JPEG"
    assert "x-fal-billable-units" not in reply.headers
    assert "x-fal-billable-units" in fal.result().headers


def test_fal_20_a_submit_may_be_answered_without_urls_or_with_foreign_ones(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("no-urls", times=1)
    assert list(fal.submit()) == ["request_id", "gateway_request_id"]
    emulator.inject("foreign-urls", times=1)
    found = fal.submit()

    assert all(found[name].startswith(emulator.origins["media"]) for name in ("response_url", "status_url"))
    assert fal.get(found["status_url"]).json()["status"] == "COMPLETED"
    assert emulator.counters["key_leaks"] == 1


def test_fal_5_6_18_a_result_may_be_early_gone_or_a_page(emulator: Emulator, fal: Speaker) -> None:
    url = fal.submit()["response_url"]
    seen = []
    for fault in ("early-result", "result-page", "result-gone"):
        emulator.inject(fault)
        seen.append([fal.get(url).status_code, fal.get(url).status_code])
        emulator.clear()

    assert seen == [[400, 200], [502, 200], [404, 404]]


def test_an_unknown_status_and_one_that_never_ends(emulator: Emulator, fal: Speaker) -> None:
    task = fal.submit()
    emulator.inject("unknown-status", times=1)
    unknown = fal.get(task["status_url"])
    emulator.inject("never-ends")
    endless = [fal.get(task["status_url"]).json()["status"] for _ in range(2)]

    assert (unknown.status_code, unknown.json()["status"]) == (202, "SIMMERING")
    assert endless == ["IN_PROGRESS"] * 2
    assert fal.get(task["response_url"]).status_code == 400
    emulator.clear()
    assert fal.get(task["status_url"]).json()["status"] == "COMPLETED"


def test_the_first_polls_of_a_task_go_wrong_in_different_ways(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("poll-errors")
    url = fal.submit()["status_url"]
    seen: list[Any] = []
    for _ in range(6):
        try:
            reply = fal.get(url)
            seen.append((reply.status_code, reply.headers["content-type"].partition(";")[0]))
        except httpx.ReadError:
            seen.append("reset")

    assert seen == [
        *((500, "application/json"), (502, "text/html"), (200, "text/html"), "reset"),
        *((503, "application/json"), (200, "application/json")),
    ]


def test_an_expired_link_is_not_found(emulator: Emulator, fal: Speaker) -> None:
    emulator.inject("expired-url")

    assert fal.http.get(fal.result().json()["images"][0]["url"]).status_code == 404


# ---------------------------------------------------------------------------------------------- the clients against it


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The patience of the engine, in tenths of a second; what it is patient with stays."""
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("anykontext.client.options.Policy", partial(Policy, submit_grace_s=0.2))
    monkeypatch.setattr("anykontext.engine.submit.FIRST_REPEAT_S", 0.02)
    monkeypatch.setattr("anykontext.engine.submit.PATIENCE_S", 0.1)


class Twin:
    """A client of either kind; each call blocks."""

    def __init__(self, kind: str, emulator: Emulator, **settings: Any) -> None:
        config = ak.Config(providers={"fal": {**emulator.config(), "poll_interval_s": 0.02, **settings}})
        make: Any = {"Client": ak.Client, "AsyncClient": ak.AsyncClient}[kind]
        self.client: Any = make(config, registry=REGISTRY)
        self._runner = asyncio.Runner()

    def wait(self, outcome: Any) -> Any:
        return self._runner.run(outcome) if inspect.iscoroutine(outcome) else outcome

    def edit(self, images: Any = None, **options: Any) -> ak.ImageResult:
        return self.wait(self.client.edit(images or photo(), "make it blue", **options))  # type: ignore[no-any-return]

    def generate(self, **options: Any) -> ak.ImageResult:
        return self.wait(self.client.generate("a cat", **options))  # type: ignore[no-any-return]

    def close(self) -> None:
        self.wait(self.client.close())
        self._runner.close()


@pytest.fixture(params=["Client", "AsyncClient"])
def twin(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[Twin]:
    one = Twin(request.param, emulator)
    yield one
    one.close()


def test_fal_3_14_an_edit_is_submitted_polled_fetched_and_downloaded_without_a_key(
    twin: Twin, emulator: Emulator
) -> None:
    result = twin.edit(seed=0)
    (sent,) = emulator.requests

    assert (result.provider, result.model, result.mode, result.seed) == ("fal", "flux-kontext-pro", "edit", 0)
    assert (result.image.media_type, result.image.width, result.image.height) == ("image/jpeg", 176, 112)
    assert (result.image.source_url or "").startswith(emulator.origins["media"])
    assert (result.cost.amount, result.cost.currency) == (Decimal("0.04"), "USD")
    assert (sent["model"], sent["images"][0]["bytes"]) == (EDIT, len(photo()))
    assert sent["headers"]["x-app-fal-disable-fallback"] == "true"
    counters = emulator.counters
    assert (counters["submits"], counters["fetches"], counters["downloads"]) == (1, 1, 1)
    assert (counters["key_leaks"], counters["unsigned"], counters["ignored_fields"]) == (0, 0, 0)


def test_fal_26_a_seed_beyond_doubles_arrives_whole(twin: Twin) -> None:
    assert (twin.generate().seed or 0) >= 2**53


def test_fal_12_two_images_go_to_multi(twin: Twin, emulator: Emulator) -> None:
    result = twin.edit([photo(), photo(64, 64)], model="flux-kontext-max")

    assert emulator.requests[0]["model"] == "fal-ai/flux-pro/kontext/max/multi"
    assert [one["field"] for one in emulator.requests[0]["images"]] == ["image_urls", "image_urls"]
    assert result.cost.amount == Decimal("0.08")


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        ({}, WORDS),
        ({"model": "flux-kontext-max", "aspect_ratio": "16:9"}, "fal-ai/flux-pro/kontext/max/text-to-image"),
        ({"model": "flux-1.1-pro", "size": (256, 256)}, "fal-ai/flux-pro/v1.1"),
        ({"model": "flux-1.1-pro-ultra", "aspect_ratio": "2:1"}, "fal-ai/flux-pro/v1.1-ultra"),
    ],
)
def test_fal_12_each_model_generates_at_its_endpoint(
    twin: Twin, emulator: Emulator, options: dict[str, Any], endpoint: str
) -> None:
    image = twin.generate(output_format="png", **options).image

    assert (emulator.requests[0]["model"], emulator.counters["ignored_fields"]) == (endpoint, 0)
    assert image.media_type == "image/png"


def test_fal_12_dev_edits(twin: Twin, emulator: Emulator) -> None:
    result = twin.edit(model="flux-kontext-dev", aspect_ratio="4:5", steps=20)

    assert (result.image.width, result.image.height) == (128, 160)
    assert emulator.requests[0]["body"]["num_inference_steps"] == 20
    assert emulator.counters["ignored_fields"] == 0


def test_fal_12_two_results_of_one_task(twin: Twin, emulator: Emulator) -> None:
    result = twin.generate(num_images=2)

    assert len({image.sha256 for image in result.images}) == 2
    assert (result.cost.amount, emulator.counters["submits"]) == (Decimal("0.08"), 1)


def test_fal_21_a_large_picture_stays_in_the_body_where_the_hosts_are_not_fals(twin: Twin, emulator: Emulator) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((2048, 2100), 200).save(buffer, "PNG", compress_level=0)
    twin.edit(buffer.getvalue())
    (image,) = emulator.requests[0]["images"]

    assert len(buffer.getvalue()) > (Fal().facts.uploads or pytest.fail("no uploads")).over
    assert (image["bytes"], emulator.counters["uploads"]) == (len(buffer.getvalue()), 0)


def test_fal_23_a_key_is_checked_by_a_token_for_storage(twin: Twin, emulator: Emulator) -> None:
    (good,) = twin.wait(twin.client.check())
    emulator.inject("bad-key")
    (bad,) = twin.wait(twin.client.check())

    assert (good.key, bad.key) == ("ok", "refused")
    assert (emulator.counters["tokens"], emulator.counters["submits"]) == (2, 0)


# fault: class, whether it may be charged, how often the submit is sent (None: as often as patience allows)
ENDS: dict[str, tuple[type[ak.ProviderError], bool, int | None]] = {
    "moderated": (ak.Moderated, True, 1),  # a 422 without units: whether it costs is not told (fal-16)
    "moderated-output": (ak.Moderated, True, 1),
    "failed": (ak.GenerationFailed, False, 1),
    "outage": (ak.Unavailable, False, None),
    "server-error": (ak.OutcomeUnknown, True, 1),
    "gateway-page": (ak.OutcomeUnknown, True, 1),
    "rate-limited": (ak.RateLimited, False, None),
    "out-of-credit": (ak.OutOfCredit, False, 1),
    "bad-key": (ak.AuthenticationFailed, False, 1),
    "submit-lost": (ak.OutcomeUnknown, True, 1),
    "unknown-status": (ak.DeadlineExceeded, True, 1),
    "never-ends": (ak.DeadlineExceeded, True, 1),
    "expired-url": (ak.ResultExpired, True, 1),
    "truncated-image": (ak.ProtocolError, True, 1),
    "not-an-image": (ak.ProtocolError, True, 1),
    "infra-error": (ak.Unavailable, False, 1),
    "ingress-page": (ak.OutcomeUnknown, True, 1),  # an emulator is not fal's own front door: it may be any proxy
    "resource-exhausted": (ak.RateLimited, True, 1),
    "result-gone": (ak.ResultExpired, True, 1),
    "stuck-in-queue": (ak.DeadlineExceeded, True, 1),
    "pixel-bomb": (ak.ProtocolError, True, 1),
}
GOOD = {
    *("submit-slow", "poll-errors"),
    *(
        "cancel-ignored",
        "data-uri",
        "early-result",
        "foreign-urls",
        "no-units",
        "no-urls",
        "nsfw-length",
        "result-page",
    ),
}
OF_SEVERAL = {"one-flagged"}
OF_DOWNLOADS = {"gzip-bomb", "oversize-image", "slow-drip"}  # tests/io has them all
ENDLESS = {"unknown-status", "never-ends", "stuck-in-queue"}


def test_every_fault_is_in_the_tables() -> None:
    assert set(ENDS) | GOOD | OF_SEVERAL | OF_DOWNLOADS == set(Emulator.known_faults())
    assert set(FAULTS) | set(OWN_FAULTS) <= set(ENDS) | GOOD | OF_SEVERAL


@pytest.mark.parametrize("fault", ENDS)
def test_fal_3_8_16_17_18_a_fault_ends_in_its_error(twin: Twin, emulator: Emulator, fault: str) -> None:
    error, charged, submits = ENDS[fault]
    emulator.inject(fault)
    with pytest.raises(ak.ProviderError) as caught:
        twin.generate(deadline=0.4 if fault in ENDLESS else 10)

    assert type(caught.value) is error
    assert caught.value.maybe_charged is charged
    assert emulator.counters["key_leaks"] == 0
    if submits is not None:
        assert emulator.counters["submits"] == submits


@pytest.mark.parametrize("fault", sorted(GOOD))
def test_a_fault_that_is_survived_ends_in_images(twin: Twin, emulator: Emulator, fault: str) -> None:
    emulator.slow_seconds = 0.3
    emulator.inject(fault)
    result = twin.generate(num_images=2)

    assert (len(result.images), result.errors) == (2, ())
    assert (emulator.counters["submits"], emulator.counters["key_leaks"]) == (1, 0)


def test_fal_10_one_flagged_image_is_told_beside_the_other(twin: Twin, emulator: Emulator) -> None:
    emulator.inject("one-flagged")
    result = twin.generate(num_images=2)

    assert len(result.images) == 1
    assert [type(error) for error in result.errors] == [ak.Moderated]
    assert opened(result.image.data).convert("L").getextrema() != (0, 0)


def test_fal_9_a_moderated_error_tells_the_words_of_fal_and_not_the_prompt(twin: Twin, emulator: Emulator) -> None:
    emulator.inject("moderated")
    with pytest.raises(ak.Moderated) as caught:
        twin.wait(twin.client.generate("a secret prompt"))

    assert caught.value.stage == "input"
    assert "flagged by a content checker" in caught.value.reasons[0]
    assert "a secret prompt" not in str(caught.value)


def test_fal_15_a_task_that_never_starts_is_ended_by_the_deadline_that_was_sent(twin: Twin, emulator: Emulator) -> None:
    emulator.inject("stuck-in-queue")

    def late(event: ak.Event) -> None:
        if isinstance(event, ak.Submitted):
            emulator.advance(float(emulator.requests[0]["headers"]["x-fal-request-timeout"]))

    with pytest.raises(ak.Unavailable) as caught:
        twin.generate(deadline=60, on_event=late)

    assert caught.value.maybe_charged is False


def test_fal_15_a_job_that_nobody_waits_for_may_start_whenever_it_can(twin: Twin, emulator: Emulator) -> None:
    job = twin.wait(twin.client.submit(ak.ImageRequest("a cat"), deadline=5))

    assert "x-fal-request-timeout" not in emulator.requests[0]["headers"]
    assert twin.wait(job.wait(deadline=10)).images


def test_fal_7_a_cancelled_job_ends_as_cancelled_or_with_its_image(twin: Twin, emulator: Emulator) -> None:
    emulator.seconds = 1000
    obedient = twin.wait(twin.client.submit(ak.ImageRequest("a cat")))
    stubborn = twin.wait(twin.client.submit(ak.ImageRequest("a cat")))
    twin.wait(obedient.cancel())
    emulator.inject("cancel-ignored")
    twin.wait(stubborn.cancel())
    emulator.advance(1000)

    with pytest.raises(ak.Cancelled):
        twin.wait(obedient.wait(deadline=5))
    assert len(twin.wait(stubborn.wait(deadline=5)).images) == 1
    assert emulator.counters["cancels"] == 2
