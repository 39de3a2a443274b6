"""The hosts of files, as one: results, and what was uploaded (kie sheet §1, §6).

How an address that has ended is answered is not established: 404 here, as a storage whose files are deleted does.
"""

import secrets
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from anykontext.sandbox.downloads import deliver

if TYPE_CHECKING:
    from anykontext_kie.emulator.service import Emulator

DAY = 24 * 60 * 60
RESULT_SECONDS = 14 * DAY
ORIGIN_SECONDS = 10 * 60
UPLOAD_SECONDS = 3 * DAY
LINK_SECONDS = 20 * 60
# kie-25: an overwritten file is served from caches for a while [DOC]; for how long is not established.
STALE_SECONDS = 5 * 60
LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class File:
    """One file; `stale` is what caches still have in its place until `stale_until`."""

    data: bytes
    media_type: str
    expires: float
    generated: bool
    stale: bytes = b""
    stale_until: float = 0.0


class Media:
    """Every file by the path of its address; what has expired is gone."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._files: dict[str, File] = {}

    def app(self) -> Starlette:
        """The ASGI app of these hosts."""
        return Starlette(routes=[Route("/{path:path}", self._get, methods=["GET"])])

    def keep(self, path: str, data: bytes, media_type: str, *, expires: float, generated: bool = True) -> str:
        """The address of a file that was put at a path; one that lies there already is overwritten."""
        now, old = self._emulator.now(), self._find(path)
        stale = (b"", 0.0) if old is None else (self._served(old), now + STALE_SECONDS)
        self._files[path] = File(data, media_type, expires, generated, *stale)
        return f"{self._emulator.origins['media']}{quote(path)}"

    def holds(self, path: str) -> bool:
        """Whether a file lies at a path."""
        return self._find(path) is not None

    def owns(self, url: str) -> bool:
        """Whether an address is on these hosts."""
        return url.startswith(f"{self._emulator.origins['media']}/")

    def read(self, url: str) -> bytes | None:
        """What one of our own addresses serves."""
        found = self._find(unquote(urlsplit(url).path))
        return None if found is None else self._served(found)

    def link(self, url: str) -> str | None:
        """A short-lived address of a result; None for any other address (kie sheet §9)."""
        path = unquote(urlsplit(url).path)
        found = self._find(path) if self.owns(url) else None
        if found is None or not found.generated:
            return None
        there = f"/download/{secrets.token_hex(12)}/{path.rpartition('/')[2]}"
        return self.keep(there, found.data, found.media_type, expires=self._emulator.now() + LINK_SECONDS)

    def _find(self, path: str) -> File | None:
        found = self._files.get(path)
        return None if found is None or self._emulator.now() >= found.expires else found

    def _served(self, file: File) -> bytes:
        return file.stale if self._emulator.now() < file.stale_until else file.data

    async def _get(self, request: Request) -> Response:
        emulator = self._emulator
        emulator.counters["downloads"] += 1
        emulator.counters["key_leaks"] += "authorization" in request.headers
        found = self._find(request.scope["path"])
        if found is None:
            return PlainTextResponse("Not Found", 404)
        if not found.generated:
            return Response(self._served(found), media_type=found.media_type)
        return await deliver(emulator, found.data, found.media_type, {"Cache-Control": "public"})


def file_name(now: float, suffix: str) -> str:
    """A name as kie makes them: milliseconds, and letters by chance [REC]."""
    return f"{int(now * 1000)}-{letters(11)}.{suffix}"


def letters(count: int) -> str:
    """Small letters and digits by chance."""
    return "".join(secrets.choice(LETTERS) for _ in range(count))
