"""Tasks of the queue: what was accepted, how far it is, and what its result will be (fal sheet §2, §3)."""

import asyncio
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from anykontext_fal.emulator import model
from anykontext_fal.emulator.answers import CANCELLED, START_TIMEOUT, Answer
from anykontext_fal.emulator.model import Drawn, Order

if TYPE_CHECKING:
    from anykontext_fal.emulator.service import Emulator

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]

STALLS = ("never-ends", "unknown-status")
QUEUED_SHARE = 0.2
MOST_QUEUED = 1.0  # so that a start deadline, which is more than a second, is never missed by an idle queue
LIFE_SECONDS = 3600
LARGE_LIFE_SECONDS = 360
LARGE_BYTES = 10_000  # "10 KB": of 1000 or 1024 bytes is not established


@dataclass(slots=True, eq=False)
class Task:
    """One accepted request."""

    id: str
    order: Order
    accepted_at: float
    starts_at: float
    ends_at: float
    drawing: asyncio.Task[Drawn | Answer]
    missed_start_at: float = math.inf
    """When X-Fal-Request-Timeout ends it, should it not have started by then."""
    cancelled: bool = False
    answer: Answer | None = None
    poll_errors: int = 0
    early_results: int = 0
    pages: int = 0

    @property
    def started(self) -> bool:
        """Whether it starts before its start deadline, if it starts at all."""
        return self.starts_at <= self.missed_start_at

    @property
    def completed_at(self) -> float:
        """When it is COMPLETED, one way or the other."""
        return self.ends_at if self.started or self.cancelled else self.missed_start_at


class Tasks:
    """All tasks of an emulator."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._all: dict[str, Task] = {}

    def accept(self, order: Order, start_within: float | None) -> Task:
        """Queue a task: nothing of its body is looked at here (fal-4)."""
        emulator, now = self._emulator, self._emulator.now()
        stuck = emulator.take("stuck-in-queue")
        starts_at = math.inf if stuck else now + min(QUEUED_SHARE * emulator.seconds, MOST_QUEUED)
        task = Task(
            id=str(uuid.uuid4()),
            order=order,
            accepted_at=now,
            starts_at=starts_at,
            ends_at=math.inf if stuck else now + emulator.seconds,
            drawing=asyncio.create_task(model.draw(emulator, order)),
            missed_start_at=math.inf if start_within is None else now + start_within,
        )
        self._all[task.id] = task
        return task

    async def find(self, app: str, task_id: str) -> Task | None:
        """The task of this id, unless its result has been kept for long enough (fal-6).

        That its status goes with the result, and that payload storage (30 days by default) does not count, is the
        harder of two guesses [INF]: fal sheet §2 has both.
        """
        task = self._all.get(task_id)
        if task is None or task.order.endpoint.app != app:
            return None
        if self.status(task) == "COMPLETED":
            answer = await self.settle(task)
            life = LARGE_LIFE_SECONDS if answer.size >= LARGE_BYTES else LIFE_SECONDS
            if self._emulator.now() >= task.completed_at + life:
                return None
        return task

    def status(self, task: Task) -> Status:
        """One of the three: a failed or cancelled task is COMPLETED too (fal-3)."""
        now = self._emulator.now()
        if task.answer is not None or task.cancelled or (not task.started and now >= task.missed_start_at):
            return "COMPLETED"
        if now < task.starts_at:
            return "IN_QUEUE"
        return "IN_PROGRESS" if now < task.ends_at or self._emulator.armed(*STALLS) else "COMPLETED"

    def queued(self) -> list[Task]:
        """Those that wait, the oldest first."""
        return [task for task in self._all.values() if self.status(task) == "IN_QUEUE"]

    async def settle(self, task: Task) -> Answer:
        """The answer of a task whose time has passed; it stays what it is (fal sheet §2)."""
        made: Drawn | Answer
        if task.cancelled:
            made = CANCELLED
        elif not task.started:
            made = START_TIMEOUT
        else:
            made = await asyncio.shield(task.drawing)
        if task.answer is None:
            task.answer = model.deliver(self._emulator, made) if isinstance(made, Drawn) else made
        return task.answer

    async def settle_due(self) -> None:
        """Finish, and bill, every task whose time has passed, asked for or not."""
        for task in list(self._all.values()):
            if task.answer is None and self.status(task) == "COMPLETED":
                await self.settle(task)

    def cancel(self, task: Task) -> None:
        """End a task that has not ended. Whether a running Kontext task obeys is not established: here it does."""
        task.cancelled, task.ends_at = True, self._emulator.now()

    async def described(self, task: Task, *, logs: bool) -> dict[str, Any]:
        """The status object: `queue_position` only in the queue, `logs` null unless asked for (fal-2)."""
        status = self.status(task)
        body: dict[str, Any] = {"status": status, "request_id": task.id, **self.urls(task)}
        if status == "IN_QUEUE":
            waiting = self.queued()
            stuck = task.starts_at == math.inf
            body["queue_position"] = 0 if stuck or task not in waiting else waiting.index(task)
        lines = () if status == "IN_QUEUE" else LINES[: 1 + (status == "COMPLETED")]
        body |= {"logs": [self._line(task, text) for text in lines] if logs else None, "metrics": {}}
        if status == "COMPLETED":
            answer = await self.settle(task)
            if task.started and task.starts_at < task.ends_at:
                body["metrics"] = {"inference_time": round(task.ends_at - task.starts_at, 3)}
            # Told for errors of the infrastructure; for a model's 422 it may be absent (fal sheet §2, §13).
            if isinstance(answer.body, dict) and "error_type" in answer.body:
                body |= {"error": answer.body["detail"], "error_type": answer.body["error_type"]}
        return body

    def urls(self, task: Task, origin: str = "queue") -> Mapping[str, str]:
        """Where the task is asked for: below owner/alias, whatever the endpoint (fal-1)."""
        url = f"{self._emulator.origins[origin]}/{task.order.endpoint.app}/requests/{task.id}"
        return {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}

    def _line(self, task: Task, text: str) -> Mapping[str, str]:
        stamp = datetime.fromtimestamp(task.accepted_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"message": text, "level": "INFO", "source": "USER", "timestamp": stamp}


LINES = ("Loading model weights...", "Done.")
