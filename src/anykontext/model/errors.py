"""Every error that anykontext raises, and the closed list of ways in which a provider's answer can end.

AnykontextError
├── ConfigurationError          MissingKey · UnknownProvider · UnknownModel · BrokenPlugin
├── InvalidRequest (ValueError)
│   └── UnsupportedOption
├── NoCandidate
├── BudgetExceeded
└── ProviderError
    ├── AuthenticationFailed · OutOfCredit · RateLimited · RequestRejected · Unavailable
    ├── Moderated
    ├── GenerationFailed · JobNotFound · ResultExpired · Cancelled
    ├── OutcomeUnknown
    ├── DeadlineExceeded (TimeoutError)
    ├── ProtocolError
    └── AllCandidatesFailed
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from anykontext.model.job import JobHandle
    from anykontext.model.result import Attempt

Stage = Literal["input", "output", "unknown"]


class Kind(StrEnum):
    """How an attempt ended, other than well: the words of `failover_on` and of `attempts[].outcome`."""

    AUTHENTICATION_FAILED = "authentication_failed"
    OUT_OF_CREDIT = "out_of_credit"
    RATE_LIMITED = "rate_limited"
    REQUEST_REJECTED = "request_rejected"
    UNAVAILABLE = "unavailable"
    MODERATED = "moderated"
    GENERATION_FAILED = "generation_failed"
    JOB_NOT_FOUND = "job_not_found"
    RESULT_EXPIRED = "result_expired"
    CANCELLED = "cancelled"
    OUTCOME_UNKNOWN = "outcome_unknown"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    PROTOCOL_ERROR = "protocol_error"


class AnykontextError(Exception):
    """The base of every error of this library.

    Attributes:
        maybe_charged: Whether money may have been spent on the job; False where nothing was sent.
        job_id: Our id of the job, where there is one.
        handle: What is needed to resume, where a provider had accepted a task.
        attempts: What was tried for the job, in order.
        errors: The error of each attempt, in the same order.
    """

    maybe_charged: bool = False
    job_id: str | None = None
    handle: "JobHandle | None" = None
    attempts: "tuple[Attempt, ...]" = ()
    errors: "Sequence[ProviderError]" = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (worker pools): rebuild from the fields, whatever the constructor takes.
        # The fields are the state, not arguments: `errors` holds the error itself.
        return _rebuilt, (type(self), self.args), dict(self.__dict__)


def _rebuilt(cls: type[AnykontextError], args: tuple[object, ...]) -> AnykontextError:
    error = cls.__new__(cls, *args)
    error.args = args
    return error


class ConfigurationError(AnykontextError):
    """The configuration cannot be used; nothing was sent."""


class MissingKey(ConfigurationError):
    """No key for a provider; the message names every variable that was tried."""


class UnknownProvider(ConfigurationError):
    """A provider or adapter that is not configured or not installed."""


class UnknownModel(ConfigurationError):
    """A model that no installed adapter knows."""


class BrokenPlugin(ConfigurationError):
    """A plugin that could not be loaded was asked for."""


class InvalidRequest(AnykontextError, ValueError):
    """The caller's fault, found before anything was sent."""


class UnsupportedOption(InvalidRequest):
    """A provider cannot do what was asked, and it is not a thing that may be adjusted.

    Attributes:
        option: The canonical name of the option.
        asked: The value that was asked for.
        allowed: What the provider can do, as words or values.
        provider: The name of the provider.
    """

    def __init__(self, message: str, *, option: str, asked: object, allowed: object, provider: str | None) -> None:
        super().__init__(message)
        self.option = option
        self.asked = asked
        self.allowed = allowed
        self.provider = provider


class NoCandidate(AnykontextError):
    """Nothing in the route can do this request.

    Attributes:
        reasons: Why each candidate was excluded, by `provider/model`.
    """

    def __init__(self, message: str, *, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


class BudgetExceeded(AnykontextError):
    """The request would cost more than a price cap or a budget allows; nothing was sent to this candidate.

    Where candidates before it were tried, `attempts` and `maybe_charged` tell of them.
    """


class ProviderError(AnykontextError):
    """A provider did not deliver.

    Attributes:
        provider: Its name in the config.
        model: The canonical name of the model.
        kind: The closed word for what happened.
        http_status: The status of the reply that told so, where there was one.
        raw: The reply's body, shortened, with base64 and keys removed; or None.
        retry_after: Seconds that the provider asked us to wait, or None.
        handle: What is needed to resume, where the provider had accepted a task.
        job_id: Our id of the job.
        maybe_charged: Whether money may have been spent: on this attempt, or on any of `attempts`.
        attempts: What was tried for the job, in order, this one last.
        errors: The error of each attempt, in the same order.
    """

    kind: ClassVar[Kind]
    advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        model: str | None = None,
        http_status: int | None = None,
        raw: str | None = None,
        retry_after: float | None = None,
        handle: "JobHandle | None" = None,
        job_id: str | None = None,
        maybe_charged: bool = False,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.model = model
        self.http_status = http_status
        self.raw = raw
        self.retry_after = retry_after
        self.handle = handle
        self.job_id = job_id
        self.maybe_charged = maybe_charged
        self.errors = (self,)
        if advice is not None:
            self.__dict__["advice"] = advice

    @property
    def retryable(self) -> bool:
        """Whether sending the same request again cannot pay twice."""
        return not self.maybe_charged

    def __str__(self) -> str:
        who = f"{self.provider}/{self.model}" if self.model else self.provider
        money = "money may have been spent" if self.maybe_charged else "nothing was charged"
        parts = [f"{who}: {self.message.rstrip('.')} ({money})", self.advice]
        return ". ".join(part for part in parts if part)


class AuthenticationFailed(ProviderError):
    """The key was refused."""

    kind = Kind.AUTHENTICATION_FAILED
    advice = "Check the key of this provider with `anykontext check`"


class OutOfCredit(ProviderError):
    """The account cannot pay for the request."""

    kind = Kind.OUT_OF_CREDIT
    advice = "Add credit at the provider, or use another one"


class RateLimited(ProviderError):
    """Too many requests or running tasks."""

    kind = Kind.RATE_LIMITED
    advice = "Wait for `retry_after` seconds or until running jobs end, or add another provider to the route"


class RequestRejected(ProviderError):
    """The provider understood the request and refused it."""

    kind = Kind.REQUEST_REJECTED
    advice = "Change the request: sent again as it is, it will be refused again"


class Unavailable(ProviderError):
    """The provider could not be reached, or said that it cannot work now."""

    kind = Kind.UNAVAILABLE
    advice = "Try again later, or add another provider to the route"


class Moderated(ProviderError):
    """The prompt, an input image or the result was flagged.

    Attributes:
        stage: Whether the `input` or the `output` was flagged, or `unknown`.
        reasons: The provider's own words, where it gave any.
    """

    kind = Kind.MODERATED
    advice = (
        'It is not offered to another provider unless on_moderated = "continue", and where it may have been charged '
        'on_maybe_charged = "continue", too'
    )

    def __init__(self, message: str, *, stage: Stage = "unknown", reasons: Sequence[str] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.stage = stage
        self.reasons = tuple(reasons)


class GenerationFailed(ProviderError):
    """The provider accepted the task, and it failed there."""

    kind = Kind.GENERATION_FAILED
    advice = "Look at the input image and the prompt, then send it again"


class JobNotFound(ProviderError):
    """The provider does not know the task (any more)."""

    kind = Kind.JOB_NOT_FOUND
    advice = "Try the handle again later; if it stays unknown, ask the provider's support with the task's id"


class ResultExpired(ProviderError):
    """The image was made, and its link no longer works."""

    kind = Kind.RESULT_EXPIRED
    advice = "Resume it with the handle: the provider may give a new link; else the image is lost"


class Cancelled(ProviderError):
    """The task was cancelled at the provider."""

    kind = Kind.CANCELLED
    advice = "Send it again if it is still wanted"


class OutcomeUnknown(ProviderError):
    """The submit may have been accepted and billed; it was not, and will not be, sent again by itself."""

    kind = Kind.OUTCOME_UNKNOWN
    advice = "Look at the provider's dashboard before you send it again"


class DeadlineExceeded(ProviderError, TimeoutError):
    """The deadline passed; the task may still run: resume it with `.handle`."""

    kind = Kind.DEADLINE_EXCEEDED
    advice = "Resume it with the handle: `client.resume(error.handle)`, or `anykontext jobs resume` with the job's id"


class ProtocolError(ProviderError):
    """A reply that we do not understand; it is in `.raw`."""

    kind = Kind.PROTOCOL_ERROR
    advice = "The provider may have changed: please report it with the raw reply"


class AllCandidatesFailed(ProviderError):
    """Every candidate ended in a kind that the route passes over; the fields are those of the last."""

    kind = Kind.UNAVAILABLE

    def __init__(self, message: str, *, errors: Sequence[ProviderError], **fields: Any) -> None:
        super().__init__(message, **fields)
        self.errors = tuple(errors)
        self.__dict__["kind"] = errors[-1].kind


ERROR_OF_KIND: Mapping[Kind, type[ProviderError]] = {
    cls.kind: cls
    for cls in (
        *(AuthenticationFailed, OutOfCredit, RateLimited, RequestRejected, Unavailable, Moderated, GenerationFailed),
        *(JobNotFound, ResultExpired, Cancelled, OutcomeUnknown, DeadlineExceeded, ProtocolError),
    )
}
