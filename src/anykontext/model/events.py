"""What `on_event` receives while a job runs: frozen facts, each with job, provider, model and seconds since start."""

from dataclasses import dataclass

from anykontext.model.errors import Kind
from anykontext.model.job import JobHandle, JobState
from anykontext.model.result import Adjustment


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all events.

    Attributes:
        job_id: Our id of the job.
        provider: The provider of the attempt; None while none is chosen.
        model: The canonical model of the attempt; None while none is chosen.
        seconds: Since the job started, by a monotonic clock.
    """

    job_id: str
    provider: str | None
    model: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Event):
    """The candidates were chosen: `provider/model` in the order in which they are tried, and why others are not."""

    candidates: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted(Event):
    """The request was changed to fit this candidate."""

    adjustment: Adjustment


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitting(Event):
    """The request is about to be sent: from here on money may be spent."""

    tasks: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(Event):
    """The provider accepted; the handle resumes the job, in any process."""

    handle: JobHandle


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """News of a running task: its status in the provider's words, a fraction of 0 to 1, its place in the queue."""

    status: str
    fraction: float | None = None
    queue_position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(Event):
    """An exchange is repeated after `wait_s` seconds; a submit only when it surely was not accepted."""

    purpose: str
    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingOver(Event):
    """This candidate ended in `kind`; the next one is tried."""

    kind: Kind
    reason: str
    maybe_charged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloading(Event):
    """The image is ready and is being fetched."""

    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift(Event):
    """The provider said something that its protocol sheet does not know: `what` (status, field, code) and the word."""

    what: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The job ended."""

    state: JobState
    maybe_charged: bool
