"""The EXIF block of a picture, read and written by hand: it is a stranger's bytes, and three tags of it count (pure).

A block is the TIFF structure itself, without the letters `Exif` that JPEG puts before it. What cannot be read is as if
it were not there; nothing here raises.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFIX = b"Exif\0\0"

ORIENTATION, ARTIST, COPYRIGHT = 0x0112, 0x013B, 0x8298
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}
_ASCII, _UTF8 = 2, 129
_LONGEST = 30_000  # bytes of one text: two of them fit into a segment of a JPEG


class _Entry(NamedTuple):
    order: str
    tag: int
    kind: int
    length: int
    value_at: int


def orientation(block: bytes) -> int:
    """How the picture is to be turned, 1 to 8 as EXIF counts; 1 where nothing (readable) is said."""
    found = 1
    for entry in _entries(block):
        if entry.tag == ORIENTATION and entry.kind in _WHOLE_NUMBERS:
            (found,) = struct.unpack_from(entry.order + _WHOLE_NUMBERS[entry.kind], block, entry.value_at)
    return found if 1 <= found <= 8 else 1


def upright(block: bytes) -> bytes:
    """The same block saying that the picture is not to be turned; all else stays, byte for byte."""
    changed = bytearray(block)
    for entry in _entries(block):
        if entry.tag == ORIENTATION and entry.kind in _WHOLE_NUMBERS:
            struct.pack_into(entry.order + _WHOLE_NUMBERS[entry.kind], changed, entry.value_at, 1)
    return bytes(changed)


def rights(block: bytes) -> bytes:
    """A new block with nothing but the artist and the copyright notice; empty when there are none."""
    texts: dict[int, tuple[int, bytes]] = {}
    for entry in _entries(block):
        if entry.tag in {ARTIST, COPYRIGHT} and entry.kind in {_ASCII, _UTF8} and entry.length <= _LONGEST:
            texts[entry.tag] = (entry.kind, _text(block, entry))
    return _written({tag: text for tag, text in texts.items() if text[1].strip(b"\0 ")})


def rights_of(artist: object, notice: object) -> bytes:
    """As `rights`, from texts that were read by others; what is no text counts as not there."""
    texts = {ARTIST: artist, COPYRIGHT: notice}
    encoded = {tag: text.encode("utf-8", "replace")[:_LONGEST] for tag, text in texts.items() if isinstance(text, str)}
    return _written({tag: (_ASCII, text.rstrip(b"\0")) for tag, text in encoded.items() if text.strip(b"\0 ")})


def _entries(block: bytes) -> Iterator[_Entry]:
    """The entries of the first directory, as far as they are there; each with room for its value."""
    order = _ORDERS.get(bytes(block[:4]))
    if order is None or len(block) < 8:
        return
    (at,) = struct.unpack_from(order + "I", block, 4)
    if at + 2 > len(block):
        return
    (count,) = struct.unpack_from(order + "H", block, at)
    for entry_at in range(at + 2, min(at + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, length = struct.unpack_from(order + "HHI", block, entry_at)
        yield _Entry(order, tag, kind, length, entry_at + 8)


def _text(block: bytes, entry: _Entry) -> bytes:
    at = entry.value_at
    if entry.length > 4:
        (at,) = struct.unpack_from(entry.order + "I", block, at)
    found = bytes(block[at : at + entry.length])
    return found.rstrip(b"\0") if len(found) == entry.length else b""


def _written(texts: dict[int, tuple[int, bytes]]) -> bytes:
    if not texts:
        return b""
    directory, values = b"MM\0*" + struct.pack(">IH", 8, len(texts)), b""
    values_at = len(directory) + 12 * len(texts) + 4
    for tag, (kind, text) in sorted(texts.items()):
        ended = text + b"\0"
        if len(ended) <= 4:
            field = ended.ljust(4, b"\0")
        else:
            field = struct.pack(">I", values_at + len(values))
            values += ended + bytes(len(ended) % 2)
        directory += struct.pack(">HHI", tag, kind, len(ended)) + field
    return directory + bytes(4) + values
