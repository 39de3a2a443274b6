"""Tasks: what was accepted, when it ends and how, and what it costs (kie sheet §3, §7, §8)."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anykontext.sandbox.pictures import UnreadableImage
from anykontext_kie.emulator.envelope import VIOLATES
from anykontext_kie.emulator.fields import CREDITS
from anykontext_kie.emulator.images import fetched, paint
from anykontext_kie.emulator.media import ORIGIN_SECONDS, RESULT_SECONDS, letters

if TYPE_CHECKING:
    from anykontext_kie.emulator.service import Emulator

GENERATING, SUCCESS, CREATE_FAILED, GENERATE_FAILED = range(4)
STALLS = ("never-ends", "unknown-status")
GONE_WRONG = "Image generation task failed"  # payload 7 [DOC]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ends: in a record's flag and words, or in a code of the envelope instead of a record."""

    flag: int
    message: str
    code: int = 200


SUCCEEDED = Ending(SUCCESS, "")
# 2 or 3 is not established for either; the words are [INF].
UNREACHABLE = Ending(CREATE_FAILED, "The input image could not be downloaded")
UNREADABLE = Ending(GENERATE_FAILED, "The input image could not be read")
# kie-4, kie-5: failure has three layers, and moderation no mark of its own, only words.
ENDINGS: Mapping[str, Ending] = {
    "moderated": Ending(GENERATE_FAILED, VIOLATES),
    # As seen from kie in production [CODE].
    "moderated-output": Ending(
        GENERATE_FAILED, "The input or output was flagged as sensitive. Please try again with different inputs."
    ),
    "failed": Ending(GENERATE_FAILED, GONE_WRONG),
    "create-failed": Ending(CREATE_FAILED, ""),  # often without a reason [CODE]
    "envelope-501": Ending(GENERATE_FAILED, GONE_WRONG, 501),
    "envelope-408": Ending(
        GENERATE_FAILED,
        "Upstream is currently experiencing service issues. No result has been returned for over 10 minutes.",
        408,
    ),
    "moderated-400-poll": Ending(GENERATE_FAILED, VIOLATES, 400),
}


@dataclass(slots=True, eq=False)
class Task:
    """One accepted request."""

    id: str
    key: str
    price: int
    param_json: str
    created_at: float
    ends_at: float
    ending: Ending
    painting: "asyncio.Task[tuple[Ending, bytes]] | None"
    settled: bool = False
    result_url: str | None = None
    origin_url: str | None = None
    poll_errors: int = 0
    unseen: int = 0


class Tasks:
    """All tasks of an emulator; a finished one is never forgotten."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._all: dict[str, Task] = {}

    def find(self, task_id: str, key: str) -> Task | None:
        """The task of this id, if it is of the same account: that another sees nothing is [INF]."""
        found = self._all.get(task_id)
        return found if found is not None and found.key == key else None

    def due(self, task: Task) -> bool:
        """Whether the task's time has passed."""
        return task.settled or (self._emulator.now() >= task.ends_at and not self._emulator.armed(*STALLS))

    def running(self, key: str) -> int:
        """How many tasks of an account have not ended."""
        return sum(task.key == key and not self.due(task) for task in self._all.values())

    def since(self, key: str, seconds: float) -> int:
        """How many tasks an account began in the last seconds."""
        after = self._emulator.now() - seconds
        return sum(task.key == key and task.created_at > after for task in self._all.values())

    def accept(self, key: str, asked: Mapping[str, Any], sent: Mapping[str, Any], ignored: list[str]) -> Task:
        """Begin a task, and charge it (kie-18).

        Whether a failed task is refunded is not established: here, as "failed generations sometimes still bill"
        [CODE], only one that was never made upstream is [INF].
        """
        emulator, now = self._emulator, self._emulator.now()
        price = CREDITS[asked["model"]]
        emulator.credits -= price
        ending = next((ENDINGS[fault] for fault in ENDINGS if emulator.take(fault)), SUCCEEDED)
        # fluxkontext_: one client's routing has it so [CODE]; the rest as real ids of /jobs [REC].
        task_id = f"fluxkontext_{secrets.token_hex(16)}"
        # kie-8. What a translation makes of a prompt is not established: here it is only marked, for all to see.
        prompt = f"[translated] {asked['prompt']}" if asked["enableTranslation"] else asked["prompt"]
        images = [{"field": "inputImage", "url": asked["inputImage"]}] if "inputImage" in asked else []
        body = {name: value for name, value in sent.items() if name not in {*ignored, "inputImage", "model"}}
        emulator.requests.append(
            {
                "id": task_id,
                "model": asked["model"],
                "body": body,
                "prompt": prompt,
                "images": images,
                "ignored": ignored,
            }
        )
        painting = asyncio.create_task(self._paint(asked, prompt, images)) if ending is SUCCEEDED else None
        known = {name: value for name, value in sent.items() if name not in ignored}
        param_json = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
        task = Task(task_id, key, price, param_json, now, now + emulator.seconds, ending, painting)
        self._all[task_id] = task
        return task

    async def settle(self, task: Task) -> None:
        """Finish a task whose time has passed, and put its files where they can be fetched."""
        ending, picture = await asyncio.shield(task.painting) if task.painting else (task.ending, b"")
        if task.settled:
            return
        task.settled, task.ending = True, ending
        if ending is SUCCEEDED:
            self._publish(task, picture)
        elif ending.flag == CREATE_FAILED:  # kie-18
            self._emulator.credits += task.price

    def _publish(self, task: Task, picture: bytes) -> None:
        # What originImageUrl shows is not established: here it is the result on its maker's host [MEM] (kie-12).
        emulator = self._emulator
        kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
        expired = emulator.take("expired-url")
        name = f"image_{int(task.ends_at * 1000)}_{letters(6)}.{kind}"
        for folder, seconds in (("workers/flux", RESULT_SECONDS), ("origin/flux", ORIGIN_SECONDS)):
            expires = emulator.now() - 1 if expired else task.ends_at + seconds
            url = emulator.media.keep(f"/{folder}/{name}", picture, f"image/{kind}", expires=expires)
            if seconds == RESULT_SECONDS:
                task.result_url = url
            else:
                task.origin_url = url

    async def _paint(self, asked: Mapping[str, Any], prompt: str, images: list[dict[str, Any]]) -> tuple[Ending, bytes]:
        """The picture. An input is fetched only now: a submit does not tell that it cannot be (kie-3)."""
        emulator, data = self._emulator, None
        for image in images:
            own = emulator.media.owns(image["url"])
            data = emulator.media.read(image["url"]) if own else await asyncio.to_thread(fetched, image["url"])
            if data is None:
                return UNREACHABLE, b""
            image["sha256"] = hashlib.sha256(data).hexdigest()
        seed = secrets.randbits(31)  # there is none to be asked for
        try:
            picture = await asyncio.to_thread(paint, asked, prompt, data, seed=seed, megapixels=emulator.megapixels)
        except UnreadableImage:
            return UNREADABLE, b""
        return SUCCEEDED, picture
