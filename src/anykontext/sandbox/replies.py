"""Answers that an emulator gives when something goes wrong on the way."""

import asyncio
import socket
import struct

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

GATEWAY_PAGE = """<html>
<head><title>502 Bad Gateway</title></head>
<body>
<center><h1>502 Bad Gateway</h1></center>
<hr><center>nginx</center>
</body>
</html>
"""


class _Reset(Response):
    """No reply at all: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        transport: asyncio.Transport = scope["state"]["transport"]
        # Lingering for zero seconds makes the kernel send RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await asyncio.sleep(0)  # the server learns that nobody waits for a reply any more


async def reset_connection(request: Request) -> Response:
    """Read the request to its end; the response that this returns is a TCP reset (RST)."""
    await request.body()
    return _Reset()


def gateway_page(status: int = 502) -> Response:
    """The HTML page of a gateway whose upstream did not answer, under any status."""
    return HTMLResponse(GATEWAY_PAGE, status_code=status)
