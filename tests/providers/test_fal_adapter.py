# ruff: noqa: E501 - payloads stand here letter for letter
"""The fal adapter against the payloads of its protocol sheet; the quirk ids are those of its README.

Payloads are fal's documentation's (DOC), from reports of real answers (REC/3P), or from clients' code (CODE).
"""

import ast
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

import anykontext_fal
from anykontext.adapting import (
    Adapter,
    Balance,
    Base64,
    Call,
    Cancelling,
    Cancels,
    Checks,
    Effective,
    Failed,
    Fetch,
    InputImage,
    Kind,
    Numbers,
    Output,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
)
from anykontext.engine.misfit import Misfit
from anykontext.engine.money_table import Again, Charged, Row, after_poll, after_submit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import address
from anykontext.engine.submit import Step
from anykontext.model.errors import UnsupportedOption
from anykontext.model.job import JobHandle
from anykontext.model.money import price_list
from anykontext.model.request import ImageRequest
from anykontext_fal import Fal
from anykontext_fal.endpoints import ENDPOINTS
from anykontext_fal.facts import FACTS

FAL = Fal()
PACKAGE = Path(anykontext_fal.__file__).parent
ID = "30bc4aeb-0543-4198-929c-da97da4d14c9"
URL = f"https://queue.fal.run/fal-ai/flux-pro/requests/{ID}"
DATA = {"app": "fal-ai/flux-pro", "response_url": URL, "cancel_url": f"{URL}/cancel"}
TASK = Task(ID, f"{URL}/status", DATA)
BARE = Task(ID, None, {"app": "fal-ai/flux-pro"})
SUBMIT = "/fal-ai/flux-pro/kontext/max/multi"
OF = {"x-fal-request-id": ID}  # fal's own servers sent it
PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"


def reply(purpose: Purpose, status: int, body: Any, headers: dict[str, str] | None = None, path: str = SUBMIT) -> Reply:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Reply(Call(purpose, "GET", path), status, headers or {}, raw)


def read(
    purpose: Purpose,
    status: int,
    body: Any,
    headers: dict[str, str] | None = None,
    *,
    task: Task = TASK,
    path: str = SUBMIT,
) -> State:
    known = None if purpose in {Purpose.SUBMIT, Purpose.CHECK} else task
    return FAL.read(reply(purpose, status, body, headers, path), known)


def money(status: int, body: Any, headers: dict[str, str] | None = None) -> Row | None:
    heard = reply(Purpose.SUBMIT, status, body, headers)
    return after_submit(heard, FAL.read(heard, None), FACTS)


def provider() -> Provider:
    return Provider("fal", FAL, FACTS.origins, lambda: SecretStr("id:secret"))


# ------------------------------------------------------------------------------------------------- what a submit says

SUBMITTED = '{"status":"IN_QUEUE","request_id":"30bc4aeb-0543-4198-929c-da97da4d14c9","response_url":"https://queue.fal.run/fal-ai/flux-pro/requests/30bc4aeb-0543-4198-929c-da97da4d14c9","status_url":"https://queue.fal.run/fal-ai/flux-pro/requests/30bc4aeb-0543-4198-929c-da97da4d14c9/status","cancel_url":"https://queue.fal.run/fal-ai/flux-pro/requests/30bc4aeb-0543-4198-929c-da97da4d14c9/cancel","logs":null,"metrics":{},"queue_position":0}'
OLDER = '{"request_id":"80e732af-660e-45cd-bd63-580e4f2a94cc","response_url":"https://queue.fal.run/fal-ai/fast-sdxl/requests/80e732af-660e-45cd-bd63-580e4f2a94cc","status_url":"https://queue.fal.run/fal-ai/fast-sdxl/requests/80e732af-660e-45cd-bd63-580e4f2a94cc/status","cancel_url":"https://queue.fal.run/fal-ai/fast-sdxl/requests/80e732af-660e-45cd-bd63-580e4f2a94cc/cancel"}'


def test_fal_1_the_recorded_answer_to_a_submit_is_a_task_with_its_urls() -> None:
    """Payload 1, REC/3P, Kontext."""
    assert Running(TASK, "IN_QUEUE", queue_position=0) == read(Purpose.SUBMIT, 200, SUBMITTED)


def test_fal_20_the_older_answer_has_no_status_and_no_position() -> None:
    """Payload 2, DOC."""
    url = "https://queue.fal.run/fal-ai/fast-sdxl/requests/80e732af-660e-45cd-bd63-580e4f2a94cc"
    data = {"app": "fal-ai/fast-sdxl", "response_url": url, "cancel_url": f"{url}/cancel"}
    task = Task("80e732af-660e-45cd-bd63-580e4f2a94cc", f"{url}/status", data)

    assert Running(task, "IN_QUEUE") == read(Purpose.SUBMIT, 200, OLDER, path="/fal-ai/fast-sdxl")


@pytest.mark.parametrize(
    "extra", [{}, {"status_url": None, "response_url": "", "cancel_url": 7, "queue_position": True, "status": None}]
)
def test_fal_20_an_answer_without_urls_keeps_what_they_are_built_of(extra: dict[str, Any]) -> None:
    """The documented answer to a submit with a webhook."""
    body = {"request_id": ID, "gateway_request_id": ID, **extra}

    assert Running(BARE, "IN_QUEUE") == read(Purpose.SUBMIT, 200, body)


@pytest.mark.parametrize(
    ("path", "app"),
    [
        ("/fal-ai/flux-pro/kontext/max/multi?fal_webhook=https%3A%2F%2Fme.example%2Fa%2Fb", "fal-ai/flux-pro"),
        ("/fal-ai/flux-kontext/dev", "fal-ai/flux-kontext"),
        ("/fal-ai/flux-pro", "fal-ai/flux-pro"),
        ("/workflows/me/mine/x", "workflows/me/mine"),
        ("/comfy/me/mine", "comfy/me/mine"),
        ("/alone", "alone"),
    ],
)
def test_fal_1_the_app_is_owner_and_alias_or_three_parts_in_a_namespace(path: str, app: str) -> None:
    found = read(Purpose.SUBMIT, 200, {"request_id": ID}, path=path)

    assert isinstance(found, Running)
    assert app == found.task.data["app"]


@pytest.mark.parametrize("status", [200, 201, 202])
def test_every_2xx_with_an_id_is_accepted(status: int) -> None:
    assert isinstance(read(Purpose.SUBMIT, status, SUBMITTED), Running)


def test_a_task_that_is_complete_at_once_is_fetched_at_once() -> None:
    body = {**json.loads(SUBMITTED), "status": "COMPLETED"}

    assert Fetch(Call(Purpose.FETCH, "GET", URL, None), TASK) == read(Purpose.SUBMIT, 200, body)


def test_fal_3_an_unknown_word_at_the_submit_runs_on() -> None:
    found = read(Purpose.SUBMIT, 200, {**json.loads(SUBMITTED), "status": "SIMMERING"})

    assert isinstance(found, Running)
    assert ("SIMMERING", False) == (found.raw_status, found.known)


@pytest.mark.parametrize("body", [{}, {"request_id": ""}, {"request_id": 7}, {"status": "IN_QUEUE"}, [], b"", b"{"])
def test_a_2xx_without_a_request_id_may_have_been_accepted(body: Any) -> None:
    row = money(200, body)

    assert isinstance(read(Purpose.SUBMIT, 200, body), Refused)
    assert row is not None
    assert (Kind.OUTCOME_UNKNOWN, Charged.MAYBE) == (row.kind, row.charged)


def test_a_task_survives_its_handle() -> None:
    found = read(Purpose.SUBMIT, 200, SUBMITTED)
    assert isinstance(found, Running)
    handle = JobHandle("job", "fal", "fal", "flux-kontext-pro", "edit", (found.task,))

    assert (found.task,) == JobHandle.from_json(handle.to_json()).tasks


# ----------------------------------------------------------------------------------------- what is asked about a task


def test_fal_1_the_status_url_is_asked_verbatim() -> None:
    url = "https://queue.fal.run/fal-ai/flux-pro/requests/x/status?a=%2F&logs=1"

    assert Call(Purpose.POLL, "GET", url, None) == FAL.poll(Task("other", url, DATA))


def test_fal_1_fal_20_urls_that_are_missing_are_built_below_owner_and_alias() -> None:
    path = f"/fal-ai/flux-pro/requests/{ID}"
    fetch = read(Purpose.POLL, 200, {"status": "COMPLETED"}, task=BARE)

    assert Call(Purpose.POLL, "GET", f"{path}/status?logs=0") == FAL.poll(BARE)
    assert Call(Purpose.CANCEL, "PUT", f"{path}/cancel") == FAL.cancel(BARE)
    assert Fetch(Call(Purpose.FETCH, "GET", path), BARE) == fetch


def test_an_id_that_looks_like_a_path_stays_one_part_of_the_path() -> None:
    call = FAL.poll(Task("../a?b", None, {"app": "fal-ai/flux-pro"}))

    assert "/fal-ai/flux-pro/requests/..%2Fa%3Fb/status?logs=0" == call.path


def test_fal_7_a_cancel_is_a_put_to_the_cancel_url_without_a_body() -> None:
    assert Call(Purpose.CANCEL, "PUT", f"{URL}/cancel", None) == FAL.cancel(TASK)


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        (f"{URL}/status", True),
        (f"{URL.replace('fal.run', 'falrun.com')}/status", True),
        ("https://fal.run/fal-ai/flux-pro", False),
        ("https://v3.fal.media/files/a.png", False),
        ("https://queue.fal.run.example/x", False),
        ("https://rest.fal.ai.example/x", False),
        (f"{URL.replace('https', 'http')}/status", False),
    ],
)
def test_fal_19_the_key_goes_to_the_queues_hosts_only(url: str, signed: bool) -> None:
    assert signed is address(FAL.poll(Task("x", url)), provider()).signed


# --------------------------------------------------------------------------------------------------- what a status says

STATUSES = [  # payload 3, DOC
    ('{"status":"IN_QUEUE","request_id":"764cabcf-...","queue_position":2,"response_url":"x"}', "IN_QUEUE", 2),
    (
        '{"status":"IN_PROGRESS","request_id":"y","response_url":"x","logs":[{"message":"Loading model weights...","timestamp":"2026-02-17T10:30:01.123Z"}]}',
        "IN_PROGRESS",
        None,
    ),
    ('{"status":"IN_QUEUE","logs":null,"metrics":{},"queue_position":null}', "IN_QUEUE", None),
    ('{"status":"IN_QUEUE","queue_position":-1}', "IN_QUEUE", None),
]


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize(("body", "word", "position"), STATUSES)
def test_fal_2_the_word_counts_whatever_the_http_status(
    body: str, word: str, position: int | None, status: int
) -> None:
    assert Running(TASK, word, queue_position=position) == read(Purpose.POLL, status, body)


@pytest.mark.parametrize(
    "more",
    [
        {"metrics": {"inference_time": 3.42}, "logs": [{"message": "Done.", "timestamp": "2026-02-17T10:30:05.789Z"}]},
        {"error": "Request timed out", "error_type": "request_timeout"},
        {"metrics": None, "error": None},
    ],
)
def test_fal_3_completed_means_fetch_and_never_success_or_failure(more: dict[str, Any]) -> None:
    found = read(Purpose.POLL, 200, {"status": "COMPLETED", **more})

    assert Fetch(Call(Purpose.FETCH, "GET", URL, None), TASK) == found


def test_the_response_url_of_the_status_is_used_where_the_submit_had_none() -> None:
    found = read(Purpose.POLL, 200, {"status": "COMPLETED", "response_url": f"{URL}/response"}, task=BARE)

    assert Fetch(Call(Purpose.FETCH, "GET", f"{URL}/response", None), BARE) == found


def test_fal_3_an_unknown_word_runs_on_and_is_told() -> None:
    assert Running(TASK, "SIMMERING", known=False) == read(Purpose.POLL, 202, {"status": "SIMMERING"})


def test_an_unknown_word_under_an_error_says_nothing_about_the_task() -> None:
    found = read(Purpose.POLL, 500, {"status": "error"})

    assert isinstance(found, Refused)
    assert Kind.UNAVAILABLE is found.kind


@pytest.mark.parametrize(
    ("purpose", "body"),
    [
        (Purpose.POLL, {"status": "NOT_FOUND"}),
        (Purpose.CANCEL, {"status": "NOT_FOUND"}),
        (Purpose.FETCH, {"status": "NOT_FOUND"}),
        (Purpose.FETCH, {"detail": "Request not found"}),
        (Purpose.POLL, {"detail": "Request not found"}),
        (Purpose.FETCH, {"detail": "Not Found"}),
    ],
)
def test_fal_6_an_unknown_task_is_not_found_in_both_shapes(purpose: Purpose, body: Any) -> None:
    found = read(purpose, 404, body, OF)

    assert isinstance(found, Refused)
    assert Kind.JOB_NOT_FOUND is found.kind
    assert found.shape


@pytest.mark.parametrize("purpose", [Purpose.POLL, Purpose.FETCH, Purpose.CANCEL])
def test_fal_1_a_405_without_a_body_is_not_understood(purpose: Purpose) -> None:
    found = read(purpose, 405, b"", {"allow": "POST"})

    assert Refused(Kind.PROTOCOL_ERROR, "HTTP 405 without a word of fal's") == found


# --------------------------------------------------------------------------------------------------- what a result says

RESULT = '{"seed":2841475369,"images":[{"url":"https://fal.media/files/tiger/BwdOcvXOx0UmkCyCMZGmZ_1ee10db761e146a28fdaadafa528d239.jpg","width":1024,"height":1024,"content_type":"image/jpeg"}],"prompt":"Put the little duckling on top of the woman\'s t-shirt.","request":{"prompt":"Put the little duckling on top of the woman\'s t-shirt.","image_urls":["https://v3.fal.media/files/penguin/XoW0qavfF-ahg-jX4BMyL_image.webp","https://v3.fal.media/files/tiger/bml6YA7DWJXOigadvxk75_image.webp"],"num_images":1,"output_format":"jpeg","guidance_scale":3.5,"safety_tolerance":"2"},"timings":{},"has_nsfw_concepts":[false]}'
SAMPLE = '{"images":[{"height":1024,"url":"https://fal.media/files/tiger/7dSJbIU_Ni-0Zp9eaLsvR_fe56916811d84ac69c6ffc0d32dca151.jpg","width":1024}],"prompt":""}'


def done(body: Any, headers: dict[str, str] | None = None) -> Succeeded:
    found = read(Purpose.FETCH, 200, body, headers)
    assert isinstance(found, Succeeded)
    return found


def test_the_recorded_result_of_kontext_multi() -> None:
    """Payload 4, REC/3P."""
    link = "https://fal.media/files/tiger/BwdOcvXOx0UmkCyCMZGmZ_1ee10db761e146a28fdaadafa528d239.jpg"

    assert Succeeded(
        outputs=(Output(link),),
        task=TASK,
        seed=2841475369,
        prompt="Put the little duckling on top of the woman's t-shirt.",
        units=Decimal(1),
        raw=json.loads(RESULT),
    ) == done(RESULT, {"x-fal-billable-units": "1"})


def test_fal_13_the_documented_sample_lacks_most_fields() -> None:
    """Payload 5, DOC."""
    found = done(SAMPLE)

    assert (1, None, None, None) == (len(found.outputs), found.seed, found.prompt, found.units)


def images(*urls: str, **more: Any) -> dict[str, Any]:
    """A result with images at these links; one of a single letter is a file of that name."""
    return {"images": [{"url": f"https://v3.fal.media/{url}" if len(url) == 1 else url} for url in urls], **more}


def test_fal_13_a_data_uri_gives_its_base64() -> None:
    assert (Output(base64="/9j/AA=="),) == done(images("data:image/jpeg;base64,/9j/AA==")).outputs


@pytest.mark.parametrize("uri", ["data:image/png,abc", "data:image/png;base64,", "data:", "DATA:;base64"])
def test_fal_13_a_data_uri_without_base64_is_no_image(uri: str) -> None:
    assert isinstance(read(Purpose.FETCH, 200, images(uri)), Refused)


@pytest.mark.parametrize(
    ("flags", "kept", "flagged"),
    [
        ([False, False], "ab", 0),
        ([True, False], "b", 1),
        ([True, True], "", 2),
        ([False], "ab", 0),
        ([True], "b", 1),
        ([False, False, True], "ab", 0),
        ([True, True, True], "", 2),
        ([], "ab", 0),
        (None, "ab", 0),
        (["yes", 1], "ab", 0),
    ],
)
def test_fal_10_flagged_images_are_withheld_and_told(flags: Any, kept: str, flagged: int) -> None:
    found = done(images("a", "b", has_nsfw_concepts=flags))

    assert list(kept) == [str(one.url)[-1] for one in found.outputs]
    assert ("has_nsfw_concepts",) * flagged == found.flagged


def test_fal_10_only_a_flag_is_an_end_and_not_a_riddle() -> None:
    found = done({"images": [], "has_nsfw_concepts": [True]})

    assert ((), ("has_nsfw_concepts",)) == (found.outputs, found.flagged)


@pytest.mark.parametrize(
    ("seed", "kept"),
    [(196619188014358660, 196619188014358660), (2**64 - 1, 2**64 - 1), (0, 0), (True, None), ("7", None), (1.5, None)],
)
def test_fal_26_seeds_beyond_2_53_stay_exact(seed: Any, kept: int | None) -> None:
    assert kept == done(images("a", seed=seed)).seed


@pytest.mark.parametrize(
    ("told", "units"),
    [
        ("1", Decimal(1)),
        ("2.5", Decimal("2.5")),
        ("0", Decimal(0)),
        (" 4.0 ", Decimal("4.0")),
        (None, None),
        ("", None),
        ("-1", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e9", None),
        ("1_0", None),
        ("٣", None),
        ("9" * 50, None),
    ],
)
def test_fal_16_units_are_a_plain_number_and_missing_is_not_nothing(told: str | None, units: Decimal | None) -> None:
    headers = {} if told is None else {"x-fal-billable-units": told}

    assert units == done(images("a"), headers).units


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        {},
        {"images": None},
        {"images": []},
        {"images": [{}, None, 7, {"url": ""}, {"url": 3}, {"url": "javascript:1"}]},
        PAGE,
    ],
)
def test_a_200_without_an_image_is_not_understood(body: Any) -> None:
    found = read(Purpose.FETCH, 200, body, OF)

    assert Refused(Kind.PROTOCOL_ERROR, "a result without an image", shape="result") == found


@pytest.mark.parametrize("status", [400, 404, 500, 202])
def test_fal_5_a_result_asked_too_early_runs_on_whatever_the_status(status: int) -> None:
    """Payload 14."""
    found = read(Purpose.FETCH, status, {"detail": "Request is still in progress"}, OF)

    assert Running(TASK, "IN_PROGRESS") == found


def test_fal_5_a_202_at_the_result_runs_on() -> None:
    assert Running(TASK, "IN_PROGRESS") == read(Purpose.FETCH, 202, {"status": "IN_PROGRESS"})


# ------------------------------------------------------------------------------------------------ how a task may end

PROMPT_FLAGGED = '{"detail":[{"loc":["body","prompt"],"msg":"The content could not be processed because it contained material flagged by a content checker.","type":"content_policy_violation","url":"https://docs.fal.ai/errors/#content_policy_violation","input":"a prompt containing forbidden content"}]}'
NOT_DOWNLOADED = '{"detail":[{"loc":["body","video_url"],"msg":"File download error","type":"file_download_error","url":"https://docs.fal.ai/errors/#file_download_error","input":"https://private-server.com/file.mp4"}]}'
TOO_LARGE = '{"detail":[{"loc":["body","input_image"],"msg":"Image too large","type":"image_too_large","url":"https://docs.fal.ai/errors/#image_too_large","ctx":{"max_height":1024,"max_width":1024},"input":"https://example.com/image_2000x2000.jpg"}]}'
TOO_MUCH = '{"detail":[{"loc":["body","guidance_scale"],"msg":"Input should be less than or equal to 20","type":"less_than_equal","url":"https://docs.fal.ai/errors/#less_than_equal","ctx":{"le":20},"input":21}]}'


def test_fal_8_a_flagged_prompt_is_moderated() -> None:
    """Payload 6, DOC."""
    said = "The content could not be processed because it contained material flagged by a content checker."

    assert Failed(
        Kind.MODERATED,
        f"content_policy_violation at prompt: {said}",
        maybe_charged=True,
        stage="input",
        reasons=(said,),
    ) == read(Purpose.FETCH, 422, PROMPT_FLAGGED)


@pytest.mark.parametrize(
    ("loc", "stage"),
    [
        (["prompt"], "input"),
        (["body", "image_url"], "input"),
        (["body", "image_urls", 1], "input"),
        (["body"], "unknown"),
        (["body", "images"], "unknown"),
        ([], "unknown"),
        (None, "unknown"),
        ("prompt", "unknown"),
        ([["prompt"]], "unknown"),
    ],
)
def test_fal_8_the_place_tells_what_was_flagged(loc: Any, stage: str) -> None:
    found = read(Purpose.FETCH, 422, {"detail": [{"loc": loc, "msg": "no", "type": "content_policy_violation"}]})

    assert isinstance(found, Failed)
    assert (Kind.MODERATED, stage) == (found.kind, found.stage)


def test_fal_8_the_type_decides_and_never_the_msg() -> None:
    detail = [{"loc": ["body", "seed"], "msg": "content_policy_violation", "type": "int_parsing"}]

    found = read(Purpose.FETCH, 422, {"detail": detail})

    assert isinstance(found, Failed)
    assert Kind.REQUEST_REJECTED is found.kind


def test_a_moderated_finding_is_found_behind_another() -> None:
    detail = [{"type": "value_error"}, {"loc": ["prompt"], "msg": "no", "type": "content_policy_violation"}]

    found = read(Purpose.FETCH, 422, {"detail": detail})

    assert isinstance(found, Failed)
    assert (Kind.MODERATED, ("no",)) == (found.kind, found.reasons)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (NOT_DOWNLOADED, "file_download_error at video_url: File download error"),
        (TOO_LARGE, "image_too_large at input_image: Image too large (max_height 1024, max_width 1024)"),
        (TOO_MUCH, "less_than_equal at guidance_scale: Input should be less than or equal to 20 (le 20)"),
        ('{"detail":[{"loc":["prompt"],"msg":"Invalid prompt","type":"value_error"}]}', "value_error at prompt: Invalid prompt"),
        ('{"detail":[{"loc":["body","prompt"],"msg":"field required","type":"value_error.missing"}]}', "value_error.missing at prompt: field required"),
        ('{"detail":[]}', "the task failed with HTTP 422"),
        ('{"detail":[7, null, "so"]}', "so"),
    ],
    ids=["7 DOC", "7 DOC ctx", "8 DOC", "15 CODE", "12 DOC", "none", "odd"],
)  # fmt: skip
def test_fal_4_fal_9_a_rejected_task_says_why_without_its_input(body: str, message: str) -> None:
    found = read(Purpose.FETCH, 422, body)

    assert Failed(Kind.REQUEST_REJECTED, message, maybe_charged=True) == found


SECRET = "data:image/png;base64,iVBORw0KGgo" + "A" * 2000


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_fal_9_no_message_has_the_input(purpose: Purpose, status: int) -> None:
    finding = {"loc": ["body", "image_url"], "msg": "Image too small", "type": "image_too_small", "input": SECRET}
    deep = {**finding, "ctx": {"min_width": 14, "given": {"image": SECRET}, "long": SECRET}}

    for detail in ([finding], [deep], {"input": SECRET, "msg": "no"}, {"input": SECRET}):
        found = read(purpose, status, {"detail": detail})
        assert "iVBORw0KGgo" + "A" * 100 not in str(found)


# The table of fal's documentation (sheet 5): type, status, what it is, whether it may have been charged.
MODEL_ERRORS = [
    ("internal_server_error", 500, Kind.GENERATION_FAILED, False),
    ("generation_timeout", 504, Kind.GENERATION_FAILED, False),
    ("downstream_service_error", 400, Kind.GENERATION_FAILED, True),
    ("downstream_service_error", 500, Kind.GENERATION_FAILED, False),
    ("downstream_service_unavailable", 500, Kind.GENERATION_FAILED, False),
    ("content_policy_violation", 422, Kind.MODERATED, True),
    ("no_media_generated", 422, Kind.GENERATION_FAILED, True),
    *(
        (word, 422, Kind.REQUEST_REJECTED, True)
        for word in (
            *("image_too_small", "image_too_large", "image_load_error", "file_download_error", "face_detection_error"),
            *("file_too_large", "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"),
            *("sequence_too_short", "sequence_too_long", "one_of", "feature_not_supported", "invalid_archive"),
            *("unsupported_image_format", "value_error.missing", "missing", "enum", "int_parsing", "brand_new"),
        )
    ),
]


@pytest.mark.parametrize(("word", "status", "kind", "charged"), MODEL_ERRORS)
def test_fal_8_every_documented_type_of_a_models_error(word: str, status: int, kind: Kind, charged: bool) -> None:
    found = read(Purpose.FETCH, status, {"detail": [{"loc": ["body"], "msg": "x", "type": word}]})

    assert isinstance(found, Failed)
    assert (kind, charged) == (found.kind, found.maybe_charged)
    assert word in found.message


INFRA_ERRORS = [
    ("request_timeout", 504, Kind.UNAVAILABLE),
    ("startup_timeout", 504, Kind.UNAVAILABLE),
    ("runner_scheduling_failure", 503, Kind.UNAVAILABLE),
    ("runner_connection_timeout", 503, Kind.UNAVAILABLE),
    ("runner_disconnected", 503, Kind.GENERATION_FAILED),
    ("runner_connection_refused", 503, Kind.UNAVAILABLE),
    ("runner_connection_error", 503, Kind.UNAVAILABLE),
    ("runner_incomplete_response", 502, Kind.GENERATION_FAILED),
    ("runner_server_error", 500, Kind.GENERATION_FAILED),
    ("internal_error", 500, Kind.GENERATION_FAILED),
    ("client_cancelled", 499, Kind.CANCELLED),
    ("client_disconnected", 499, Kind.CANCELLED),
    ("bad_request", 400, Kind.REQUEST_REJECTED),
]


@pytest.mark.parametrize(("word", "status", "kind"), INFRA_ERRORS)
def test_fal_3_every_documented_infra_error_ends_the_task_and_a_5xx_is_not_charged(
    word: str, status: int, kind: Kind
) -> None:
    found = read(Purpose.FETCH, status, {"detail": "It went wrong", "error_type": word})

    assert Failed(kind, "It went wrong", maybe_charged=status < 500) == found


@pytest.mark.parametrize("body", [{"detail": "Request timed out", "error_type": "request_timeout"}, b"", PAGE])
def test_fal_15_a_task_that_started_too_late_is_unavailable_and_free(body: Any) -> None:
    """Payload 9, DOC; the header, CODE."""
    found = read(Purpose.FETCH, 504, body, {"x-fal-request-timeout-type": "user"})

    assert isinstance(found, Failed)
    assert (Kind.UNAVAILABLE, False) == (found.kind, found.maybe_charged)
    assert "not started" in found.message


@pytest.mark.parametrize("body", [{"detail": "Request was cancelled"}, b"", {}])
def test_fal_7_a_499_is_cancelled_and_may_be_billed(body: Any) -> None:
    found = read(Purpose.FETCH, 499, body)

    assert isinstance(found, Failed)
    assert (Kind.CANCELLED, True) == (found.kind, found.maybe_charged)


@pytest.mark.parametrize(("told", "charged"), [("0", False), ("1", True), (None, True), ("x", True)])
def test_fal_16_a_422_may_be_charged_unless_the_header_says_nothing_was(told: str | None, charged: bool) -> None:
    headers = {} if told is None else {"x-fal-billable-units": told}

    found = read(Purpose.FETCH, 422, TOO_MUCH, headers)

    assert isinstance(found, Failed)
    assert charged is found.maybe_charged


@pytest.mark.parametrize(
    "headers", [OF, {"x-fal-error-type": "internal_error"}, {"x-fal-billable-units": "0"}], ids=["id", "type", "units"]
)
def test_fal_18_a_5xx_of_fals_own_servers_ends_the_task(headers: dict[str, str]) -> None:
    found = read(Purpose.FETCH, 500, {"detail": "Internal Server Error"}, headers)

    assert Failed(Kind.GENERATION_FAILED, "Internal Server Error", maybe_charged=False) == found


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", [PAGE, b"", {"detail": "Internal Server Error"}, {"error": {"message": "no"}}])
def test_fal_18_a_5xx_of_anyone_else_says_nothing_about_the_task(status: int, body: Any) -> None:
    heard = reply(Purpose.FETCH, status, body)
    found = FAL.read(heard, TASK)
    row = after_poll(heard, found)

    assert isinstance(found, Refused)
    assert row is not None
    assert (Again.ALWAYS, Charged.MAYBE) == (row.again, row.charged)


def test_an_endpoint_that_does_not_exist_ends_the_task_free_of_charge() -> None:
    """CODE, fal/api/api.py: at the queue it comes as the result."""
    found = read(Purpose.FETCH, 404, {"detail": "Path /x not found"}, {"x-fal-billable-units": "0"})

    assert Failed(Kind.REQUEST_REJECTED, "Path /x not found", maybe_charged=False) == found


QUOTA = {"error": {"message": '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}', "code": 429}}


def test_fal_25_an_upstreams_quota_is_the_tasks_end_where_fal_passes_it_on() -> None:
    """CODE, a fixture of Vercel's."""
    found = read(Purpose.FETCH, 429, QUOTA, OF)

    assert isinstance(found, Failed)
    assert (Kind.RATE_LIMITED, True) == (found.kind, found.maybe_charged)


@pytest.mark.parametrize("status", [401, 403, 408, 429])
@pytest.mark.parametrize("body", [{"detail": "no", "error_type": "concurrent_requests_limit"}, {"detail": "no"}, b""])
def test_what_is_said_about_us_does_not_end_the_task(status: int, body: Any) -> None:
    assert isinstance(read(Purpose.FETCH, status, body, {**OF, "x-fal-billable-units": "0"}), Refused)


def test_fal_24_the_advice_to_try_again_changes_nothing_under_either_name() -> None:
    advice: tuple[dict[str, str], ...] = (
        {},
        {"x-fal-retryable": "true"},
        {"x-fal-needs-retry": "1"},
        {"x-fal-needs-retry": "false"},
    )

    found = [read(Purpose.FETCH, 422, PROMPT_FLAGGED, headers) for headers in advice]

    assert [found[0]] * 4 == found


# --------------------------------------------------------------------------------------------- how a submit is refused

REFUSALS = [
    (401, {"detail": "No user found for Key ID and Secret"}, Kind.AUTHENTICATION_FAILED),
    (401, {"detail": "invalid key credentials"}, Kind.AUTHENTICATION_FAILED),
    (401, {"detail": "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."}, Kind.AUTHENTICATION_FAILED),
    (401, {"detail": "Authorization header is required"}, Kind.AUTHENTICATION_FAILED),
    (403, {"detail": "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."}, Kind.OUT_OF_CREDIT),
    (403, {"detail": "Your request was blocked"}, Kind.AUTHENTICATION_FAILED),
    (404, {"detail": "Path /x not found"}, Kind.REQUEST_REJECTED),
    (400, {"detail": "Bad", "error_type": "bad_request"}, Kind.REQUEST_REJECTED),
    (400, {"error": {"message": "Bad", "code": 400}}, Kind.REQUEST_REJECTED),
    (422, TOO_MUCH, Kind.REQUEST_REJECTED),
    (422, PROMPT_FLAGGED, Kind.MODERATED),
    (422, {"detail": {"msg": "Bad"}}, Kind.REQUEST_REJECTED),
    (422, {"detail": {"message": "Bad"}}, Kind.REQUEST_REJECTED),
    (422, {"detail": {"prompt": ["Bad"]}}, Kind.REQUEST_REJECTED),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_fal_8_fal_17_a_refused_submit_is_not_charged(status: int, body: Any, kind: Kind) -> None:
    found, row = read(Purpose.SUBMIT, status, body, OF), money(status, body, OF)

    assert isinstance(found, Refused)
    assert found.message
    assert kind is found.kind
    assert row is not None
    assert (Charged.NO, Again.NEVER) == (row.charged, row.again)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (QUOTA, OF),
        ({"detail": "Too many", "error_type": "concurrent_requests_limit"}, {"x-fal-needs-retry": "1"}),
        (b"", {}),
        (PAGE, {}),
    ],
)
def test_fal_25_a_429_at_the_submit_is_not_now(body: Any, headers: dict[str, str]) -> None:
    row = money(429, body, headers)

    assert row is not None
    assert (Kind.RATE_LIMITED, Charged.NO, Again.SHORTLY) == (row.kind, row.charged, row.again)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, PAGE),
        (503, PAGE),
        (503, {"detail": "No runner available", "error_type": "runner_scheduling_failure"}),
    ],
)
def test_fal_18_the_ingress_and_a_runner_that_is_not_there_did_not_accept(status: int, body: Any) -> None:
    row = money(status, body)

    assert row is not None
    assert (Kind.UNAVAILABLE, Charged.NO, Again.SHORTLY) == (row.kind, row.charged, row.again)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (502, PAGE, OF),
        (503, PAGE, OF),
        (504, PAGE, {}),
        (500, PAGE, {}),
        (502, b"<html>Bad Gateway</html>", {}),
        (502, {"message": "nginx"}, {}),
        (500, {"detail": "Internal Server Error"}, {}),
        (500, {"detail": "Internal Server Error"}, OF),
        (503, {"detail": "Gone", "error_type": "runner_disconnected"}, OF),
        (504, {"detail": "Late", "error_type": "startup_timeout"}, OF),
        (502, {"detail": "Torn", "error_type": "runner_incomplete_response"}, OF),
        (500, {"detail": "No", "error_type": "runner_scheduling_failure"}, OF),
        (499, {"detail": "You left", "error_type": "client_disconnected"}, OF),
        (409, {"detail": "Conflict"}, OF),
        (408, {"detail": "Late"}, OF),
        (405, b"", {"allow": "POST"}),
        (403, b"error code: 1010", {}),
        (403, {"error": "blocked"}, {}),
        (429, b"error code: 1015", {}),
        (302, b"", {}),
        (204, b"", {}),
    ],
)
def test_anything_else_may_have_been_accepted(status: int, body: Any, headers: dict[str, str]) -> None:
    row = money(status, body, headers)

    assert row is not None
    assert (Kind.OUTCOME_UNKNOWN, Charged.MAYBE, Again.NEVER) == (row.kind, row.charged, row.again)


# ------------------------------------------------------------------------------------------------- cancel and check


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (202, {"status": "CANCELLATION_REQUESTED"}),
        (200, {"status": "OK"}),
        (200, {"success": True}),
        (200, b""),
        (204, b""),
    ],
)
def test_fal_7_every_2xx_takes_the_wish_to_cancel(status: int, body: Any) -> None:
    """Payload 10, DOC, and the two other dialects."""
    assert Cancelling(TASK) == read(Purpose.CANCEL, status, body)


@pytest.mark.parametrize(
    ("status", "body"), [(400, {"status": "ALREADY_COMPLETED"}), (200, {"success": False})], ids=["done", "no"]
)
def test_fal_7_a_cancel_that_comes_too_late_is_told(status: int, body: Any) -> None:
    found = read(Purpose.CANCEL, status, body)

    assert isinstance(found, Refused)
    assert Kind.REQUEST_REJECTED is found.kind


def test_fal_23_a_token_proves_the_key_and_goes_nowhere() -> None:
    body = {"token": "eyJhbGci.secret", "token_type": "Bearer", "base_url": "https://v3.fal.media", "expires_at": "x"}

    found = read(Purpose.CHECK, 200, body)

    assert Balance(None, "") == found
    assert "eyJhbGci" not in repr(found)


def test_fal_23_the_check_is_a_post_to_the_rest_host_that_costs_nothing() -> None:
    call = FAL.check()

    assert ("POST", "/storage/auth/token?storage_type=fal-cdn-v3", "rest") == (call.method, call.path, call.origin)
    assert b"{}" == bytes(call.body or b"")
    assert address(call, provider()).signed


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"detail": "invalid key credentials"}, Kind.AUTHENTICATION_FAILED),
        (403, {"detail": "no"}, Kind.AUTHENTICATION_FAILED),
        (403, {"detail": "User is locked. Reason: Exhausted balance."}, Kind.OUT_OF_CREDIT),
        (200, {}, Kind.PROTOCOL_ERROR),
        (200, {"token": ""}, Kind.PROTOCOL_ERROR),
        (200, PAGE, Kind.PROTOCOL_ERROR),
        (500, {"detail": "x"}, Kind.UNAVAILABLE),
    ],
)
def test_a_check_that_gives_no_token_says_why(status: int, body: Any, kind: Kind) -> None:
    found = read(Purpose.CHECK, status, body)

    assert isinstance(found, Refused)
    assert kind is found.kind


# ------------------------------------------------------------------------------------------------------------- submits

PHOTO = InputImage(b"\xff\xd8photo", None, "image/jpeg", 640, 480)
LINK = InputImage(None, "https://x.example/a.png", None, None, None)
PHOTO_URI = "data:image/jpeg;base64,/9hwaG90bw=="


def step(model: str, images: tuple[InputImage, ...] = (), **asked: Any) -> Step:
    request = ImageRequest("a cat", [b"x"] * len(images), **asked)
    return negotiate(request, images, Candidate(provider(), model), Policy(), waits=False)


def submit(model: str, images: tuple[InputImage, ...] = (), **asked: Any) -> Call:
    (order,) = step(model, images, **asked).orders
    return FAL.submit(order)


def fields(call: Call) -> dict[str, Any]:
    assert call.body is not None
    found = orjson.loads(bytes(call.body))
    assert isinstance(found, dict)
    return found


DEV = {"prompt": "a cat", "num_images": 1, "output_format": "jpeg", "enhance_prompt": False}
PRO = {**DEV, "safety_tolerance": "2"}
SENT = [
    pytest.param("flux-kontext-pro", (), {}, "flux-pro/kontext/text-to-image", {**PRO, "aspect_ratio": "1:1"}, id="pro"),
    pytest.param("flux-kontext-max", (), {"aspect_ratio": "9:21"}, "flux-pro/kontext/max/text-to-image", {**PRO, "aspect_ratio": "9:21"}, id="max"),
    pytest.param("flux-kontext-pro", (PHOTO,), {}, "flux-pro/kontext", {**PRO, "image_url": PHOTO_URI}, id="pro edit"),
    pytest.param("flux-kontext-max", (LINK,), {}, "flux-pro/kontext/max", {**PRO, "image_url": "https://x.example/a.png"}, id="max edit"),
    pytest.param("flux-kontext-pro", (PHOTO, LINK), {}, "flux-pro/kontext/multi", {**PRO, "image_urls": [PHOTO_URI, "https://x.example/a.png"]}, id="pro multi"),
    pytest.param(
        "flux-kontext-max", (PHOTO, LINK, PHOTO, LINK),
        {"aspect_ratio": "16:9", "seed": 0, "safety_tolerance": 6, "output_format": "png", "prompt_upsampling": True, "guidance": 7.5, "num_images": 4},
        "flux-pro/kontext/max/multi",
        {
            "prompt": "a cat", "image_urls": [PHOTO_URI, "https://x.example/a.png"] * 2, "aspect_ratio": "16:9", "seed": 0,
            "safety_tolerance": "6", "output_format": "png", "enhance_prompt": True, "guidance_scale": 7.5, "num_images": 4,
        },
        id="max multi with all",
    ),
    pytest.param("flux-kontext-dev", (PHOTO,), {}, "flux-kontext/dev", {**DEV, "image_url": PHOTO_URI, "resolution_mode": "match_input", "enable_safety_checker": True}, id="dev"),
    pytest.param(
        "flux-kontext-dev", (PHOTO,), {"aspect_ratio": "4:5", "steps": 30, "guidance": 2, "seed": 2**63}, "flux-kontext/dev",
        {**DEV, "image_url": PHOTO_URI, "resolution_mode": "4:5", "enable_safety_checker": True, "num_inference_steps": 30, "guidance_scale": 2, "seed": 2**63},
        id="dev with all",
    ),
    pytest.param("flux-1.1-pro", (), {}, "flux-pro/v1.1", {**PRO, "image_size": {"width": 1024, "height": 1024}}, id="1.1"),
    pytest.param("flux-1.1-pro", (), {"size": (1440, 256)}, "flux-pro/v1.1", {**PRO, "image_size": {"width": 1440, "height": 256}}, id="1.1 size"),
    pytest.param("flux-1.1-pro-ultra", (), {"aspect_ratio": "5:3", "provider_options": {"fal": {"raw": True}}}, "flux-pro/v1.1-ultra", {**PRO, "aspect_ratio": "5:3", "raw": True}, id="ultra"),
    pytest.param("flux-kontext-pro", (), {"provider_options": {"fal": {"safety_tolerance": "5", "aspect_ratio": "3:2"}}}, "flux-pro/kontext/text-to-image", {**PRO, "safety_tolerance": "5", "aspect_ratio": "3:2"}, id="own words last"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "images", "asked", "endpoint", "sent"), SENT)
def test_fal_4_fal_12_exactly_these_fields_go_to_this_endpoint(
    model: str, images: Any, asked: Any, endpoint: str, sent: dict[str, Any]
) -> None:
    call = submit(model, images, **asked)

    assert sent == fields(call)
    assert (Purpose.SUBMIT, "POST", f"/fal-ai/{endpoint}", "api") == (call.purpose, call.method, call.path, call.origin)


def test_fal_21_an_image_is_a_data_uri_that_is_not_built_as_one_text() -> None:
    call = submit("flux-kontext-pro", (PHOTO,))

    assert call.body is not None
    assert [Base64(b"\xff\xd8photo", "data:image/jpeg;base64,")] == [
        part for part in call.body.parts if isinstance(part, Base64)
    ]


def test_fal_11_safety_0_becomes_a_text_of_1_and_is_recorded() -> None:
    found = step("flux-kontext-pro", (PHOTO,), safety_tolerance=0)

    assert "1" == fields(FAL.submit(found.orders[0]))["safety_tolerance"]
    assert [("safety_tolerance", 0, 1, True)] == [
        (one.option, one.asked, one.sent, one.more_permissive) for one in found.adjustments
    ]


def test_fal_11_dev_has_no_safety_dial_and_its_checker_stays_on() -> None:
    with pytest.raises(UnsupportedOption):
        submit("flux-kontext-dev", (PHOTO,), provider_options={"fal": {"enable_safety_checker": False}})


@pytest.mark.parametrize("field", ["prompt", "image_url", "image_urls", "num_images", "sync_mode"])
def test_fal_6_what_the_adapter_sets_is_not_set_by_options(field: str) -> None:
    with pytest.raises(UnsupportedOption):
        submit("flux-kontext-pro", provider_options={"fal": {field: "x"}})


@pytest.mark.parametrize(
    ("model", "images", "ratio"),
    [
        ("flux-kontext-pro", (), "5:3"),
        ("flux-kontext-max", (PHOTO,), "4:5"),
        ("flux-kontext-dev", (PHOTO,), "9:20"),
        ("flux-1.1-pro-ultra", (), "22:9"),
    ],
)
def test_fal_12_a_ratio_that_is_not_offered_is_not_sent(model: str, images: Any, ratio: str) -> None:
    with pytest.raises(Misfit, match="ratio"):
        step(model, images, aspect_ratio=ratio)


@pytest.mark.parametrize(
    ("model", "images"),
    [("flux-kontext-dev", ()), ("flux-kontext-dev", (PHOTO, PHOTO)), ("flux-kontext-pro", (PHOTO,) * 5), ("flux-1.1-pro", (PHOTO,))],
)  # fmt: skip
def test_fal_12_what_a_model_cannot_do_is_a_misfit(model: str, images: Any) -> None:
    with pytest.raises(Misfit):
        step(model, images)


def test_fal_12_five_images_are_two_tasks() -> None:
    orders = step("flux-kontext-pro", (PHOTO,), num_images=5).orders

    assert [4, 1] == [fields(FAL.submit(order))["num_images"] for order in orders]


def order(**wishes: Any) -> Effective:
    return Effective("flux-kontext-pro", FACTS.models["flux-kontext-pro"], "generate", "a cat", **wishes)


def test_fal_20_a_webhook_goes_into_the_query() -> None:
    call = FAL.submit(order(webhook_url="https://me.example/hook?a=1&b=2"))

    assert call.path.endswith("/text-to-image?fal_webhook=https%3A%2F%2Fme.example%2Fhook%3Fa%3D1%26b%3D2")
    assert "webhook_url" not in fields(call)


def test_fal_14_another_endpoint_is_never_wanted() -> None:
    assert {"x-app-fal-disable-fallback": "true"} == FAL.submit(order()).headers


@pytest.mark.parametrize(("fails_fast", "told"), [(True, "1"), (False, None)])
def test_fal_14_fal_repeats_by_itself_only_when_nobody_else_is_left(fails_fast: bool, told: str | None) -> None:
    assert told == FAL.submit(order(fails_fast=fails_fast)).headers.get("X-Fal-No-Retry")


@pytest.mark.parametrize(
    ("within", "told"), [(119.99, "119"), (2.0, "2"), (1.0, "2"), (0.01, "2"), (0, "2"), (86_400, "86400")]
)
def test_fal_15_the_start_deadline_is_whole_seconds_and_more_than_one(within: float, told: str) -> None:
    assert told == FAL.submit(order(start_within_s=within)).headers["X-Fal-Request-Timeout"]


# --------------------------------------------------------------------------------------------------------------- facts


def test_the_adapter_keeps_the_contract() -> None:
    adapter: Adapter = FAL

    assert isinstance(adapter, Checks)
    assert isinstance(adapter, Cancels)


def test_every_model_and_number_of_images_has_an_endpoint() -> None:
    wanted = set()
    for model, facts in FACTS.models.items():
        for mode, what in facts.modes.items():
            counts = range(1, what.max_images + 1) if mode == "edit" else (0,)
            wanted |= {(model, min(count, 2)) for count in counts}

    assert wanted == ENDPOINTS.keys()


@pytest.mark.parametrize("model", FACTS.models)
def test_every_option_of_a_mode_has_a_field_that_the_model_knows(model: str) -> None:
    facts = FACTS.models[model]
    known = facts.passthrough.keys() | FACTS.reserved_options.keys()
    for (name, _), endpoint in ENDPOINTS.items():
        if name == model:
            assert set(endpoint.names.values()) | endpoint.always.keys() <= known
    for mode, what in facts.modes.items():
        endpoint = ENDPOINTS[model, 1 if mode == "edit" else 0]
        assert what.options.keys() == endpoint.names.keys() - {"num_images"}


def test_fal_26_seeds_have_no_range_of_fals() -> None:
    spec = FACTS.models["flux-kontext-pro"].modes["edit"].options["seed"]

    assert isinstance(spec, Numbers)
    assert (0, 2**64 - 1) == (spec.low, spec.high)


def specs() -> list[Any]:
    every = [mode.options for model in FACTS.models.values() for mode in model.modes.values()]
    return [spec for options in every for spec in options.values()]


def test_every_evidence_is_a_quirk_that_is_told() -> None:
    assert FACTS.uploads is not None
    named = {spec.evidence for spec in specs()} | set(FACTS.evidence.values()) | {FACTS.uploads.evidence}
    named |= {one.evidence for one in FACTS.rejections} | {FACTS.inputs.evidence}

    assert named <= FACTS.quirks.keys()


def test_every_quirk_that_the_code_names_exists_and_the_readme_and_the_tests_tell_each() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py"))
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_fal_[au]*.py"))

    assert FACTS.quirks.keys() == set(re.findall(r"fal-\d+", code))
    assert FACTS.quirks.keys() == set(re.findall(r"^\| (fal-\d+) \|", readme, re.MULTILINE))
    assert FACTS.quirks.keys() <= {one.replace("_", "-") for one in re.findall(r"fal_\d+", tests)}


def test_the_pure_parts_import_the_contract_and_the_standard_library_only() -> None:
    allowed = {"collections", "dataclasses", "decimal", "itertools", "re", "typing", "urllib", "anykontext_fal"}
    for name in ("adapter.py", "endpoints.py", "errors.py", "facts.py"):
        for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {one.name.split(".")[0] for one in node.names} <= allowed
            if isinstance(node, ast.ImportFrom):
                assert node.module == "anykontext.adapting" or (node.module or "").split(".")[0] in allowed


def test_fal_27_every_model_has_a_price_with_its_source() -> None:
    found = price_list((PACKAGE / "prices.toml").read_text(encoding="utf-8"), FACTS.models)

    assert {
        "flux-kontext-pro": Decimal("0.04"),
        "flux-kontext-max": Decimal("0.08"),
        "flux-kontext-dev": Decimal("0.025"),
        "flux-1.1-pro": Decimal("0.04"),
        "flux-1.1-pro-ultra": Decimal("0.06"),
    } == {name: price.amount for name, price in found.items()}
    assert all("fal sheet section 9" in price.source for price in found.values())
