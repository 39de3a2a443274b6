# ruff: noqa: E501 - payloads stand here letter for letter
"""Together AI keeps the contract."""

from pathlib import Path
from typing import Any, ClassVar

from anykontext.adapting import Failed, Kind, Purpose, Refused, Succeeded
from anykontext.model.errors import Moderated, OutcomeUnknown, ProtocolError, RequestRejected, Unavailable
from anykontext.testing import AdapterContract, Documented, End
from anykontext_together import Together
from anykontext_together.emulator import Emulator

MODERATION = "Invalid content detected. The generated content was flagged and rejected by Black Forest Labs's content moderation system"
REFUSED = {  # (status, message) -> kind, whether a submit may be charged, evidence
    (400, "width must be a multiple of 8"): (Kind.REQUEST_REJECTED, False, "together-8"),
    (401, "Invalid API key provided"): (Kind.AUTHENTICATION_FAILED, False, "together sheet, errors"),
    (402, "Credit limit exceeded"): (Kind.OUT_OF_CREDIT, False, "together-17"),
    (403, "The input is longer than the context length"): (Kind.REQUEST_REJECTED, False, "together-4"),
    (404, "Unable to access model"): (Kind.REQUEST_REJECTED, False, "together sheet, errors"),
    (409, "Conflict"): (Kind.UNAVAILABLE, False, "together-14"),
    (422, "invalid value"): (Kind.REQUEST_REJECTED, False, "together sheet, errors"),
    (422, "image may contain NSFW content"): (Kind.MODERATED, False, "together-5"),
    (429, "Too many requests"): (Kind.RATE_LIMITED, False, "together-6"),
    (500, "Unknown server error"): (Kind.UNAVAILABLE, True, "together-14"),
    (503, "Unable to serve"): (Kind.UNAVAILABLE, False, "together-6"),
    (504, "Upstream timeout"): (Kind.UNAVAILABLE, True, "together-14"),
}


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def made(*data: dict[str, Any], evidence: str = "together-2") -> Documented:
    body = {"id": "oFc9-1", "model": "black-forest-labs/FLUX.1-kontext-pro", "object": "list", "data": list(data)}
    return Documented(Purpose.SUBMIT, 200, body, Succeeded, evidence, told={"task": None, "seed": None})


class TestTogether(AdapterContract):
    adapter = Together()
    emulator = Emulator
    cassettes = Path(__file__).parents[2] / "cassettes/together"
    ends: ClassVar = {
        "moderated": End(Moderated, maybe_charged=False, because="together-5: a 422 is not accepted"),
        "moderated-output": End(
            Moderated,
            maybe_charged=True,
            accepted=1,
            because="together-5: it was made, and nothing says that it is free",
        ),
        "failed": End(
            OutcomeUnknown, maybe_charged=True, accepted=1, because="together-14: a failure is a 500, which may be paid"
        ),
        "unknown-status": End(
            OutcomeUnknown, maybe_charged=True, accepted=1, because="together-1: a reply without an image that we know"
        ),
        "never-ends": End(
            OutcomeUnknown,
            maybe_charged=True,
            accepted=1,
            deadline_s=0.3,
            because="together-1: a reply that never comes",
        ),
        "conflict": End(Unavailable, maybe_charged=False),
        "context-length": End(RequestRejected, maybe_charged=False),
        "empty-data": End(OutcomeUnknown, maybe_charged=True, accepted=1),
        "torn-base64": End(ProtocolError, maybe_charged=True, accepted=1),
        "upstream-timeout": End(OutcomeUnknown, maybe_charged=True, accepted=1),
        "mixed-data": End(None, accepted=1),
        "typeless-data": End(None, accepted=1),
        "url-anyway": End(None, accepted=1),
    }
    without_faults: ClassVar = {
        "poll-errors": "together-1: there are no polls",
        "expired-url": "together-3: images come in the reply, and not as links",
    }
    documented = (
        made({"index": 0, "b64_json": "QUJD", "type": "b64_json"}),
        made({"index": 0, "url": "https://api.together.ai/imgproxy/one", "type": "url"}, evidence="together-3"),
        made({"index": 0, "b64_json": "QUJD"}, evidence="together-2"),
        *(
            Documented(Purpose.SUBMIT, status, error(message), (Refused, kind, charged), evidence)
            for (status, message), (kind, charged, evidence) in REFUSED.items()
        ),
        Documented(
            Purpose.SUBMIT,
            400,
            error(MODERATION),
            (Failed, Kind.MODERATED, True),
            "together-5",
            told={"stage": "output", "reasons": (MODERATION,)},
        ),
        Documented(
            Purpose.SUBMIT,
            403,
            "error code: 1010",
            (Refused, Kind.PROTOCOL_ERROR, True),
            "together-13",
        ),
        Documented(
            Purpose.SUBMIT, 200, {"id": "oFc9-1", "data": []}, (Refused, Kind.PROTOCOL_ERROR, True), "together-2"
        ),
    )
