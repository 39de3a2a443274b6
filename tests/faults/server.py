"""A provider's API on a real socket that goes wrong as scripted."""

import contextlib
import io
import json
import socket
import struct
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum

from PIL import Image

SIGNATURE = "TCGRVM3fn0TzwZwvuRPy5uRe2ySXpdoQgJJebQcaINw%3D"
TASK = "4ca5b657-4b04-4afc-9c4b-7445c578d324"


class End(Enum):
    """How a connection ends."""

    RESET = "RST"
    CLOSE = "FIN"


@dataclass(frozen=True)
class Part:
    """Read only so many bytes of the body before going on."""

    size: int


@dataclass(frozen=True)
class Drip:
    """Send byte by byte, until the other side has enough."""

    data: bytes
    every_s: float = 0.02


DRAIN = Part(-1)
RESET, CLOSE = End.RESET, End.CLOSE
FOREVER = 3600.0
Step = bytes | float | End | Part | Drip


@dataclass
class Request:
    """What arrived: on which connection, and how much of its body."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)


def reply(body: bytes | object, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole reply; anything but bytes becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((40, 24)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


class FaultServer:
    """Speaks BFL's protocol on one socket, except where a script says otherwise.

    `on["POST /v1/flux"]` is a list of scripts: the first serves the next request with that beginning, and so on; when
    they are used up, or there are none, the provider answers as it should. A script is a tuple of steps: bytes are
    sent, a number waits, `Drip` sends slowly, `RESET` and `CLOSE` end the connection. The body is read first, unless
    the script begins with `Part`. `at_accept` is for connections that end before anything is read.
    """

    def __init__(self) -> None:
        self.on: dict[str, list[tuple[Step, ...]]] = defaultdict(list)
        self.at_accept: list[End] = []
        self.requests: list[Request] = []
        self.connections = 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)  # a large body does not fit into it
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)
        self._open: set[socket.socket] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def submits(self) -> list[Request]:
        return self.got("POST")

    def got(self, method: str, beginning: str = "/") -> list[Request]:
        return [one for one in self.requests if one.method == method and one.target.startswith(beginning)]

    def accepted(self, **fields: object) -> dict[str, object]:
        return {"id": TASK, "polling_url": f"{self.url}/v1/get_result?id={TASK}", "cost": None, **fields}

    def ready(self, sample: str | None = None) -> dict[str, object]:
        sample = sample or f"{self.url}/sample.jpeg?se=2099-01-01T00%3A00%3A00Z&sig={SIGNATURE}"
        result = {"sample": sample, "prompt": "make it blue", "seed": 42}
        return {"id": TASK, "status": "Ready", "result": result, "progress": None, "details": None, "cost": 4.0}

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                thread = threading.Thread(target=self._talk, args=(connection, self.connections), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _talk(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            self._open.add(connection)
            try:
                if self.at_accept:
                    connection.recv(1, socket.MSG_PEEK)  # it has come, and is not read
                    return _end(connection, self.at_accept.pop(0))
                while self._serve(connection, number):
                    pass
            finally:
                self._open.discard(connection)

    def _serve(self, connection: socket.socket, number: int) -> bool:
        """One request; whether the connection stays."""
        read = b""
        while b"\r\n\r\n" not in read:
            if not (more := connection.recv(65536)):
                return False
            read += more
        head, _, begun = read.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        request = Request(number, method, target, headers, begun)
        script = self._script(request)
        self.requests.append(request)
        length = int(headers.get("content-length", 0))
        steps = script if isinstance(script[0], Part) else (Part(length), *script)
        return all(self._step(connection, request, step, length) for step in steps)

    def _script(self, request: Request) -> tuple[Step, ...]:
        for beginning, scripts in self.on.items():
            if scripts and f"{request.method} {request.target}".startswith(beginning):
                return scripts.pop(0)
        if request.method == "POST":
            return (reply(self.accepted()),)
        if request.target.startswith("/v1/get_result"):
            return (reply(self.ready(), "Retry-After: 1"),)
        if request.target.startswith("/sample"):
            return (reply(jpeg(), "Content-Type: image/jpeg"),)
        return (reply({"detail": "Not Found"}, status="404 Not Found"),)

    def _step(self, connection: socket.socket, request: Request, step: Step, length: int) -> bool:
        match step:
            case Part(size):
                size = length if size < 0 else size
                while len(request.body) < size and (more := connection.recv(min(65536, size - len(request.body)))):
                    request.body += more
            case bytes():
                connection.sendall(step)
            case float():
                return not self._stop.wait(step)
            case Drip(data, every_s):
                for at in range(len(data)):
                    connection.sendall(data[at : at + 1])
                    if self._stop.wait(every_s):
                        return False
            case End():
                _end(connection, step)
                return False
        return True


def _end(connection: socket.socket, how: End) -> None:
    if how is RESET:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
