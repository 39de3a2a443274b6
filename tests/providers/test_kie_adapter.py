# ruff: noqa: E501 - payloads stand here letter for letter
"""The kie adapter against the payloads of its protocol sheet; the quirk ids are those of its README.

No recorded reply of a Kontext endpoint was found. REC: recorded at other endpoints of the same service. DOC: the
vendor's documentation. CODE: other people's clients. OURS: made up here.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.parser import BytesParser
from email.policy import HTTP
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import anykontext_kie
from anykontext.adapting import (
    Adapter,
    Balance,
    Call,
    Cancels,
    Checks,
    Effective,
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
    Uploaded,
    Uploads,
)
from anykontext.engine.misfit import Misfit
from anykontext.engine.money_table import Again, Charged, Happened, Row, after_poll, after_submit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import address, is_delivery
from anykontext.engine.submit import Step
from anykontext.model.errors import UnsupportedOption
from anykontext.model.money import price_list
from anykontext.model.request import ImageRequest
from anykontext_kie import Kie
from anykontext_kie.facts import FACTS
from anykontext_kie.moderation import MODERATION, is_moderation

KIE = Kie()
PACKAGE = Path(anykontext_kie.__file__).parent
TASK = Task("fluxkontext_0123456789abcdef")
PRO, MAX = "flux-kontext-pro", "flux-kontext-max"
LINK = InputImage(None, "https://example.com/landscape.jpg?a=b", None, None, None)
JPEG = InputImage(b"\xff\xd8\xff picture", None, "image/jpeg", 640, 480)
NOT_LISTED = "a sentence that no table has"


def provider(**origins: str) -> Provider:
    return Provider("kie", KIE, origins or dict(FACTS.origins), key=lambda: SecretStr("k"))


def step(prompt: str = "make it blue", *images: InputImage, strict: bool = False, **fields: Any) -> Step:
    sources = tuple(image.url or b"bytes" for image in images)
    request = ImageRequest(prompt, list(sources) if sources else (), **fields)
    return negotiate(request, images, Candidate(provider(), request.canonical_model), Policy(strict=strict))


def sent(*images: InputImage, **fields: Any) -> dict[str, Any]:
    (order,) = step("make it blue", *images, **fields).orders
    call = KIE.submit(order)
    assert call.body is not None
    assert (Purpose.SUBMIT, "POST", "api", "/api/v1/flux/kontext/generate") == (
        call.purpose,
        call.method,
        call.origin,
        call.path,
    )
    found: dict[str, Any] = json.loads(bytes(call.body))
    return found


def reply(purpose: Purpose, body: Any, status: int = 200, **headers: str) -> Reply:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(Call(purpose, "GET", "/"), status, named, raw)


def read(purpose: Purpose, body: Any, status: int = 200, **headers: str) -> State:
    return KIE.read(reply(purpose, body, status, **headers), TASK if purpose is Purpose.POLL else None)


def row(purpose: Purpose, body: Any, status: int = 200) -> Row | None:
    heard = reply(purpose, body, status)
    if purpose is Purpose.SUBMIT:
        return after_submit(heard, KIE.read(heard, None), FACTS)
    return after_poll(heard, KIE.read(heard, TASK))


def envelope(code: Any, msg: str | None = "success", data: Any = None) -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": data}


def record(flag: Any = 1, **more: Any) -> dict[str, Any]:
    """A record as documented [DOC S3], with what a test changes."""
    data = {
        "taskId": TASK.id,
        "paramJson": '{"prompt":"a cat"}',
        "completeTime": "2024-03-20T10:30:00Z",
        "response": {"originImageUrl": None, "resultImageUrl": "https://tempfile.aiquickdraw.com/r.png"},
        "successFlag": flag,
        "errorCode": None,
        "errorMessage": "",
        "createTime": "2024-03-20T10:25:00Z",
    }
    return envelope(200, data={**data, **more})


# ------------------------------------------------------------------------------------------------------- what is sent


def test_an_edit_is_sent_with_every_field_it_has() -> None:
    body = sent(
        LINK,
        model=MAX,
        aspect_ratio="16:9",
        output_format="png",
        safety_tolerance=1,
        prompt_upsampling=True,
        translate_prompt=True,
        watermark="mine",
        webhook_url="https://example.com/hook",
    )

    assert {
        "model": "flux-kontext-max",
        "prompt": "make it blue",
        "inputImage": "https://example.com/landscape.jpg?a=b",
        "aspectRatio": "16:9",
        "outputFormat": "png",
        "safetyTolerance": 1,
        "promptUpsampling": True,
        "enableTranslation": True,
        "watermark": "mine",
        "callBackUrl": "https://example.com/hook",
    } == body


def test_kie_6_8_falsy_values_are_sent() -> None:
    body = sent(LINK, safety_tolerance=0, prompt_upsampling=False, translate_prompt=False)

    assert (0, False, False) == (body["safetyTolerance"], body["promptUpsampling"], body["enableTranslation"])
    assert int is type(body["safetyTolerance"])


def test_kie_8_translation_is_switched_off_even_where_nothing_was_said() -> None:
    order = Effective(PRO, FACTS.models[PRO], "generate", "a cat")

    assert {"model": PRO, "prompt": "a cat", "enableTranslation": False} == json.loads(
        bytes(KIE.submit(order).body or b"")
    )


def test_kie_7_an_edit_without_a_ratio_is_sent_none_and_a_generation_is_square() -> None:
    assert "aspectRatio" not in sent(LINK)
    assert "1:1" == sent()["aspectRatio"]
    assert "inputImage" not in sent()


@pytest.mark.parametrize("ratio", ["21:9", "16:9", "4:3", "1:1", "3:4", "9:16"])
def test_kie_7_six_ratios_are_taken(ratio: str) -> None:
    assert ratio == sent(LINK, aspect_ratio=ratio)["aspectRatio"]


@pytest.mark.parametrize("ratio", ["3:2", "2:3", "9:21", "16:21"])
def test_kie_7_any_other_ratio_is_a_misfit(ratio: str) -> None:
    with pytest.raises(Misfit):
        step("make it blue", LINK, aspect_ratio=ratio)


@pytest.mark.parametrize(("asked", "edit", "generate"), [(0, 0, 0), (2, 2, 2), (3, 2, 3), (6, 2, 6)])
def test_kie_6_safety_is_fitted_to_the_mode_before_it_is_sent(asked: int, edit: int, generate: int) -> None:
    assert edit == sent(LINK, safety_tolerance=asked)["safetyTolerance"]
    assert generate == sent(safety_tolerance=asked)["safetyTolerance"]


def test_kie_6_a_safety_that_was_changed_is_recorded() -> None:
    (change,) = step("make it blue", LINK, safety_tolerance=6).adjustments

    assert ("safety_tolerance", 6, 2, False) == (change.option, change.asked, change.sent, change.more_permissive)


def test_kie_23_what_it_lacks_is_left_out_and_recorded() -> None:
    asked: dict[str, Any] = {"seed": 0, "guidance": 4.0, "steps": 30, "output_format": "webp"}
    made = step(**asked)
    body = json.loads(bytes(KIE.submit(made.orders[0]).body or b""))

    assert {
        "model",
        "prompt",
        "aspectRatio",
        "outputFormat",
        "safetyTolerance",
        "promptUpsampling",
        "enableTranslation",
    } == set(body)
    assert "jpeg" == body["outputFormat"]
    assert set(asked) == {one.option for one in made.adjustments}
    for option, value in asked.items():
        with pytest.raises(Misfit):
            step("make it blue", strict=True, **{option: value})


def test_kie_23_one_input_image_one_image_per_task_and_no_size() -> None:
    assert [1, 1, 1] == [order.num_images for order in step(num_images=3).orders]
    with pytest.raises(Misfit, match="at most 1 input image"):
        step("make it blue", LINK, LINK)
    with pytest.raises(Misfit, match="no size"):
        step(size=(1024, 768))


def test_kie_26_the_servers_are_chosen_by_provider_options_and_these_come_last() -> None:
    made = step("make it blue", LINK, provider_options={"kie": {"uploadCn": False, "watermark": True}})
    body = json.loads(bytes(KIE.submit(made.orders[0]).body or b""))

    assert (False, True) == (body["uploadCn"], body["watermark"])
    assert {"uploadCn", "watermark"} == {one.option for one in made.adjustments}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"prompt": "x"}, "prompt"),
        ({"model": "x"}, "model"),
        ({"inputImage": "https://x/y"}, "images"),
        ({"imageUrl": "https://x/y"}, "images"),
        ({"callBackUrl": "https://x/y"}, "webhook_url"),
        ({"taskId": "x"}, "taskId"),
        ({"numImages": 4}, "numImages"),
        ({"negativePrompt": "x"}, "negativePrompt"),
    ],
)
def test_kie_22_a_field_of_ours_or_of_nobody_is_no_provider_option(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedOption, match=named):
        step(provider_options={"kie": options})


@pytest.mark.parametrize("image", [JPEG, InputImage(None, None, None, None, None)])
def test_kie_9_an_image_without_a_url_is_never_submitted(image: InputImage) -> None:
    order = Effective(PRO, FACTS.models[PRO], "edit", "make it blue", (image,))

    with pytest.raises(ValueError, match="uploaded first"):
        KIE.submit(order)


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
def test_kie_9_25_an_upload_is_a_form_whose_file_is_named_by_its_bytes(media_type: str) -> None:
    data = b"\x00\r\n--x picture"
    call = KIE.upload(InputImage(data, None, media_type, 1, 1))
    assert call.body is not None
    head = f"Content-Type: {call.body.media_type}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + bytes(call.body))
    parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
    name = sha256(data).hexdigest() + {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}[media_type]

    assert (Purpose.UPLOAD, "POST", "upload", "/api/file-stream-upload") == (
        call.purpose,
        call.method,
        call.origin,
        call.path,
    )
    assert "https://kieai.redpandaai.co/api/file-stream-upload" == address(call, provider()).url
    assert {"uploadPath", "fileName", "file"} == set(parts)
    assert (b"anykontext", name.encode()) == tuple(
        parts[one].get_payload(decode=True) for one in ("uploadPath", "fileName")
    )
    assert (name, media_type, data) == (
        parts["file"].get_filename(),
        parts["file"].get_content_type(),
        parts["file"].get_payload(decode=True),
    )


def test_kie_25_the_same_bytes_have_the_same_name_and_others_another() -> None:
    calls = [KIE.upload(InputImage(data, None, "image/png", 1, 1)) for data in (b"a", b"a", b"b")]

    assert calls[0] == calls[1]
    assert calls[0] != calls[2]


def test_only_bytes_are_uploaded() -> None:
    with pytest.raises(ValueError, match="bytes"):
        KIE.upload(LINK)


def test_a_task_is_polled_by_its_id_whatever_letters_are_in_it() -> None:
    call = KIE.poll(Task("a/b &c=d"))

    assert (Purpose.POLL, "GET", "api", "/api/v1/flux/kontext/record-info?taskId=a%2Fb%20%26c%3Dd") == (
        call.purpose,
        call.method,
        call.origin,
        call.path,
    )


def test_kie_10_there_is_a_check_and_an_upload_and_no_cancel() -> None:
    adapter: Adapter = KIE

    assert isinstance(adapter, Checks)
    assert isinstance(adapter, Uploads)
    assert not isinstance(adapter, Cancels)
    assert (Purpose.CHECK, "/api/v1/chat/credit") == (KIE.check().purpose, KIE.check().path)


# ------------------------------------------------------------------------------------------------- replies to a submit

ACCEPTED = [
    pytest.param('{"code":200,"msg":"success","data":{"taskId":"task_flux_abc123"}}', "task_flux_abc123", id="1 DOC"),
    pytest.param(
        '{"code":200,"msg":"success","data":{"taskId":"55412d3aa64b37d1711e79aac4784669","recordId":"55412d3aa64b37d1711e79aac4784669"}}',
        "55412d3aa64b37d1711e79aac4784669",
        id="15 REC kie_16",
    ),
    pytest.param('{"code":200,"message":"success","data":{"task_id":"one"}}', "one", id="DOC callbacks, kie_15"),
    pytest.param('{"code":200,"msg":"success","taskId":"one","data":null}', "one", id="CODE at the top, kie_15"),
    pytest.param('{"code":"200","msg":"success","data":{"taskId":"one"}}', "one", id="OURS code as a text, kie_14"),
    pytest.param('{"data":{"taskId":"one"}}', "one", id="OURS without a code"),
]


@pytest.mark.parametrize(("body", "name"), ACCEPTED)
def test_kie_3_15_16_an_accepted_submit_is_a_running_task(body: str, name: str) -> None:
    found = read(Purpose.SUBMIT, body)

    assert Running(Task(name), "submitted") == found
    assert row(Purpose.SUBMIT, body) is None


@pytest.mark.parametrize("status", [302, 404, 429, 500, 502, 503])
def test_a_task_that_is_named_under_any_http_status_is_polled(status: int) -> None:
    found = read(Purpose.SUBMIT, envelope(200, data={"taskId": "one"}), status)

    assert Running(Task("one"), f"code {status}", known=False) == found


@pytest.mark.parametrize(
    "text",
    [
        *("flagged", "Flagged by moderation", "sensitive", "The text is too sensitive", "PROHIBITED", "NSFW"),
        *("Prompt violates policy", "Your prompt was rejected by our safety system", "Unsafe content detected"),
        *("Inappropriate content detected", "content moderation failed", "Blocked by safety filter"),
    ],
)
@pytest.mark.parametrize("place", ["errorMessage", "errorCode", "msg"])
def test_kie_5_a_refused_prompt_is_known_wherever_its_words_stand(text: str, place: str) -> None:
    record = {"taskId": "one", "successFlag": 2, "errorCode": None, "errorMessage": ""}
    body = envelope(200, data=record if place == "msg" else {**record, place: text})
    found = read(Purpose.POLL, {**body, "msg": text} if place == "msg" else body)

    assert isinstance(found, Failed)
    assert (Kind.MODERATED, (text,)) == (found.kind, found.reasons)


def test_kie_5_only_the_beginning_of_a_text_of_megabytes_is_looked_at() -> None:
    assert not is_moderation("prompt " * 1_000_000 + "flagged")


@pytest.mark.parametrize("code", [0, 201, 401, 429, 455, 500, 501])
def test_a_task_that_is_named_beside_an_error_is_polled_and_never_sent_again(code: int) -> None:
    body = envelope(code, data={"taskId": "one"})

    found = read(Purpose.SUBMIT, body)

    assert Running(Task("one"), f"code {code}", known=False) == found
    assert row(Purpose.SUBMIT, body) is None


@pytest.mark.parametrize(
    "body",
    [
        envelope(200, data={"taskId": ""}),
        envelope(200, data={"taskId": None}),
        envelope(200, data={"taskId": "null"}),
        envelope(200, data={"taskId": 7}),
        envelope(200, data="one"),
        envelope(200, data=[{"taskId": "one"}]),
        envelope(200),
        [],
        b"<html>welcome</html>",
        b"",
        b'{"code":200,"msg":"success","data":{"taskId":"on',
    ],
)
def test_a_submit_that_cannot_be_understood_may_have_been_paid(body: Any) -> None:
    found = row(Purpose.SUBMIT, body)

    assert isinstance(read(Purpose.SUBMIT, body), Refused)
    assert found is not None
    assert (Kind.OUTCOME_UNKNOWN, Charged.MAYBE, Again.NEVER) == (found.kind, found.charged, found.again)


# Sheet 4, code by code: what it says, what it is at a submit, and what the money table makes of that.
TOO_LOOSE = "The security tolerance level is out of range and should be 0-2 or 0-6"
FLAGGED = "Your prompt was flagged by Website as violating content policies."
SENSITIVE = "The input or output was flagged as sensitive. Please try again with different inputs."
UPSTREAM = "Upstream is currently experiencing service issues. No result has been returned for over 10 minutes."
UNEXPECTED = "Server Error - An unexpected error occurred while processing the request"
H = Happened
AT_SUBMIT = [
    pytest.param(400, FLAGGED, Kind.MODERATED, H.REFUSED, id="400 moderation, kie_5"),
    pytest.param(400, "outputFormat is not supported", Kind.REQUEST_REJECTED, H.REFUSED, id="400 other"),
    pytest.param(401, "You do not have access permissions", Kind.AUTHENTICATION_FAILED, H.REFUSED, id="401"),
    pytest.param(402, "Insufficient Credits", Kind.OUT_OF_CREDIT, H.REFUSED, id="402"),
    pytest.param(404, "Not Found", Kind.REQUEST_REJECTED, H.REFUSED, id="404"),
    pytest.param(408, UPSTREAM, Kind.UNAVAILABLE, H.GATEWAY, id="408 kie_10"),
    pytest.param(422, "Please enter callBackUrl.", Kind.REQUEST_REJECTED, H.REFUSED, id="422"),
    pytest.param(422, SENSITIVE, Kind.MODERATED, H.REFUSED, id="422 moderation, kie_5"),
    pytest.param(422, "recordInfo is null", Kind.REQUEST_REJECTED, H.REFUSED, id="422 of a poll, kie_2"),
    pytest.param(429, "Rate Limited", Kind.RATE_LIMITED, H.RATE_LIMITED, id="429 kie_11"),
    pytest.param(433, "", Kind.REQUEST_REJECTED, H.REFUSED, id="433 without a meaning"),
    pytest.param(451, "Failed to download the image", Kind.REQUEST_REJECTED, H.REFUSED, id="451 of gpt4o"),
    pytest.param(455, "Service Unavailable", Kind.UNAVAILABLE, H.LISTED, id="455 kie_17"),
    pytest.param(500, UNEXPECTED, Kind.UNAVAILABLE, H.GATEWAY, id="500 kie_10"),
    pytest.param(500, TOO_LOOSE, Kind.REQUEST_REJECTED, H.REFUSED, id="500 tolerance, kie_6"),
    pytest.param(500, "tolerance service down", Kind.UNAVAILABLE, H.GATEWAY, id="500 half of the words, kie_6"),
    pytest.param(502, "Bad Gateway", Kind.UNAVAILABLE, H.GATEWAY, id="502"),
    pytest.param(504, "Gateway Timeout", Kind.UNAVAILABLE, H.GATEWAY, id="504"),
    pytest.param(505, "Feature Disabled", Kind.REQUEST_REJECTED, H.REFUSED, id="505 kie_17"),
    pytest.param(0, "?", Kind.PROTOCOL_ERROR, H.UNREADABLE, id="0"),
    pytest.param(302, FLAGGED, Kind.PROTOCOL_ERROR, H.UNREADABLE, id="302"),
    pytest.param(1001, "?", Kind.PROTOCOL_ERROR, H.GATEWAY, id="1001"),
]


@pytest.mark.parametrize(("code", "msg", "kind", "happened"), AT_SUBMIT)
def test_kie_1_a_code_in_the_body_is_what_counts_at_a_submit(
    code: int, msg: str, kind: Kind, happened: Happened
) -> None:
    found, told = read(Purpose.SUBMIT, envelope(code, msg)), row(Purpose.SUBMIT, envelope(code, msg))

    assert isinstance(found, Refused)
    assert told is not None
    assert (kind, code, msg, happened) == (found.kind, found.code, found.message, told.happened)


@pytest.mark.parametrize(("code", "msg", "kind", "happened"), [one for one in AT_SUBMIT if 400 <= one.values[0] < 600])  # type: ignore[operator]
def test_kie_1_the_same_envelope_under_a_real_status_means_the_same(
    code: int, msg: str, kind: Kind, happened: Happened
) -> None:
    found, told = read(Purpose.SUBMIT, envelope(code, msg), code), row(Purpose.SUBMIT, envelope(code, msg), code)

    assert isinstance(found, Refused)
    assert told is not None
    assert (kind, None, happened) == (found.kind, found.code, told.happened)


def test_kie_18_a_generation_that_failed_at_the_submit_may_be_billed() -> None:
    found = read(Purpose.SUBMIT, envelope(501, "Image generation task failed"))
    told = row(Purpose.SUBMIT, envelope(501, "Image generation task failed"))

    assert Failed(Kind.GENERATION_FAILED, "Image generation task failed", maybe_charged=True) == found
    assert told is not None
    assert (Happened.FAILED, Again.NEVER) == (told.happened, told.again)


def test_kie_5_moderation_at_the_submit_is_of_the_input() -> None:
    found = read(Purpose.SUBMIT, envelope(400, FLAGGED))

    assert Refused(Kind.MODERATED, FLAGGED, "envelope", "input", (FLAGGED,), code=400) == found


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"code":401,"msg":"You do not have access permissions"}', 200, 401),
        ('{"code":401,"message":"You do not have access permissions"}', 200, 401),
        ('{"code":"401","msg":"You do not have access permissions","data":null}', 200, 401),
        ('{"code":401,"msg":"You do not have access permissions"}', 401, None),
        ('{"code":401,"msg":"You do not have access permissions"}', 500, 401),
    ],
)
@pytest.mark.parametrize("purpose", [Purpose.SUBMIT, Purpose.POLL, Purpose.CHECK, Purpose.UPLOAD])
def test_kie_1_14_15_a_refused_key_is_known_in_each_of_its_forms(
    purpose: Purpose, body: str, status: int, code: int | None
) -> None:
    expected = Refused(Kind.AUTHENTICATION_FAILED, "You do not have access permissions", shape="envelope", code=code)

    assert expected == read(purpose, body, status)


GATEWAYS = [
    pytest.param(429, b"<html>Too Many Requests</html>", id="429 page"),
    pytest.param(403, b"<html>Just a moment...</html>", id="403 page"),
    pytest.param(502, b"<html>Bad Gateway</html>", id="502 page"),
    pytest.param(500, b"", id="500 empty"),
    pytest.param(404, b'{"timestamp":1,"status":404,"error":"Not Found","path":"/x"}', id="404 of the framework"),
    pytest.param(500, b'{"code":500}', id="a code without a text"),
]


@pytest.mark.parametrize(("status", "body"), GATEWAYS)
def test_kie_1_what_is_not_the_envelope_is_no_refusal_of_a_submit(status: int, body: bytes) -> None:
    found, told = read(Purpose.SUBMIT, body, status), row(Purpose.SUBMIT, body, status)

    assert isinstance(found, Refused)
    assert ("", Kind.PROTOCOL_ERROR) == (found.shape, found.kind)
    assert told is not None
    assert (Happened.GATEWAY, Charged.MAYBE) == (told.happened, told.charged)


@pytest.mark.parametrize(
    ("code", "header", "wait_s"),
    [
        (429, "7", 7.0),
        (429, " 0.5 ", 0.5),
        (455, "30", 30.0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (429, "-1", None),
        (429, "1e9", None),
        (401, "7", None),
        (200, "7", None),
    ],
)
def test_kie_11_a_wait_is_read_from_the_header_of_a_200(code: int, header: str, wait_s: float | None) -> None:
    found = read(Purpose.SUBMIT, envelope(code, "wait"), retry_after=header)

    assert isinstance(found, Refused)
    assert wait_s == found.retry_after_s


# --------------------------------------------------------------------------------------------------- replies to a poll

SUCCESSES = [
    pytest.param(
        '{"code":200,"msg":"success","data":{"taskId":"task12345","paramJson":"{\\"prompt\\":\\"A serene mountain landscape\\",\\"aspectRatio\\":\\"16:9\\"}","completeTime":"2024-03-20T10:30:00Z","response":{"originImageUrl":"https://example.com/original.jpg","resultImageUrl":"https://example.com/result.jpg"},"successFlag":1,"errorCode":null,"errorMessage":"","createTime":"2024-03-20T10:25:00Z"}}',
        "https://example.com/result.jpg",
        datetime(2024, 4, 3, 10, 30, tzinfo=UTC),
        id="3 DOC",
    ),
    pytest.param(
        '{"code":200,"msg":"success","data":{"taskId":"933259930a1fc855a4e3835b7c60a028","paramJson":"{\\"numImages\\":1,\\"prompt\\":\\"…\\",\\"type\\":\\"TEXTTOIAMGE\\"}","completeTime":"2026-01-06 08:17:04","response":{"originImageUrl":"null","resultImageUrl":"https://tempfile.aiquickdraw.com/workers/nano/image_1767658623526_gq6m8x.png"},"successFlag":1,"errorCode":"null","errorMessage":"null","operationType":"nanobanana_TEXTTOIAMGE","createTime":"2026-01-06 08:16:56"}}',
        "https://tempfile.aiquickdraw.com/workers/nano/image_1767658623526_gq6m8x.png",
        datetime(2026, 1, 20, 0, 17, 4, tzinfo=UTC),
        id="4 REC of a sibling",
    ),
]


@pytest.mark.parametrize(("body", "url", "expires_at"), SUCCESSES)
def test_kie_13_14_16_a_success_has_one_link_that_ends_after_14_days(body: str, url: str, expires_at: datetime) -> None:
    found = read(Purpose.POLL, body)

    assert Succeeded((Output(url, expires_at=expires_at),), TASK, raw=json.loads(body)) == found
    assert row(Purpose.POLL, body) is None


@pytest.mark.parametrize(
    ("told", "expires_at"),
    [
        ("2024-03-20T10:30:00Z", datetime(2024, 4, 3, 10, 30, tzinfo=UTC)),
        ("2024-03-20T10:30:00+02:00", datetime(2024, 4, 3, 8, 30, tzinfo=UTC)),
        ("2026-01-06 08:17:04", datetime(2026, 1, 20, 0, 17, 4, tzinfo=UTC)),
        (1776323944883, datetime(2026, 4, 30, 7, 19, 4, 883000, tzinfo=UTC)),
        (1776323944, None),
        (None, None),
        ("", None),
        ("null", None),
        ("yesterday", None),
        (True, None),
        (2**62, None),
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00", None),
        ({}, None),
    ],
)
def test_kie_13_a_time_is_read_in_three_forms_and_else_not_known(told: Any, expires_at: datetime | None) -> None:
    found = read(Purpose.POLL, record(completeTime=told))

    assert isinstance(found, Succeeded)
    assert expires_at == found.outputs[0].expires_at


@pytest.mark.parametrize(
    "response",
    [
        None,
        {},
        {"resultImageUrl": None},
        {"resultImageUrl": ""},
        {"resultImageUrl": "null"},
        {"resultImageUrl": "undefined"},
        {"resultImageUrl": "data:image/png;base64,QUJD"},
        {"resultImageUrl": ["https://example.com/result.jpg"]},
        {"originImageUrl": "https://example.com/original.jpg"},
        {"originImageUrl": "https://example.com/original.jpg", "resultImageUrl": ""},
        "https://example.com/result.jpg",
        [],
    ],
)
def test_kie_12_a_success_without_a_result_is_asked_for_again_and_never_the_input(response: Any) -> None:
    body = record(response=response)
    found, told = read(Purpose.POLL, body), row(Purpose.POLL, body)

    assert isinstance(found, Refused)
    assert Kind.PROTOCOL_ERROR is found.kind
    assert told is not None
    assert (Happened.UNREADABLE, Again.LIMITED, Charged.MAYBE) == (told.happened, told.again, told.charged)


@pytest.mark.parametrize("error_code", [None, 0, "0", "null", "", 200, 501, "E1", [], True])
@pytest.mark.parametrize("flag", [0, 1])
def test_kie_14_an_error_code_is_never_a_failure_by_itself(flag: int, error_code: Any) -> None:
    found = read(Purpose.POLL, record(flag, errorCode=error_code))

    assert (Running, Succeeded)[flag] is type(found)


@pytest.mark.parametrize("flag", [0, "0"])
def test_a_task_that_generates_runs(flag: Any) -> None:
    assert Running(TASK, "GENERATING") == read(Purpose.POLL, record(flag, response=None, completeTime=None))


def test_kie_14_a_flag_may_be_digits_in_a_text() -> None:
    assert isinstance(read(Purpose.POLL, record("1")), Succeeded)
    assert isinstance(read(Purpose.POLL, record("3")), Failed)


@pytest.mark.parametrize(
    ("flag", "word"),
    [(4, "successFlag 4"), (-1, "successFlag -1"), ("7", "successFlag 7"), ("成功", "successFlag 成功")],
)
def test_kie_14_an_unknown_flag_runs_on_and_is_not_known(flag: Any, word: str) -> None:
    assert Running(TASK, word, known=False) == read(Purpose.POLL, record(flag))


@pytest.mark.parametrize("flag", [None, True, False, 2.5, "", [], {}])
def test_kie_14_a_flag_that_is_neither_number_nor_word_is_not_understood(flag: Any) -> None:
    found = read(Purpose.POLL, record(flag))

    assert isinstance(found, Refused)
    assert Kind.PROTOCOL_ERROR is found.kind


@pytest.mark.parametrize(("flag", "word", "charged"), [(2, "CREATE_TASK_FAILED", False), (3, "GENERATE_FAILED", True)])
@pytest.mark.parametrize("said", ["", None, "null", "   ", 7])
def test_kie_4_18_a_failure_without_a_reason_is_told_by_its_flag(
    flag: int, word: str, charged: bool, said: Any
) -> None:
    found = read(Purpose.POLL, record(flag, errorMessage=said, response=None))

    assert isinstance(found, Failed)
    assert (Kind.GENERATION_FAILED, charged) == (found.kind, found.maybe_charged)
    assert word in found.message


@pytest.mark.parametrize(("flag", "charged"), [(2, False), (3, True)])
def test_kie_3_4_18_a_failure_keeps_the_providers_words(flag: int, charged: bool) -> None:
    found = read(Purpose.POLL, record(flag, errorMessage="Failed to download inputImage", errorCode=500))

    assert Failed(Kind.GENERATION_FAILED, "Failed to download inputImage", maybe_charged=charged) == found


@pytest.mark.parametrize(("flag", "charged"), [(2, False), (3, True)])
@pytest.mark.parametrize(
    ("said", "stage"), [(FLAGGED, "input"), (SENSITIVE, "unknown"), ("The generated image is NSFW", "output")]
)
def test_kie_5_a_task_is_moderated_by_its_words(flag: int, charged: bool, said: str, stage: Any) -> None:
    found = read(Purpose.POLL, record(flag, errorMessage=said))

    assert Failed(Kind.MODERATED, said, maybe_charged=charged, stage=stage, reasons=(said,)) == found


def test_kie_5_words_of_moderation_mean_nothing_while_a_task_runs_or_is_done() -> None:
    assert isinstance(read(Purpose.POLL, record(0, errorMessage=FLAGGED)), Running)
    assert isinstance(read(Purpose.POLL, record(1, errorMessage=FLAGGED)), Succeeded)


AT_POLL_ENDS = [
    pytest.param(400, FLAGGED, Kind.MODERATED, id="400 moderation, kie_5"),
    pytest.param(400, NOT_LISTED, Kind.REQUEST_REJECTED, id="400 other"),
    pytest.param(408, UPSTREAM, Kind.GENERATION_FAILED, id="408"),
    pytest.param(501, "Image generation task failed", Kind.GENERATION_FAILED, id="501"),
    pytest.param(501, SENSITIVE, Kind.MODERATED, id="501 moderation, kie_5"),
]


@pytest.mark.parametrize(("code", "msg", "kind"), AT_POLL_ENDS)
@pytest.mark.parametrize("real", [False, True])
def test_kie_4_18_a_code_can_end_the_task_at_the_poll(code: int, msg: str, kind: Kind, real: bool) -> None:
    found = read(Purpose.POLL, envelope(code, msg), code if real else 200)

    assert isinstance(found, Failed)
    assert (kind, msg, True) == (found.kind, found.message, found.maybe_charged)


def test_kie_4_a_code_that_ends_the_task_without_a_text_says_which_it_was() -> None:
    found = read(Purpose.POLL, envelope(501, None))

    assert isinstance(found, Failed)
    assert "501" in found.message


AT_POLL = [
    pytest.param(401, "You do not have access permissions", Kind.AUTHENTICATION_FAILED, H.REFUSED, id="401"),
    pytest.param(402, "Insufficient Credits", Kind.OUT_OF_CREDIT, H.REFUSED, id="402"),
    pytest.param(404, "Not Found", Kind.JOB_NOT_FOUND, H.NOT_FOUND, id="404 kie_2"),
    pytest.param(422, "recordInfo is null", Kind.JOB_NOT_FOUND, H.NOT_FOUND, id="422 CODE, kie_2"),
    pytest.param(422, "Record does not exist", Kind.JOB_NOT_FOUND, H.NOT_FOUND, id="422 REC, kie_2"),
    pytest.param(422, "url is wrong", Kind.REQUEST_REJECTED, H.REFUSED, id="422 other"),
    pytest.param(429, "Rate Limited", Kind.RATE_LIMITED, H.BUSY, id="429"),
    pytest.param(455, "Service Unavailable", Kind.UNAVAILABLE, H.BUSY, id="455"),
    pytest.param(500, UNEXPECTED, Kind.UNAVAILABLE, H.BUSY, id="500"),
    pytest.param(500, TOO_LOOSE, Kind.UNAVAILABLE, H.BUSY, id="500 of a submit"),
    pytest.param(505, "Feature Disabled", Kind.REQUEST_REJECTED, H.REFUSED, id="505"),
    pytest.param(599, "?", Kind.UNAVAILABLE, H.BUSY, id="599"),
]


@pytest.mark.parametrize(("code", "msg", "kind", "happened"), AT_POLL)
def test_kie_1_4_other_codes_at_a_poll_say_nothing_about_the_task(
    code: int, msg: str, kind: Kind, happened: Happened
) -> None:
    found, told = read(Purpose.POLL, envelope(code, msg)), row(Purpose.POLL, envelope(code, msg))

    assert isinstance(found, Refused)
    assert (kind, code, "envelope") == (found.kind, found.code, found.shape)
    assert told is not None
    assert happened is told.happened


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"code":200,"msg":"success","data":null}', id="13 REC"),
        pytest.param('{"code":200,"msg":"success"}', id="OURS without data"),
    ],
)
def test_kie_2_a_success_without_data_is_a_task_that_is_not_known(body: str) -> None:
    found = read(Purpose.POLL, body)

    assert isinstance(found, Refused)
    assert (Kind.JOB_NOT_FOUND, "envelope") == (found.kind, found.shape)
    assert 10 <= FACTS.not_found_polls <= 30


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>welcome</html>", 200),
        (b"", 200),
        (b"{}", 200),
        (b"null", 200),
        (b'{"code":200,"msg":"success","data":"x"}', 200),
        (b'{"code":200,"msg":"success","data":[]}', 200),
        (b'{"code":200,"msg":"success","data":{}}', 200),
        (b'{"code":200,"msg":"success","data":{"state":"success"}}', 200),
        (b"<html>Not Found</html>", 404),
    ],
)
def test_kie_1_a_poll_that_cannot_be_understood_says_nothing_about_the_task(body: bytes, status: int) -> None:
    found, told = read(Purpose.POLL, body, status), row(Purpose.POLL, body, status)

    assert isinstance(found, Refused)
    assert Kind.PROTOCOL_ERROR is found.kind
    assert told is not None
    assert (Happened.UNREADABLE, Again.LIMITED) == (told.happened, told.again)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_kie_1_a_page_of_the_proxy_at_a_poll_is_waited_out(status: int) -> None:
    told = row(Purpose.POLL, b"<html>Bad Gateway</html>", status)

    assert told is not None
    assert (Happened.BUSY, Again.ALWAYS) == (told.happened, told.again)


# ------------------------------------------------------------------------------------------------------- moderation


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(FLAGGED, id="DOC"),
        pytest.param(SENSITIVE, id="CODE"),
        pytest.param("Your prompt was flagged.", id="OURS flagged"),
        pytest.param("it was flagged as NSFW", id="OURS nsfw"),
        pytest.param("PROHIBITED_CONTENT", id="CODE pattern"),
        pytest.param("The image contains prohibited material", id="OURS prohibited"),
        pytest.param("violates our content policy", id="CODE pattern, content policy"),
        pytest.param("SENSITIVE_WORD_ERROR", id="OURS sensitive word"),
        pytest.param("The prompt contains sensitive words", id="CODE pattern, sensitive"),
        pytest.param("Request Moderated", id="INF of the upstream"),
        pytest.param("Content Moderated", id="INF of the upstream, output"),
    ],
)
def test_kie_5_moderation_is_known_by_its_words(said: str) -> None:
    assert is_moderation(said)


@pytest.mark.parametrize(
    "said",
    [
        TOO_LOOSE,
        UPSTREAM,
        UNEXPECTED,
        "Image generation task failed",
        "You do not have access permissions",
        "Parameter names are case-sensitive",
        "fileName is case sensitive",
        "The server is insensitive to load",
        "Could not draw the flag of France",
        "the --flag option is unknown",
        "content_type is wrong: see the cookie policy",
        "Failed to download inputImage",
        "successFlag is null",
        "",
    ],
)
def test_kie_5_harmless_words_are_no_moderation(said: str) -> None:
    assert not is_moderation(said)


def test_kie_5_each_pattern_names_its_evidence() -> None:
    assert all(re.match(r"\[(DOC|CODE|INF)\] .", one.evidence) for one in MODERATION)


# ------------------------------------------------------------------------------------------------ uploads and balance

UPLOAD = '{"success":true,"code":200,"msg":"File uploaded successfully","data":{"success":true,"fileName":"test-base64.png","filePath":"kieai/136592/images/test-uploads/test-base64.png","downloadUrl":"https://tempfile.redpandaai.co/kieai/136592/images/test-uploads/test-base64.png","fileSize":70,"mimeType":"image/png","uploadedAt":"2026-04-16T07:19:12.862Z"}}'


def test_kie_25_an_upload_is_answered_with_a_download_url() -> None:
    url = "https://tempfile.redpandaai.co/kieai/136592/images/test-uploads/test-base64.png"

    assert Uploaded(url) == read(Purpose.UPLOAD, UPLOAD)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (envelope(200, data={"fileUrl": "https://example.com/x.png"}), Kind.PROTOCOL_ERROR),
        (envelope(200, data={"downloadUrl": None}), Kind.PROTOCOL_ERROR),
        (envelope(200, data={"downloadUrl": "kieai/1/x.png"}), Kind.PROTOCOL_ERROR),
        (envelope(200, data="https://example.com/x.png"), Kind.PROTOCOL_ERROR),
        ({**json.loads(UPLOAD), "success": False}, Kind.PROTOCOL_ERROR),
        ({"success": False, **envelope(400, "uploadPath is required")}, Kind.REQUEST_REJECTED),
        ({"success": False, **envelope(401, "You do not have access permissions")}, Kind.AUTHENTICATION_FAILED),
        ({"success": False, **envelope(429, "Rate Limited")}, Kind.RATE_LIMITED),
        ({"success": False, **envelope(500, "Upload failed")}, Kind.UNAVAILABLE),
        ({"success": False, **envelope(501, "Upload failed")}, Kind.UNAVAILABLE),
        (b"<html>", Kind.PROTOCOL_ERROR),
    ],
)
def test_kie_25_an_upload_that_failed_is_refused_by_its_code(body: Any, kind: Kind) -> None:
    found = read(Purpose.UPLOAD, body)

    assert isinstance(found, Refused)
    assert kind is found.kind


@pytest.mark.parametrize(
    ("data", "amount", "usd"), [("5916.25", "5916.25", "29.58125"), ("0", "0", "0"), ("-3", "-3", "-0.015")]
)
def test_kie_19_the_balance_is_a_bare_number_of_credits(data: str, amount: str, usd: str) -> None:
    found = read(Purpose.CHECK, f'{{"code":200,"msg":"success","data":{data}}}')

    assert Balance(Decimal(amount), "credits", Decimal(usd)) == found


@pytest.mark.parametrize("data", ["null", "true", '"5916.25"', "NaN", "1e300", "{}", "[1]"])
def test_kie_19_anything_else_is_no_balance(data: str) -> None:
    found = read(Purpose.CHECK, f'{{"code":200,"msg":"success","data":{data}}}')

    assert isinstance(found, Refused)
    assert Kind.PROTOCOL_ERROR is found.kind


# ------------------------------------------------------------------------------------------------------------- facts


def test_kie_20_the_sibling_gets_its_key_takes_urls_and_no_files() -> None:
    sibling = provider(api="https://api.fluxapi.ai")
    way = address(KIE.poll(TASK), sibling)

    assert ("https://api.fluxapi.ai",) == FACTS.siblings
    assert way.signed
    assert not sibling.can_upload
    assert ("url",) == sibling.inputs.forms
    assert provider().must_upload(JPEG)


def test_kie_21_results_are_fetched_from_another_company_and_without_the_key() -> None:
    url = "https://tempfile.aiquickdraw.com/workers/nano/image.png"

    assert is_delivery(url, provider())
    assert not address(Call(Purpose.FETCH, "GET", url, origin=None), provider()).signed


def test_kie_24_a_callback_takes_no_polling_away() -> None:
    assert not FACTS.webhook_hides_polling
    assert "https://example.com/hook" == sent(webhook_url="https://example.com/hook")["callBackUrl"]


def test_kie_17_a_5xx_is_listed_as_not_accepted_only_with_evidence() -> None:
    assert {(455, "envelope", "kie-17"), (505, "envelope", "kie-17"), (500, "tolerance", "kie-6")} == {
        (one.status, one.shape, one.evidence) for one in FACTS.rejections
    }


def test_kie_19_prices_are_of_each_model_and_said_to_be_inferred() -> None:
    prices = price_list((PACKAGE / "prices.toml").read_text(encoding="utf-8"), FACTS.models)

    assert {PRO: (Decimal("0.025"), "inferred"), MAX: (Decimal("0.05"), "inferred")} == {
        model: (price.amount, price.evidence) for model, price in prices.items()
    }


def evidence_of(value: Any) -> set[str]:
    """Every quirk id that the facts name as evidence."""
    if isinstance(value, str):
        return set(re.findall(r"kie-\d+", value))
    if isinstance(value, Mapping):
        return set().union(*map(evidence_of, value.values())) if value else set()
    if isinstance(value, tuple):
        return set().union(*map(evidence_of, value)) if value else set()
    fields = getattr(value, "__dataclass_fields__", {})
    return set().union(*(evidence_of(getattr(value, name)) for name in fields if name != "quirks")) if fields else set()


def test_each_piece_of_evidence_is_a_quirk_that_the_readme_tells() -> None:
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| (kie-\d+) \|", readme, re.MULTILINE))

    assert set(FACTS.quirks) == told
    assert evidence_of(FACTS) <= told


def test_each_quirk_stands_in_a_test() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    numbers = {int(one) for name in re.findall(r"kie_((?:\d+_)*\d+)", here) for one in name.split("_")}

    assert {int(name.removeprefix("kie-")) for name in FACTS.quirks} <= numbers
