"""A running sandbox, a client that leaks nothing, and BFL's way of a job in three small steps."""

import base64
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from PIL import Image

from anykontext.sandbox import Emulator, Sandbox


def picture(width: int = 64, height: int = 48, colour: str = "orange", image_format: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, image_format)
    return buffer.getvalue()


@dataclass
class Bfl:
    """Speaks to BFL's emulator as a client would."""

    emulator: Emulator
    client: httpx.Client

    def post(self, model: str = "flux-kontext-pro", key: str = "sandbox", **fields: Any) -> httpx.Response:
        return self.client.post(
            f"{self.emulator.origins['api']}/v1/{model}",
            json={"prompt": "make it blue", **fields},
            headers={"x-key": key},
        )

    def submit(self, model: str = "flux-kontext-pro", **fields: Any) -> str:
        """Submit; returns the polling_url."""
        return str(self.post(model, **fields).raise_for_status().json()["polling_url"])

    def edit(self, data: bytes | None = None, **fields: Any) -> str:
        image = base64.b64encode(data or picture()).decode()
        return self.submit(input_image=image, **{"output_format": "jpeg", **fields})

    def finished(self, polling_url: str) -> httpx.Response:
        """The first poll that is not Pending, with the emulator's clock moved to the end."""
        self.emulator.advance(self.emulator.seconds)
        return self.client.get(polling_url)

    def sample(self, polling_url: str) -> str:
        return str(self.finished(polling_url).json()["result"]["sample"])

    def credits(self) -> float:
        reply = self.client.get(f"{self.emulator.origins['api']}/v1/credits", headers={"x-key": "sandbox"})
        return float(reply.json()["credits"])


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10, verify=False) as client:
        yield client


@pytest.fixture
def bfl(client: httpx.Client) -> Iterator[Bfl]:
    # A task takes so long that only the moved clock ends it: no test depends on real time.
    with Sandbox(providers=["bfl"], seconds=1000) as sandbox:
        emulator = sandbox.emulators["bfl"]
        emulator.megapixels = 0.02
        yield Bfl(emulator, client)


@pytest.fixture
def stopwatch() -> Any:
    start = time.monotonic()
    return lambda: time.monotonic() - start
