"""The queue's host: submits, and what becomes of them, below owner/alias (fal sheet §1, §2)."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from anykontext.sandbox.replies import gateway_page, reset_connection
from anykontext_fal.emulator.answers import (
    IN_PROGRESS,
    INTERNAL,
    RESULT_NOT_FOUND,
    TASK_NOT_FOUND,
    UNITS,
    Refused,
    flat,
    not_allowed,
    page,
)
from anykontext_fal.emulator.door import ERRORS, admitted, check_key, key_of, remember
from anykontext_fal.emulator.tasks import Task

if TYPE_CHECKING:
    from anykontext_fal.emulator.service import Emulator

TICK_SECONDS = 0.01
UNKNOWN_STATUS = "SIMMERING"
TRUE = ("1", "true", "True")
POLL_ERRORS: tuple[Callable[[Task], Response] | None, ...] = (
    lambda task: INTERNAL.response(task.id),
    lambda _: page(),
    lambda _: gateway_page(200),
    None,  # a reset connection
    lambda task: flat(503, "No runner available", "runner_scheduling_failure").response(task.id),
)


class Queue:
    """Answers at the queue's host."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator

    def app(self) -> Starlette:
        """The ASGI app of this host."""
        route = Route("/{path:path}", self.dispatch, methods=["GET", "POST", "PUT"])
        return Starlette(routes=[route], exception_handlers=ERRORS)

    async def dispatch(self, request: Request) -> Response:
        """A submit, or a question about a task; a slash at the end does not matter."""
        parts = request.url.path.strip("/").split("/")
        if "requests" not in parts:
            return await self._submit(request, "/".join(parts)) if request.method == "POST" else not_allowed()
        place = parts.index("requests")
        app, rest = parts[:place], parts[place + 1 :]
        if len(app) != 2 or not rest:  # fal-1
            return not_allowed()
        asked = (request.method, *rest[1:])
        handler = {
            ("GET",): self._result,
            ("GET", "response"): self._result,
            ("GET", "status"): self._status,
            ("GET", "status", "stream"): self._stream,
            ("PUT", "cancel"): self._cancel,
        }.get(asked)
        return not_allowed() if handler is None else await handler(request, "/".join(app), rest[0])

    async def _submit(self, request: Request, name: str) -> Response:
        emulator = self._emulator
        await emulator.tasks.settle_due()
        if emulator.take("ingress-page"):  # fal-18
            emulator.counters["submits"] += 1
            await request.body()
            return page()
        order = await admitted(emulator, request, name)
        most = request.query_params.get("fal_max_queue_length", "")
        if most.isdigit() and len(emulator.tasks.queued()) >= int(most):
            raise Refused(TOO_MANY)
        task = emulator.tasks.accept(order, _seconds(request.headers.get("x-fal-request-timeout")))
        remember(emulator, request, order, task.id)
        if emulator.take("submit-lost"):
            return await reset_connection(request)
        if emulator.take("gateway-page"):
            return page(502, task.id)
        if emulator.take("submit-slow"):
            await asyncio.sleep(emulator.slow_seconds)
        return JSONResponse(self._accepted(task, request), headers={"x-fal-request-id": task.id})

    def _accepted(self, task: Task, request: Request) -> dict[str, object]:
        tasks = self._emulator.tasks
        if "fal_webhook" in request.query_params or self._emulator.take("no-urls"):
            # fal-20: the documented answer to a submit with a webhook; nothing is delivered to it here.
            return {"request_id": task.id, "gateway_request_id": str(uuid.uuid4())}
        foreign = self._emulator.take("foreign-urls")
        return {  # in the order of the recorded one
            "status": "IN_QUEUE",
            "request_id": task.id,
            **tasks.urls(task, "media" if foreign else "queue"),
            "logs": None,
            "metrics": {},
            "queue_position": max(len(tasks.queued()) - 1, 0),
        }

    async def _status(self, request: Request, app: str, task_id: str) -> Response:
        """202 until it is 200 COMPLETED (fal-2)."""
        emulator = self._emulator
        emulator.counters["polls"] += 1
        self._check_key(request)
        task = await emulator.tasks.find(app, task_id)
        if task is None:
            return TASK_NOT_FOUND.response()
        if task.poll_errors < len(POLL_ERRORS) and emulator.take("poll-errors"):
            error = POLL_ERRORS[task.poll_errors]
            task.poll_errors += 1
            return await reset_connection(request) if error is None else error(task)
        body = await emulator.tasks.described(task, logs=request.query_params.get("logs") in TRUE)
        if body["status"] != "COMPLETED":
            emulator.take("never-ends")
            if emulator.take("unknown-status"):
                body["status"] = UNKNOWN_STATUS
        return JSONResponse(body, 200 if body["status"] == "COMPLETED" else 202)

    async def _stream(self, request: Request, app: str, task_id: str) -> Response:
        """Every change of the status as an event, till it is COMPLETED."""
        self._emulator.counters["polls"] += 1
        self._check_key(request)
        task = await self._emulator.tasks.find(app, task_id)
        if task is None:
            return TASK_NOT_FOUND.response()
        events = self._events(task, logs=request.query_params.get("logs") in TRUE)
        return StreamingResponse(events, media_type="text/event-stream")

    async def _events(self, task: Task, *, logs: bool) -> AsyncIterator[bytes]:
        said = None
        while said is None or said["status"] != "COMPLETED":
            body = await self._emulator.tasks.described(task, logs=logs)
            if body != said:
                said = body
                yield b"data: " + orjson.dumps(body) + b"\n\n"
            else:
                await asyncio.sleep(TICK_SECONDS)  # in small steps: the clock may be moved on

    async def _result(self, request: Request, app: str, task_id: str) -> Response:
        """What the model answered: its status, headers and body (fal-3)."""
        emulator = self._emulator
        emulator.counters["fetches"] += 1
        self._check_key(request)
        task = await emulator.tasks.find(app, task_id)
        if task is None or emulator.take("result-gone"):
            return RESULT_NOT_FOUND.response()
        if task.pages == 0 and emulator.take("result-page"):
            task.pages += 1
            return page()
        early = task.early_results == 0 and emulator.take("early-result")
        task.early_results += early
        if early or emulator.tasks.status(task) != "COMPLETED":  # fal-5
            return IN_PROGRESS.response(task.id)
        return (await emulator.tasks.settle(task)).response(task.id)

    async def _cancel(self, request: Request, app: str, task_id: str) -> Response:
        """Note the wish; whether it is granted shows at the result (fal-7)."""
        emulator = self._emulator
        emulator.counters["cancels"] += 1
        self._check_key(request)
        task = await emulator.tasks.find(app, task_id)
        if task is None:
            return TASK_NOT_FOUND.response()
        if emulator.tasks.status(task) == "COMPLETED":
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        if not emulator.take("cancel-ignored"):
            emulator.tasks.cancel(task)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    def _check_key(self, request: Request) -> None:
        """Public models answer without a key (fal-23); that a wrong one is refused all the same is [INF]."""
        if key_of(request):
            check_key(self._emulator, request)
        else:
            self._emulator.counters["unsigned"] += 1


# The body of a 429 is not documented; it has this type on the run host (fal sheet §5).
TOO_MANY = flat(429, "Too many requests", "concurrent_requests_limit", {"X-Fal-Needs-Retry": "1", UNITS: "0"})


def _seconds(text: str | None) -> float | None:
    """A start deadline; what fal says to one that it cannot read is not established: it is ignored here."""
    with contextlib.suppress(ValueError):
        return float(text or "")
    return None
