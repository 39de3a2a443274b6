# ruff: noqa: E501 - payloads stand here letter for letter
"""The BFL adapter against the payloads of its protocol sheet. Each payload names where it was seen.

S1: recorded traffic of 2025. S2, S3: live notes of 2026. S4: the vendor's OpenAPI. S6: the vendor's help pages.
S12: other clients' code. 3P: a third party's documents.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from anykontext.adapting import (
    Adapter,
    Balance,
    Base64,
    Call,
    Checks,
    Failed,
    InputImage,
    Kind,
    Output,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
)
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.model.money import price_list
from anykontext.model.request import ImageRequest
from anykontext_bfl import Bfl
from anykontext_bfl import adapter as bfl_module
from anykontext_bfl.facts import FACTS

BFL = Bfl()
TASK = Task("one", "https://api.eu4.bfl.ai/v1/get_result?id=one")
SCHEMA = Path(__file__).parents[2].parent / "shared" / "protocols" / "bfl-openapi.json"


def read(purpose: Purpose, status: int, body: Any, task: Task | None = TASK, **headers: str) -> State:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    reply = Reply(Call(purpose, "GET", "/"), status, headers, raw)
    return BFL.read(reply, None if purpose in {Purpose.SUBMIT, Purpose.CHECK} else task)


# ---------------------------------------------------------------------------------------------- payloads of the sheet

SUBMITS = [
    pytest.param(
        '{"id":"378156bf-1aa0-4419-afde-e5f1b98ac7a9","polling_url":"https://api.us1.bfl.ai/v1/get_result?id=378156bf-1aa0-4419-afde-e5f1b98ac7a9"}',
        "378156bf-1aa0-4419-afde-e5f1b98ac7a9",
        "https://api.us1.bfl.ai/v1/get_result?id=378156bf-1aa0-4419-afde-e5f1b98ac7a9",
        id="1 REC S1 2025-06 flux-dev",
    ),
    pytest.param(
        '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","polling_url":"https://api.eu4.bfl.ai/v1/get_result?id=4ca5b657-4b04-4afc-9c4b-7445c578d324","cost":null,"input_mp":null,"output_mp":null}',
        "4ca5b657-4b04-4afc-9c4b-7445c578d324",
        "https://api.eu4.bfl.ai/v1/get_result?id=4ca5b657-4b04-4afc-9c4b-7445c578d324",
        id="2 REC S1 2025-12-18 flux-dev",
    ),
    pytest.param(
        '{"id":"a2814211-296c-4353-87b7-97e9b0bb9c1f","polling_url":"https://api.eu4.bfl.ai/v1/get_result?id=a2814211-296c-4353-87b7-97e9b0bb9c1f","cost":7.000000000000001,"input_mp":0.0,"output_mp":0.06}',
        "a2814211-296c-4353-87b7-97e9b0bb9c1f",
        "https://api.eu4.bfl.ai/v1/get_result?id=a2814211-296c-4353-87b7-97e9b0bb9c1f",
        id="3 REC S1 2025-12-17 flux-2-max",
    ),
    pytest.param(
        '{"id":"4c057b10-7efa-4c69-9ec8-cbbdfd56d918","polling_url":"https://api.eu2.bfl.ai/v1/get_result?id=4c057b10-7efa-4c69-9ec8-cbbdfd56d918","cost":3.0,"input_mp":0.0,"output_mp":0.06}',
        "4c057b10-7efa-4c69-9ec8-cbbdfd56d918",
        "https://api.eu2.bfl.ai/v1/get_result?id=4c057b10-7efa-4c69-9ec8-cbbdfd56d918",
        id="4 REC S1 flux-2-pro",
    ),
    pytest.param(
        '{"id":"b9b172a8-e39c-47b2-8f1a-cb8925f3532e","polling_url":"https://api.us1.bfl.ai/v1/get_result?id=b9b172a8-e39c-47b2-8f1a-cb8925f3532e"}',
        "b9b172a8-e39c-47b2-8f1a-cb8925f3532e",
        "https://api.us1.bfl.ai/v1/get_result?id=b9b172a8-e39c-47b2-8f1a-cb8925f3532e",
        id="18 3P kontext-max",
    ),
    pytest.param(
        '{"id":"<string>","status":"<string>","webhook_url":"<string>","cost":null,"input_mp":null,"output_mp":null}',
        "<string>",
        None,
        id="20 DOC S4 webhook",
    ),
]


@pytest.mark.parametrize(("body", "name", "polling_url"), SUBMITS)
def test_bfl_1_bfl_2_an_accepted_submit_is_a_running_task(body: str, name: str, polling_url: str | None) -> None:
    found = read(Purpose.SUBMIT, 200, body)

    assert isinstance(found, Running)
    assert (Task(name, polling_url), True) == (found.task, found.known)


def test_bfl_1_the_polling_url_is_polled_verbatim() -> None:
    url = "https://api.eu4.bfl.ai/v1/get_result?id=4ca5b657-4b04-4afc-9c4b-7445c578d324&x=%2F"

    call = BFL.poll(Task("other", url))

    assert ("GET", url, None, None) == (call.method, call.path, call.origin, call.body)


def test_bfl_2_without_a_polling_url_the_global_host_is_asked() -> None:
    call = BFL.poll(Task("a/b c"))

    assert ("/v1/get_result?id=a%2Fb%20c", "api", Purpose.POLL) == (call.path, call.origin, call.purpose)


def test_a_submit_without_polling_url_and_webhook_is_accepted_and_drift() -> None:
    found = read(Purpose.SUBMIT, 200, {"id": "one"})

    assert isinstance(found, Running)
    assert (Task("one"), False) == (found.task, found.known)


PENDING = [
    pytest.param(
        '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","status":"Pending","result":null,"progress":0.1,"details":null,"preview":null}',
        0.1,
        id="5 REC S1",
    ),
    pytest.param(
        '{"id":"378156bf-1aa0-4419-afde-e5f1b98ac7a9","status":"Pending","result":null,"progress":1.0,"details":null}',
        1.0,
        id="6 REC S1 2025-06 without preview",
    ),
]


@pytest.mark.parametrize(("body", "progress"), PENDING)
def test_bfl_5_a_pending_task_runs_even_at_full_progress(body: str, progress: float) -> None:
    headers = {"retry-after": "1", "x-ratelimit-reset": "1766072347.6372"}

    found = read(Purpose.POLL, 200, body, **headers)

    assert Running(TASK, "Pending", known=True, progress=progress) == found


@pytest.mark.parametrize("word", ["Reasoning", "Generating"])
def test_bfl_5_the_other_phases_are_known(word: str) -> None:
    assert Running(TASK, word) == read(Purpose.POLL, 200, {"id": "one", "status": word})


@pytest.mark.parametrize("word", ["Processing", "Queued", "Failed", "completed", "ready", "PENDING", "", "?"])
def test_f23_any_other_word_runs_on_unknown(word: str) -> None:
    assert Running(TASK, word, known=False) == read(Purpose.POLL, 200, {"id": "one", "status": word})


DEV_SAMPLE = "https://bfldeliveryprodeu4.blob.core.windows.net/results/8e/3470338ce49379/8ce49379183c4d1eaf3900e161a9839e/sample.jpeg?se=2025-12-18T15%3A49%3A07Z&sp=r&sv=2024-11-04&sr=b&rsct=image/jpeg&sig=TCGRVM3fn0TzwZwvuRPy5uRe2ySXpdoQgJJebQcaINw%3D"
FLUX_2_SAMPLE = "https://bfldeliveryprodeu4.blob.core.windows.net/results/2025/12/17/8da7da40786d48298478f765ea78c0dd_sample.jpeg?se=2025-12-17T21%3A39%3A00Z&sp=r&sv=2024-11-04&sr=b&rsct=image/jpeg&sig=FBshXdmGEvn5/crLMMt/6ATqE2E%2BYFcpt/C5Cvj3oS0%3D"
ICE_SAMPLE = "https://delivery.ice.bfl.ai/ephemeral/.../result.mp4?se=2026-08-19T00%3A01%3A21Z&sig=..."
READY = [
    pytest.param(
        '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","status":"Ready","result":{"sample":"'
        + DEV_SAMPLE
        + '","prompt":"...","seed":42,"start_time":1766072345.188173,"end_time":1766072347.676069,"duration":2.487895965576172},"progress":null,"details":null,"preview":null}',
        Output(DEV_SAMPLE, expires_at=datetime(2025, 12, 18, 15, 49, 7, tzinfo=UTC)),
        42,
        "...",
        None,
        id="7 REC S1 flux-dev",
    ),
    pytest.param(
        '{"id":"4c057b10-7efa-4c69-9ec8-cbbdfd56d918","status":"Ready","result":{"start_time":1766006932.122257,"prompt":"...","seed":42,"sample":"'
        + FLUX_2_SAMPLE
        + '"},"progress":null,"details":null,"preview":null}',
        Output(FLUX_2_SAMPLE, expires_at=datetime(2025, 12, 17, 21, 39, tzinfo=UTC)),
        42,
        "...",
        None,
        id="8 REC S1 flux-2-pro",
    ),
    pytest.param(
        '{"id":"7b32ef80-...","status":"Ready","result":{"sample":"'
        + ICE_SAMPLE
        + '","duration":45.17,"prompt":"Upscale and enhance: ","seed":3744260447},"progress":null,"details":null,"preview":null,"cost":74.0}',
        Output(ICE_SAMPLE, expires_at=datetime(2026, 8, 19, 0, 1, 21, tzinfo=UTC)),
        3744260447,
        "Upscale and enhance: ",
        Decimal("0.74"),
        id="9 REC S3 2026-08 settled cost",
    ),
]


@pytest.mark.parametrize(("body", "output", "seed", "prompt", "cost"), READY)
def test_bfl_13_bfl_18_bfl_21_a_ready_task_has_link_expiry_seed_prompt_and_cost(
    body: str, output: Output, seed: int, prompt: str, cost: Decimal | None
) -> None:
    found = read(Purpose.POLL, 200, body)

    assert isinstance(found, Succeeded)
    assert ((output,), TASK, seed, prompt, cost) == (
        *(found.outputs, found.task, found.seed),
        *(found.prompt, found.cost_usd),
    )
    assert json.loads(body) == found.raw


MODERATED = [
    pytest.param(
        '{"id":"fe7256d1-50d9-4663-8592-85eaf002e80c","status":"Request Moderated","result":null,"progress":null,"details":{"Moderation Reasons":["Derivative Works Filter"]},"preview":null}',
        "input",
        ("Derivative Works Filter",),
        id="10 REC",
    ),
    pytest.param(
        '{"id":"your-task-id","status":"Request Moderated","result":null}', "input", (), id="11 DOC without details"
    ),
    pytest.param(
        '{"id":"one","status":"Content Moderated","details":{"Moderation Reasons":["Sexual Content","NSFW"]}}',
        "output",
        ("Sexual Content", "NSFW"),
        id="REC 2026-09-20 note",
    ),
    pytest.param(
        '{"id":"one","status":"Content Moderated","details":{"Moderation Reasons":"NSFW"}}',
        "output",
        ("NSFW",),
        id="a text",
    ),
    pytest.param('{"id":"one","status":"Content Moderated","details":"NSFW"}', "output", ("NSFW",), id="S12 bare text"),
    pytest.param('{"id":"one","status":"Content Moderated","details":null}', "output", (), id="null"),
    pytest.param('{"id":"one","status":"Content Moderated","details":{}}', "output", (), id="empty"),
    pytest.param('{"id":"one","status":"Content Moderated","details":["NSFW"]}', "output", ("NSFW",), id="bare list"),
    pytest.param(
        '{"id":"one","status":"Content Moderated","details":{"Moderation Reasons":[7,null]}}',
        "output",
        ("7", "NoneType"),
        id="odd list",
    ),
]


@pytest.mark.parametrize(("body", "stage", "reasons"), MODERATED)
def test_bfl_9_moderation_has_a_stage_and_reasons_in_any_shape_and_is_free(
    body: str, stage: str, reasons: tuple[str, ...]
) -> None:
    found = read(Purpose.POLL, 200, body)

    assert isinstance(found, Failed)
    assert (Kind.MODERATED, False, stage, reasons) == (found.kind, found.maybe_charged, found.stage, found.reasons)
    assert all(reason in found.message for reason in reasons)


REFUSED = [
    pytest.param(
        403,
        '{"detail":"Not authenticated - Invalid Authentication"}',
        Kind.AUTHENTICATION_FAILED,
        "Not authenticated - Invalid Authentication",
        id="12 REC S1",
    ),
    pytest.param(
        422,
        '{"detail":"Invalid API key format"}',
        Kind.AUTHENTICATION_FAILED,
        "Invalid API key format",
        id="13 REC S3",
    ),
    pytest.param(
        422,
        '{"detail":[{"type":"less_than_equal","loc":["body","upscale_factor"],"msg":"Input should be less than or equal to 3","input":5,"ctx":{"le":3.0}}]}',
        Kind.REQUEST_REJECTED,
        "upscale_factor: Input should be less than or equal to 3",
        id="14 REC S3",
    ),
    pytest.param(
        422,
        '{"detail":[{"type":"missing","loc":["body","input_video"],"msg":"Field required","input":{"upscale_factor":2}}]}',
        Kind.REQUEST_REJECTED,
        "input_video: Field required",
        id="15 REC S3",
    ),
    pytest.param(402, '{"detail":"Insufficient credits"}', Kind.OUT_OF_CREDIT, "Insufficient credits", id="16 REC S2"),
    pytest.param(404, '{"detail":"Not Found"}', Kind.REQUEST_REJECTED, "Not Found", id="16 REC S1"),
    pytest.param(
        400,
        '{"detail":"Finetune not found or not ready"}',
        Kind.REQUEST_REJECTED,
        "Finetune not found or not ready",
        id="section 7 REC S2",
    ),
    pytest.param(
        401, '{"detail":"Not authenticated"}', Kind.AUTHENTICATION_FAILED, "Not authenticated", id="never seen"
    ),
    pytest.param(503, '{"detail":"overloaded"}', Kind.UNAVAILABLE, "overloaded", id="DOC S6"),
    pytest.param(500, '{"detail":"broken"}', Kind.UNAVAILABLE, "broken", id="DOC S6 500"),
    pytest.param(422, '{"detail":{"msg":"no"}}', Kind.REQUEST_REJECTED, "no", id="mapping with msg"),
    pytest.param(422, '{"detail":{"b":1,"a":2}}', Kind.REQUEST_REJECTED, "a, b", id="mapping without"),
]


@pytest.mark.parametrize("purpose", [Purpose.SUBMIT, Purpose.CHECK, Purpose.POLL])
@pytest.mark.parametrize(("status", "body", "kind", "message"), REFUSED)
def test_bfl_10_bfl_14_bfl_16_a_refusal_is_known_by_status_and_detail(
    purpose: Purpose, status: int, body: str, kind: Kind, message: str
) -> None:
    assert Refused(kind, message, shape="detail") == read(purpose, status, body)


def test_bfl_12_the_echo_of_a_rejected_body_is_not_in_the_message() -> None:
    echo = {
        "type": "missing",
        "loc": ["body", "prompt"],
        "msg": "Field required",
        "input": {"input_image": "QUJD" * 99},
    }

    found = read(Purpose.SUBMIT, 422, {"detail": [echo]})

    assert isinstance(found, Refused)
    assert "prompt: Field required" == found.message


def test_bfl_6_17_a_poll_that_finds_no_task_is_refused_in_the_bodys_words() -> None:
    found = read(Purpose.POLL, 404, '{"id":"...","status":"Task not found","result":null}')

    assert isinstance(found, Refused)
    assert (Kind.JOB_NOT_FOUND, "status") == (found.kind, found.shape)


@pytest.mark.parametrize(
    "body",
    [
        {"status": "Error", "details": {"error": "Invalid or corrupted image input"}},
        {"status": "Error", "result": {"error": "Invalid or corrupted image input"}},
        {"status": "Error", "error": "Invalid or corrupted image input"},
        {"status": "Error", "details": "Invalid or corrupted image input"},
    ],
    ids=["17 REC S2", "old result", "old error", "text"],
)
@pytest.mark.parametrize("status", [200, 422, 503])
def test_bfl_7_a_failed_task_says_why_whatever_the_http_status(status: int, body: Any) -> None:
    found = read(Purpose.POLL, status, body)

    assert Failed(Kind.GENERATION_FAILED, "Invalid or corrupted image input", maybe_charged=False) == found


def test_a_failed_task_without_a_reason_has_a_message() -> None:
    found = read(Purpose.POLL, 200, {"status": "Error", "details": {"error": ["x"]}})

    assert isinstance(found, Failed)
    assert found.message


@pytest.mark.parametrize(
    ("body", "amount"),
    [
        ({"credits": 1234}, Decimal(1234)),
        ({"credits": 0.1}, Decimal("0.1")),
        ({"credits": -2}, Decimal(-2)),
        ({"credits": None}, None),
        ({"credits": "7"}, None),
        ({"credits": True}, None),
        ({"credits": 1e300}, None),
    ],
)
def test_bfl_22_19_the_balance_is_told_in_credits(body: Any, amount: Decimal | None) -> None:
    usd = None if amount is None else amount / 100

    assert Balance(amount, "credits", usd) == read(Purpose.CHECK, 200, body)


def test_bfl_22_the_check_is_a_get_that_costs_nothing() -> None:
    call = BFL.check()

    assert ("GET", "/v1/credits", "api", None) == (call.method, call.path, call.origin, call.body)


# ------------------------------------------------------------------------------------------------- single values


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        (4, Decimal("0.04")),
        (4.0, Decimal("0.04")),
        (7.000000000000001, Decimal("0.07")),
        (2.9999999999999996, Decimal("0.03")),
        (1.4, Decimal("0.014")),
        (0, Decimal(0)),
        (None, None),
        ("4", None),
        (True, None),
        (-4, None),
        (1e300, None),
        ([4], None),
    ],
)
def test_bfl_8_credits_become_exact_dollars(told: Any, cost: Decimal | None) -> None:
    found = read(Purpose.POLL, 200, {"status": "Ready", "result": {"sample": "https://x.example/a"}, "cost": told})

    assert isinstance(found, Succeeded)
    assert cost == found.cost_usd
    assert cost is None or isinstance(found.cost_usd, Decimal)


@pytest.mark.parametrize(
    ("query", "expires"),
    [
        ("?se=2025-12-18T15%3A49%3A07Z", datetime(2025, 12, 18, 15, 49, 7, tzinfo=UTC)),
        ("?a=1&se=2025-12-18T15:49:07", datetime(2025, 12, 18, 15, 49, 7, tzinfo=UTC)),
        ("?se=soon", None),
        ("?se=", None),
        ("?se=2025-12-18T15:49:07Z&se=2026-12-18T15:49:07Z", None),
        ("", None),
        ("?se=2025-99-99", None),
    ],
)
def test_bfl_13_the_end_of_a_link_is_its_se(query: str, expires: datetime | None) -> None:
    sample = f"https://delivery.bfl.ai/a.png{query}"

    found = read(Purpose.POLL, 200, {"status": "Ready", "result": {"sample": sample}})

    assert isinstance(found, Succeeded)
    assert (Output(sample, expires_at=expires),) == found.outputs


@pytest.mark.parametrize(("seed", "kept"), [(0, 0), (2**32 - 1, 2**32 - 1), (None, None), (True, None), ("7", None)])
def test_bfl_18_a_seed_is_a_whole_number_and_0_is_one(seed: Any, kept: int | None) -> None:
    found = read(Purpose.POLL, 200, {"status": "Ready", "result": {"sample": "https://x.example/a", "seed": seed}})

    assert isinstance(found, Succeeded)
    assert kept == found.seed


@pytest.mark.parametrize("result", [None, {}, [], "x", {"sample": None}, {"sample": ""}, {"sample": ["x"]}])
def test_f27_ready_without_a_link_is_not_understood(result: Any) -> None:
    found = read(Purpose.POLL, 200, {"status": "Ready", "result": result})

    assert isinstance(found, Refused)
    assert Kind.PROTOCOL_ERROR is found.kind


# ------------------------------------------------------------------------------------------------------------ submits

PHOTO = InputImage(b"\xff\xd8photo", None, "image/jpeg", 640, 480)
LINK = InputImage(None, "https://x.example/a.png", None, None, None)


def provider() -> Provider:
    return Provider("bfl", BFL, {"api": "https://api.bfl.ai"}, lambda: SecretStr("bfl_secret_key"))


def submit(model: str, images: tuple[InputImage, ...] = (), **asked: Any) -> Call:
    request = ImageRequest("a cat", [b"x"] * len(images), **asked)
    step = negotiate(request, images, Candidate(provider(), model), Policy(), waits=False)
    return BFL.submit(step.orders[0])


def fields(call: Call) -> dict[str, Any]:
    assert call.body is not None
    found = orjson.loads(bytes(call.body))
    assert isinstance(found, dict)
    return found


COMMON = {"prompt": "a cat", "output_format": "jpeg", "safety_tolerance": 2, "prompt_upsampling": False}
PHOTO_64 = "/9hwaG90bw=="
SENT = [
    pytest.param("flux-kontext-pro", (), {}, {**COMMON, "aspect_ratio": "1:1"}, id="pro generate"),
    pytest.param("flux-kontext-max", (), {}, {**COMMON, "aspect_ratio": "1:1"}, id="max generate"),
    pytest.param("flux-kontext-pro", (PHOTO,), {}, {**COMMON, "input_image": PHOTO_64}, id="pro edit"),
    pytest.param(
        "flux-kontext-max",
        (PHOTO, LINK, PHOTO, LINK),
        {"aspect_ratio": "16:9", "seed": 0, "safety_tolerance": 0, "output_format": "png", "prompt_upsampling": True},
        {
            "prompt": "a cat",
            "input_image": PHOTO_64,
            "input_image_2": "https://x.example/a.png",
            "input_image_3": PHOTO_64,
            "input_image_4": "https://x.example/a.png",
            "aspect_ratio": "16:9",
            "seed": 0,
            "safety_tolerance": 0,
            "output_format": "png",
            "prompt_upsampling": True,
        },
        id="max edit of four",
    ),
    pytest.param("flux-1.1-pro", (), {}, {**COMMON, "width": 1024, "height": 1024}, id="1.1 generate"),
    pytest.param(
        "flux-1.1-pro", (), {"size": (1440, 256)}, {**COMMON, "width": 1440, "height": 256}, id="1.1 with a size"
    ),
    pytest.param(
        "flux-1.1-pro-ultra",
        (),
        {"aspect_ratio": "21:9", "output_format": "webp", "safety_tolerance": 6},
        {**COMMON, "aspect_ratio": "21:9", "output_format": "webp", "safety_tolerance": 6},
        id="ultra generate",
    ),
    pytest.param(
        "flux-kontext-pro",
        (),
        {"webhook_url": "https://me.example/hook", "provider_options": {"bfl": {"webhook_secret": "hush"}}},
        {**COMMON, "aspect_ratio": "1:1", "webhook_url": "https://me.example/hook", "webhook_secret": "hush"},
        id="webhook",
    ),
    pytest.param(
        "flux-1.1-pro-ultra",
        (),
        {"provider_options": {"bfl": {"raw": True, "aspect_ratio": "4:3"}}},
        {**COMMON, "aspect_ratio": "4:3", "raw": True},
        id="ultra with options of its own",
    ),
]


@pytest.mark.parametrize(("model", "images", "asked", "sent"), SENT)
def test_bfl_3_bfl_15_exactly_these_fields_are_sent(model: str, images: Any, asked: Any, sent: dict[str, Any]) -> None:
    call = submit(model, images, **asked)

    assert sent == fields(call)
    assert ("POST", f"/v1/{FACTS.models[model].wire_name}", "api") == (call.method, call.path, call.origin)
    assert Purpose.SUBMIT is call.purpose


def test_bfl_19_an_image_is_raw_base64_that_is_not_built_as_one_text() -> None:
    call = submit("flux-kontext-pro", (PHOTO,))

    assert call.body is not None
    assert [PHOTO.data] == [part.data for part in call.body.parts if isinstance(part, Base64)]
    assert b"data:" not in bytes(call.body)


@pytest.mark.parametrize(
    ("model", "wire"), [("flux-1.1-pro", "flux-pro-1.1"), ("flux-1.1-pro-ultra", "flux-pro-1.1-ultra")]
)
def test_models_have_the_providers_names_in_the_path(model: str, wire: str) -> None:
    assert f"/v1/{wire}" == submit(model).path


# ----------------------------------------------------------------------------------- the vendor's schema, where it is


@pytest.fixture(scope="module")
def schema() -> Mapping[str, Any]:
    if not SCHEMA.exists():
        pytest.skip("the vendor's OpenAPI text is not part of this project, and not beside it")
    found: Mapping[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return found


def violations(value: Any, rule: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """What of a value breaks a rule of the schema: the part of JSON Schema that BFL uses."""
    if "$ref" in rule:
        return violations(value, schema["components"]["schemas"][rule["$ref"].rsplit("/", 1)[-1]], schema)
    if "anyOf" in rule:
        tried = [violations(value, one, schema) for one in rule["anyOf"]]
        return [] if [] in tried else [f"{value!r} fits none of {len(tried)}"]
    types = {"string": str, "integer": int, "number": int | float, "boolean": bool, "null": type(None)}
    wanted = types[rule["type"]]
    found = []
    if not isinstance(value, wanted) or (isinstance(value, bool) and rule["type"] != "boolean"):  # type: ignore[arg-type]
        return [f"{value!r} is no {rule['type']}"]
    if "enum" in rule and value not in rule["enum"]:
        found.append(f"{value!r} is none of {rule['enum']}")
    if "minimum" in rule and value < rule["minimum"]:
        found.append(f"{value!r} is below {rule['minimum']}")
    if "maximum" in rule and value > rule["maximum"]:
        found.append(f"{value!r} is above {rule['maximum']}")
    if "multipleOf" in rule and value % rule["multipleOf"]:
        found.append(f"{value!r} is no multiple of {rule['multipleOf']}")
    if isinstance(value, str) and not rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", 10**9):
        found.append(f"a text of {len(value)} letters")
    return found


@pytest.mark.parametrize(("model", "images", "asked", "sent"), SENT)
def test_what_is_sent_follows_the_vendors_schema(
    schema: Mapping[str, Any], model: str, images: Any, asked: Any, sent: dict[str, Any]
) -> None:
    call = submit(model, images, **asked)
    operation = schema["paths"][call.path]["post"]
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
    rules = schema["components"]["schemas"][name]

    found = fields(call)

    assert found.keys() <= rules["properties"].keys()
    assert set(rules.get("required", [])) <= found.keys()
    assert [] == [one for name, value in found.items() for one in violations(value, rules["properties"][name], schema)]


@pytest.mark.parametrize("model", FACTS.models)
def test_every_field_that_may_be_passed_through_is_in_the_vendors_schema(schema: Mapping[str, Any], model: str) -> None:
    facts = FACTS.models[model]
    operation = schema["paths"][f"/v1/{facts.wire_name}"]["post"]
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
    properties = schema["components"]["schemas"][name]["properties"]

    assert set(facts.passthrough) <= properties.keys()
    assert properties.keys() <= {*facts.passthrough, *FACTS.reserved_options, "prompt"}


def test_the_schema_check_finds_what_is_wrong() -> None:
    rule = {"type": "integer", "minimum": 0, "maximum": 6, "multipleOf": 2}

    assert [[], ["7 is above 6", "7 is no multiple of 2"], ["True is no integer"], ["'x' is no integer"]] == [
        violations(value, rule, {}) for value in (4, 7, True, "x")
    ]


# -------------------------------------------------------------------------------------------------------------- facts


def test_the_adapter_keeps_the_contract() -> None:
    adapter: Adapter = BFL

    assert isinstance(adapter, Checks)
    assert "bfl" == adapter.facts.name


def specs() -> list[Any]:
    every = [mode.options for model in FACTS.models.values() for mode in model.modes.values()]
    return [spec for options in every for spec in options.values()]


def test_every_evidence_is_a_quirk_that_is_told() -> None:
    named = {spec.evidence for spec in specs()} | set(FACTS.evidence.values())
    named |= {one.evidence for one in FACTS.rejections} | {FACTS.inputs.evidence}

    assert named <= FACTS.quirks.keys()


def test_every_quirk_that_the_code_names_exists_and_the_readme_tells_each() -> None:
    folder = Path(bfl_module.__file__).parent
    in_code = set(re.findall(r"bfl-\d+", (folder / "adapter.py").read_text(encoding="utf-8")))
    in_readme = set(re.findall(r"bfl-\d+", (folder / "README.md").read_text(encoding="utf-8")))

    assert in_code <= FACTS.quirks.keys()
    assert FACTS.quirks.keys() == in_readme


def test_the_adapter_imports_the_contract_and_pure_parts_of_the_standard_library_only() -> None:
    folder = Path(bfl_module.__file__).parent
    allowed = {"collections", "datetime", "decimal", "typing", "urllib", "anykontext", "anykontext_bfl"}

    for name in ("adapter.py", "facts.py"):
        text = (folder / name).read_text(encoding="utf-8")
        found = re.findall(r"^(?:from|import) ([\w.]+)", text, re.MULTILINE)
        assert {one.split(".")[0] for one in found} <= allowed
        assert all(one == "anykontext.adapting" for one in found if one.split(".")[0] == "anykontext")


def test_every_model_has_a_price() -> None:
    text = (Path(bfl_module.__file__).parent / "prices.toml").read_text(encoding="utf-8")

    found = price_list(text, FACTS.models)

    assert FACTS.models.keys() == found.keys()
    assert (Decimal("0.04"), Decimal("0.08")) == (found["flux-kontext-pro"].amount, found["flux-kontext-max"].amount)


def test_bfl_17_safety_is_0_to_6_and_0_to_2_with_an_image() -> None:
    modes = FACTS.models["flux-kontext-pro"].modes

    assert [(0, 2), (0, 6)] == [
        (modes[mode].options["safety_tolerance"].low, modes[mode].options["safety_tolerance"].high)  # type: ignore[union-attr]
        for mode in ("edit", "generate")
    ]


def test_bfl_11_the_limits_are_those_of_the_help_pages() -> None:
    assert (24, 6) == (FACTS.max_active, FACTS.models["flux-kontext-max"].max_active)


def test_bfl_20_the_ends_of_the_ratios_are_included() -> None:
    for ratio, sent in {"9:21": "9:21", "3:7": "9:21", "21:9": "21:9", "7:3": "21:9"}.items():
        assert sent == fields(submit("flux-kontext-pro", aspect_ratio=ratio))["aspect_ratio"]


def test_a_429_of_a_gateway_is_a_refusal_too() -> None:
    """The body is the one of bfl sheet section 7, marked LOW there."""
    body = '{"error":"rate_limit_exceeded","message":"exceeded your concurrency limit","retry_after":5}'

    found = read(Purpose.SUBMIT, 429, body)

    assert Refused(Kind.RATE_LIMITED, "exceeded your concurrency limit", shape="message") == found


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_bfl_16_a_message_without_detail_is_not_bfl_speaking(status: int) -> None:
    found = read(Purpose.SUBMIT, status, '{"message":"Internal server error"}')

    assert Refused(Kind.PROTOCOL_ERROR, "Internal server error") == found
