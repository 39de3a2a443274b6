"""The upload host: three ways to put a file where kie can fetch it (kie-9, kie-25; payload 14)."""

import asyncio
import base64
import binascii
import json
import mimetypes
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anykontext.sandbox.replies import gateway_page, reset_connection
from anykontext_kie.emulator import forms
from anykontext_kie.emulator.envelope import Json, Refused
from anykontext_kie.emulator.images import fetched
from anykontext_kie.emulator.media import UPLOAD_SECONDS, file_name

if TYPE_CHECKING:
    from anykontext_kie.emulator.service import Emulator

UNKNOWN_TYPE = "application/octet-stream"


def app(emulator: "Emulator") -> Starlette:
    """The ASGI app of the upload host."""
    uploads = _Uploads(emulator)
    return Starlette(
        routes=[
            Route("/api/file-stream-upload", uploads.stream, methods=["POST"]),
            Route("/api/file-base64-upload", uploads.base64, methods=["POST"]),
            Route("/api/file-url-upload", uploads.url, methods=["POST"]),
        ],
        exception_handlers={Refused: _refused, HTTPException: _http_error, _Down: _down},
    )


class _Down(Exception):
    """The host itself does not answer."""


def _down(_: Request, __: Exception) -> Response:
    return gateway_page(503)


def _refused(_: Request, error: Exception) -> Response:
    # 400, 401 and 500 are declared [DOC], none was recorded; in the body under HTTP 200, like the API's, is [INF].
    assert isinstance(error, Refused)
    return Json({"success": False, **error.body()}, error.status, headers=error.headers)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refused(request, Refused(error.status_code, error.detail, status=error.status_code, headers=error.headers))


class _Uploads:
    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator

    async def stream(self, request: Request) -> Response:
        """A file in a form."""
        raw, key = await self._enter(request)
        try:
            form = forms.parsed(request.headers.get("content-type", ""), raw)
        except forms.NotAForm:
            raise Refused(400, "The request is not a multipart form") from None
        texts = {
            name: part.data.decode(errors="replace")
            for name, part in form.items()
            if name in {"uploadPath", "fileName"}
        }
        if "file" not in form:
            raise Refused(400, "file is required")
        return await self._store(request, key, texts, form["file"].data, form["file"].media_type)

    async def base64(self, request: Request) -> Response:
        """A file as base64 text, with or without the head of a data URI."""
        raw, key = await self._enter(request)
        fields = _texts(raw)
        head, comma, rest = fields.get("base64Data", "").partition(",")
        try:
            data = base64.b64decode(rest if comma else head, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if not data:
            raise Refused(400, "base64Data is not valid")
        return await self._store(request, key, fields, data, UNKNOWN_TYPE)

    async def url(self, request: Request) -> Response:
        """A file that lies elsewhere; the emulator fetches from this machine only."""
        raw, key = await self._enter(request)
        fields, media = _texts(raw), self._emulator.media
        url = fields.get("fileUrl", "")
        data = media.read(url) if media.owns(url) else await asyncio.to_thread(fetched, url)
        if data is None:
            raise Refused(400, "fileUrl could not be downloaded")
        return await self._store(request, key, fields, data, UNKNOWN_TYPE)

    async def _enter(self, request: Request) -> tuple[bytes, str]:
        """The body and the key of a request that is not refused at once."""
        emulator = self._emulator
        emulator.counters["uploads"] += 1
        raw = await request.body()
        if emulator.take("upload-down"):
            raise _Down
        key = emulator.key_of(request)
        if emulator.take("upload-refused"):
            raise Refused(400, "The file could not be uploaded")
        return raw, key

    async def _store(
        self, request: Request, key: str, fields: dict[str, str], data: bytes, media_type: str
    ) -> Response:
        emulator, now = self._emulator, self._emulator.now()
        folder = fields.get("uploadPath", "")
        if not folder or folder != folder.strip("/") or ".." in folder.split("/"):
            raise Refused(400, "uploadPath is required, without slashes at its ends")
        name = fields.get("fileName") or file_name(now, "jpg")
        if "/" in name:
            raise Refused(400, "fileName is not valid")
        # The number of the account [INF], made from the key.
        path = f"kieai/{100_000 + zlib.crc32(key.encode()) % 900_000}/{folder}/{name}"
        emulator.counters["overwrites"] += emulator.media.holds(f"/{path}")
        kind = mimetypes.guess_type(name)[0] or media_type
        expires = now + UPLOAD_SECONDS
        url = emulator.media.keep(f"/{path}", data, kind, expires=expires, generated=False)
        if emulator.take("upload-lost"):
            return await reset_connection(request)
        uploaded = {
            "success": True,
            "fileName": name,
            "filePath": path,
            "downloadUrl": url,
            "fileSize": len(data),
            "mimeType": kind,
            "uploadedAt": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        return Json({"success": True, "code": 200, "msg": "File uploaded successfully", "data": uploaded})


def _texts(raw: bytes) -> dict[str, str]:
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "The request body is not a JSON object")
    return {name: value for name, value in found.items() if isinstance(value, str)}
