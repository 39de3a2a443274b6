"""What a flow asks of its driver, and what it is told. A flow is a generator: it yields effects and is sent `Told`s.

Flows touch nothing; drivers decide nothing.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from anykontext.adapting import Call, InputImage, Reply
from anykontext.engine.entries import Entry
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import Address
from anykontext.model.errors import Kind
from anykontext.model.events import Event
from anykontext.model.result import ResultImage


@dataclass(frozen=True, slots=True)
class Send:
    """Make one HTTP exchange; told a `Reply` or `Lost`.

    Attributes:
        call: What to send.
        provider: Whose key and connections to use.
        address: Where it goes, and whether signed and guarded.
        within_s: How long the whole exchange may take, in seconds.
        grace_s: How long it is still waited for after Ctrl-C or a cancellation, in seconds: a submit is not let go.
    """

    call: Call
    provider: Provider
    address: Address
    within_s: float
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Upload:
    """Put one input image where the provider can fetch it, by a vendor's SDK; told `Uploaded`, `Refused` or `Lost`."""

    image: InputImage
    provider: Provider
    within_s: float


@dataclass(frozen=True, slots=True)
class Download:
    """Fetch a finished image into the spool, without a key; told a `ResultImage` or `NotDownloaded`.

    Attributes:
        url: Where it lies, byte for byte as the provider gave it; None when `base64` holds it.
        base64: The image as text, as it came inside a reply.
        provider: Whose delivery hosts and base URL the guard knows.
        expires_at: When the link ends.
        within_s: How long it may take, in seconds.
        last_chance: Whether it can never be fetched again, since no task names it: then even Ctrl-C waits for it.
    """

    url: str | None
    provider: Provider
    within_s: float
    expires_at: datetime | None = None
    base64: str | None = field(default=None, repr=False)
    last_chance: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; told None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Persist:
    """Write an entry durably before going on; told None, or the error that kept it from being written.

    An intent that could not be written, or may not be (a budget, another owner), forbids the submit. After anything
    else the flow goes on: a full disk must not cost a paid image.
    """

    entry: Entry


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the caller's `on_event`; told None."""

    event: Event


@dataclass(frozen=True, slots=True)
class Admit:
    """Wait for free places at a candidate; told None when it may go on, else `NotAdmitted`.

    The places are given back by `Release`, and by the driver when the flow ends in any way.

    Attributes:
        candidate: Where the attempt is to be made.
        places: How many tasks, all at once.
        within_s: How long to wait for places, in seconds; an outage is not waited for.
        heeds: The kinds of outage that pass it over while its breaker is open; empty to try it all the same.
    """

    candidate: Candidate
    places: int
    within_s: float
    heeds: frozenset[Kind] = frozenset()


@dataclass(frozen=True, slots=True)
class Observed:
    """Tell the breaker how an attempt went, once for all of its parts; told None.

    Attributes:
        candidate: Where it was made.
        kind: How its submit, or later its task, has ended; None when it was accepted.
        everywhere: Whether that is about the provider with all its models: nobody answered.
    """

    candidate: Candidate
    kind: Kind | None
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Give the places of a candidate back; told None."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class All:
    """Run flows at the same time; told the list of their results, in their order, when all have ended."""

    flows: tuple["Flow[Any]", ...]


@dataclass(frozen=True, slots=True)
class Renew:
    """Look whether a provider has another key than the last that this flow sent, which was refused; told a bool."""

    provider: Provider
    within_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Aside:
    """A flow that goes on beside its job, whether or not anybody waits for it; events of it are logged only."""

    job_id: str
    flow: "Flow[Any]"


@dataclass(frozen=True, slots=True)
class Detach:
    """Begin to carry out a flow on the side, until it ends by itself or the client is closed; told None.

    What stops the job that began it does not stop it.
    """

    aside: Aside


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for the first of several flows on the side that ends, or has ended.

    Told its place among them and its result, which is None where it was let go; or None when none has ended in time.
    """

    asides: tuple[Aside, ...]
    within_s: float


Effect = Detach | Await | Send | Upload | Download | Sleep | Persist | Emit | Admit | Release | Observed | All | Renew


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """Why a candidate takes no attempt now; nothing was sent.

    Attributes:
        kind: `rate_limited` when it is full or submits follow too fast, else the kind of its outage.
        message: In words.
        since: When its breaker opened, on the driver's clock; None where something else stands in the way.
    """

    kind: Kind
    message: str
    since: float | None = None


class Loss(StrEnum):
    """How an exchange was lost, by what the provider may have seen of it."""

    NOT_CONNECTED = "not_connected"  # name, address, connect: no byte left (F1, F2)
    CERTIFICATE = "certificate"  # TLS: no byte of the request left (F3)
    NO_CONNECTION_FREE = "no_connection_free"  # our own pool (F4)
    AFTER_SENDING = "after_sending"  # anything later: write, reset, time-out, torn reply (F5, F6, F7)
    FORBIDDEN = "forbidden"  # the guard refused the address: nothing was sent
    INTERRUPTED = "interrupted"  # Ctrl-C or a cancellation came before it was sent
    TOO_LARGE = "too_large"  # the reply went past its cap (F39)


@dataclass(frozen=True, slots=True)
class Lost:
    """An exchange without a reply.

    Attributes:
        loss: What the provider may have seen.
        message: What went wrong, without key or URL query.
    """

    loss: Loss
    message: str


class Fault(StrEnum):
    """Why a download gave no image."""

    GONE = "gone"  # 403, 404, 410: the link has expired, ask for a new one (F31)
    LOST = "lost"  # the connection, a 5xx, a short body: try again (F29, F30, F32)
    FORBIDDEN = "forbidden"  # the guard refused the address
    BAD = "bad"  # it came whole, and is no image, too large, or a bomb (F33 to F37)
    DISK = "disk"  # it could not be written here (F57)


@dataclass(frozen=True, slots=True)
class NotDownloaded:
    """A download that gave no image.

    Attributes:
        fault: Why.
        message: In words, without the URL's query.
        http_status: Where there was a reply.
    """

    fault: Fault
    message: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver sends into a flow.

    Attributes:
        value: The outcome of the effect.
        mono: Seconds on a clock that only goes forward.
        wall: The time of day, in UTC.
        jitter: A random fraction of 0 to 1.
    """

    value: Any
    mono: float
    wall: datetime
    jitter: float


T = TypeVar("T")
Flow = Generator[Effect, Told, T]

Heard = Reply | Lost
Fetched = ResultImage | NotDownloaded
