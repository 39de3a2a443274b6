"""Telling the caller what happens: `on_event`, and one log line for what matters."""

import logging
from collections.abc import Callable

from anykontext.model.events import Adjusted, Drift, Event, FailingOver, Finished, Retrying, Submitted, Submitting
from anykontext.model.job import JobHandle

logger = logging.getLogger("anykontext")
logger.addHandler(logging.NullHandler())  # a library prints nothing by itself
OnEvent = Callable[[Event], None]

_LEVELS = {
    Drift: logging.WARNING,
    FailingOver: logging.WARNING,
    Finished: logging.INFO,
    Retrying: logging.INFO,
    Submitted: logging.INFO,
}


class Notifier:
    """Passes events on; what `on_event` raises is logged, since it must not cost a paid image."""

    def __init__(self, on_event: OnEvent | None = None) -> None:
        self._on_event = on_event
        self.handle: JobHandle | None = None
        self.job_id: str | None = None
        self.provider: str | None = None
        self.model: str | None = None
        self._submitted = self._at_risk = False

    def take_up(self, handle: JobHandle | None) -> None:
        """A job is followed that was accepted before."""
        if handle is not None:
            self.handle, self.job_id, self.provider, self.model = handle, handle.job_id, handle.provider, handle.model
            self._at_risk = True

    @property
    def maybe_charged(self) -> bool:
        """Whether money may have been spent, by what was told so far."""
        return self._submitted or self._at_risk

    def event(self, event: Event) -> None:
        """Log and pass on one event, and remember what it tells of the job."""
        self._remember(event)
        level = _LEVELS.get(type(event), logging.DEBUG)
        if isinstance(event, Adjusted) and event.adjustment.more_permissive:
            level = logging.WARNING
        if logger.isEnabledFor(level):
            logger.log(level, "%s %s/%s job=%s %s", type(event).__name__.lower(), *_who(event), _told(event))
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            logger.exception("on_event raised on %s; the job goes on", type(event).__name__)

    def _remember(self, event: Event) -> None:
        self.job_id = event.job_id
        self.provider, self.model = event.provider or self.provider, event.model or self.model
        match event:
            case Submitting():
                self._submitted = True
            case Submitted(handle=handle):
                self.handle = handle
            case FailingOver(maybe_charged=maybe_charged):
                self._submitted, self._at_risk = False, self._at_risk or maybe_charged


def _who(event: Event) -> tuple[str | None, str | None, str]:
    return event.provider, event.model, event.job_id


def _told(event: Event) -> str:
    match event:
        case Adjusted(adjustment=adjustment):
            return str(adjustment)
        case Drift(what=what, word=word):
            return f"unknown {what}: {word[:200]!r}"
        case FailingOver(kind=kind, reason=reason):
            return f"{kind}: {reason}"
        case Finished(state=state, maybe_charged=charged):
            return f"{state} maybe_charged={charged} seconds={event.seconds:.2f}"
        case Retrying(purpose=purpose, reason=reason, wait_s=wait_s):
            return f"{purpose} again in {wait_s:.1f} s: {reason}"
        case Submitted(handle=handle):
            return f"task={','.join(task.id for task in handle.tasks)}"
        case _:
            return ""
