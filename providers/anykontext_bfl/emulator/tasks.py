"""Tasks: what was accepted, when it ends and how, and what it costs (bfl sheet §5, §7, §9)."""

import asyncio
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from anykontext_bfl.emulator.images import FIELDS, Source, paint
from anykontext_bfl.emulator.models import Model

if TYPE_CHECKING:
    from anykontext_bfl.emulator.service import Emulator

Ending = Literal["Ready", "Request Moderated", "Content Moderated", "Error"]

CORRUPTED = {"error": "Invalid or corrupted image input"}
REASONS = {"Request Moderated": "Derivative Works Filter", "Content Moderated": "Sexual Content"}
STALLS = ("never-ends", "unknown-status")
REWRITTEN = ", highly detailed, natural light, sharp focus"


@dataclass(slots=True, eq=False)
class Task:
    """One accepted request."""

    id: str
    key: str
    model: Model
    prompt: str
    seed: int
    image_format: str
    accepted_at: float
    ends_at: float
    ending: Ending
    details: Any
    painting: asyncio.Task[bytes | None] | None
    settled: bool = False
    picture: bytes = b""
    path: str = field(default_factory=lambda: _path(uuid.uuid4().hex, uuid.uuid4().hex))
    urls_signed: int = 0
    polls: int = 0
    poll_errors: int = 0
    not_found: int = 0
    phases: int = 0


def _path(one: str, other: str) -> str:
    """A blob's folder as recorded: it has no task id in it (bfl sheet §6)."""
    return f"/results/{one[:2]}/{one[2:16]}/{other}"


class Tasks:
    """All tasks of an emulator; a finished one is never forgotten."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._all: dict[str, Task] = {}
        self._open: dict[str, Task] = {}

    def find(self, task_id: str) -> Task | None:
        """The task of this id."""
        return self._all.get(task_id)

    def active(self, key: str, model: Model | None = None) -> int:
        """How many tasks of a key, and of a model, are submitted and not finished."""
        return sum(
            task.key == key and model in {None, task.model} and not self.due(task) for task in self._open.values()
        )

    def due(self, task: Task) -> bool:
        """Whether the task's time has passed."""
        return self._emulator.now() >= task.ends_at and not self._emulator.armed(*STALLS)

    def accept(self, key: str, model: Model, body: Mapping[str, Any], inputs: Sequence[Source]) -> Task:
        """Begin a task: from here on it runs, and is billed when it succeeds."""
        emulator, now = self._emulator, self._emulator.now()
        ending, details = self._ending()
        seed = self._seed() if body["seed"] is None else body["seed"]
        image_format = body["output_format"] or model.fields["output_format"].default
        prompt = body["prompt"] or ""
        painting = None
        if ending == "Ready":
            painting = asyncio.create_task(
                asyncio.to_thread(
                    paint,
                    {name: value for name, value in body.items() if name not in FIELDS},
                    inputs,
                    seed=seed,
                    image_format=image_format,
                    megapixels=emulator.megapixels,
                )
            )
        task = Task(
            id=str(uuid.uuid4()),
            key=key,
            model=model,
            # result.prompt may be the rewritten prompt: bfl sheet §5; these words are [INF].
            prompt=prompt + REWRITTEN if body["prompt_upsampling"] else prompt,
            seed=seed,
            image_format=image_format,
            accepted_at=now,
            # An input is moderated before processing [DOC]; that it shows at once is [INF].
            ends_at=now if ending == "Request Moderated" else now + emulator.seconds,
            ending=ending,
            details=details,
            painting=painting,
        )
        self._all[task.id] = self._open[task.id] = task
        return task

    async def settle(self, task: Task) -> None:
        """Finish a task whose time has passed; only success is charged (bfl sheet §7)."""
        picture = await asyncio.shield(task.painting) if task.painting else None
        if task.settled:
            return
        task.settled = True
        del self._open[task.id]
        if picture is not None:
            task.picture = picture
            self._emulator.credits -= task.model.credits
        elif task.ending == "Ready":
            task.ending, task.details = "Error", CORRUPTED

    async def settle_due(self) -> None:
        """Finish every task whose time has passed, polled or not."""
        for task in [task for task in self._open.values() if self.due(task)]:
            await self.settle(task)

    def _ending(self) -> tuple[Ending, Any]:
        emulator = self._emulator
        if emulator.take("resultless-error"):
            return "Error", None
        if emulator.take("failed"):
            return "Error", CORRUPTED
        ending: Ending
        if emulator.take("moderated"):
            ending = "Request Moderated"
        elif emulator.take("moderated-output"):
            ending = "Content Moderated"
        else:
            return "Ready", None
        # bfl sheet §5: a list under a key with a space, or null; a string in one client's test.
        if emulator.take("no-details"):
            return ending, None
        if emulator.take("details-as-string"):
            return ending, REASONS[ending]
        return ending, {"Moderation Reasons": [REASONS[ending]]}

    def _seed(self) -> int:
        """A seed of BFL's own choice: uint32, every other one beyond 2**31 (bfl sheet §3.1)."""
        half = secrets.randbits(31)
        return half if len(self._all) % 2 else half | 1 << 31
