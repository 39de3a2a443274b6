"""The pictures of the fake provider: four colours, always the same for the same words."""

import io
from hashlib import sha256

LONG = 64  # pixels of the longer side, where no size was asked for
SHORT = 8  # and the least of the other


def picture(words: str, size: tuple[int, int], output_format: str) -> bytes:
    """A file of `jpeg`, `png` or `webp` whose colours come from the words."""
    from PIL import Image

    tile = Image.frombytes("RGB", (2, 2), sha256(words.encode()).digest()[:12])
    file = io.BytesIO()
    tile.resize(size, Image.Resampling.NEAREST).save(file, output_format)
    return file.getvalue()


def small(width: int, height: int) -> tuple[int, int]:
    """A small size of about this shape."""
    scale = LONG / max(width, height)
    return max(round(width * scale), SHORT), max(round(height * scale), SHORT)


def size_of(data: bytes) -> tuple[int, int]:
    """The size of a picture in pixels."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as found:
        return found.size
