# ruff: noqa: E501 - payloads stand here letter for letter
"""kie.ai keeps the contract."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from anykontext.adapting import Balance, Failed, Kind, Purpose, Refused, Running, Succeeded, Uploaded
from anykontext.model.errors import GenerationFailed, Moderated, ProtocolError
from anykontext.testing import AdapterContract, Documented, End
from anykontext_kie import Kie
from anykontext_kie.emulator import Emulator

SUBMIT, POLL = Purpose.SUBMIT, Purpose.POLL
POLICY = "Your prompt was flagged by Website as violating content policies."
FLAGGED = "The input or output was flagged as sensitive. Please try again with different inputs."
TOLERANCE = "The security tolerance level is out of range and should be 0-2 or 0-6"
UPSTREAM = "Upstream is currently experiencing service issues. No result has been returned for over 10 minutes."
BROKEN = "Server Error - An unexpected error occurred while processing the request"
NO_ACCESS = "You do not have access permissions"

REFUSED = {  # (code, message) -> kind, whether a submit may be charged, evidence
    (400, "prompt is required"): (Kind.REQUEST_REJECTED, False, "kie sheet 4"),
    (400, POLICY): (Kind.MODERATED, False, "kie-5"),
    (401, NO_ACCESS): (Kind.AUTHENTICATION_FAILED, False, "kie-1"),
    (402, "Insufficient credits"): (Kind.OUT_OF_CREDIT, False, "kie sheet 4"),
    (404, "Not found"): (Kind.REQUEST_REJECTED, False, "kie-2"),
    (408, UPSTREAM): (Kind.UNAVAILABLE, True, "kie-10"),
    (422, "url is wrong"): (Kind.REQUEST_REJECTED, False, "kie-2"),
    (429, "Your call frequency is too high"): (Kind.RATE_LIMITED, False, "kie-11"),
    (455, "The service is being maintained"): (Kind.UNAVAILABLE, False, "kie-17"),
    (500, BROKEN): (Kind.UNAVAILABLE, True, "kie-10"),
    (500, TOLERANCE): (Kind.REQUEST_REJECTED, False, "kie-6"),
    (505, "Feature disabled"): (Kind.REQUEST_REJECTED, False, "kie-17"),
}
SUCCESS = '{"code":200,"msg":"success","data":{"taskId":"task12345","paramJson":"{\\"prompt\\":\\"A serene mountain landscape\\",\\"aspectRatio\\":\\"16:9\\"}","completeTime":"2024-03-20T10:30:00Z","response":{"originImageUrl":"https://example.com/original.jpg","resultImageUrl":"https://example.com/result.jpg"},"successFlag":1,"errorCode":null,"errorMessage":"","createTime":"2024-03-20T10:25:00Z"}}'
SIBLING = '{"code":200,"msg":"success","data":{"taskId":"933259930a1fc855a4e3835b7c60a028","paramJson":"{}","completeTime":"2026-01-06 08:17:04","response":{"originImageUrl":"null","resultImageUrl":"https://tempfile.aiquickdraw.com/workers/nano/image_1767658623526_gq6m8x.png"},"successFlag":1,"errorCode":"null","errorMessage":"null","operationType":"nanobanana_TEXTTOIAMGE","createTime":"2026-01-06 08:16:56"}}'


def envelope(data: Any, code: int = 200, msg: str = "success") -> str:
    return json.dumps({"code": code, "msg": msg, "data": data})


def record(flag: Any, message: str = "", code: Any = None) -> str:
    times = {"completeTime": None, "createTime": "2024-03-20T10:25:00Z"}
    data = {"taskId": "task12345", "paramJson": '{"prompt":"a cat"}', **times, "response": None}
    return envelope({**data, "successFlag": flag, "errorCode": code, "errorMessage": message})


def polled(body: str, means: object, evidence: str, status: int = 200, **told: object) -> Documented:
    return Documented(POLL, status, body, means, evidence, told=told)


class TestKie(AdapterContract):
    adapter = Kie()
    emulator = Emulator
    cassettes = Path(__file__).parents[2] / "cassettes/kie"
    ends: ClassVar = {
        "moderated": End(Moderated, maybe_charged=True, accepted=1, because="kie-18: a failed task may be billed"),
        "moderated-output": End(
            Moderated, maybe_charged=True, accepted=1, because="kie-18: a failed task may be billed"
        ),
        "failed": End(GenerationFailed, maybe_charged=True, accepted=1, because="kie-18: a failed task may be billed"),
        "create-failed": End(GenerationFailed, maybe_charged=False, accepted=1),
        "envelope-501": End(GenerationFailed, maybe_charged=True, accepted=1),
        "envelope-408": End(GenerationFailed, maybe_charged=True, accepted=1),
        "moderated-400": End(Moderated, maybe_charged=False),
        "moderated-400-poll": End(Moderated, maybe_charged=True, accepted=1),
        "no-result-url": End(ProtocolError, maybe_charged=True, accepted=1),
        "not-visible-yet": End(None, accepted=1),
        "flag-as-string": End(None, accepted=1),
        "error-code-zero": End(None, accepted=1),
        "null-texts": End(None, accepted=1),
    }
    documented = (
        Documented(SUBMIT, 200, '{"code":200,"msg":"success","data":{"taskId":"task_flux_abc123"}}', Running, "kie-4"),
        Documented(SUBMIT, 200, '{"code":200,"message":"success","data":{"task_id":"task12345"}}', Running, "kie-15"),
        *(
            Documented(SUBMIT, 200, envelope(None, code, msg), (Refused, kind, charged), evidence)
            for (code, msg), (kind, charged, evidence) in REFUSED.items()
        ),
        Documented(SUBMIT, 401, envelope(None, 401, NO_ACCESS), (Refused, Kind.AUTHENTICATION_FAILED, False), "kie-1"),
        Documented(SUBMIT, 500, envelope(None, 500, BROKEN), (Refused, Kind.UNAVAILABLE, True), "kie-10"),
        Documented(SUBMIT, 500, envelope(None, 408, UPSTREAM), (Refused, Kind.UNAVAILABLE, True), "kie-10"),
        Documented(SUBMIT, 502, "<html>cloudflare</html>", (Refused, Kind.PROTOCOL_ERROR, True), "kie-1"),
        Documented(SUBMIT, 200, envelope(None), (Refused, Kind.PROTOCOL_ERROR, True), "kie-15"),
        Documented(
            SUBMIT, 200, envelope(None, 501, "Generation failed"), (Failed, Kind.GENERATION_FAILED, True), "kie-4"
        ),
        polled(record(0), Running, "kie-4", known=True),
        polled(record("0"), Running, "kie-14", known=True),
        polled(SUCCESS, Succeeded, "kie-12"),
        polled(SIBLING, Succeeded, "kie-13"),
        polled(record(1), (Refused, Kind.PROTOCOL_ERROR), "kie-12"),
        polled(
            SUCCESS.replace('"resultImageUrl":"https://example.com/result.jpg"', '"resultImageUrl":null'),
            (Refused, Kind.PROTOCOL_ERROR),
            "kie-12",
        ),
        polled(record(2), (Failed, Kind.GENERATION_FAILED, False), "kie-18"),
        polled(record(3), (Failed, Kind.GENERATION_FAILED, True), "kie-18"),
        polled(record(3, FLAGGED, 400), (Failed, Kind.MODERATED, True), "kie-5", reasons=(FLAGGED,)),
        polled(record(3, POLICY), (Failed, Kind.MODERATED, True), "kie-5", stage="input"),
        polled(envelope(None, 400, POLICY), (Failed, Kind.MODERATED, True), "kie-5"),
        polled(envelope(None, 501, "Image generation task failed"), (Failed, Kind.GENERATION_FAILED, True), "kie-4"),
        polled(envelope(None, 408, UPSTREAM), (Failed, Kind.GENERATION_FAILED, True), "kie-4"),
        polled(envelope(None), (Refused, Kind.JOB_NOT_FOUND), "kie-2"),
        polled(envelope(None, 404, "Not found"), (Refused, Kind.JOB_NOT_FOUND), "kie-2", status=404),
        polled(envelope(None, 422, "recordInfo is null"), (Refused, Kind.JOB_NOT_FOUND), "kie-2"),
        polled(envelope(None, 401, NO_ACCESS), (Refused, Kind.AUTHENTICATION_FAILED), "kie-1"),
        polled(envelope(None, 429, "Too many requests"), (Refused, Kind.RATE_LIMITED), "kie-11"),
        polled(envelope(None, 455, "maintenance"), (Refused, Kind.UNAVAILABLE), "kie-17"),
        polled(envelope(None, 500, BROKEN), (Refused, Kind.UNAVAILABLE), "kie-10", status=500),
        Documented(
            Purpose.CHECK,
            200,
            '{"code":200,"msg":"success","data":5916.25}',
            Balance,
            "kie-19",
            told={"amount": Decimal("5916.25")},
        ),
        Documented(Purpose.CHECK, 200, envelope(None, 401, NO_ACCESS), (Refused, Kind.AUTHENTICATION_FAILED), "kie-1"),
        Documented(
            Purpose.UPLOAD,
            200,
            '{"success":true,"code":200,"msg":"File uploaded successfully","data":{"success":true,"fileName":"a.jpg","filePath":"kieai/1/a.jpg","downloadUrl":"https://tempfile.redpandaai.co/kieai/1/a.jpg","fileSize":7,"mimeType":"image/jpeg","uploadedAt":"2026-01-06T00:00:00Z"}}',
            Uploaded,
            "kie-25",
            told={"url": "https://tempfile.redpandaai.co/kieai/1/a.jpg"},
        ),
        Documented(
            Purpose.UPLOAD,
            200,
            envelope(None, 400, "uploadPath is required"),
            (Refused, Kind.REQUEST_REJECTED),
            "kie-25",
        ),
    )
