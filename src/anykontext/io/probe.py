"""What a picture is, told by its content: format and size from a walk over the headers, without decoding (pure)."""

import re
import struct
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from dataclasses import dataclass

JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"

NAMES = {
    JPEG: "JPEG",
    PNG: "PNG",
    WEBP: "WebP",
    "image/gif": "GIF",
    "image/tiff": "TIFF",
    "image/bmp": "BMP",
    "image/avif": "AVIF",
    "image/heic": "HEIC",
}

# Far more than any real file has; a hostile one could make the walks below last for seconds.
_MAX_SEGMENTS = 4_096
_MAX_CHUNKS = 262_144

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_END, _SCAN = 0xD9, 0xDA


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as its header tells.

    Attributes:
        media_type: Such as `image/jpeg`.
        width: In pixels; None for the formats that are only recognised (GIF, TIFF, BMP, AVIF, HEIC).
        height: In pixels; None for the same.
    """

    media_type: str
    width: int | None
    height: int | None

    @property
    def name(self) -> str:
        """The format's name for messages, such as `JPEG`."""
        return NAMES[self.media_type]


class NotAPicture(ValueError):
    """The bytes are no picture that we know, or the header is damaged or cut; the message says what they are.

    Attributes:
        cut: Whether they end too early, so that the rest may have been lost on the way.
    """

    def __init__(self, message: str, *, cut: bool = False) -> None:
        super().__init__(message)
        self.cut = cut


def probe(data: bytes) -> Picture:
    """Tell format and size by content; takes about a microsecond and needs only the header.

    Raises:
        NotAPicture: They are not the bytes of a picture.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(_PNG_SIGNATURE):
            return _png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except struct.error:
        raise NotAPicture("an image that is cut off in its header", cut=True) from None
    media_type = _only_recognised(data)
    if media_type is None:
        raise NotAPicture(f"{describe(data)}, not an image", cut=not data)
    return Picture(media_type, None, None)


def complete(data: bytes, picture: Picture) -> str | None:
    """Say in words why the file ends too early; None when it is whole, or in a format that is only recognised.

    Raises:
        NotAPicture: It holds an absurd number of segments or chunks.
    """
    check = _COMPLETE.get(picture.media_type)
    return check(data) if check else None


def describe(data: bytes) -> str:
    """Words for bytes that are no picture, such as `text` or `an HTML page`."""
    if not data:
        return "nothing (0 bytes)"
    for magic, words in _BINARY:
        if data.startswith(magic):
            return words
    text = _as_text(data[:1024])
    if not text:
        return "data of an unknown format"
    start = text.lstrip("\ufeff \t\r\n").lower()
    return next((words for prefix, words in _TEXTS if start.startswith(prefix)), "text")


_BINARY = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x00\x00\x01\x00", "an icon file (ICO)"),
)
_TEXTS = (
    ("<!doctype html", "an HTML page"),
    ("<html", "an HTML page"),
    ("<svg", "an SVG drawing"),
    ("<?xml", "XML"),
    ("{", "JSON"),
)


def _as_text(data: bytes) -> str:
    """The bytes as text; empty when they are none."""
    try:
        text = getincrementaldecoder("utf-8")().decode(data)  # a character may be cut at the end
    except UnicodeDecodeError:
        return ""
    return text if not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text) else ""


def _sized(media_type: str, width: int, height: int) -> Picture:
    if width == 0 or height == 0:
        raise NotAPicture(f"a damaged {NAMES[media_type]}: its header says {width} x {height} pixels")
    return Picture(media_type, width, height)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG up to its first scan: (marker, start and end of the payload).

    Stray bytes between segments are passed over, as libjpeg does.
    """
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise NotAPicture("a JPEG that is cut off in its header", cut=True)
        marker, at = data[found.end() - 1], found.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _END:
            raise NotAPicture("a damaged JPEG: it ends before its pixels begin")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            raise NotAPicture("a damaged JPEG: a segment without a length")
        yield marker, at + 2, at + length
        at += length
    raise NotAPicture("a damaged JPEG: more segments than any picture has")


def _jpeg(data: bytes) -> Picture:
    for marker, start, _ in _segments(data):
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, start + 1)
            return _sized(JPEG, width, height)
        if marker == _SCAN:
            break
    raise NotAPicture("a damaged JPEG: no size before its pixels begin")


def _jpeg_complete(data: bytes) -> str | None:
    try:
        scan = next((end for marker, _, end in _segments(data) if marker == _SCAN), None)
    except struct.error:
        scan = None
    except NotAPicture as error:
        if not error.cut:
            raise
        scan = None
    if scan is None:
        return f"the JPEG is cut off before its pixels begin, after {len(data)} bytes"
    # The pixels cannot hold an end marker: after 0xFF they always have 0x00 or a restart marker.
    if data.rfind(b"\xff\xd9", scan) < 0:
        return f"the JPEG is cut off: its end marker is missing after {len(data)} bytes"
    return None


def _png(data: bytes) -> Picture:
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise NotAPicture("a damaged PNG: it does not begin with its header")
    return _sized(PNG, width, height)


def _png_complete(data: bytes) -> str | None:
    at = len(_PNG_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            return f"the PNG is cut off: its end is missing after {len(data)} bytes"
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            return None if at <= len(data) else "the PNG is cut off in its last bytes"
    raise NotAPicture("a damaged PNG: more chunks than any picture has")


def _webp(data: bytes) -> Picture:
    kind = data[12:16]
    if kind == b"VP8X":
        *_, w0, w1, w2, h0, h1, h2 = struct.unpack_from("<10B", data, 20)
        return _sized(WEBP, (w0 | w1 << 8 | w2 << 16) + 1, (h0 | h1 << 8 | h2 << 16) + 1)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise NotAPicture("a damaged WebP: no frame where one should begin")
        return _sized(WEBP, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        start_code, width, height = struct.unpack_from("<3sHH", data, 23)
        if start_code != b"\x9d\x01\x2a":
            raise NotAPicture("a damaged WebP: no frame where one should begin")
        return _sized(WEBP, width & 0x3FFF, height & 0x3FFF)
    raise NotAPicture(
        "a damaged WebP: no frame in it" if len(kind) == 4 else "a WebP that is cut off", cut=len(kind) < 4
    )


def _webp_complete(data: bytes) -> str | None:
    (size,) = struct.unpack_from("<I", data, 4)
    return f"the WebP is cut off: {len(data)} of {size + 8} bytes" if len(data) < size + 8 else None


def _only_recognised(data: bytes) -> str | None:
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "image/tiff"
    # Texts begin with "BM" too; the size of the second header is 12 to 124 bytes.
    if data.startswith(b"BM") and data[14:18] in _BMP_HEADERS:
        return "image/bmp"
    if data[4:8] == b"ftyp":
        brands = {data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(data[:4], "big"), 128), 4))}
        if brands & {b"avif", b"avis"}:
            return "image/avif"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "image/heic"
    return None


_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)}
_COMPLETE: dict[str, Callable[[bytes], str | None]] = {
    JPEG: _jpeg_complete,
    PNG: _png_complete,
    WEBP: _webp_complete,
}
