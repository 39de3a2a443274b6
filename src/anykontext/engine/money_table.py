"""The money table: after this happened, may we ask here again, may we go on elsewhere, may it have been charged?

One table is the code, the docs page and the parameters of the tests. The flows look every end of an exchange up here
and decide nothing about money themselves.
"""

from dataclasses import dataclass
from enum import StrEnum

from anykontext.adapting import (
    Adapter,
    Facts,
    Failed,
    Fetch,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
    Uploaded,
)
from anykontext.engine.effects import Fault, Heard, Loss, Lost
from anykontext.engine.sane import sane
from anykontext.model.errors import Kind


class Happened(StrEnum):
    """What came of an exchange, as far as money goes."""

    NOT_CONNECTED = "not connected"
    CERTIFICATE = "certificate refused"
    NO_CONNECTION_FREE = "no connection free"
    FORBIDDEN = "address forbidden"
    INTERRUPTED = "interrupted before sending"
    LOST = "lost after sending"
    TOO_LARGE = "reply too large"
    RATE_LIMITED = "rate limited"
    REFUSED = "refused in the provider's words"
    LISTED = "unavailable, in a way that the provider documents as not accepted"
    GATEWAY = "a reply that is not the provider's own refusal"
    UNREADABLE = "reply not understood"
    FAILED = "task failed"
    NOT_FOUND = "task not found"
    BUSY = "provider busy"
    DEADLINE = "deadline passed"
    GONE = "link expired"
    BAD = "not an image"
    DISK = "not written here"


class Again(StrEnum):
    """Whether the same exchange is made again here."""

    NEVER = "never"
    SHORTLY = "within 5 s"
    LIMITED = "so often in a row as facts say"
    ALWAYS = "until the deadline"


class Charged(StrEnum):
    """Whether money may have been spent."""

    NO = "no"
    MAYBE = "maybe"
    AS_SAID = "as the provider says"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        purpose: Of the exchange.
        happened: What came of it.
        again: Whether it is made again at the same provider.
        charged: Whether money may have been spent. Where it may, going on elsewhere is `on_maybe_charged`'s business.
        kind: What it ends in when it is not made again; None: the kind that the adapter found.
        because: Why, for people.
        faults: The numbers of the fault list that stand behind it.
    """

    purpose: str
    happened: Happened
    again: Again
    charged: Charged
    kind: Kind | None
    because: str
    faults: str = ""


_U, _S, _P, _D = Purpose.UPLOAD.value, Purpose.SUBMIT.value, Purpose.POLL.value, "download"
H, A, C, K = Happened, Again, Charged, Kind

TABLE: tuple[Row, ...] = (
    Row(_U, H.NOT_CONNECTED, A.SHORTLY, C.NO, K.UNAVAILABLE, "uploading is free, and comes before the submit", "F1 F2"),
    Row(_U, H.CERTIFICATE, A.NEVER, C.NO, K.UNAVAILABLE, "TLS ended before the request; waiting mends nothing", "F3"),
    Row(_U, H.NO_CONNECTION_FREE, A.SHORTLY, C.NO, K.UNAVAILABLE, "it never got a connection", "F4"),
    Row(_U, H.FORBIDDEN, A.NEVER, C.NO, K.UNAVAILABLE, "the address was refused here, before a connection"),
    Row(_U, H.INTERRUPTED, A.NEVER, C.NO, K.CANCELLED, "the caller stopped before the submit"),
    Row(_U, H.LOST, A.SHORTLY, C.NO, K.UNAVAILABLE, "the same file is put there again", "F5 F6 F7"),
    Row(_U, H.TOO_LARGE, A.NEVER, C.NO, K.PROTOCOL_ERROR, "no reply to an upload is that long", "F39"),
    Row(_U, H.RATE_LIMITED, A.SHORTLY, C.NO, K.RATE_LIMITED, "it said: not now", "F8 F9 F10"),
    Row(_U, H.REFUSED, A.NEVER, C.NO, None, "it said no, in its own words", "F11 F12 F13 F18"),
    Row(_U, H.BUSY, A.SHORTLY, C.NO, K.UNAVAILABLE, "the upload host is in trouble", "F14 F15"),
    Row(_U, H.UNREADABLE, A.SHORTLY, C.NO, K.PROTOCOL_ERROR, "it names no URL, and nothing was submitted", "F16 F17"),
    Row(_S, H.NOT_CONNECTED, A.SHORTLY, C.NO, K.UNAVAILABLE, "no byte of the request left this machine", "F1 F2"),
    Row(_S, H.CERTIFICATE, A.NEVER, C.NO, K.UNAVAILABLE, "TLS ended before the request; waiting mends nothing", "F3"),
    Row(_S, H.NO_CONNECTION_FREE, A.SHORTLY, C.NO, K.UNAVAILABLE, "it never got a connection", "F4"),
    Row(_S, H.FORBIDDEN, A.NEVER, C.NO, K.UNAVAILABLE, "the address was refused here, before a connection"),
    Row(_S, H.INTERRUPTED, A.NEVER, C.NO, K.CANCELLED, "the caller stopped before it was sent"),
    Row(_S, H.LOST, A.NEVER, C.MAYBE, K.OUTCOME_UNKNOWN, "the provider may hold the whole request", "F5 F6 F7"),
    Row(_S, H.TOO_LARGE, A.NEVER, C.MAYBE, K.OUTCOME_UNKNOWN, "it answered, and may have accepted", "F39"),
    Row(_S, H.RATE_LIMITED, A.SHORTLY, C.NO, K.RATE_LIMITED, "it said: not now", "F8 F9 F10"),
    Row(_S, H.REFUSED, A.NEVER, C.NO, None, "it said no, in its own words", "F11 F12 F13 F18"),
    Row(_S, H.LISTED, A.SHORTLY, C.NO, K.UNAVAILABLE, "it documents this reply as not accepted", "F15"),
    Row(_S, H.GATEWAY, A.NEVER, C.MAYBE, K.OUTCOME_UNKNOWN, "something in between spoke; it may have accepted", "F14"),
    Row(_S, H.UNREADABLE, A.NEVER, C.MAYBE, K.OUTCOME_UNKNOWN, "it may say: accepted", "F16 F17 F19 F40 F41"),
    Row(_S, H.FAILED, A.NEVER, C.AS_SAID, None, "the task ran and ended at once", "F25 F26"),
    Row(_P, H.INTERRUPTED, A.NEVER, C.MAYBE, K.DEADLINE_EXCEEDED, "the caller stopped asking, and the task runs on"),
    Row(_P, H.NOT_CONNECTED, A.ALWAYS, C.MAYBE, K.DEADLINE_EXCEEDED, "asking is free, and the task runs on", "F22"),
    Row(_P, H.CERTIFICATE, A.LIMITED, C.MAYBE, K.UNAVAILABLE, "the task runs on, and we cannot ask safely", "F3"),
    Row(_P, H.NO_CONNECTION_FREE, A.ALWAYS, C.MAYBE, K.DEADLINE_EXCEEDED, "asking is free, and the task runs on", "F4"),
    Row(_P, H.LOST, A.ALWAYS, C.MAYBE, K.DEADLINE_EXCEEDED, "asking is free, and the task runs on", "F22"),
    Row(_P, H.BUSY, A.ALWAYS, C.MAYBE, K.DEADLINE_EXCEEDED, "asking is free, and the task runs on", "F22"),
    Row(_P, H.FORBIDDEN, A.NEVER, C.MAYBE, K.PROTOCOL_ERROR, "the polling URL leads to a forbidden address"),
    Row(_P, H.TOO_LARGE, A.LIMITED, C.MAYBE, K.PROTOCOL_ERROR, "no status is that long", "F39"),
    Row(
        _P, H.NOT_FOUND, A.LIMITED, C.MAYBE, K.JOB_NOT_FOUND, "just after the submit it may not be known yet", "F20 F21"
    ),
    Row(_P, H.REFUSED, A.LIMITED, C.MAYBE, None, "a refused question says nothing about the task"),
    Row(_P, H.UNREADABLE, A.LIMITED, C.MAYBE, K.PROTOCOL_ERROR, "it says nothing about the task", "F16 F27 F40 F41"),
    Row(_P, H.FAILED, A.NEVER, C.AS_SAID, None, "the task has ended", "F25 F26"),
    Row(_P, H.DEADLINE, A.NEVER, C.MAYBE, K.DEADLINE_EXCEEDED, "the task may still end well: resume it", "F28"),
    Row(_D, H.GONE, A.LIMITED, C.MAYBE, K.RESULT_EXPIRED, "a poll gives a fresh link, where there is one", "F31"),
    Row(_D, H.LOST, A.ALWAYS, C.MAYBE, K.DEADLINE_EXCEEDED, "fetching is free", "F29 F32"),
    Row(_D, H.FORBIDDEN, A.NEVER, C.MAYBE, K.PROTOCOL_ERROR, "the link leads to a forbidden address"),
    Row(
        _D,
        H.BAD,
        A.LIMITED,
        C.MAYBE,
        K.PROTOCOL_ERROR,
        "it was made, and what came is no image",
        "F30 F33 F34 F35 F36 F37",
    ),
    Row(_D, H.DISK, A.NEVER, C.MAYBE, K.PROTOCOL_ERROR, "it was made, and cannot be written on this machine", "F57"),
)
_NO_ANSWER = frozenset({408, 504})  # "upstream did not answer" is never a rejection, whatever the body
_NOT_NOW = frozenset({408, 429})  # at a poll: ask again later
BY_EVENT = {(row.purpose, row.happened): row for row in TABLE}

_OF_LOSS = {
    Loss.NOT_CONNECTED: H.NOT_CONNECTED,
    Loss.CERTIFICATE: H.CERTIFICATE,
    Loss.NO_CONNECTION_FREE: H.NO_CONNECTION_FREE,
    Loss.FORBIDDEN: H.FORBIDDEN,
    Loss.INTERRUPTED: H.INTERRUPTED,
    Loss.AFTER_SENDING: H.LOST,
    Loss.TOO_LARGE: H.TOO_LARGE,
}
_OF_FAULT = {
    Fault.GONE: H.GONE,
    Fault.LOST: H.LOST,
    Fault.FORBIDDEN: H.FORBIDDEN,
    Fault.BAD: H.BAD,
    Fault.DISK: H.DISK,
}


def after_upload(heard: Heard | None, state: State | None) -> Row | None:
    """The row for what came of an upload; None when the image lies there. `heard` is None where an SDK did it."""
    return None if isinstance(state, Uploaded) else BY_EVENT[_U, _of_upload(heard, state)]


def _of_upload(heard: Heard | None, state: State | None) -> Happened:
    if isinstance(heard, Lost):
        return _OF_LOSS[heard.loss]
    status = heard.status if heard else 0
    if not isinstance(state, Refused):
        return H.UNREADABLE
    if state.kind is Kind.RATE_LIMITED:
        return H.RATE_LIMITED
    if state.kind is Kind.UNAVAILABLE or status >= 500:
        return H.BUSY
    return H.UNREADABLE if state.kind is Kind.PROTOCOL_ERROR else H.REFUSED


def after_submit(heard: Heard, state: State | None, facts: Facts, *, at_home: bool = True) -> Row | None:
    """The row for what came of a submit; None when the provider accepted.

    Args:
        heard: The reply, or how it was lost.
        state: What the adapter made of the reply; None when there is none.
        facts: For the 5xx that surely mean "not accepted".
        at_home: Whether it was sent to the provider's own base URL, and not to a proxy.
    """
    happened = _of_submit(heard, state, facts, at_home=at_home)
    return None if happened is None else BY_EVENT[_S, happened]


def _of_submit(heard: Heard, state: State | None, facts: Facts, *, at_home: bool) -> Happened | None:
    if isinstance(heard, Lost):
        return _OF_LOSS[heard.loss]
    if isinstance(state, Failed):
        return H.FAILED
    if isinstance(state, Running | Fetch | Succeeded):
        return None
    if not isinstance(state, Refused):
        return H.UNREADABLE
    status = heard.status if state.code is None else state.code  # F18
    if status in _NO_ANSWER or heard.status in _NO_ANSWER:
        return H.GATEWAY
    rejections = [row for row in facts.rejections if at_home or not row.at_home]
    listed = any((row.status, row.shape) == (status, state.shape) for row in rejections)
    if listed and state.kind is Kind.UNAVAILABLE:
        return H.LISTED
    if status >= 500 and not listed:
        return H.GATEWAY
    if state.kind is Kind.PROTOCOL_ERROR or not state.shape:
        return H.GATEWAY if status >= 400 else H.UNREADABLE
    return H.RATE_LIMITED if state.kind is Kind.RATE_LIMITED else H.REFUSED


def after_poll(heard: Heard, state: State | None) -> Row | None:
    """The row for what came of a poll or a fetch; None when it told how the task is."""
    return None if (happened := _of_poll(heard, state)) is None else BY_EVENT[_P, happened]


def _of_poll(heard: Heard, state: State | None) -> Happened | None:
    if isinstance(heard, Lost):
        return _OF_LOSS[heard.loss]
    if isinstance(state, Failed):
        return H.FAILED
    if not isinstance(state, Refused):
        return None
    if state.kind is Kind.JOB_NOT_FOUND:
        return H.NOT_FOUND
    if heard.status >= 500 or heard.status in _NOT_NOW or state.kind in {Kind.RATE_LIMITED, Kind.UNAVAILABLE}:
        return H.BUSY
    return H.UNREADABLE if state.kind is Kind.PROTOCOL_ERROR or not state.shape else H.REFUSED


def after_download(fault: Fault) -> Row:
    """The row for a download that gave no image."""
    return BY_EVENT[_D, _OF_FAULT[fault]]


def understood(adapter: Adapter, heard: Heard, task: Task | None) -> State | None:
    """What an adapter makes of what was heard; None where there is no reply.

    An adapter that raises has a bug, and the task may run all the same: that is a reply not understood.
    """
    if isinstance(heard, Lost):
        return None
    try:
        return sane(adapter.read(heard, task))
    except Exception as error:  # noqa: BLE001 - a stranger's adapter may raise anything
        return Refused(Kind.PROTOCOL_ERROR, f"the adapter {adapter.facts.name} raised {type(error).__name__}: {error}")


def reply_of(heard: Heard | None) -> Reply | None:
    """The reply, if there was one."""
    return heard if isinstance(heard, Reply) else None
