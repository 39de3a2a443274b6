"""One request for a FLUX image, any provider that hosts the model.

The public names are loaded on first use, so that `import anykontext` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anykontext.client import AsyncClient as AsyncClient
    from anykontext.client import AsyncJob as AsyncJob
    from anykontext.client import Client as Client
    from anykontext.client import Job as Job
    from anykontext.client import edit as edit
    from anykontext.client import generate as generate
    from anykontext.config import Config as Config
    from anykontext.config import Route as Route
    from anykontext.engine.check import ProviderCheck as ProviderCheck
    from anykontext.ledger import JobRecord as JobRecord
    from anykontext.model.errors import AllCandidatesFailed as AllCandidatesFailed
    from anykontext.model.errors import AnykontextError as AnykontextError
    from anykontext.model.errors import AuthenticationFailed as AuthenticationFailed
    from anykontext.model.errors import BrokenPlugin as BrokenPlugin
    from anykontext.model.errors import BudgetExceeded as BudgetExceeded
    from anykontext.model.errors import Cancelled as Cancelled
    from anykontext.model.errors import ConfigurationError as ConfigurationError
    from anykontext.model.errors import DeadlineExceeded as DeadlineExceeded
    from anykontext.model.errors import GenerationFailed as GenerationFailed
    from anykontext.model.errors import InvalidRequest as InvalidRequest
    from anykontext.model.errors import JobNotFound as JobNotFound
    from anykontext.model.errors import Kind as Kind
    from anykontext.model.errors import MissingKey as MissingKey
    from anykontext.model.errors import Moderated as Moderated
    from anykontext.model.errors import NoCandidate as NoCandidate
    from anykontext.model.errors import OutcomeUnknown as OutcomeUnknown
    from anykontext.model.errors import OutOfCredit as OutOfCredit
    from anykontext.model.errors import ProtocolError as ProtocolError
    from anykontext.model.errors import ProviderError as ProviderError
    from anykontext.model.errors import RateLimited as RateLimited
    from anykontext.model.errors import RequestRejected as RequestRejected
    from anykontext.model.errors import ResultExpired as ResultExpired
    from anykontext.model.errors import Unavailable as Unavailable
    from anykontext.model.errors import UnknownModel as UnknownModel
    from anykontext.model.errors import UnknownProvider as UnknownProvider
    from anykontext.model.errors import UnsupportedOption as UnsupportedOption
    from anykontext.model.events import Adjusted as Adjusted
    from anykontext.model.events import Downloading as Downloading
    from anykontext.model.events import Drift as Drift
    from anykontext.model.events import Event as Event
    from anykontext.model.events import FailingOver as FailingOver
    from anykontext.model.events import Finished as Finished
    from anykontext.model.events import Planned as Planned
    from anykontext.model.events import Progress as Progress
    from anykontext.model.events import Retrying as Retrying
    from anykontext.model.events import Submitted as Submitted
    from anykontext.model.events import Submitting as Submitting
    from anykontext.model.job import JobHandle as JobHandle
    from anykontext.model.job import JobState as JobState
    from anykontext.model.job import Task as Task
    from anykontext.model.money import Cost as Cost
    from anykontext.model.outcome import Outcome as Outcome
    from anykontext.model.plan import Plan as Plan
    from anykontext.model.request import ImageRequest as ImageRequest
    from anykontext.model.result import Adjustment as Adjustment
    from anykontext.model.result import Attempt as Attempt
    from anykontext.model.result import ImageResult as ImageResult
    from anykontext.model.result import ResultImage as ResultImage
    from anykontext.model.result import Timings as Timings
    from anykontext.model.spend import Spend as Spend

_HOME = {
    "client": ("AsyncClient", "AsyncJob", "Client", "Job", "edit", "generate"),
    "config": ("Config", "Route"),
    "engine.check": ("ProviderCheck",),
    "model.errors": (
        *("AllCandidatesFailed", "AnykontextError", "AuthenticationFailed", "BrokenPlugin", "BudgetExceeded"),
        *("Cancelled", "ConfigurationError", "DeadlineExceeded", "GenerationFailed", "InvalidRequest", "JobNotFound"),
        *("Kind", "MissingKey", "Moderated", "NoCandidate", "OutOfCredit", "OutcomeUnknown", "ProtocolError"),
        *("ProviderError", "RateLimited", "RequestRejected", "ResultExpired", "Unavailable", "UnknownModel"),
        *("UnknownProvider", "UnsupportedOption"),
    ),
    "model.events": (
        *("Adjusted", "Downloading", "Drift", "Event", "FailingOver", "Finished", "Planned", "Progress", "Retrying"),
        *("Submitted", "Submitting"),
    ),
    "ledger": ("JobRecord",),
    "model.job": ("JobHandle", "JobState", "Task"),
    "model.money": ("Cost",),
    "model.outcome": ("Outcome",),
    "model.plan": ("Plan",),
    "model.request": ("ImageRequest",),
    "model.result": ("Adjustment", "Attempt", "ImageResult", "ResultImage", "Timings"),
    "model.spend": ("Spend",),
}
_MODULE_OF = {name: f"anykontext.{module}" for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - the table above is the one list


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("anykontext")
    if name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'anykontext' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
