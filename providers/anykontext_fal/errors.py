"""fal's errors in canonical words: a list of findings, a text, a mapping, a flat pair, or a page (fal-8)."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from anykontext.adapting import Failed, Kind, Purpose, Refused, Reply

# The `type` of a finding, or the `error_type` beside a text; what is not listed goes by its status.
KIND_OF_TYPE = {
    "content_policy_violation": Kind.MODERATED,
    "no_media_generated": Kind.GENERATION_FAILED,
    "internal_server_error": Kind.GENERATION_FAILED,
    "generation_timeout": Kind.GENERATION_FAILED,
    "downstream_service_error": Kind.GENERATION_FAILED,  # 400 in one copy of the documentation, 500 in another
    "downstream_service_unavailable": Kind.GENERATION_FAILED,
    "request_timeout": Kind.UNAVAILABLE,
    "startup_timeout": Kind.UNAVAILABLE,
    "runner_scheduling_failure": Kind.UNAVAILABLE,
    "runner_connection_timeout": Kind.UNAVAILABLE,
    "runner_connection_refused": Kind.UNAVAILABLE,
    "runner_connection_error": Kind.UNAVAILABLE,
    "client_cancelled": Kind.CANCELLED,
    "client_disconnected": Kind.CANCELLED,
}
KIND_OF_STATUS = {401: Kind.AUTHENTICATION_FAILED, 403: Kind.AUTHENTICATION_FAILED, 429: Kind.RATE_LIMITED}
NO_CREDIT = ("exhausted balance", "user is locked")  # fal-17
# At a submit, 408, 409 and 499 do not tell whether it was accepted: the vendor's client sends again after the first
# two, and the third means that we were gone before the answer.
UNSURE = frozenset({408, 409, 499})
NOT_ACCEPTED = "runner_scheduling_failure"
IDENTITY = "x-fal-request-id"
START_TIMEOUT = "x-fal-request-timeout-type"
MARKS = ("x-fal-error-type", "x-fal-billable-units", START_TIMEOUT)  # headers of a task's own last reply
ABOUT_US = frozenset({401, 403, 408, 429})  # our key, our connection, our haste
INPUTS = frozenset({"prompt", "image_url", "image_urls"})
LONGEST, WORD, FINDINGS = 300, 80, 5  # characters of a text and of a word, and how many findings are told


def failed(reply: Reply, body: Mapping[str, Any], units: Decimal | None) -> Failed | None:
    """How a task ended, when its result is an error (fal-3); None when the reply is not the task's own."""
    if not _is_the_models(reply, body):
        return None
    charged = units > 0 if units is not None else reply.status < 500  # fal-16: a 5xx is never billed
    if reply.status == 504 and START_TIMEOUT in reply.headers:  # fal-15
        return Failed(Kind.UNAVAILABLE, "it was not started within the time that we gave it", maybe_charged=charged)
    types = list(_types(reply, body))
    kind = next((KIND_OF_TYPE[word] for word in types if word in KIND_OF_TYPE), None)
    if kind is None:
        kind = Kind.GENERATION_FAILED if reply.status >= 500 else Kind.REQUEST_REJECTED
        kind = {429: Kind.RATE_LIMITED, 499: Kind.CANCELLED}.get(reply.status, kind)
    message = _message(body) or ", ".join(filter(None, types)) or f"the task failed with HTTP {reply.status}"
    if kind is not Kind.MODERATED:
        return Failed(kind, message, maybe_charged=charged)
    stage, reasons = _moderation(body)
    return Failed(kind, message, maybe_charged=charged, stage=stage, reasons=reasons)  # type: ignore[arg-type]


def refused(reply: Reply, body: Mapping[str, Any]) -> Refused:
    """Why an exchange was refused; nothing is said about a task."""
    message, status = _message(body), reply.status
    if status >= 500:
        return Refused(Kind.UNAVAILABLE, message, shape=_shape_of_5xx(reply, body))
    if status == 429:  # fal-25: its body is not documented; a page that is not fal's ingress says nothing
        shape = "429" if body or not reply.body or _is_ingress(reply) else ""
        return Refused(Kind.RATE_LIMITED, message, shape)
    if status < 400 or status in UNSURE or not message:
        return Refused(Kind.PROTOCOL_ERROR, message or f"HTTP {status} without a word of fal's")
    shape = "detail" if _said(body.get("detail")) else "error"
    if "content_policy_violation" in _types(reply, body):
        stage, reasons = _moderation(body)
        return Refused(Kind.MODERATED, message, shape, stage=stage, reasons=reasons)  # type: ignore[arg-type]
    kind = KIND_OF_STATUS.get(status, Kind.REQUEST_REJECTED)
    if status == 403 and any(word in message.lower() for word in NO_CREDIT):  # fal-17
        kind = Kind.OUT_OF_CREDIT
    if status == 404 and reply.call.purpose in {Purpose.POLL, Purpose.FETCH, Purpose.CANCEL}:  # fal-6
        kind = Kind.JOB_NOT_FOUND
    return Refused(kind, message, shape)


def _is_the_models(reply: Reply, body: Mapping[str, Any]) -> bool:
    """Whether a reply to a fetch is the task's own end, and not that of a gateway in between (fal-18)."""
    if reply.status in ABOUT_US:  # fal-25: an upstream's quota is passed through in a shape of its own
        return reply.status == 429 and IDENTITY in reply.headers and isinstance(body.get("error"), Mapping)
    if isinstance(body.get("detail"), list) or isinstance(body.get("error_type"), str) or reply.status == 499:
        return True
    own = reply.status >= 500 or reply.status in {400, 422}
    return reply.status >= 400 and (any(mark in reply.headers for mark in MARKS) or (own and IDENTITY in reply.headers))


def _is_ingress(reply: Reply) -> bool:
    """A page of the nginx before fal's own servers: what the vendor's client takes for "send it again" (fal-18)."""
    return IDENTITY not in reply.headers and b"nginx" in reply.body and not reply.mapping()


def _shape_of_5xx(reply: Reply, body: Mapping[str, Any]) -> str:
    if _is_ingress(reply):
        return "ingress"
    if NOT_ACCEPTED in _types(reply, body):
        return NOT_ACCEPTED
    return "detail" if _said(body.get("detail")) else ""


def _types(reply: Reply, body: Mapping[str, Any]) -> Iterator[str]:
    """The words that decide, never the `msg` (fal-8)."""
    for one in _findings(body):
        yield _word(one.get("type"))
    yield from filter(None, (_word(body.get("error_type")), _word(reply.headers.get("x-fal-error-type"))))


def _findings(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    detail = body.get("detail")
    return [one for one in detail if isinstance(one, Mapping)] if isinstance(detail, list) else []


def _moderation(body: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What was flagged, and the provider's own words."""
    flagged = [one for one in _findings(body) if one.get("type") == "content_policy_violation"]
    places = {part for one in flagged for part in _place(one)}
    reasons = tuple(said for one in flagged if (said := _said(one.get("msg"))))
    return "input" if places & INPUTS else "unknown", reasons


def _message(body: Mapping[str, Any]) -> str:
    error = body.get("error")
    return _said(body.get("detail")) or (_said(error) if isinstance(error, Mapping) else "")


def _said(value: object) -> str:
    """An error in words, without its `input`, which echoes prompts and pictures (fal-9)."""
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, list):
        return "; ".join(filter(None, (_finding(one) for one in value[:FINDINGS])))
    if isinstance(value, Mapping):
        told = value.get("msg") or value.get("message")
        return told[:LONGEST] if isinstance(told, str) else ", ".join(sorted(value))[:LONGEST]
    return ""


def _finding(one: object) -> str:
    """Such as `image_too_large at image_url: Image too large (max_height 1024, max_width 1024)`."""
    if not isinstance(one, Mapping):
        return one[:LONGEST] if isinstance(one, str) else ""
    where, limits = ".".join(_place(one)), one.get("ctx")
    text = " at ".join(filter(None, (_word(one.get("type")), where)))
    text = ": ".join(filter(None, (text, _said(one.get("msg")))))
    known = limits.items() if isinstance(limits, Mapping) else ()
    told = ", ".join(f"{name[:WORD]} {_word(value)}" for name, value in known if _word(value))
    return f"{text} ({told[:LONGEST]})" if told else text


def _place(one: Mapping[str, Any]) -> list[str]:
    loc = one.get("loc")
    return [word for part in loc if (word := _word(part)) and word != "body"] if isinstance(loc, list) else []


def _word(value: object) -> str:
    """A short text or a number; anything else may be deeper than Python prints, and is left out."""
    return str(value)[:WORD] if isinstance(value, str | int | float) else ""
