"""Pictures made anew with Pillow, where their bytes cannot stay: decoded, turned upright, brought to 8-bit, scaled.

Decoders are chosen by type and never by `Image.open`, so that no other one sees the bytes; metadata of JPEG, PNG and
WebP is cut before they do; and the size in the header is compared with a limit before there is room made for pixels.
Only as many pictures are worked on at the same time as there are processors: more would only need more memory.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, cast

from anykontext.engine.needs import MADE, target_size
from anykontext.io import exif
from anykontext.io.files import QUALITY, UNDECODABLE, upright
from anykontext.io.metadata import Keep, exif_block, orientation, rights_block, strip
from anykontext.io.probe import JPEG, NAMES, PNG, WEBP, probe
from anykontext.model.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageFile import ImageFile

GIF, TIFF, BMP, AVIF, HEIC = "image/gif", "image/tiff", "image/bmp", "image/avif", "image/heic"
MAX_PIXELS = 100_000_000
ANEW_MAX_PIXELS = 50_000_000  # of a picture that is decoded: some modes take 16 bytes and more for a pixel

_ADVICE = "give a JPEG, PNG or WebP"
_DRAWN = frozenset({PNG, GIF, BMP})  # made without loss
_LONGEST_SIDE = {JPEG: 65_500, PNG: 2**31 - 1, WEBP: 16_383}
_LONGEST_EXIF = 65_000  # what a segment of a JPEG holds
_QUALITIES = {JPEG: (QUALITY, 90, 85, 80), PNG: (0,), WEBP: (95, 90, 80)}
_FULL_COLOUR = 90  # from this quality on, a JPEG's colours are not thinned out (4:4:4)
_SMALLER = 8  # tries with fewer pixels, after those with less quality

_at_work = BoundedSemaphore(os.cpu_count() or 2)


def _after_fork() -> None:
    global _at_work  # noqa: PLW0603 - a place that was taken when the process forked never comes back
    _at_work = BoundedSemaphore(os.cpu_count() or 2)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, slots=True)
class Converted:
    """A picture that was made anew.

    Attributes:
        data: The file.
        media_type: Its type.
        width: In pixels.
        height: In pixels.
        first_of_many: Whether the source has more frames or pages than the one that is in it.
    """

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int
    first_of_many: bool = False


def convert(data: bytes, media_type: str, name: str, keep: Keep = "private") -> Converted:
    """Make an upright 8-bit picture of any format that we can decode; of an animated one, its first frame.

    It becomes a PNG where something is transparent, or where the source was drawn without loss (PNG, GIF, BMP, or few
    colours); else a JPEG of quality 95 with full colour resolution. The colour profile stays, but print colours become
    sRGB; 16 bits are scaled to 8.

    Args:
        data: The whole file.
        media_type: As found by content.
        name: For messages.
        keep: What stays of the EXIF block: with `private` the artist and the copyright notice. All other metadata goes.

    Raises:
        InvalidRequest: It is damaged, too large, or of a kind that cannot be decoded here; the message says what to do.
    """
    with _at_work, _told(media_type, name):
        image = _opened(data, media_type, name)
        if image.width * image.height > ANEW_MAX_PIXELS:
            raise InvalidRequest(
                f"{name} has {image.width} x {image.height} pixels and would have to be made anew, which is done up to "
                f"{ANEW_MAX_PIXELS / 1e6:g} megapixels: scale it down, or give an upright 8-bit JPEG or PNG"
            )
        many = bool(getattr(image, "is_animated", False))
        image.load()
        block = _exif(image, data, media_type, keep)
        drawn = media_type in _DRAWN or image.mode in {"1", "P", "PA"}
        made, profile = _plain(_upright(image, data, media_type), media_type, name)
        if not drawn:
            made = _opaque(made)
        is_png = drawn or made.mode in {"LA", "RGBA"} or max(made.size) > _LONGEST_SIDE[JPEG]
        target = PNG if is_png else JPEG
        return Converted(_encoded(made, target, QUALITY, profile, block), target, *made.size, many)


def scale_to(
    data: bytes, media_type: str, name: str, *, max_pixels: int, max_bytes: int, media_types: Sequence[str] = MADE
) -> Converted:
    """Make a picture small enough, with as little loss as that takes, in the first suitable of some types.

    It is never made larger, and keeps its ratio; no side is below 1. Where the bytes are too many, a lossless picture
    becomes a lossy one of the types allowed, then the quality goes down to 80, and then the number of pixels; after a
    bounded number of tries that is given up. The EXIF block and the colour profile go along as they are.

    Args:
        data: A JPEG, PNG or WebP.
        media_type: As found by content; the first choice of what it is made into.
        name: For messages.
        max_pixels: Width x height at most.
        max_bytes: The size of the file at most.
        media_types: What it may be made into. Where that is JPEG alone, transparent parts become white.

    Raises:
        InvalidRequest: It is damaged, or cannot be made so small.
    """
    with _at_work, _told(media_type, name):
        image = _opened(data, media_type, name)
        size = target_size(*image.size, max_pixels)
        if media_type == JPEG:
            image.draft(image.mode, size)  # decodes fewer pixels, by a power of two
        image.load()
        block = _exif(image, data, media_type, "keep")
        made, profile = _plain(image, media_type, name)
        made = _turned(_resized(made, size), orientation(data, media_type))
        for target in _targets(media_type, made, media_types):
            for quality in _QUALITIES[target]:
                encoded = _encoded(made, target, quality, profile, block)
                if len(encoded) <= max_bytes:
                    return Converted(encoded, target, *made.size)
        for _ in range(_SMALLER):
            factor = min(0.8, 0.9 * max_bytes / len(encoded))
            made = _resized(made, target_size(*made.size, max(1, int(made.width * made.height * factor))))
            encoded = _encoded(made, target, quality, profile, block)
            if len(encoded) <= max_bytes:
                return Converted(encoded, target, *made.size)
    raise InvalidRequest(f"{name} cannot be made as small as {max_bytes:,} bytes; give a smaller image")


def _targets(media_type: str, image: "PillowImage", media_types: Sequence[str]) -> list[str]:
    """What a picture is made into, the best first; a lossy type follows PNG, for when that is too large."""
    transparent = image.mode in {"LA", "RGBA"}
    order = (media_type, PNG, WEBP) if transparent else (media_type, JPEG, WEBP, PNG)
    possible = [one for one in MADE if one in media_types and max(image.size) <= _LONGEST_SIDE[one]]
    found = [one for one in dict.fromkeys(order) if one in possible] or possible
    if not found:
        raise InvalidRequest(f"an image of {image.width} x {image.height} pixels cannot be made into {media_types}")
    return found[: 2 if found[0] == PNG else 1]


@contextmanager
def _told(media_type: str, name: str) -> Iterator[None]:
    """Within this block whatever Pillow raises on a stranger's bytes becomes a sentence."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except InvalidRequest:
        raise
    except DecompressionBombError:
        raise _too_large(name) from None
    except UNDECODABLE as error:
        raise InvalidRequest(f"{name}: the {NAMES[media_type]} is damaged: {error}; get the whole file") from error


def _too_large(name: str, width: int | None = None, height: int | None = None) -> InvalidRequest:
    size = f"{width} x {height} pixels" if width and height else "more pixels"
    return InvalidRequest(f"{name} has {size}, and at most {MAX_PIXELS / 1e6:g} megapixels are taken: scale it down")


def check_pixels(width: int, height: int, name: str) -> None:
    """Refuse a picture by the size in its header (F36).

    Raises:
        InvalidRequest: It has too many pixels.
    """
    if width * height > MAX_PIXELS:
        raise _too_large(name, width, height)


def _opened(data: bytes, media_type: str, name: str) -> "ImageFile":
    """A picture whose header was read, and is not too large."""
    make = _decoder(media_type, name)
    if media_type in MADE:
        found = probe(data)  # WebP's decoder makes room as soon as it is opened
        check_pixels(found.width or 0, found.height or 0, name)
        data = bytes(strip(data, media_type, "all"))
    image = make(io.BytesIO(data))
    check_pixels(*image.size, name)
    return image


def _decoder(media_type: str, name: str) -> "type[ImageFile]":
    if media_type == AVIF:
        from PIL import features

        if not features.check("avif"):
            raise InvalidRequest(
                f"{name}: AVIF needs a Pillow with AVIF, 11.3 or newer: pip install -U pillow; or {_ADVICE}"
            )
    module, decoder = _DECODERS[media_type]
    try:
        return cast("type[ImageFile]", getattr(import_module(module), decoder))
    except ImportError:
        if media_type != HEIC:
            raise
        raise InvalidRequest(f"{name}: HEIC needs pillow-heif: pip install 'anykontext[heif]'; or {_ADVICE}") from None


_DECODERS = {
    JPEG: ("PIL.JpegImagePlugin", "JpegImageFile"),
    PNG: ("PIL.PngImagePlugin", "PngImageFile"),
    WEBP: ("PIL.WebPImagePlugin", "WebPImageFile"),
    GIF: ("PIL.GifImagePlugin", "GifImageFile"),
    TIFF: ("PIL.TiffImagePlugin", "TiffImageFile"),
    BMP: ("PIL.BmpImagePlugin", "BmpImageFile"),
    AVIF: ("PIL.AvifImagePlugin", "AvifImageFile"),
    HEIC: ("pillow_heif", "HeifImageFile"),
}


def _exif(image: "PillowImage", data: bytes, media_type: str, keep: Keep) -> bytes:
    """What is to stay of a picture's EXIF block, made to say that the pixels are upright."""
    if keep == "all":
        return b""
    if media_type == TIFF:  # its directory is that of the pixels as well, and cannot go along
        tags = image.getexif()
        return exif.rights_of(tags.get(exif.ARTIST), tags.get(exif.COPYRIGHT))
    if media_type in MADE and keep == "private":
        return rights_block(data, media_type)
    found = exif_block(data, media_type) if media_type in MADE else image.info.get("exif") or b""
    block = bytes(found).removeprefix(exif.PREFIX)
    return exif.rights(block) if keep == "private" else exif.upright(block)


def _upright(image: "PillowImage", data: bytes, media_type: str) -> "PillowImage":
    return _turned(image, orientation(data, media_type)) if media_type in MADE else upright(image)


def _turned(image: "PillowImage", turn: int) -> "PillowImage":
    from PIL.Image import Transpose

    how = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(how[turn]) if turn in how else image


def _resized(image: "PillowImage", size: tuple[int, int]) -> "PillowImage":
    from PIL.Image import Resampling

    return image if image.size == size else image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)


def _plain(image: "PillowImage", media_type: str, name: str) -> "tuple[PillowImage, bytes | None]":
    """The picture with 8 bits in grey or RGB, with or without transparency, and its colour profile.

    Nothing else of the source stays with it: what Pillow finds there it writes again (a comment, for one).
    """
    profile = image.info.get("icc_profile")
    see_through = image.has_transparency_data
    if image.mode in {"CMYK", "LAB"}:
        image, profile = _to_srgb(image, profile), None
    elif image.mode.startswith("I;16") or (image.mode == "I" and media_type == PNG):
        image = _scaled(image)
    elif image.mode in {"I", "F"}:
        raise InvalidRequest(
            f"{name} has {image.mode} samples of 32 bits, which do not say what is white; convert it to 8 or 16 bits"
        )
    elif image.mode in {"1", "L", "La", "LA"}:
        image = image.convert("LA" if see_through else "L")
    else:
        image = image.convert("RGBA" if see_through else "RGB")
    image.info = {}
    space = {"L": b"GRAY", "LA": b"GRAY"}.get(image.mode, b"RGB ")
    # The profile of another space would give wrong colours.
    return image, None if profile and profile[16:20] in _SPACES - {space} else profile


def _scaled(image: "PillowImage") -> "PillowImage":
    """16-bit grey as 8-bit grey: `convert` alone would clip it; the one grey that a PNG calls transparent stays so."""
    from PIL import ImageMath

    wide, clear = image.convert("I"), image.info.get("transparency")
    grey = wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if isinstance(clear, int):
        grey.putalpha(ImageMath.lambda_eval(lambda of: (of["wide"] != clear) * 255, wide=wide).convert("L"))
    return grey


def _opaque(image: "PillowImage") -> "PillowImage":
    """The picture without its transparency, where nothing in it is transparent."""
    if image.mode not in {"LA", "RGBA"} or image.getchannel("A").getextrema() != (255, 255):
        return image
    return image.convert("L" if image.mode == "LA" else "RGB")


_SPACES = frozenset({b"RGB ", b"GRAY", b"CMYK", b"Lab "})


def _to_srgb(image: "PillowImage", profile: bytes | None) -> "PillowImage":
    from PIL import ImageCms

    source: Any = ImageCms.createProfile("LAB") if image.mode == "LAB" else profile and io.BytesIO(profile)
    if source:
        try:
            intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
            turned = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), intent, outputMode="RGB", flags=flags
            )
        except (ImageCms.PyCMSError, *UNDECODABLE):
            turned = None  # a profile that cannot be read is as if it were not there
        if turned is not None:
            return turned
    return image.convert("RGB")


def _encoded(image: "PillowImage", media_type: str, quality: int, profile: bytes | None, block: bytes) -> bytes:
    from PIL import Image

    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if block and len(block) <= _LONGEST_EXIF:
        options["exif"] = exif.PREFIX + block
    if media_type == JPEG:
        options |= {"quality": quality, "subsampling": 0 if quality >= _FULL_COLOUR else 2}
        if image.mode in {"LA", "RGBA"}:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    elif media_type == PNG:
        options["compress_level"] = 4
    else:
        options |= {"quality": quality, "method": 3}
        image = image.convert("RGBA" if image.mode == "LA" else "RGB") if image.mode in {"L", "LA"} else image
    out = io.BytesIO()
    image.save(out, NAMES[media_type].upper(), **options)
    return out.getvalue()
