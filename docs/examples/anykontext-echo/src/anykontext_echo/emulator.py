"""Echo on this machine: two hosts, tasks that end after `seconds`, and faults on demand."""

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from anykontext import sandbox
from anykontext.sandbox import KEYS, pictures
from anykontext.sandbox.downloads import DOWNLOAD_FAULTS, deliver
from anykontext.sandbox.replies import gateway_page, reset_connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CENTS = 5
LINK_SECONDS = 3600  # echo-9
FIELDS = {"model": str, "prompt": str, "image": str, "seed": int, "safety": int, "format": str}
NO_ID = "no-task"
GATES = {  # fault -> how a submit is refused; nothing is accepted
    "outage": (503, "overloaded", "Try again later"),  # echo-10
    "server-error": (500, "internal", "Something went wrong"),
    "rate-limited": (429, "slow_down", "Too many requests"),
    "out-of-credit": (403, "no_credit", "The account is empty"),  # echo-5
}
ENDS: dict[str, dict[str, Any]] = {  # fault -> how a task ends
    "moderated": {"state": "refused", "stage": "input", "text": "not allowed"},  # echo-3
    "moderated-output": {"state": "refused", "stage": "output", "text": "not allowed"},
    "failed": {"state": "broken", "text": "the pen broke"},  # echo-4
}


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        headers = {"Retry-After": "1"} if status == 429 else None
        self.reply = JSONResponse({"error": {"code": code, "text": text}}, status, headers)


@dataclass
class Task:
    """One accepted request."""

    ends_at: float
    end: Mapping[str, Any]
    picture: bytes
    media_type: str
    polls: int = 0
    troubles: int = 0


class Emulator(sandbox.Emulator):
    """Echo: the API, and the host of finished pictures.

    Counters: `submits`, `accepted`, `polls`, `downloads`, `key_leaks` (to the host of pictures), `ignored_fields`.
    Each accepted submit is in `requests` as `id`, `model`, `body` (without the image), `images` and `ignored`.
    """

    name: ClassVar[str] = "echo"
    origin_names: ClassVar[tuple[str, ...]] = ("api", "images")
    extra_faults: ClassVar[Mapping[str, str]] = {
        NO_ID: "A submit is accepted, and its reply names no task.",
        **DOWNLOAD_FAULTS,
    }

    def __init__(self, *, seconds: float = 0.5) -> None:
        super().__init__(seconds=seconds)
        self._tasks: dict[str, Task] = {}
        self._links: dict[str, tuple[Task, float]] = {}

    def app(self, origin_name: str) -> Starlette:
        """The app of one of Echo's hosts."""
        if origin_name == "images":
            return Starlette(routes=[Route("/{name}", self._picture)])
        routes = [Route("/v1/echo", self._submit, methods=["POST"]), Route("/v1/echo/{id}", self._poll)]
        return Starlette(routes=routes, exception_handlers={Refused: lambda _, error: error.reply})

    async def _submit(self, request: Request) -> Response:
        self.counters["submits"] += 1
        sent = _fields(await request.body())
        self._check_key(request)
        for fault, refusal in GATES.items():
            if self.take(fault):
                raise Refused(*refusal)
        name = await self._accept(sent)
        if self.take("submit-lost"):
            return await reset_connection(request)
        if self.take("gateway-page"):
            return gateway_page()
        if self.take("submit-slow"):
            await asyncio.sleep(self.slow_seconds)
        return JSONResponse({} if self.take(NO_ID) else {"task": name})

    def _check_key(self, request: Request) -> None:
        if request.headers.get("x-echo-key") not in KEYS or self.take("bad-key"):
            raise Refused(403, "bad_key", "This key is not ours")

    async def _accept(self, sent: Mapping[str, Any]) -> str:
        """Begin a task: from here on it is paid."""
        name, seed = secrets.token_hex(8), sent.get("seed", secrets.randbits(32))
        image_format = sent.get("format", "png")
        data = base64.b64decode(sent["image"]) if "image" in sent else None
        picture = await asyncio.to_thread(_drawn, sent["prompt"], data, seed, image_format, self.megapixels)
        done = {"state": "done", "cents": CENTS, "seed": seed}  # echo-6, echo-11
        end = next((end for fault, end in ENDS.items() if self.take(fault)), done)
        self._tasks[name] = Task(self.now() + self.seconds, end, picture, f"image/{image_format}")
        ignored = sorted(sent.keys() - FIELDS)
        self.counters["accepted"] += 1
        self.counters["ignored_fields"] += len(ignored)
        self.requests.append(
            {
                "id": name,
                "model": sent["model"],
                "body": {field: value for field, value in sent.items() if field in FIELDS and field != "image"},
                "images": [{"field": "image", "bytes": len(data)}] if data is not None else [],
                "ignored": ignored,
            }
        )
        return name

    async def _poll(self, request: Request) -> Response:
        self.counters["polls"] += 1
        self._check_key(request)
        task = self._tasks.get(request.path_params["id"])
        if task is None:
            raise Refused(404, "no_such_task", "There is no such task")
        if task.troubles < 3 and self.take("poll-errors"):
            return await self._trouble(request, task)
        if self.take("unknown-status"):
            return JSONResponse({"state": "simmering"})
        if self.take("never-ends") or self.now() < task.ends_at:
            task.polls += 1
            return JSONResponse({"state": "queued" if task.polls == 1 else "drawing"})
        return JSONResponse(task.end if task.end["state"] != "done" else {**task.end, "image_url": self._link(task)})

    async def _trouble(self, request: Request, task: Task) -> Response:
        """The first polls of a task go wrong in different ways."""
        task.troubles += 1
        if task.troubles == 1:
            raise Refused(500, "internal", "Something went wrong")
        return gateway_page() if task.troubles == 2 else await reset_connection(request)

    def _link(self, task: Task) -> str:
        """A new link to a picture (echo-9)."""
        name = secrets.token_hex(8)
        self._links[name] = (task, self.now() + (-1 if self.take("expired-url") else LINK_SECONDS))
        return f"{self.origins['images']}/{name}"

    async def _picture(self, request: Request) -> Response:
        self.counters["downloads"] += 1
        self.counters["key_leaks"] += "x-echo-key" in request.headers
        task, ends_at = self._links.get(request.path_params["name"], (None, 0.0))
        if task is None or self.now() >= ends_at:
            return Response(status_code=404 if task is None else 410)
        return await deliver(self, task.picture, task.media_type, {})


def _fields(raw: bytes) -> dict[str, Any]:
    """The fields of a submit, or `Refused`."""
    try:
        sent = json.loads(raw)
        if "image" in sent:
            pictures.read(base64.b64decode(sent["image"], validate=True))  # echo-8: bare base64
    except (ValueError, TypeError, RecursionError):
        raise Refused(422, "bad_request", "The body or its image cannot be read") from None
    if not isinstance(sent, dict) or sent.get("model") != "kontext-pro" or "prompt" not in sent:
        raise Refused(422, "bad_request", "model and prompt are needed")
    for name, kind in FIELDS.items():
        if name in sent and type(sent[name]) is not kind:
            raise Refused(422, "bad_request", f"{name} has a wrong type")
    if not 0 <= sent.get("safety", 0) <= 4 or sent.get("format", "png") not in ("png", "jpeg"):  # echo-7
        raise Refused(422, "bad_request", "safety or format is out of range")
    return sent


def _drawn(prompt: str, data: bytes | None, seed: int, image_format: str, megapixels: float) -> bytes:
    """The finished picture as a file."""
    if data is None:
        drawn = pictures.generate(prompt, seed=seed, size=pictures.size_for(1.0, megapixels))
    else:
        drawn = pictures.edit([data], prompt, seed=seed, megapixels=megapixels)
    return pictures.encode(drawn, image_format)
