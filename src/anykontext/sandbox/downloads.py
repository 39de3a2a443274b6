"""How a finished picture is delivered, and how its delivery goes wrong."""

import asyncio
import functools
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

from starlette.responses import Response, StreamingResponse

from anykontext.sandbox.emulator import Emulator
from anykontext.sandbox.replies import GATEWAY_PAGE

DOWNLOAD_FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "gzip-bomb": "A result is 200 kB of gzip that inflate to 200 MB.",
        "oversize-image": "A result's body has no end.",
        "slow-drip": "A result arrives one byte at a time, five bytes a second.",
        "pixel-bomb": "A result is a PNG whose header claims 30000 x 30000 pixels.",
    }
)
"""Further faults of any emulator that delivers with `deliver`; add them to its `extra_faults`."""

BOMB_MEGABYTES = 200
BOMB_SIDE = 30_000
DRIP_SECONDS = 0.2
CHUNK = bytes(64 * 1024)


async def deliver(emulator: Emulator, data: bytes, media_type: str, headers: Mapping[str, str]) -> Response:
    """The response that carries a picture, or what the injected faults make of it."""
    reply = functools.partial(Response, media_type=media_type)
    if emulator.take("truncated-image"):
        return reply(data[: len(data) // 2])
    if emulator.take("not-an-image"):
        return reply(GATEWAY_PAGE)
    if emulator.take("pixel-bomb"):
        return Response(pixel_bomb(), media_type="image/png")
    if emulator.take("gzip-bomb"):
        bomb = await asyncio.to_thread(gzip_bomb)
        return reply(bomb, headers={"Content-Encoding": "gzip"})
    if emulator.take("oversize-image"):
        return StreamingResponse(_endless(data), media_type=media_type)
    if emulator.take("slow-drip"):
        length = {"Content-Length": str(len(data))}
        return StreamingResponse(_drip(data), media_type=media_type, headers=length)
    return reply(data, headers=headers)


async def _endless(data: bytes) -> AsyncIterator[bytes]:
    yield data
    while True:  # ends when the client hangs up: the streaming response then cancels it
        yield CHUNK
        await asyncio.sleep(0)


async def _drip(data: bytes) -> AsyncIterator[bytes]:
    for position in range(len(data)):
        yield data[position : position + 1]
        await asyncio.sleep(DRIP_SECONDS)


@functools.cache
def gzip_bomb() -> bytes:
    """About 200 kB of gzip that inflate to 200 MB of zeros."""
    packer = zlib.compressobj(9, wbits=31)
    megabyte = bytes(1_000_000)
    parts = [packer.compress(megabyte) for _ in range(BOMB_MEGABYTES)]
    return b"".join([*parts, packer.flush()])


def pixel_bomb() -> bytes:
    """A tiny PNG whose header claims 30000 x 30000 pixels."""
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(64))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
