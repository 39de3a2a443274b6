"""Pictures as files: written whole or not at all, decoded, and saved under the name that the caller wants."""

import hashlib
import io
import logging
import os
import secrets
import struct
import zlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from anykontext.io.probe import JPEG, NAMES, PNG, WEBP
from anykontext.model.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageFile import ImageFile

QUALITY = 95

_LOG = logging.getLogger("anykontext")
_ORIENTATION = 0x0112
_SUFFIXES = {JPEG: ".jpg", PNG: ".png", WEBP: ".webp"}
_MEDIA_TYPES = {".jpg": JPEG, ".jpeg": JPEG, ".png": PNG, ".webp": WEBP}

# What Pillow's decoders raise on hostile bytes.
UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


def suffix_of(media_type: str) -> str:
    """The suffix of a file of this type, with its dot; a JPEG's is `.jpg`.

    Raises:
        ValueError: It is no type that we write.
    """
    if media_type not in _SUFFIXES:
        raise ValueError(f"no suffix is known for {media_type!r}")
    return _SUFFIXES[media_type]


def media_type_of(path: str | PathLike[str]) -> str | None:
    """The type that a file's suffix promises; None when it has none, or one that we do not write."""
    return _MEDIA_TYPES.get(Path(path).suffix.lower())


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file so that it is there whole or not at all (F57).

    Raises:
        FileExistsError: It exists, and `overwrite` is not set; a file that appears meanwhile is not replaced either.
        FileNotFoundError: Its folder does not exist.
        OSError: It cannot be written.
    """
    if overwrite:
        path = Path(os.path.realpath(path))  # a link stays a link, and what it names is replaced
    elif os.path.lexists(path):
        raise _exists(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(path.parent)!r} does not exist; create it first")
    temporary = path.with_name(f".anykontext-{secrets.token_hex(8)}.part")
    try:
        # Not tempfile: its files are for the owner alone, and this one is the caller's, so umask decides.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            _place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(f"{str(path)!r} exists; choose another name, or set overwrite=True")


def _place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, never over another one: the first of two at the same time wins."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        # A file system without hard links: claim the name with an empty file, then replace that one.
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise _exists(path) from None
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def decode(data: bytes, media_type: str, size: tuple[int, int] | None = None) -> "PillowImage":
    """The pixels of a JPEG, PNG or WebP, all of them; no open file stays behind.

    The decoder is chosen by type and not by `Image.open`, so that no other one ever sees the bytes, and because its
    bomb check warns through global state; who calls has compared the header's size with a limit.

    Args:
        data: The whole file.
        media_type: As found by content.
        size: What the header said, in pixels; the decoder must see the same before it makes room for them (F36).

    Raises:
        One of `UNDECODABLE`: The file is damaged or cut.
    """
    image = _decoder(media_type)(io.BytesIO(data))
    if size is not None and image.size != size:
        raise ValueError(f"its headers disagree about the size: {size} and {image.size}")
    image.load()
    return image


def _decoder(media_type: str) -> "type[ImageFile]":
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    return {JPEG: JpegImageFile, PNG: PngImageFile, WEBP: WebPImageFile}[media_type]


def upright(image: "PillowImage") -> "PillowImage":
    """The image turned as its EXIF tag says, for formats and providers that do not keep or obey the tag."""
    from PIL import ImageOps

    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except UNDECODABLE:
        return image  # metadata that cannot be read asks for nothing
    return ImageOps.exif_transpose(image) if turned else image


def save_image(data_path: Path, media_type: str, target: str | PathLike[str], *, overwrite: bool) -> Path:
    """Save a stored image under a name of the caller's; the meaning of `ResultImage.save`.

    Args:
        data_path: The stored bytes.
        media_type: What they are.
        target: A file; without a suffix the right one is added. A folder (one that exists, or a name that ends in a
            slash) gets `image-<first 8 digits of the SHA-256>` with the right suffix.
        overwrite: Whether a file of that name is replaced.

    Returns:
        The path of the file.

    Raises:
        FileExistsError: The file exists, and `overwrite` is not set.
        FileNotFoundError: Its folder does not exist.
        InvalidRequest: The suffix names no image format that we can write.
    """
    if not isinstance(target, str | PathLike) or not os.fspath(target):
        raise InvalidRequest(f"a file or folder to save to is needed, not {target!r}")
    data = data_path.read_bytes()
    text = os.path.expanduser(os.fspath(target))  # noqa: PTH111 - Path would drop the slash at the end
    path = Path(text)
    if path.is_dir() or text.endswith(("/", os.sep)):
        path /= f"image-{hashlib.sha256(data).hexdigest()[:8]}{suffix_of(media_type)}"
    elif not path.suffix:
        path = path.with_name(path.name + suffix_of(media_type))
    wanted = media_type_of(path)
    if wanted is None:
        raise InvalidRequest(
            f"an image cannot be saved as {path.suffix!r} ({str(path)!r}); use .jpg, .jpeg, .png or .webp, or no suffix"
        )
    if wanted == media_type:
        write_atomically(path, data, overwrite=overwrite)
        return path
    write_atomically(path, _converted(data, media_type, wanted), overwrite=overwrite)
    _LOG.warning(
        "%s: the provider's %s was converted to %s because of the suffix; save without one to keep its bytes",
        *(path, NAMES[media_type], NAMES[wanted]),
    )
    return path


def _converted(data: bytes, media_type: str, wanted: str) -> bytes:
    from PIL import Image

    image = upright(decode(data, media_type))
    profile = image.info.get("icc_profile")
    if wanted == JPEG and image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    elif image.mode not in _PLAIN_MODES[wanted]:
        # The profile of another mode (CMYK) would give wrong colours.
        profile = profile if image.mode in {"P", "RGBA", "LA", "1"} else None
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    encoded = io.BytesIO()
    image.save(encoded, NAMES[wanted].upper(), quality=QUALITY, icc_profile=profile)
    return encoded.getvalue()


_PLAIN_MODES = {JPEG: {"L", "RGB"}, PNG: {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}, WEBP: {"RGB", "RGBA"}}
