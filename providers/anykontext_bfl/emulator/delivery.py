"""The delivery host: blobs behind signed URLs, as Azure serves them (bfl sheet §6)."""

import base64
import hashlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from anykontext.sandbox.downloads import deliver
from anykontext_bfl.emulator.tasks import Task

if TYPE_CHECKING:
    from anykontext_bfl.emulator.service import Emulator

LIFE_SECONDS = 600
KEY_HEADERS = ("x-key", "authorization")
# The wording is Azure's [MEM]; that it is a 403 is the norm (bfl sheet §6).
REFUSED = """<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server \
failed to authenticate the request. Make sure the value of Authorization header is formed correctly including \
the signature.</Message><AuthenticationErrorDetail>{why}</AuthenticationErrorDetail></Error>"""


class Blobs:
    """Finished pictures, and every URL that was signed for them."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._signed: dict[tuple[str, str], tuple[Task, float]] = {}

    def sign(self, task: Task) -> str:
        """A fresh URL for a finished task: every poll gives another (bfl sheet §6)."""
        emulator = self._emulator
        expired = emulator.take("expired-url") or (task.urls_signed == 0 and emulator.take("expired-once"))
        task.urls_signed += 1
        expires = int(emulator.now()) + (-LIFE_SECONDS if expired else LIFE_SECONDS)
        stamp = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # Payload 8 leaves "/" in the signature bare. Here it is always escaped, the harder case for
        # clients [INF]; the bare form stands in `rsct`.
        query = (
            f"se={quote(stamp)}&sp=r&sv=2024-11-04&sr=b"
            f"&rsct=image/{task.image_format}&sig={quote(_signature(), safe='')}"
        )
        path = f"{task.path}/sample.{task.image_format}"
        self._signed[path, query] = (task, expires)
        return f"{emulator.origins['delivery']}{path}?{query}"

    async def get(self, request: Request) -> Response:
        """One download. The query counts byte for byte: a re-encoded signature is another one."""
        emulator = self._emulator
        emulator.counters["downloads"] += 1
        count_leaks(emulator, request)
        path, query = request.scope["raw_path"], request.scope["query_string"]
        signed = self._signed.get((path.decode("latin-1"), query.decode("latin-1")))
        if signed is None:
            return _forbidden("Signature did not match.")
        task, expires = signed
        if emulator.now() >= expires:
            return _forbidden("Signature not valid in the specified time frame")
        digest = base64.b64encode(hashlib.md5(task.picture, usedforsecurity=False).digest())
        headers = {
            "Content-MD5": digest.decode(),
            "ETag": f'"0x{task.id.replace("-", "").upper()[:15]}"',
            "Server": "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0",
        }
        return await deliver(emulator, task.picture, f"image/{task.image_format}", headers)


def count_leaks(emulator: "Emulator", request: Request) -> None:
    """Note a key that was sent to a host which must never see one."""
    if any(name in request.headers for name in KEY_HEADERS):
        emulator.counters["key_leaks"] += 1


def _signature() -> str:
    """Looks like base64 of an HMAC, and always has the letters that clients like to re-encode."""
    while True:
        signature = base64.b64encode(secrets.token_bytes(32)).decode()
        if "+" in signature and "/" in signature:
            return signature


def _forbidden(why: str) -> Response:
    return Response(REFUSED.format(why=why), 403, media_type="application/xml")
