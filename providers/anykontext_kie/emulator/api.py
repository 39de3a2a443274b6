"""The API: submits, the balance, and links to results (kie sheet §2, §4, §7, §9)."""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anykontext.sandbox.replies import gateway_page, reset_connection
from anykontext_kie.emulator.envelope import BROKEN, VIOLATES, Edge, Refused, accepted, http_error, refused
from anykontext_kie.emulator.fields import CREDITS, OutOfRange, checked, parsed
from anykontext_kie.emulator.records import Records

if TYPE_CHECKING:
    from anykontext_kie.emulator.service import Emulator

MOST_SUBMITS, SUBMIT_SECONDS = 20, 10.0
MOST_RUNNING = 100
# kie-1, kie-11, kie-17. The codes are [DOC]; words without a label are [INF]. No recorded reply has Retry-After: a
# real 429 has it here, since clients heed it.
SLOWER = (429, "Rate Limited - Request limit has been exceeded for this resource")
EMPTY = (402, "Insufficient Credits - Account does not have enough credits to perform the operation")
Gates = Mapping[str, Callable[[], Refused]]
AT_THE_DOOR: Gates = {
    "outage": partial(Refused, 455, "Service Unavailable - System is currently undergoing maintenance"),
    "server-error": partial(Refused, 500, BROKEN, status=500),
}
AT_THE_ACCOUNT: Gates = {
    "rate-limited": partial(Refused, *SLOWER),
    "http-429": partial(Refused, *SLOWER, status=429, headers={"Retry-After": "1"}),
    "out-of-credit": partial(Refused, *EMPTY),
    "moderated-400": partial(Refused, 400, VIOLATES),
}


def app(emulator: "Emulator") -> Starlette:
    """The ASGI app of the API."""
    api = _Api(emulator)
    return Starlette(
        routes=[
            Route("/api/v1/flux/kontext/generate", api.generate, methods=["POST"]),
            Route("/api/v1/flux/kontext/record-info", Records(emulator).get, methods=["GET"]),
            Route("/api/v1/chat/credit", api.credit, methods=["GET"]),
            Route("/api/v1/common/download-url", api.download_url, methods=["POST"]),
        ],
        middleware=[Middleware(Edge)],
        exception_handlers={Refused: refused, HTTPException: http_error},
    )


class _Api:
    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator

    async def generate(self, request: Request) -> Response:
        """Accept a task, or refuse it."""
        emulator = self._emulator
        emulator.counters["submits"] += 1
        raw = await request.body()
        self._stop_at(AT_THE_DOOR)
        key = emulator.key_of(request)
        sent = parsed(raw)
        try:
            asked, ignored = checked(sent)
        except OutOfRange:
            emulator.counters["safety_above_limit"] += 1
            raise
        self._stop_at(AT_THE_ACCOUNT)
        self._check_limits(key, asked["model"])
        emulator.counters["accepted"] += 1
        emulator.counters["ignored_fields"] += len(ignored)
        task = emulator.tasks.accept(key, asked, sent, ignored)
        if emulator.take("submit-lost"):
            return await reset_connection(request)
        if emulator.take("gateway-page"):
            return gateway_page()
        if emulator.take("submit-slow"):
            await asyncio.sleep(emulator.slow_seconds)
        return accepted({"taskId": task.id})

    async def credit(self, request: Request) -> Response:
        """The balance, a bare number with fractions [REC] (kie-19); also the free check of a key."""
        self._emulator.key_of(request)
        return accepted(0.0 if self._emulator.armed("out-of-credit") else self._emulator.credits)

    async def download_url(self, request: Request) -> Response:
        """A link of 20 minutes to a result of ours, and to nothing else (payload 11)."""
        self._emulator.key_of(request)
        link = self._emulator.media.link(_url(await request.body()))
        if link is None:
            raise Refused(422, "url is wrong")
        return accepted(link)

    def _stop_at(self, gates: Gates) -> None:
        for fault, refusal in gates.items():
            if self._emulator.take(fault):
                raise refusal()

    def _check_limits(self, key: str, model: str) -> None:
        """The limits of an account. What is refused does not count towards them [INF]."""
        tasks = self._emulator.tasks
        if tasks.since(key, SUBMIT_SECONDS) >= MOST_SUBMITS or tasks.running(key) >= MOST_RUNNING:
            raise Refused(*SLOWER)
        if self._emulator.credits < CREDITS[model]:
            raise Refused(*EMPTY)


def _url(raw: bytes) -> str:
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    url = found.get("url") if isinstance(found, dict) else None
    return url if isinstance(url, str) else ""
