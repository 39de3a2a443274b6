"""The envelope of every answer, and the refusals in it (kie sheet §4, §12)."""

import secrets
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SUCCESS = "success"
# Payload 8 [DOC].
BROKEN = "Server Error - An unexpected error occurred while processing the request"
# Payload 6 [DOC]: of a callback; that a poll or a submit says the same is [INF].
VIOLATES = "Your prompt was flagged by Website as violating content policies."


class Json(JSONResponse):
    """JSON as the Java server labels it [REC]."""

    media_type = "application/json;charset=UTF-8"


class Refused(Exception):
    """A request that is answered with an error: the code stands in the body, and HTTP says 200 (kie-1).

    Args:
        code: The code in the body.
        msg: The words in the body.
        status: The HTTP status, where it is another one.
        headers: Further headers.
    """

    def __init__(self, code: int, msg: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status, self.headers = code, msg, status, headers

    def body(self) -> dict[str, Any]:
        """The envelope; a refused key has one without `data` (payload 9)."""
        return {"code": self.code, "msg": self.msg, **({} if self.code == 401 else {"data": None})}


def accepted(data: Any) -> Response:
    """An answer that is no error."""
    return Json({"code": 200, "msg": SUCCESS, "data": data})


def refused(_: Request, error: Exception) -> Response:
    """The answer to a request of the API that was refused."""
    assert isinstance(error, Refused)
    return Json(error.body(), error.status, headers=error.headers)


def http_error(_: Request, error: Exception) -> Response:
    """An unknown path or method: a real 404 or 405 [CODE]; that it has the envelope is [INF]."""
    assert isinstance(error, HTTPException)
    found = Refused(error.status_code, error.detail)
    return Json(found.body(), error.status_code, headers=error.headers)


class Edge:
    """Sets a cookie with every reply, which no client needs (kie-21 [REC])."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                cookie = f"JSESSIONID={secrets.token_hex(16).upper()}; Path=/; HttpOnly"
                marks = [(b"set-cookie", cookie.encode()), (b"cf-ray", f"{secrets.token_hex(8)}-AMS".encode())]
                message = {**message, "headers": [*message["headers"], *marks]}
            await send(message)

        await self._app(scope, receive, marked)
