"""Polls: GET /api/v1/flux/kontext/record-info (kie sheet §3, payloads 3, 4 and 13)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from anykontext.sandbox.replies import gateway_page, reset_connection
from anykontext_kie.emulator.envelope import BROKEN, Json, Refused, accepted
from anykontext_kie.emulator.tasks import GENERATING, SUCCESS, Task

if TYPE_CHECKING:
    from anykontext_kie.emulator.service import Emulator

UNSEEN_AT_FIRST = 2
NOBODY_KNOWS = 7
NULL = "null"
POLL_ERRORS: tuple[Callable[[], Response] | None, ...] = (
    lambda: Json(Refused(500, BROKEN).body(), 500),
    lambda: gateway_page(502),
    lambda: gateway_page(200),
    None,  # a reset connection
    lambda: Json(Refused(429, "Rate Limited").body()),
    lambda: Json(Refused(455, "Service Unavailable").body()),
    lambda: Response(b""),
)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _naive(moment: datetime) -> str:
    """Local time of UTC+8 without saying so, as a sibling service does [REC, inferred]."""
    return (moment + timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S")


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


# kie-13
TIMES: dict[str, Callable[[datetime], str | int]] = {"naive-times": _naive, "epoch-times": _epoch}


class Records:
    """Answers polls."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator

    async def get(self, request: Request) -> Response:
        """One poll."""
        emulator = self._emulator
        emulator.counters["polls"] += 1
        key = emulator.key_of(request)
        task_id = request.query_params.get("taskId")
        if not task_id:
            raise Refused(422, "taskId is required")
        task = emulator.tasks.find(task_id, key)
        if task is None or self._unseen(task):
            return accepted(None)  # kie-2: no error, and no record [REC, of a sibling]
        if task.poll_errors < len(POLL_ERRORS) and emulator.take("poll-errors"):
            error = POLL_ERRORS[task.poll_errors]
            task.poll_errors += 1
            return await reset_connection(request) if error is None else error()
        return await self._state(task)

    def _unseen(self, task: Task) -> bool:
        if task.unseen < UNSEEN_AT_FIRST and self._emulator.take("not-visible-yet"):
            task.unseen += 1
            return True
        return False

    async def _state(self, task: Task) -> Response:
        emulator = self._emulator
        if not task.settled:
            if emulator.take("unknown-status"):
                return accepted(self._record(task, NOBODY_KNOWS))
            if emulator.take("never-ends") or emulator.now() < task.ends_at:
                return accepted(self._record(task, GENERATING))
            await emulator.tasks.settle(task)
        ending = task.ending
        if ending.code != 200:
            raise Refused(ending.code, ending.message)
        return accepted(self._record(task, ending.flag))

    def _record(self, task: Task, flag: int) -> dict[str, Any]:
        """A record (kie-13 to kie-16). What stands in it while the task runs is [INF]: the same names, with nulls."""
        emulator = self._emulator
        done = flag == SUCCESS
        record: dict[str, Any] = {
            "taskId": task.id,
            "paramJson": task.param_json,
            "completeTime": self._time(task.ends_at) if task.settled else None,
            "response": self._response(task) if done else None,
            "successFlag": str(flag) if emulator.take("flag-as-string") else flag,
            "errorCode": 0 if done and emulator.take("error-code-zero") else None,
            "errorMessage": task.ending.message if task.settled else "",
            "createTime": self._time(task.created_at),
        }
        if done and emulator.take("null-texts"):
            record |= {"errorCode": NULL, "errorMessage": NULL}
            record["response"]["originImageUrl"] = NULL
        return record

    def _response(self, task: Task) -> dict[str, str | None]:
        emulator = self._emulator
        return {
            "originImageUrl": None if emulator.take("no-origin-url") else task.origin_url,
            "resultImageUrl": None if emulator.take("no-result-url") else task.result_url,
        }

    def _time(self, moment: float) -> str | int:
        form = next((form for fault, form in TIMES.items() if self._emulator.armed(fault)), _iso)
        return form(datetime.fromtimestamp(moment, UTC))
