"""The regional host: polls (bfl sheet §5, payloads 5 to 10 and 17)."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anykontext.sandbox.replies import gateway_page, reset_connection
from anykontext_bfl.emulator.tasks import Task

if TYPE_CHECKING:
    from anykontext_bfl.emulator.service import Emulator

RATE_LIMIT = 1200
PROGRESS_FULL_AT = 0.6
PROGRESS_GONE_AT = 0.9
PHASES = ("Reasoning", "Generating")
NOT_FOUND_AT_FIRST = 2


def body_of(task_id: str, status: str, **known: Any) -> dict[str, Any]:
    """A poll's body: nulls are sent explicitly."""
    empty = {"result": None, "progress": None, "details": None, "preview": None}
    return {"id": task_id, "status": status, **empty, **known}


def task_not_found(task_id: str) -> Response:
    """Unknown, expired, or asked for on the wrong host."""
    return JSONResponse(body_of(task_id, "Task not found"), 404)


def _unavailable(task: Task) -> Response:
    # A 503 with a status in its body, possibly with Retry-After: bfl sheet §5.
    pending = body_of(task.id, "Pending", progress=0.1)
    return JSONResponse(pending, 503, headers={"Retry-After": "0"})


POLL_ERRORS: tuple[Callable[[Task], Response] | None, ...] = (
    lambda _: JSONResponse({"detail": "Internal Server Error"}, 500),
    lambda _: gateway_page(502),
    lambda _: gateway_page(200),
    None,  # a reset connection
    _unavailable,
)


class Results:
    """Answers polls; needs no key, as the OpenAPI has it (bfl sheet §2)."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._window = (0, 0)

    async def get(self, request: Request) -> Response:
        """One poll."""
        emulator = self._emulator
        emulator.counters["polls"] += 1
        task_id = request.query_params.get("id")
        if task_id is None:
            missing = {"type": "missing", "loc": ["query", "id"], "msg": "Field required"}
            return JSONResponse({"detail": [{**missing, "input": None}]}, 422)
        task = emulator.tasks.find(task_id)
        if task is None or self._is_not_found(task):
            return task_not_found(task_id)
        task.polls += 1
        if task.poll_errors < len(POLL_ERRORS) and emulator.take("poll-errors"):
            error = POLL_ERRORS[task.poll_errors]
            task.poll_errors += 1
            return await reset_connection(request) if error is None else error(task)
        return await self._state(task)

    def _is_not_found(self, task: Task) -> bool:
        if self._emulator.take("not-found-always"):
            return True
        if task.not_found < NOT_FOUND_AT_FIRST and self._emulator.take("not-found-first"):
            task.not_found += 1
            return True
        return False

    async def _state(self, task: Task) -> Response:
        emulator = self._emulator
        if not task.settled:
            if emulator.take("unknown-status"):
                return self._reply(task, body_of(task.id, "Simmering"))
            if task.phases < len(PHASES) and emulator.take("reasoning"):
                task.phases += 1
                return self._reply(task, body_of(task.id, PHASES[task.phases - 1]))
            if emulator.take("never-ends") or emulator.now() < task.ends_at:
                return self._reply(task, body_of(task.id, "Pending", progress=self._progress(task)))
            await emulator.tasks.settle(task)
        if task.ending != "Ready":
            # A failed task with details came under HTTP 422 [REC S2]; without any, 200 is [INF].
            failed = task.ending == "Error" and task.details is not None
            ended = body_of(task.id, task.ending, details=task.details)
            return JSONResponse(ended, 422) if failed else self._reply(task, ended)
        return self._reply(task, self._ready(task))

    def _progress(self, task: Task) -> float | None:
        """0.1 to 1.0, at which it stays for a while, then null (bfl sheet §5)."""
        seconds = max(task.ends_at - task.accepted_at, 1e-6)
        passed = (self._emulator.now() - task.accepted_at) / seconds
        if PROGRESS_GONE_AT <= passed < 1.0:
            return None
        return min(1.0, max(0.1, round(passed / PROGRESS_FULL_AT, 1)))

    def _ready(self, task: Task) -> dict[str, Any]:
        # Credits with the noise of floats: bfl sheet §4, payload 3.
        cost = math.nextafter(task.model.credits, math.inf)
        if self._emulator.take("ready-without-url"):
            return body_of(task.id, "Ready", cost=cost)
        result = {
            "sample": self._emulator.blobs.sign(task),
            "prompt": task.prompt,
            "seed": task.seed,
            "start_time": task.accepted_at,
            "end_time": task.ends_at,
            "duration": task.ends_at - task.accepted_at,
        }
        return body_of(task.id, "Ready", result=result, cost=cost)

    def _reply(self, task: Task, body: dict[str, Any]) -> Response:
        """HTTP 200 with the headers of every poll, Retry-After too (bfl sheet §5, §13.4)."""
        now = self._emulator.now()
        start, count = self._window
        self._window = (start, count + 1) if now - start < 1 else (int(now), 1)
        headers = {
            "Retry-After": str(task.polls % 2),
            "X-Ratelimit-Limit": str(RATE_LIMIT),
            "X-Ratelimit-Remaining": str(max(0, RATE_LIMIT - self._window[1])),
            "X-Ratelimit-Reset": repr(round(now + 1, 4)),
        }
        return JSONResponse(body, headers=headers)
