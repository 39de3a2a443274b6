"""What a picture tells beside its pixels, cut out without touching them: no decoding, no loss, no Pillow (pure).

`private` removes position, serial numbers, maker notes, thumbnails, XMP, IPTC, comments, dates, every segment or chunk
that we do not know, and what follows the end of the picture (a cropped part that an editor forgot, a phone's film and
previews). The artist and the copyright notice stay, in a new EXIF block with nothing else, or in PNG's own texts.
`all` removes these two as well. The colour profile always stays: without it the pixels mean other colours.

An input's Content Credentials (C2PA) go with the rest: they hold thumbnails, positions and names, and the hash in them
covers the bytes that are cut, so that what was left of them would accuse the picture of having been tampered with.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from zlib import crc32

from anykontext.io import exif
from anykontext.io.probe import JPEG, PNG, WEBP
from anykontext.io.rights import other_rights

Keep = Literal["private", "all", "keep"]
Piece = bytes | memoryview

# Far more than any real file has; what comes after so many stays as it is.
_MAX_SEGMENTS = 4_096
_MAX_CHUNKS = 262_144

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither a stuffed byte, a fill byte nor a restart
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP0, _APP1, _APP2, _APP14, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
_SCAN, _END = 0xDA, 0xD9
# What a decoder needs: frames, tables, restarts, scans, lines. All else is cut, what we do not know too.
_STRUCTURE = frozenset({0x01, *range(0xC0, 0xDE)})
_METADATA = frozenset(range(0x02, 0x100)) - _STRUCTURE
_ADOBE = 12  # bytes of an APP14 that say how colours are to be read

# Chunks that a decoder may skip, and that say how the pixels look; all others of this kind are cut.
_PNG_KEPT = frozenset(
    {
        *(b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"tRNS", b"pHYs"),
        *(b"acTL", b"fcTL", b"fdAT"),
    }
)
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PNG_RIGHTS = frozenset({b"author", b"artist", b"copyright"})
_WEBP_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
_HAS_XMP, _HAS_EXIF, _IS_ANIMATED = 0x04, 0x08, 0x02


@dataclass(frozen=True, slots=True)
class Parts:
    """A file in pieces: views of the bytes that stay, new bytes between them, and no copy of the pixels.

    Attributes:
        pieces: The file is these, one after the other.
    """

    pieces: tuple[Piece, ...] = field(repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)

    def runs(self, size: int) -> Iterator[Piece]:
        """The file in runs of `size` bytes, the last one shorter: a base64 text can be made of them, run by run.

        Only the few runs that cross a seam between two pieces are copied.
        """
        begun = b""
        for piece in self.pieces:
            view = memoryview(piece)
            if begun:
                missing = size - len(begun)
                begun, view = begun + view[:missing], view[missing:]
                if len(begun) < size:
                    continue
                yield begun
                begun = b""
            whole = len(view) - len(view) % size
            for start in range(0, whole, size):
                yield view[start : start + size]
            begun = bytes(view[whole:])
        if begun:
            yield begun


@dataclass(frozen=True, slots=True)
class Traits:
    """What the headers tell that decides whether the pixels can stay as they are.

    Attributes:
        orientation: How it is to be turned, 1 to 8 as EXIF counts; 1 is upright.
        animated: Whether it has more than one frame.
        print_colours: Whether it has four colour channels, as for print (CMYK).
        deep: Whether it has more than 8 bits in each channel.
        damaged: Whether its parts cannot all be told apart, so that none can be cut out of it.
    """

    orientation: int = 1
    animated: bool = False
    print_colours: bool = False
    deep: bool = False
    damaged: bool = False


def strip(data: bytes, media_type: str, keep: Keep = "private") -> bytes | Parts:
    """Cut metadata out of a JPEG, PNG or WebP without touching its pixels; see the module for what goes and stays.

    The orientation goes too: who wants the picture upright turns the pixels first.

    Args:
        data: The whole file; a damaged one is cut as far as it can be read, and never raises.
        media_type: As found by content; other types come back untouched.
        keep: `private`, `all`, or `keep` for no change.

    Returns:
        `data` itself when nothing had to go, else its parts.
    """
    if keep == "keep" or media_type not in _CUTTERS:
        return data
    cut = _Cut(data)
    _CUTTERS[media_type](cut, keep == "private")
    return cut.done()


def look(data: bytes, media_type: str) -> Traits:
    """The traits of a JPEG, PNG or WebP by its headers; those of another type are not looked for. Never raises."""
    turned = orientation(data, media_type)
    if media_type == JPEG:
        for marker, start, end in _segments(data):
            if marker in _START_OF_FRAME and end - start >= 10:
                return Traits(turned, print_colours=data[start + 9] == 4, deep=data[start + 4] != 8)
    if media_type == PNG:
        return Traits(turned, _is_apng(data), deep=data[24:25] == b"\x10")
    if media_type == WEBP:
        animated = len(data) >= 30 and data[12:16] == b"VP8X" and bool(data[20] & _IS_ANIMATED)
        return Traits(turned, animated, damaged=not _is_whole_webp(data))
    return Traits(turned)


def orientation(data: bytes, media_type: str) -> int:
    """How a JPEG, PNG or WebP is to be turned, 1 to 8; 1 where its EXIF block is broken, or there is none."""
    return exif.orientation(exif_block(data, media_type))


def exif_block(data: bytes, media_type: str) -> bytes:
    """The first EXIF block of a JPEG, PNG or WebP; empty when there is none."""
    if media_type == JPEG:
        for marker, start, end in _segments(data):
            if marker == _SCAN:
                break
            if marker == _APP1 and data.startswith(exif.PREFIX, start + 4):
                return data[start + 4 + len(exif.PREFIX) : end]
    elif media_type == PNG:
        for kind, start, end in _chunks(data):
            if kind == b"eXIf":
                return data[start + 8 : end - 4].removeprefix(exif.PREFIX)
    elif media_type == WEBP:
        for kind, start, end in _riff(data):
            if kind == b"EXIF":
                return data[start + 8 : end].removeprefix(exif.PREFIX)
    return b""


def rights_block(data: bytes, media_type: str) -> bytes:
    """An EXIF block with the artist and the copyright notice of a JPEG, PNG or WebP, wherever in it they stand."""
    block = exif.rights(exif_block(bytes(strip(data, media_type)), media_type))
    if block or media_type != PNG:
        return block
    texts: dict[bytes, str] = {}
    for kind, start, end in _chunks(data):
        if kind == b"tEXt":
            key, _, value = data[start + 8 : end - 4].partition(b"\0")
            texts.setdefault(key.lower(), value.decode("latin-1"))
    return exif.rights_of(texts.get(b"author", texts.get(b"artist")), texts.get(b"copyright"))


class _Cut:
    """A file that is being copied with gaps; the changes come in the order of the file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._view = memoryview(data)
        self._pieces: list[Piece] = []
        self._done = 0

    def replace(self, start: int, end: int, new: bytes = b"") -> None:
        """Put `new` in the place of some bytes; the same bytes are no change."""
        if end - start == len(new) and self.data[start:end] == new:
            return
        self._pieces += [piece for piece in (self._view[self._done : start], new) if piece]
        self._done = end

    def done(self) -> bytes | Parts:
        if not self._done:
            return self.data
        rest = self._view[self._done :]
        return Parts((*self._pieces, rest) if rest else tuple(self._pieces))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG to its end, those between its scans too: (marker, start with the marker, end)."""
    at, scanned = 2, False
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        start, at = found.span()
        marker = data[at - 1]
        if marker == _END:
            yield marker, start, at
            return
        if marker in {0x01, 0xD8} or (scanned and marker < 0xC0):
            continue
        end = at + max(int.from_bytes(data[at : at + 2], "big"), 2)
        if end > len(data):
            return
        yield marker, start, end
        scanned = scanned or marker == _SCAN
        at = end


def _cut_jpeg(cut: _Cut, private: bool) -> None:  # noqa: FBT001 - one of a table
    data, scanned, before = cut.data, False, 2
    in_exif = exif.rights(exif_block(data, JPEG))
    has_rights = False
    for marker, start, end in _segments(data):
        begin, before = before, end
        if marker == _END and scanned:
            cut.replace(end, len(data))
        scanned = scanned or marker == _SCAN
        if marker not in _METADATA:
            continue
        new = _kept_segment(data, marker, start, end)
        if new is None:
            block = b"" if has_rights or not private else exif.rights(data[start + 4 + len(exif.PREFIX) : end])
            has_rights = has_rights or bool(block)
            new = _segment(_APP1, exif.PREFIX + block) if block else b""
        elif not new and private and not in_exif and not has_rights and not scanned:
            block = other_rights(marker, data[start + 4 : end])
            has_rights = bool(block)
            new = _segment(_APP1, exif.PREFIX + block) if block else b""
        if new:
            cut.replace(start, end, new)
        elif scanned:
            # In a damaged scan these may be pixels: an empty segment stops a decoder where the full one did.
            cut.replace(start, end, _segment(marker, b""))
        else:
            # A fill byte that stayed behind would make a marker of what comes next.
            cut.replace(begin + len(data[begin:start].rstrip(b"\xff")), end)


def _kept_segment(data: bytes, marker: int, start: int, end: int) -> bytes | None:
    """What stays of a segment; None for an EXIF block."""
    if marker == _APP0 and data.startswith(b"JFIF\0", start + 4) and end - start >= 18:
        return _segment(_APP0, data[start + 4 : start + 16] + b"\0\0")  # without its thumbnail
    if marker == _APP1 and data.startswith(exif.PREFIX, start + 4):
        return None
    # The profile; and what says how the colours are to be read, without which they would be wrong.
    if marker == _APP2 and data.startswith(b"ICC_PROFILE\0", start + 4):
        return data[start:end]
    if marker == _APP14 and data.startswith(b"Adobe", start + 4):
        return _segment(_APP14, data[start + 4 : min(end, start + 4 + _ADOBE)])
    return b""


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG that are all there: (kind, start with the length, end after the checksum)."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def _cut_png(cut: _Cut, private: bool) -> None:  # noqa: FBT001 - one of a table
    data = cut.data
    for kind, start, end in _chunks(data):
        if kind == b"IEND":
            cut.replace(end, len(data))
        elif kind[0] & 0x20 and kind not in _PNG_KEPT:  # a small first letter: decoders may skip it
            cut.replace(start, end, _png_rights(data, kind, start, end) if private else b"")


def _png_rights(data: bytes, kind: bytes, start: int, end: int) -> bytes:
    """What stays of a chunk: the artist and the copyright notice."""
    if kind in _PNG_TEXTS:
        keyword = data[start + 8 : min(start + 8 + 80, end)].partition(b"\0")[0]
        return data[start:end] if keyword.lower() in _PNG_RIGHTS else b""
    block = exif.rights(data[start + 8 : end - 4].removeprefix(exif.PREFIX)) if kind == b"eXIf" else b""
    return struct.pack(">I", len(block)) + kind + block + struct.pack(">I", crc32(kind + block)) if block else b""


def _is_apng(data: bytes) -> bool:
    for kind, start, _ in _chunks(data):
        if kind == b"acTL":
            return data[start + 8 : start + 12] > b"\0\0\0\1"
        if kind == b"IDAT":
            return False
    return False


def _riff(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a WebP: (kind, start, end with its padding); those of a file that is cut off end early."""
    file_end = min(_riff_end(data), len(data))
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > file_end:
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > file_end:
            return
        end = min(at + 8 + length + length % 2, file_end)
        yield kind, at, end
        at = end


def _riff_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[4:8], "little")


def _is_whole_webp(data: bytes) -> bool:
    chunks = list(_riff(data))
    return bool(chunks) and chunks[-1][2] == _riff_end(data) <= len(data)


def _cut_webp(cut: _Cut, private: bool) -> None:  # noqa: FBT001 - one of a table
    data = cut.data
    is_extended = data[12:16] == b"VP8X" and len(data) >= 30
    chunks = list(_riff(data))
    if not _is_whole_webp(data):
        return  # the sizes in it are wrong, and none is made right that a decoder goes by
    changes: list[tuple[int, int, bytes]] = []
    has_rights = False
    for kind, start, end in chunks:
        if kind in _WEBP_KEPT:
            continue
        wanted = kind == b"EXIF" and private and is_extended and not has_rights
        block = exif.rights(data[start + 8 : end].removeprefix(exif.PREFIX)) if wanted else b""
        has_rights = has_rights or bool(block)
        new = struct.pack("<4sI", kind, len(block)) + block + bytes(len(block) % 2) if block else b""
        changes.append((start, end, new))
    grown = sum(len(new) - (end - start) for start, end, new in changes)
    cut.replace(4, 8, struct.pack("<I", _riff_end(data) - 8 + grown))
    if is_extended:
        plain = data[20] & ~(_HAS_XMP | _HAS_EXIF)
        cut.replace(20, 21, bytes([plain | (_HAS_EXIF if has_rights else 0)]))
    for change in changes:
        cut.replace(*change)
    cut.replace(_riff_end(data), max(len(data), _riff_end(data)))


_CUTTERS: dict[str, Callable[[_Cut, bool], None]] = {JPEG: _cut_jpeg, PNG: _cut_png, WEBP: _cut_webp}
