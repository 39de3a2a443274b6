"""The spool: where finished images lie, named by the hash of their content, before and after anyone asks for them."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING

from anykontext.io.files import UNDECODABLE, decode, save_image, sync_folder
from anykontext.io.probe import JPEG, PNG, WEBP, NotAPicture, complete, probe
from anykontext.model.errors import ConfigurationError
from anykontext.model.result import ResultImage

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_PIXELS = 100_000_000
MAX_REJECTED = 20
MAX_BYTES = 10 * 1024**3  # of all images that are kept
_STALE_S = 24 * 3600.0
_YOUNG_S = 3600.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadImage(ValueError):
    """What came is no image that can be used; the message says why.

    Attributes:
        cut: Whether it only ends too early, so that another try may bring all of it.
    """

    def __init__(self, message: str, *, cut: bool = False) -> None:
        super().__init__(message)
        self.cut = cut


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """An image in the spool: the `StoredImage` of a result.

    Attributes:
        path: The file.
        media_type: What it is, found by content.
    """

    path: Path
    media_type: str

    def read(self) -> bytes:
        """The provider's bytes, untouched.

        Raises:
            OSError: The spool was emptied.
        """
        return self.path.read_bytes()

    def save(self, path: str | PathLike[str], *, overwrite: bool) -> Path:
        """Write it to a file; see `ResultImage.save`."""
        return save_image(self.path, self.media_type, path, overwrite=overwrite)

    def pil(self) -> "PillowImage":
        """The decoded picture, the caller's own."""
        return decode(self.read(), self.media_type)


class Spool:
    """A folder of images, readable by the user alone; safe to use from threads and processes at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def ensure(self) -> None:
        """Make sure that images can be written here, before anything is paid; sweep what a crash left behind.

        Raises:
            ConfigurationError: They cannot.
        """
        try:
            with self.receive() as incoming:
                incoming.write(b"\0")
            self._sweep()
        except OSError as error:
            raise ConfigurationError(
                f"the spool {str(self.root)!r} cannot be written ({error.strerror or error}), so no result could be "
                "kept; make it writable, or set ANYKONTEXT_HOME to a folder that is"
            ) from error

    @contextmanager
    def receive(self) -> Iterator["Incoming"]:
        """Take in one image: `write` its bytes as they arrive, then `keep` it. Without `keep` nothing stays.

        Raises:
            OSError: The folder cannot be written.
        """
        handle, name = tempfile.mkstemp(dir=self._folder("incoming"))
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield Incoming(self, file, path)
        finally:
            path.unlink(missing_ok=True)

    def find(self, sha256: str) -> SpooledImage | None:
        """The image with this hash (64 hex digits), if it is here."""
        if not _SHA256.fullmatch(sha256):  # a hash from a ledger or handle never leads out of the spool (F58)
            return None
        path = self.root / sha256[:2] / sha256
        try:
            return SpooledImage(path, probe(path.read_bytes()).media_type)
        except (FileNotFoundError, NotAPicture):
            return None

    def trim(self, keep_s: float, max_bytes: int = MAX_BYTES) -> int:
        """Delete images that are older than `keep_s` seconds, then the oldest until the rest has at most `max_bytes`.

        One that is younger than an hour stays: somebody may be about to read it. Returns how many were deleted.
        """
        files = [(path, *_age_and_size(path)) for path in self.root.glob("[0-9a-f][0-9a-f]/*")]
        left, deleted = sum(size for _, _, size in files), 0
        for path, age, size in sorted(files, key=lambda one: -one[1]):
            if age < _YOUNG_S or (age <= keep_s and left <= max_bytes):
                continue
            path.unlink(missing_ok=True)
            left, deleted = left - size, deleted + 1
        return deleted

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        if not folder.is_dir():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _accept(self, path: Path, sha256: str) -> Path:
        target = self._folder(sha256[:2]) / sha256
        path.replace(target)
        sync_folder(target.parent)
        return target

    def _reject(self, path: Path, sha256: str) -> Path:
        """Keep what is no image for diagnosis (F37), the newest few."""
        folder = self._folder("rejected")
        target = folder / sha256
        path.replace(target)
        for old in sorted(folder.iterdir(), key=_age)[MAX_REJECTED:]:
            old.unlink(missing_ok=True)
        return target

    def _sweep(self) -> None:
        for left in self._folder("incoming").iterdir():
            if _age(left) > _STALE_S:
                left.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a file was written."""
    return _age_and_size(path)[0]


def _age_and_size(path: Path) -> tuple[float, int]:
    """Seconds since a file was written, and its bytes; another process may have taken it away meanwhile."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0.0, 0
    return time.time() - found.st_mtime, found.st_size


class Incoming:
    """An image that is arriving: its bytes go to a temporary file and into the hash; none stay in memory."""

    def __init__(self, spool: Spool, file: IO[bytes], path: Path) -> None:
        self._spool = spool
        self._file = file
        self._path = path
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Add bytes.

        Raises:
            OSError: The disk is full or gone.
        """
        self._file.write(chunk)
        self._hash.update(chunk)

    def keep(
        self, *, max_pixels: int = MAX_PIXELS, source_url: str | None = None, expires_at: datetime | None = None
    ) -> ResultImage:
        """Decode all of it, and only then give it its place. The bytes are safe on disk before the decoding begins.

        Args:
            max_pixels: Width x height beyond which it is not decoded (F36).
            source_url: Where it came from, without its signature.
            expires_at: When that link ends.

        Raises:
            BadImage: It is no image that can be used; the message tells where its bytes are kept.
            OSError: It cannot be written.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        sha256 = self._hash.hexdigest()
        try:
            media_type, width, height = check_image(self._path, max_pixels)
        except BadImage as error:
            kept = self._spool._reject(self._path, sha256)
            raise BadImage(f"{error} (its bytes are kept in {str(kept)!r})", cut=error.cut) from error
        stored = SpooledImage(self._spool._accept(self._path, sha256), media_type)
        return ResultImage(media_type, width, height, sha256, source_url, expires_at, stored)


def check_image(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[str, int, int]:
    """Check by content, size and a full decode that a file is a JPEG, PNG or WebP; safe in threads.

    Returns:
        Media type, width and height in pixels.

    Raises:
        BadImage: It is not; the message says what it is, or what is wrong with it.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    try:
        picture = probe(data)
        missing = complete(data, picture)
    except NotAPicture as error:
        raise BadImage(f"what came is {error}", cut=error.cut) from error
    if picture.media_type not in {JPEG, PNG, WEBP} or picture.width is None or picture.height is None:
        raise BadImage(f"what came is a {picture.name}; only JPEG, PNG and WebP are taken as results")
    if picture.width * picture.height > max_pixels:
        raise BadImage(
            f"the {picture.name} would have {picture.width} x {picture.height} pixels, "
            f"more than the {max_pixels / 1e6:g} megapixels that are decoded"
        )
    if missing:
        raise BadImage(f"{missing} (truncated)", cut=True)
    try:
        decode(data, picture.media_type, (picture.width, picture.height))
    except UNDECODABLE as error:
        raise BadImage(f"the {picture.name} is damaged or truncated: {error}") from error
    return picture.media_type, picture.width, picture.height
