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
        unpaid_until_s: Until when the attempt may go on while nothing may have been charged, in seconds from the
            start; None: until the deadline.
        paid_until_s: The same, from when something may have been charged.
    """

    job_id: str
    deadline_s: float
    started: float
    mono: float
    wall: datetime
    jitter: float = 0.5
    candidate: Candidate | None = None
    attempt: int = 0
    unpaid_until_s: float | None = None
    paid_until_s: float | None = None

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

    def begin_attempt(self, share: float, *, is_last: bool, leaves_paid: bool) -> None:
        """Give the attempt that begins now its share of what is left of the deadline; the last one has all of it.

        Args:
            share: Of 0 to 1.
            is_last: Whether no other candidate is left.
            leaves_paid: Whether the caller lets us go on while it may still finish, and may have been charged.
                Else the share ends when the provider may have accepted: the attempt then has all that is left.
        """
        ends = None if is_last or share >= 1 else self.seconds + share * max(self.left_s, 0.0)
        self.unpaid_until_s = ends
        self.paid_until_s = ends if leaves_paid else None

    def keep_on(self) -> None:
        """Stay with the attempt: it has all that is left from now on."""
        self.unpaid_until_s = self.paid_until_s = None

    @property
    def unpaid_left_s(self) -> float:
        """Until the attempt has used up its share, while nothing may have been charged; at most `left_s`."""
        return self._until(self.unpaid_until_s)

    @property
    def paid_left_s(self) -> float:
        """Until the attempt has used up its share, from when something may have been charged; at most `left_s`."""
        return self._until(self.paid_until_s)

    @property
    def limit(self) -> str:
        """What ends an attempt that waits too long, for messages."""
        whole = f"the deadline of {self.deadline_s:g} s"
        return whole if self.left_s <= 0 or self.unpaid_until_s is None else f"its share of {whole}"

    def _until(self, ends_s: float | None) -> float:
        return self.left_s if ends_s is None else min(self.left_s, ends_s - self.seconds)

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
