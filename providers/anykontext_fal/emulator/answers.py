"""The shapes of fal's answers: five of errors, and pages of its ingress (fal sheet §5, §12.7)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response

from anykontext.sandbox.replies import GATEWAY_PAGE

ERRORS_URL = "https://docs.fal.ai/errors/#"
UNITS = "X-Fal-Billable-Units"
FLAGGED = "The content could not be processed because it contained material flagged by a content checker."
EXHAUSTED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body and headers: what an app answered, whoever asks for it, and how often."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes of the body."""
        return len(json.dumps(self.body, separators=(",", ":")))

    def response(self, request_id: str | None = None) -> Response:
        """The HTTP response; with the id where fal's own servers made it."""
        known = {} if request_id is None else {"x-fal-request-id": request_id}
        return JSONResponse(self.body, self.status, headers={**known, **self.headers})


class Refused(Exception):
    """A request that is answered with an error; nothing was accepted."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def problem(kind: str, loc: list[str | int], msg: str, value: Any, ctx: Mapping[str, Any] | None = None) -> Any:
    """One entry of a `detail` list. It echoes the input, prompt and pictures too (fal sheet §5)."""
    entry = {"loc": loc, "msg": msg, "type": kind, "url": ERRORS_URL + kind}
    return {**entry, **({"ctx": ctx} if ctx else {}), "input": value}


def invalid(problems: list[Any]) -> Answer:
    """A body that fits no schema: nothing was run, and the header says so."""
    return Answer(422, {"detail": problems}, {UNITS: "0"})


def field_error(status: int, one: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An error of the model. It has no billing header when no unit was counted: absent is not 0 (fal sheet §5)."""
    return Answer(status, {"detail": [one]}, headers or {})


def flat(status: int, detail: str, error_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error of fal's infrastructure."""
    body = {"detail": detail, "error_type": error_type}
    return Answer(status, body, {"X-Fal-Error-Type": error_type, **(headers or {})})


def plain(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error whose detail is a text."""
    return Answer(status, {"detail": detail}, headers or {})


def path_not_found(path: str) -> Answer:
    """No such endpoint."""
    return plain(404, f"Path {path} not found", {UNITS.lower(): "0"})


CANCELLED = flat(499, "Request was cancelled", "client_cancelled")
START_TIMEOUT = flat(504, "Request timed out", "request_timeout", {"X-Fal-Request-Timeout-Type": "user"})
IN_PROGRESS = plain(400, "Request is still in progress")
RESULT_NOT_FOUND = plain(404, "Request not found")
TASK_NOT_FOUND = Answer(404, {"status": "NOT_FOUND"})
INTERNAL = plain(500, "Internal Server Error")
INFRA = flat(503, "Connection to the runner was lost", "runner_connection_error")  # the text is [INF]
# Upstream's quota, leaked through [CODE, a fixture of Vercel's].
UPSTREAM_QUOTA = Answer(
    429, {"error": {"message": '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}', "code": 429}}
)


def page(status: int = 502, request_id: str | None = None) -> Response:
    """An HTML page. Without the id it is nginx speaking: fal's own servers never saw the request (fal sheet §11)."""
    headers = {} if request_id is None else {"x-fal-request-id": request_id}
    return HTMLResponse(GATEWAY_PAGE, status, headers=headers)


def not_allowed() -> Response:
    """405 of a route that only takes submits: no body, `Allow: POST` [REC/3P]."""
    return Response(status_code=405, headers={"Allow": "POST"})
