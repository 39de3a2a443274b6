"""Artist and copyright notice where they stand outside of EXIF: in the IPTC and XMP blocks of a JPEG (pure)."""

import re
from html import unescape

from anykontext.io import exif

_APP1, _APP13 = 0xE1, 0xED
_XMP, _PHOTOSHOP = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_DATASET = re.compile(rb"\x1c\x02([\x50\x74])([\x00-\x7f].)", re.DOTALL)  # IPTC 2:80 by-line, 2:116 copyright
_BY_LINE, _NOTICE = b"\x50", b"\x74"


def other_rights(marker: int, payload: bytes) -> bytes:
    """An EXIF block with the artist and the notice of an IPTC or XMP segment; empty when it has none."""
    if marker == _APP13 and payload.startswith(_PHOTOSHOP):
        found = {
            one[1]: payload[one.end() : one.end() + int.from_bytes(one[2], "big")] for one in _DATASET.finditer(payload)
        }
        return exif.rights_of(_text(found.get(_BY_LINE)), _text(found.get(_NOTICE)))
    if marker == _APP1 and payload.startswith(_XMP):
        return exif.rights_of(_xmp(payload, b"creator"), _xmp(payload, b"rights"))
    return b""


def _xmp(payload: bytes, name: bytes) -> str | None:
    """The first text of a Dublin Core list."""
    listed = rb"<dc:%b>\s{0,99}<rdf:(?:Alt|Bag|Seq)>\s{0,99}<rdf:li[^<>]{0,99}>([^<]{1,2000})<" % name
    found = re.search(listed, payload)
    return unescape(_text(found[1]) or "") if found else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace").replace("\0", "")
