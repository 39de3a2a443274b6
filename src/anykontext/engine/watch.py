"""What time it is for a job, and what is left of it. A flow learns the time only from what its driver tells it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from anykontext.engine.effects import Emit, Told
from anykontext.engine.provider import Candidate
from anykontext.model.events import Event

E = TypeVar("E", bound=Event)


@dataclass(slots=True)
class Watch:
    """The clock of one flow.

    Attributes:
        job_id: Our id of the job.
        deadline_s: Seconds that the whole job may take, from its start to the image in the spool.
        started: The monotonic time of the start.
        mono: The monotonic time of the last thing told.
        wall: The time of day of the last thing told, in UTC.
        jitter: A random fraction of 0 to 1, new with each thing told.
        candidate: What is being tried.
        attempt: Its number within the job; a job that is taken up again goes on counting.
    """

    job_id: str
    deadline_s: float
    started: float
    mono: float
    wall: datetime
    jitter: float = 0.5
    candidate: Candidate | None = None
    attempt: int = 0

    def see(self, told: Told) -> Any:
        """Take over the time, and give back what was told."""
        self.mono, self.wall, self.jitter = told.mono, told.wall, told.jitter
        return told.value

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self.mono - self.started

    @property
    def left_s(self) -> float:
        """Until the deadline; negative when it has passed."""
        return self.deadline_s - self.seconds

    def fork(self) -> "Watch":
        """A clock for a flow that runs beside this one."""
        return replace(self)

    def emit(self, event: type[E], **fields: Any) -> Emit:
        """The effect that tells the caller of an event."""
        who = self.candidate
        return Emit(
            event(
                job_id=self.job_id,
                provider=who.provider.name if who else None,
                model=who.model if who else None,
                seconds=self.seconds,
                **fields,
            )
        )
