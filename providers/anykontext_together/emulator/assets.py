"""The host of results that were asked for as links (together-3, together-13)."""

import secrets
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from anykontext.sandbox.downloads import deliver

if TYPE_CHECKING:
    from anykontext_together.emulator.service import Emulator

LIFE_SECONDS = 3600  # not documented; that it ends, and as a 403, is [INF]


class Assets:
    """Finished pictures by the path of their link."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._kept: dict[str, tuple[bytes, str, float]] = {}

    def app(self) -> Starlette:
        """The ASGI app of this host."""
        return Starlette(routes=[Route("/{path:path}", self._get, methods=["GET"])])

    def keep(self, picture: bytes, media_type: str) -> str:
        """A link to a picture."""
        emulator = self._emulator
        path = f"/imgproxy/{secrets.token_urlsafe(24)}"
        expires = emulator.now() + (-1 if emulator.take("expired-url") else LIFE_SECONDS)
        self._kept[path] = (picture, media_type, expires)
        return f"{emulator.origins['assets']}{path}"

    async def _get(self, request: Request) -> Response:
        emulator = self._emulator
        emulator.counters["downloads"] += 1
        emulator.counters["key_leaks"] += "authorization" in request.headers
        if emulator.is_blank(request):
            return PlainTextResponse("Forbidden", 403)
        found = self._kept.get(request.url.path)
        if found is None:
            return PlainTextResponse("Not Found", 404)
        picture, media_type, expires = found
        if emulator.now() >= expires:
            return PlainTextResponse("Forbidden", 403)
        return await deliver(emulator, picture, media_type, {"Cache-Control": "private"})
