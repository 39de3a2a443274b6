"""The REST host: tokens for uploads, and signed links to put files at (fal sheet §6)."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anykontext_fal.emulator.answers import Refused, plain
from anykontext_fal.emulator.door import ERRORS, check_key

if TYPE_CHECKING:
    from anykontext_fal.emulator.service import Emulator

TOKEN_SECONDS = 3600
STORES = ("gcs", "fal-cdn-v3")


class Storage:
    """Answers at the REST host; every request needs the key (fal-23)."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator

    def app(self) -> Starlette:
        """The ASGI app of this host."""
        return Starlette(
            routes=[
                Route("/storage/auth/token", self._token, methods=["POST"]),
                Route("/storage/upload/initiate", self._initiate, methods=["POST"]),
            ],
            exception_handlers=ERRORS,
        )

    async def _token(self, request: Request) -> Response:
        emulator = self._emulator
        emulator.counters["tokens"] += 1
        check_key(emulator, request)
        if request.query_params.get("storage_type") != "fal-cdn-v3":
            raise Refused(plain(400, "Invalid storage type"))  # [INF]
        expires_at = datetime.fromtimestamp(emulator.now() + TOKEN_SECONDS, UTC)
        return JSONResponse(
            {
                "token": emulator.media.token(),
                "token_type": "Bearer",
                "base_url": emulator.origins["media"],
                "expires_at": expires_at.isoformat(),
            }
        )

    async def _initiate(self, request: Request) -> Response:
        check_key(self._emulator, request)
        wanted: Any = await request.json()
        if request.query_params.get("storage_type") not in STORES or not isinstance(wanted, dict):
            raise Refused(plain(400, "Invalid storage type"))  # [INF]
        path = self._emulator.media.place(str(wanted.get("file_name", "upload.bin")), expected=True)
        url = f"{self._emulator.origins['media']}{path}"
        return JSONResponse({"upload_url": f"{url}?signature={path[-12:]}", "file_url": url})
