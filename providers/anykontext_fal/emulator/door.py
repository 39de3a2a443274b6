"""What every request for a picture passes on both hosts: the key, the account, the endpoint (fal sheet §1, §5)."""

import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from anykontext.sandbox import KEYS
from anykontext_fal.emulator import model
from anykontext_fal.emulator.answers import EXHAUSTED, INTERNAL, Answer, Refused, flat, path_not_found, plain
from anykontext_fal.emulator.endpoints import ENDPOINTS
from anykontext_fal.emulator.fields import parse
from anykontext_fal.emulator.images import FIELDS, sources

if TYPE_CHECKING:
    from anykontext_fal.emulator.service import Emulator


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.answer.response(str(uuid.uuid4()))


ERRORS: dict[type[Exception], Callable[[Request, Exception], Response]] = {Refused: _refused}
HEADERS = ("x-fal-", "x-app-fal-")
AT_THE_DOOR: Mapping[str, Answer] = {
    "outage": flat(503, "No runner available", "runner_scheduling_failure"),
    "server-error": INTERNAL,
}
LOCKED = plain(403, EXHAUSTED)
AT_THE_ACCOUNT: Mapping[str, Answer] = {
    # The body is not documented beyond the type, and Retry-After not at all: it is the word of the fault for all
    # providers (fal-24, fal-25).
    "rate-limited": flat(
        429, "Too many requests", "concurrent_requests_limit", {"X-Fal-needs-retry": "1", "Retry-After": "1"}
    ),
    "out-of-credit": LOCKED,  # fal-17
}
# fal-17: three texts of one refusal [REC/3P].
NO_KEY = "Authorization header is required"
BAD_FORM = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
UNKNOWN_KEY = "No user found for Key ID and Secret"
BAD_KEY = "invalid key credentials"


def key_of(request: Request) -> str:
    """The header with the key."""
    return request.headers.get("authorization", "")


def check_key(emulator: "Emulator", request: Request) -> None:
    """Let a request with a good key through.

    Raises:
        Refused: The key is missing or wrong.
    """
    scheme, _, key = key_of(request).partition(" ")
    if not scheme:
        raise Refused(plain(401, NO_KEY))
    if emulator.take("bad-key"):
        raise Refused(plain(401, BAD_KEY))
    if scheme != "Key" or (key not in KEYS and ":" not in key):
        raise Refused(plain(401, BAD_FORM))
    if key not in KEYS:
        raise Refused(plain(401, UNKNOWN_KEY))


async def admitted(emulator: "Emulator", request: Request, name: str) -> model.Order:
    """The order of a request that is accepted, whatever is in its body.

    Raises:
        Refused: It is not.
    """
    emulator.counters["submits"] += 1
    raw = await request.body()
    _stop_at(emulator, AT_THE_DOOR)
    check_key(emulator, request)
    endpoint = ENDPOINTS.get(name)
    if endpoint is None:
        raise Refused(path_not_found(f"/{name}"))
    _stop_at(emulator, AT_THE_ACCOUNT)
    if emulator.credit <= 0:
        raise Refused(LOCKED)
    return model.order(emulator, endpoint, raw, request.headers)


def remember(emulator: "Emulator", request: Request, order: model.Order, request_id: str) -> None:
    """Count an accepted request, and keep what was in it."""
    sent, _ = parse(order.raw)
    fields = sent if isinstance(sent, dict) else {}
    known = order.endpoint.fields
    ignored = sorted(field for field in fields if field not in known)
    emulator.counters["accepted"] += 1
    emulator.counters["ignored_fields"] += len(ignored)
    emulator.requests.append(
        {
            "id": request_id,
            "model": order.endpoint.name,
            "body": {name: value for name, value in fields.items() if name in known and name not in FIELDS},
            "images": [source.described() for source in sources(sent) if source.field in known],
            "ignored": ignored,
            "headers": {name: value for name, value in request.headers.items() if name.startswith(HEADERS)},
            "webhook": request.query_params.get("fal_webhook"),
        }
    )


def _stop_at(emulator: "Emulator", gates: Mapping[str, Answer]) -> None:
    for fault, answer in gates.items():
        if emulator.take(fault):
            raise Refused(answer)
