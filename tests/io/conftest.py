"""Shared by the tests of io/: real pictures, a spool, and a server that sends scripted bytes over a real socket."""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from PIL import Image

from anykontext.io.spool import Spool

ROOT = Path(__file__).parents[2]
RESET = "reset"
Step = bytes | float | str


class RawServer:
    """Answers each connection with the next script: bytes are sent, a number waits, RESET drops the connection.

    The last script serves every further connection. `requests` holds the heads that came, byte for byte.
    """

    def __init__(self) -> None:
        self.scripts: list[list[Step]] = []
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def url(self, path: str = "/image.jpg") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def answers(self, *steps: Step) -> None:
        """Add one script."""
        self.scripts.append(list(steps))

    def replies(self, body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> None:
        """Add a script with an ordinary reply."""
        count = len(body) if length is None else length
        self.answers(self.head(f"Content-Length: {count}", *headers, status=status), body)

    @staticmethod
    def head(*headers: str, status: str = "200 OK") -> bytes:
        return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode()

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(2)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                read = connection.recv(65536)
                if not read:
                    return
                head += read
            self.requests.append(head)
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            for step in script:
                if isinstance(step, bytes):
                    connection.sendall(step)
                elif isinstance(step, float):
                    self._stop.wait(step)
                else:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def server() -> Iterator[RawServer]:
    one = RawServer()
    yield one
    one.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A photograph, 640 x 427."""
    return (ROOT / "tests/data/rocket.jpg").read_bytes()


@pytest.fixture(scope="session")
def png() -> bytes:
    """A photograph, 600 x 400."""
    return (ROOT / "docs/images/coffee.png").read_bytes()


def drawn(form: str, size: tuple[int, int] = (31, 17), mode: str = "RGB", **options: object) -> bytes:
    """A small picture with some content; of AVIF only the beginning, which not every Pillow can write."""
    if form == "AVIF":
        return struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"avif", 0, b"mif1", b"avif")
    image = Image.linear_gradient("L").resize(size).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.radial_gradient("L").resize(size))
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def draw() -> object:
    return drawn


@pytest.fixture(scope="session")
def webps() -> tuple[bytes, ...]:
    """Lossy, lossless and extended, 31 x 17."""
    return (
        drawn("WEBP", quality=80),
        drawn("WEBP", lossless=True),
        drawn("WEBP", mode="RGBA", quality=80),
    )


@pytest.fixture(scope="session")
def mutated(webps: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Small real pictures with some bytes changed and the end cut off."""

    @st.composite
    def change(pick: st.DrawFn) -> bytes:
        data = bytearray(pick(st.sampled_from([drawn("JPEG"), drawn("PNG"), *webps, drawn("GIF")])))
        for at, byte in pick(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=8)):
            data[at] = byte
        return bytes(data[: pick(st.integers(0, len(data)) | st.just(len(data)))])

    return change()
