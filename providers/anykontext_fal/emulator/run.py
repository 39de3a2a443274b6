"""The run host: the model's answer at once, with its own status (fal sheet §1)."""

import asyncio
import uuid
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anykontext.sandbox.replies import reset_connection
from anykontext_fal.emulator import model
from anykontext_fal.emulator.answers import Answer, page
from anykontext_fal.emulator.door import ERRORS, admitted, remember
from anykontext_fal.emulator.queue import TICK_SECONDS

if TYPE_CHECKING:
    from anykontext_fal.emulator.service import Emulator


class Run:
    """Answers at the run host. Of the faults, those of the queue's URLs, statuses and results mean nothing here."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._drawing: set[asyncio.Task[model.Drawn | Answer]] = set()

    def app(self) -> Starlette:
        """The ASGI app of this host."""
        route = Route("/{path:path}", self._run, methods=["POST"])
        return Starlette(routes=[route], exception_handlers=ERRORS)

    async def _run(self, request: Request) -> Response:
        emulator, request_id = self._emulator, str(uuid.uuid4())
        ends_at = emulator.now() + emulator.seconds
        order = await admitted(emulator, request, request.url.path.strip("/"))
        remember(emulator, request, order, request_id)
        drawing = asyncio.create_task(model.draw(emulator, order))
        self._drawing.add(drawing)
        drawing.add_done_callback(self._drawing.discard)
        if emulator.take("submit-lost"):
            return await reset_connection(request)
        if emulator.take("gateway-page"):
            return page(502, request_id)
        if emulator.take("submit-slow"):
            await asyncio.sleep(emulator.slow_seconds)
        while emulator.now() < ends_at or emulator.armed("never-ends"):  # in small steps: the clock may be moved on
            await asyncio.sleep(TICK_SECONDS)
            if await request.is_disconnected():
                return Response(status_code=499)
        made = await asyncio.shield(drawing)
        answer = model.deliver(emulator, made) if isinstance(made, model.Drawn) else made
        return answer.response(request_id)
