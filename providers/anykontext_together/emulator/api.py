"""The API: one endpoint, which answers when the images are made (together-1)."""

import asyncio
import base64
import secrets
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from anykontext.sandbox import KEYS
from anykontext.sandbox.downloads import pixel_bomb
from anykontext.sandbox.replies import GATEWAY_PAGE, gateway_page, reset_connection
from anykontext_together.emulator.fields import Model, Refused, checked, parsed
from anykontext_together.emulator.images import Source, paint, source

if TYPE_CHECKING:
    from anykontext_together.emulator.service import Emulator

TICK_SECONDS = 0.01
FLAGGED = (  # together-5 [REC/3P]
    "Invalid content detected. The generated content was flagged and rejected by Black Forest Labs's content "
    "moderation system"
)
Gates = Mapping[str, tuple[int, str, Mapping[str, str]]]
# The meaning of the statuses is [DOC]; texts without a label are [INF].
AT_THE_DOOR: Gates = {
    "outage": (503, "The server is currently overloaded. Please try again later.", {}),
    "server-error": (500, "Internal server error", {}),
}
AT_THE_ACCOUNT: Gates = {
    # The text as others' notes have it [REC/3P]. Retry-After is the word of the fault for all providers: Together
    # documents x-ratelimit-reset (together-6).
    "rate-limited": (
        429,
        "Too many requests in a short window. Our rate limits are dynamic and depend on the current load of the model.",
        {"x-ratelimit-reset": "1", "Retry-After": "1"},
    ),
    "out-of-credit": (402, "Your account has reached its spending limit or run out of credits", {}),
    "conflict": (409, "Conflict", {}),
    "context-length": (403, "The input is longer than the context length of the model", {}),
    "moderated": (422, "image may contain NSFW content", {}),  # together-5 [3P]
}
WITHOUT_AN_IMAGE: Gates = {
    "moderated-output": (
        400,
        FLAGGED,
        {},
    ),
    "failed": (500, "Image generation failed", {}),
}
CLOUDFLARE = "error code: 1010"  # together-13 [3P]


def app(emulator: "Emulator") -> Starlette:
    """The ASGI app of the API."""
    api = _Api(emulator)
    return Starlette(
        routes=[Route("/v1/images/generations", api.generate, methods=["POST"])],
        exception_handlers={Refused: _refused, HTTPException: _http_error},
    )


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, error.status, headers=error.headers)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(Refused(error.status_code, error.detail).body, error.status_code, headers=error.headers)


class _Api:
    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._running: set[asyncio.Task[list[bytes]]] = set()

    async def generate(self, request: Request) -> Response:
        """Make images, or refuse to."""
        emulator = self._emulator
        emulator.counters["submits"] += 1
        raw = await request.body()
        self._stop_at(AT_THE_DOOR)
        if emulator.is_blank(request):
            return PlainTextResponse(CLOUDFLARE, 403)
        self._check_key(request)
        sent = parsed(raw)
        model, asked, ignored = checked(sent)
        image = source(asked["image_url"]) if "image_url" in asked else None
        self._stop_at(AT_THE_ACCOUNT)
        if emulator.credit < model.usd * asked["n"]:
            raise Refused(*AT_THE_ACCOUNT["out-of-credit"][:2])
        name = self._remember(sent, image, ignored)
        # From here on it is accepted: it goes on, and is paid, whoever waits for it.
        making = asyncio.create_task(self._make(model, asked, image))
        self._running.add(making)
        making.add_done_callback(self._done)
        if emulator.take("submit-lost"):
            return await reset_connection(request)
        if emulator.take("gateway-page"):
            return gateway_page()
        if emulator.take("upstream-timeout"):
            raise Refused(504, "The request timed out")
        if emulator.take("never-ends"):
            return await _hold(request)
        if emulator.take("submit-slow"):
            await asyncio.sleep(emulator.slow_seconds)
        made = await asyncio.shield(making)
        return JSONResponse({"id": name, "model": sent["model"], "object": "list", "data": self._data(made, asked)})

    def _done(self, making: asyncio.Task[list[bytes]]) -> None:
        self._running.discard(making)
        if not making.cancelled():
            making.exception()  # seen, also when nobody waits for the images any more

    def _stop_at(self, gates: Gates) -> None:
        for fault, (status, message, headers) in gates.items():
            if self._emulator.take(fault):
                raise Refused(status, message, headers=headers)

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or key not in KEYS or self._emulator.take("bad-key"):
            raise Refused(401, "Invalid API key provided", code="invalid_api_key")

    def _remember(self, sent: Mapping[str, Any], image: Source | None, ignored: list[str]) -> str:
        emulator, name = self._emulator, str(uuid.uuid4())
        emulator.counters["accepted"] += 1
        emulator.counters["ignored_fields"] += len(ignored)
        body = {field: value for field, value in sent.items() if field not in {*ignored, "image_url", "model"}}
        images = [image.described()] if image else []
        emulator.requests.append(
            {"id": name, "model": sent["model"], "body": body, "images": images, "ignored": ignored}
        )
        return name

    async def _make(self, model: Model, asked: Mapping[str, Any], image: Source | None) -> list[bytes]:
        """The pictures, when their time has come; only they are paid."""
        emulator = self._emulator
        ends_at = emulator.now() + emulator.seconds
        seed = asked["seed"] if "seed" in asked else secrets.randbits(31)
        drawn = await asyncio.to_thread(paint, asked, image, seed=seed, megapixels=emulator.megapixels)
        while emulator.now() < ends_at:  # noqa: ASYNC110 - in small steps: the clock may be moved on
            await asyncio.sleep(min(TICK_SECONDS, ends_at - emulator.now()))
        self._stop_at(WITHOUT_AN_IMAGE)
        if drawn is None:
            raise Refused(400, "image_url could not be read as an image")
        made = drawn[:-1] if emulator.take("fewer-images") else drawn
        emulator.credit -= model.usd * len(made)
        emulator.counters["images"] += len(made)
        return made

    def _data(self, made: list[bytes], asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        emulator = self._emulator
        if emulator.take("empty-data"):
            return []
        if emulator.take("unknown-status"):
            return [{"index": index, "asset": uuid.uuid4().hex, "type": "asset"} for index in range(len(made))]
        as_links = asked["response_format"] == "url" or emulator.take("url-anyway")
        mixed, typeless = emulator.take("mixed-data"), emulator.take("typeless-data")
        data = []
        for index, picture in enumerate(made):
            if as_links or (mixed and index % 2):
                url = emulator.assets.keep(picture, f"image/{asked['output_format']}")
                one: dict[str, Any] = {"index": index, "url": url, "type": "url"}
            else:
                one = {"index": index, "b64_json": self._text(picture), "type": "b64_json"}
            data.append({name: value for name, value in one.items() if not (typeless and name == "type")})
        return data

    def _text(self, picture: bytes) -> str:
        """A picture inside the reply; the faults of a download are those of its bytes."""
        emulator = self._emulator
        if emulator.take("truncated-image"):
            picture = picture[: len(picture) // 2]
        if emulator.take("not-an-image"):
            picture = GATEWAY_PAGE.encode()
        if emulator.take("pixel-bomb"):
            picture = pixel_bomb()
        text = base64.b64encode(picture).decode()
        return text[: len(text) // 8 * 4 + 1] if emulator.take("torn-base64") else text


async def _hold(request: Request) -> Response:
    """No reply: the connection is held until the caller lets it go."""
    while not await request.is_disconnected():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(TICK_SECONDS)
    return Response(status_code=499)
