"""The media host: results and uploads behind public links, without a key (fal sheet §6, §7)."""

import json
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from anykontext.sandbox.downloads import deliver
from anykontext_fal.emulator.answers import Refused, plain
from anykontext_fal.emulator.door import ERRORS, key_of

if TYPE_CHECKING:
    from anykontext_fal.emulator.service import Emulator

LIFE_SECONDS = 7 * 86_400  # "at least 7 days by default"
ANIMALS = ("lion", "monkey", "penguin", "rabbit", "tiger", "zebra")
LIFECYCLE = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")


@dataclass(frozen=True, slots=True)
class Stored:
    """One file."""

    data: bytes
    media_type: str
    expires_at: float


class Media:
    """Files by the path of their link, and those on their way."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._kept: dict[str, Stored] = {}
        self._tokens: set[str] = set()
        self._expected: set[str] = set()
        self._parts: dict[str, dict[int, bytes]] = {}

    def app(self) -> Starlette:
        """The ASGI app of this host."""
        return Starlette(
            routes=[
                Route("/files/upload", self._upload, methods=["POST"]),
                Route("/files/upload/multipart", self._begin, methods=["POST"]),
                Route("/{path:path}/multipart/{upload}/complete", self._complete, methods=["POST"]),
                Route("/{path:path}/multipart/{upload}/{number:int}", self._part, methods=["PUT"]),
                Route("/{owner}/{alias}/requests/{rest:path}", self._foreign, methods=["GET", "PUT"]),
                Route("/{path:path}", self._put, methods=["PUT"]),
                Route("/{path:path}", self._get, methods=["GET"]),
            ],
            exception_handlers=ERRORS,
        )

    def token(self) -> str:
        """A token for uploads, as long as the emulator lives."""
        token = secrets.token_urlsafe(24)
        self._tokens.add(token)
        return token

    def keep(self, data: bytes, media_type: str, lifecycle: str | None) -> str:
        """A link to a result."""
        emulator = self._emulator
        suffix = media_type.removeprefix("image/").replace("jpeg", "jpg")
        path = self.place(f"{uuid.uuid4().hex}.{suffix}")
        # Deleted for good [DOC]; that the link then answers 404 is [INF].
        expires_at = emulator.now() + (-1 if emulator.take("expired-url") else self._life(lifecycle))
        self._kept[path] = Stored(data, media_type, expires_at)
        return f"{emulator.origins['media']}{path}"

    def place(self, name: str, *, expected: bool = False) -> str:
        """A path for a new file; an expected one is put there without a token (fal's signed links)."""
        path = f"/files/{secrets.choice(ANIMALS)}/{secrets.token_urlsafe(15)}_{name.replace('/', '_')}"
        if expected:
            self._expected.add(path)
        return path

    def uploaded(self, url: str) -> bytes | None:
        """The bytes behind a link to this host; None when there are none."""
        origin = self._emulator.origins["media"]
        stored = self._kept.get(urlsplit(url).path) if url.startswith(f"{origin}/") else None
        return stored.data if stored and self._emulator.now() < stored.expires_at else None

    def _life(self, lifecycle: str | None) -> float:
        try:
            seconds = json.loads(lifecycle or "{}").get("expiration_duration_seconds")
        except (ValueError, AttributeError):
            seconds = None
        # fal_client's source: the service reads 0 as no end.
        return float(seconds) if isinstance(seconds, int | float) and seconds else LIFE_SECONDS

    async def _get(self, request: Request) -> Response:
        emulator = self._emulator
        emulator.counters["downloads"] += 1
        emulator.counters["key_leaks"] += bool(key_of(request))
        stored = self._kept.get(request.url.path)
        if stored is None or emulator.now() >= stored.expires_at:
            return PlainTextResponse("Not Found", 404)
        return await deliver(emulator, stored.data, stored.media_type, {"Cache-Control": "public"})

    async def _upload(self, request: Request) -> Response:
        self._check_token(request)
        path = self.place(request.headers.get("x-fal-file-name", "upload.bin"))
        return JSONResponse({"access_url": self._store(request, path, await request.body())})

    async def _begin(self, request: Request) -> Response:
        self._check_token(request)
        path, upload = self.place(request.headers.get("x-fal-file-name", "upload.bin")), uuid.uuid4().hex
        self._parts[upload] = {}
        return JSONResponse({"access_url": f"{self._emulator.origins['media']}{path}", "uploadId": upload})

    async def _part(self, request: Request) -> Response:
        self._check_token(request)
        parts = self._parts.get(request.path_params["upload"])
        if parts is None:
            return PlainTextResponse("Not Found", 404)
        parts[request.path_params["number"]] = await request.body()
        return Response(headers={"ETag": _etag(request.path_params["number"])})

    async def _complete(self, request: Request) -> Response:
        self._check_token(request)
        parts = self._parts.get(request.path_params["upload"])
        told = [(one["partNumber"], one["etag"]) for one in (await request.json())["parts"]]
        if parts is None or sorted(told) != [(number, _etag(number)) for number in sorted(parts)]:
            return plain(400, "Parts do not fit").response()
        data = b"".join(parts[number] for number in sorted(parts))
        return JSONResponse({"access_url": self._store(request, f"/{request.path_params['path']}", data)})

    async def _put(self, request: Request) -> Response:
        """A file to a signed link; the signature is the path itself. A key does not belong here (fal-22)."""
        self._emulator.counters["key_leaks"] += bool(key_of(request))
        if request.url.path not in self._expected:
            return PlainTextResponse("Forbidden", 403)
        self._store(request, request.url.path, await request.body())
        return Response()

    async def _foreign(self, request: Request) -> Response:
        """The queue's answers on a host that is not the queue's (fault `foreign-urls`)."""
        self._emulator.counters["key_leaks"] += bool(key_of(request))
        return await self._emulator.queue.dispatch(request)

    def _store(self, request: Request, path: str, data: bytes) -> str:
        emulator = self._emulator
        lifecycle = next((request.headers[name] for name in LIFECYCLE if name in request.headers), None)
        media_type = request.headers.get("content-type", "application/octet-stream")
        self._kept[path] = Stored(data, media_type, emulator.now() + self._life(lifecycle))
        emulator.counters["uploads"] += 1
        return f"{emulator.origins['media']}{path}"

    def _check_token(self, request: Request) -> None:
        scheme, _, token = key_of(request).partition(" ")
        self._emulator.counters["key_leaks"] += scheme == "Key"
        if scheme != "Bearer" or token not in self._tokens:
            raise Refused(plain(401, "Unauthorized"))


def _etag(number: int) -> str:
    return f'"part-{number}"'
