"""The shortcuts of the package: functions on a client of their own."""

import os
import threading
from typing import TYPE_CHECKING, Any

from anykontext.client.sync import Client
from anykontext.model.result import ImageResult

if TYPE_CHECKING:
    from anykontext.model.image import ImageInput

_lock = threading.Lock()
_shared: dict[int, Client] = {}


def _client() -> Client:
    """The client of the shortcuts: one for each process, a new one after a fork."""
    with _lock:
        if os.getpid() not in _shared:
            _shared[os.getpid()] = Client()
        return _shared[os.getpid()]


def edit(image: "ImageInput | list[ImageInput]", prompt: str, **options: Any) -> ImageResult:
    """`Client.edit` on a shared client with the default configuration."""
    return _client().edit(image, prompt, **options)


def generate(prompt: str, **options: Any) -> ImageResult:
    """`Client.generate` on a shared client with the default configuration."""
    return _client().generate(prompt, **options)
