"""Ctrl-C and SIGTERM while money may be moving: what is waited for, and what is told."""

import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import FrameType
from typing import Any, Self

from anykontext.cli.failures import Interrupted, as_json
from anykontext.model import events
from anykontext.model.errors import OutcomeUnknown, ProviderError
from anykontext.model.job import JobHandle, JobState

WAITING = "Waiting for the provider's answer so that nothing paid is lost; press Ctrl-C again to leave."


class Phase(Enum):
    """How far a job has come, as far as money goes."""

    BEFORE = auto()
    SENDING = auto()
    ACCEPTED = auto()
    ENDED = auto()


@dataclass(slots=True)
class Tracker:
    """What the events have told of the job.

    Attributes:
        handle: Of the attempt that was accepted last.
        phase: How far it is.
        job_id: Our id, once there is one.
        provider: Who works on it.
        lost: Handles of earlier attempts that may have been charged.
        maybe_charged: Whether money may have been spent on an earlier attempt.
        told: The adjustments that have been told.
        in_ledger: Whether the ledger knows the job in later processes, too.
    """

    handle: JobHandle | None = None
    phase: Phase = Phase.BEFORE
    job_id: str | None = None
    provider: str | None = None
    lost: list[JobHandle] = field(default_factory=list)
    maybe_charged: bool = False
    told: list[Any] = field(default_factory=list)
    in_ledger: bool = False

    def __post_init__(self) -> None:
        if self.handle is not None:
            self.phase, self.job_id, self.provider = Phase.ACCEPTED, self.handle.job_id, self.handle.provider
        elif self.job_id is not None and self.phase is Phase.BEFORE:
            self.phase = Phase.ACCEPTED  # taken up from the ledger, with images in the spool or without a task

    def event(self, event: events.Event) -> None:
        """Take note of one event."""
        self.job_id, self.provider = event.job_id, event.provider or self.provider
        match event:
            case events.Adjusted(adjustment=adjustment):
                self.told.append(adjustment)
            case events.Submitting():
                self.phase = Phase.SENDING
            case events.Submitted(handle=handle):
                self.phase, self.handle = Phase.ACCEPTED, handle
            case events.FailingOver(maybe_charged=maybe_charged):
                if maybe_charged and self.handle is not None:
                    self.lost.append(self.handle)
                self.maybe_charged |= maybe_charged
                self.phase, self.handle = Phase.BEFORE, None
            case events.Finished(state=state):
                self.phase = Phase.ENDED if state is JobState.SUCCEEDED else self.phase


class Signals:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt, until the job is done: then it is saved first.

    Attributes:
        on_waiting: Tells the user that a submit in flight is waited for.
        count: How many signals came.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.on_waiting: Callable[[], None] = lambda: None
        self._before: dict[int, Any] = {}
        self.count = 0

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1 and self._tracker.phase is Phase.ENDED:
            return  # the image is there: saving it takes a moment
        if self.count == 1 and self._tracker.phase is Phase.SENDING:
            self.on_waiting()
        raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in the background of a script
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def interrupted(
    tracker: Tracker,
    cause: BaseException | None,
    resume: Callable[[JobHandle | str], str],
    saved: Sequence[Path] = (),
) -> Interrupted:
    """What is told after Ctrl-C.

    Args:
        tracker: What is known of the job.
        cause: The error of a submit that could not be waited for, or that was refused meanwhile.
        resume: Tells how a job is taken up again, by its handle or its id.
        saved: Images that came all the same, and that nobody could have asked for again.
    """
    known: dict[str, Any] = {"provider": tracker.provider, "job_id": tracker.job_id}
    if isinstance(cause, ProviderError):
        told = as_json(cause)
        del told["class"], told["message"]
        tracker.maybe_charged |= cause.maybe_charged
        handle = cause.handle
        lost = isinstance(cause, OutcomeUnknown)
        what = f"job {cause.job_id}: {cause}" if lost or handle else f"nothing is running. {cause}"
        known |= told
    elif saved:
        handle, tracker.maybe_charged = tracker.handle, True
        what = f"job {tracker.job_id} was done all the same; saved as {', '.join(map(str, saved))}"
    elif tracker.phase is Phase.ENDED:
        handle, tracker.maybe_charged = tracker.handle, True
        what = f"job {tracker.job_id} is done, and its image may not have been written; fetching it again is free"
    elif tracker.phase is Phase.ACCEPTED and tracker.handle is not None:
        handle = tracker.handle
        tracker.maybe_charged = True
        what = f"job {handle.job_id} was accepted by {handle.provider}: it runs on there, and may be charged"
    elif tracker.phase is Phase.ACCEPTED:
        handle, tracker.maybe_charged = None, True
        what = f"job {tracker.job_id} was taken up; nothing was sent anew"
    elif tracker.phase is Phase.SENDING:
        handle, tracker.maybe_charged = None, True
        what = (
            f"job {tracker.job_id} was being sent to {tracker.provider}: it may have been accepted and may be charged. "
            "Look at the provider's dashboard before you send it again"
        )
    else:
        handle = None
        money = "an earlier attempt may have been charged" if tracker.maybe_charged else "nothing was charged"
        what = f"nothing was sent{' to this provider' if tracker.lost or tracker.maybe_charged else ''}; {money}"
    known["job"] = handle.to_dict() if handle else None
    known["maybe_charged"] = tracker.maybe_charged
    error = Interrupted(f"Interrupted: {what}", **known)
    for one in (*tracker.lost, *([handle] if handle else [])):
        error.add_note(resume(one))
    if handle is None and tracker.phase is Phase.ACCEPTED and tracker.job_id is not None:
        error.add_note(resume(tracker.job_id))
    nobody_knows = handle is None and tracker.phase is Phase.SENDING
    if nobody_knows and tracker.in_ledger and (cause is None or isinstance(cause, OutcomeUnknown)):
        error.add_note(f"Once you know: anykontext jobs resolve {tracker.job_id} --charged (or --not-charged)")
    return error
