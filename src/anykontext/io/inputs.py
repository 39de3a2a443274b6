"""Input images: what the caller handed over, read and checked by content, before anything is sent."""

import binascii
import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pybase64

from anykontext.io.files import upright
from anykontext.io.probe import JPEG, PNG, WEBP, NotAPicture, complete, probe
from anykontext.model.errors import InvalidRequest
from anykontext.model.image import ImageSource, InputImage

MAX_BYTES = 100 * 1000 * 1000
TAKEN = (JPEG, PNG, WEBP)
_CHUNK = 1024 * 1024
_ADVICE = "give a JPEG, PNG or WebP"


def load(source: ImageSource) -> InputImage:
    """Read one input image and check it; a URL is not fetched.

    Raises:
        InvalidRequest: It cannot be read, or is no picture that we take; the message says what was found.
    """
    if source.form == "url":
        return InputImage(None, source.value, None, None, None, source.name)
    data = _READERS[source.form](source.value, source.name)
    return checked(data, source.name)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB ({count} bytes)" if count >= 100_000 else f"{count} bytes"


def checked(data: bytes, name: str) -> InputImage:
    """Tell by content what was handed over, and that all of it is there; formats to be converted pass.

    Raises:
        InvalidRequest: It is no picture that we know, or not whole.
    """
    if not data:
        raise InvalidRequest(f"{name} is empty (0 bytes); {_ADVICE}")
    if len(data) > MAX_BYTES:
        raise _too_large(name, len(data))
    try:
        picture = probe(data)
        missing = complete(data, picture)
    except NotAPicture as error:
        raise InvalidRequest(f"{name}: this is {error}; {_ADVICE}") from None
    if missing:
        raise InvalidRequest(f"{name}: {missing}; get the whole file")
    return InputImage(data, None, picture.media_type, picture.width, picture.height, name)


def _too_large(name: str, size: int) -> InvalidRequest:
    return InvalidRequest(f"{name} is too large ({_size(size)}); at most {_size(MAX_BYTES)} are taken: scale it down")


def _read_path(value: Any, name: str) -> bytes:
    path = Path(os.path.expanduser(os.fsdecode(value)))  # noqa: PTH111 - Path.expanduser raises for an unknown ~user
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InvalidRequest(f"{name} is a folder, not a file; name one image in it")
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(f"{name} is not a regular file; give an open binary file or bytes instead")
        if found.st_size > MAX_BYTES:
            raise _too_large(name, found.st_size)
        return path.read_bytes()
    except FileNotFoundError:
        where = "" if path.parent.is_dir() else f", and neither is there a folder {str(path.parent)!r}"
        raise InvalidRequest(f"there is no file {name}{where}; check the path") from None
    except PermissionError:
        raise InvalidRequest(f"{name} may not be read by this user; change its permissions") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        short = name if len(name) <= 80 else name[:60] + "…'"
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(
            f"{short} cannot be read: {reason.lower()}; image data as text needs the form of a data URI"
        ) from None


def _read_bytes(value: Any, _name: str) -> bytes:
    return bytes(value)  # no copy where they are bytes already


def _read_data(value: Any, name: str) -> bytes:
    """The bytes of a data URI (RFC 2397), strictly: nothing is guessed (F43)."""
    head, comma, text = value.partition(",")
    if not comma:
        raise InvalidRequest(f"{name} is no data URI: there is no comma after {head[:40]!r}")
    if len(text) > 3 * MAX_BYTES:
        raise _too_large(name, len(text) // 3)
    if not text.isascii() or re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise InvalidRequest(f"{name} is no data URI: its data is not percent-encoded")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(text)
    plain = unquote_to_bytes(text) if "%" in text else text
    try:
        return pybase64.b64decode(plain, validate=True)
    except binascii.Error:
        raise InvalidRequest(f"{name} is no data URI: its data is not valid base64 with padding") from None


def _read_file(value: Any, name: str) -> bytes:
    """The rest of an open binary file; where it can seek, its position is put back."""
    if isinstance(value, io.TextIOBase):
        raise InvalidRequest(f'{name} is open as text; open it with mode "rb"')
    try:
        if not (hasattr(value, "seekable") and value.seekable()):
            return _read_stream(value, name)
        position = value.tell()
        try:
            left = value.seek(0, os.SEEK_END) - position
            value.seek(position)
            if left > MAX_BYTES:
                raise _too_large(name, left)
            return _some_bytes(value.read(), name)
        finally:
            value.seek(position)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{name} cannot be read: {error}; give a path or bytes instead") from error


def _read_stream(file: Any, name: str) -> bytes:
    read = bytearray()
    while chunk := _some_bytes(file.read(_CHUNK), name):
        read += chunk
        if len(read) > MAX_BYTES:
            raise _too_large(name, len(read))
    return bytes(read)


def _some_bytes(found: object, name: str) -> bytes:
    if isinstance(found, bytes):
        return found
    if isinstance(found, bytearray | memoryview):
        return bytes(found)
    raise InvalidRequest(f'{name} gives {type(found).__name__}, not bytes; open it with mode "rb"')


def _read_pil(value: Any, name: str) -> bytes:
    """The pixels as PNG, lossless; turned upright, because the tag that says so does not travel with them."""
    from PIL import Image

    if not isinstance(value, Image.Image):
        raise InvalidRequest(f"{name} is a {type(value).__name__}, not a PIL image")
    if value.width == 0 or value.height == 0:
        raise InvalidRequest(f"{name} has no pixels ({value.width} x {value.height})")
    mode = _MODES.get(value.mode, value.mode)
    encoded = io.BytesIO()
    try:
        image = upright(value)
        image = image if mode == value.mode else image.convert(mode)
        # The profile of another mode would give wrong colours.
        profile = value.info.get("icc_profile") if mode == value.mode else None
        image.save(encoded, "PNG", icc_profile=profile)
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidRequest(
            f"{name} ({value.mode}, {value.width} x {value.height}) cannot be written as PNG: {error}; "
            'give image.convert("RGB")'
        ) from error
    return encoded.getvalue()


# Modes of Pillow that PNG cannot hold, and the nearest that it can.
_MODES = {
    **dict.fromkeys(("CMYK", "YCbCr", "HSV", "LAB", "RGBX"), "RGB"),
    "RGBa": "RGBA",
    "La": "LA",
    "I": "I;16",
}

_READERS: dict[str, Callable[[Any, str], bytes]] = {
    "path": _read_path,
    "bytes": _read_bytes,
    "data": _read_data,
    "file": _read_file,
    "pil": _read_pil,
}
