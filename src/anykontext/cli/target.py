"""Where images are written: decided and checked before anything is paid, and never over another file."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

from anykontext.cli.failures import NotSaved
from anykontext.cli.say import Say
from anykontext.io.files import media_type_of, suffix_of
from anykontext.model.errors import InvalidRequest
from anykontext.model.result import ResultImage

SUFFIXES = (".jpg", ".png", ".webp")
LONGEST_STEM = 80
NAME_MAX = 255  # bytes, on every file system in common use


@dataclass(frozen=True, slots=True)
class Target:
    """The names that results will get.

    Attributes:
        folder: Where they are written.
        stem: Their name, without number and suffix.
        suffix: As given with -o; empty for that of the image.
        automatic: Whether the name is ours, so that the next free number is taken.
        force: Whether files of a given name are replaced.
    """

    folder: Path
    stem: str
    suffix: str
    automatic: bool
    force: bool

    @classmethod
    def of(cls, out: str | None, source: str, model: str, *, force: bool) -> "Target":
        """The target of `-o OUT`, or without one a new name in the current folder.

        Args:
            out: What was given with -o.
            source: What the result is made from: a file, a URL, or a word.
            model: The model's name.
            force: Whether a file of that name is replaced.

        Raises:
            InvalidRequest: Nothing can be written there.
        """
        if out in {"", "-"}:
            raise InvalidRequest("-o needs the name of a file or folder; an image is not written to standard output")
        stem = f"{_stem_of(source)}-{model.rpartition('/')[2]}"
        if out is None:
            return cls(Path(), stem, "", automatic=True, force=False)
        path = Path(os.path.expanduser(out))  # noqa: PTH111 - Path.expanduser raises for an unknown ~user
        if path.is_dir() or out.endswith(("/", os.sep)):
            return cls(path, stem, "", automatic=True, force=False)
        if path.suffix and media_type_of(path) is None:
            raise InvalidRequest(
                f"an image cannot be written as {path.suffix!r} ({out}); use .jpg, .jpeg, .png or .webp, or no suffix"
            )
        return cls(path.parent, path.stem if path.suffix else path.name, path.suffix, automatic=False, force=force)

    @property
    def output_format(self) -> str | None:
        """The format that the suffix asks for."""
        media_type = media_type_of(f"x{self.suffix}")
        return media_type.partition("/")[2] if media_type else None

    def check(self, images: int, output_format: str | None) -> list[Path]:
        """Make sure that so many images can be written; returns the names that they will get.

        Raises:
            InvalidRequest: They cannot.
        """
        if not self.folder.is_dir():
            what = "is not a folder" if self.folder.exists() else "does not exist; create it first"
            raise InvalidRequest(f"the output folder {str(self.folder)!r} {what}")
        try:
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise InvalidRequest(f"the output folder {str(self.folder)!r} cannot be written: {why}") from None
        suffix = self.suffix or suffix_of(f"image/{(output_format or 'jpeg').replace('jpg', 'jpeg')}")
        try:
            names = self._names(images, suffix)
            folders = [path for path in names if path.is_dir()]
        except OSError as error:  # a name that is too long
            raise InvalidRequest(f"the output cannot be named so: {error.strerror or error}") from None
        for path in names:
            if path in folders:
                raise InvalidRequest(f"the output {str(path)!r} is a folder")
            if os.path.lexists(path) and not path.is_file() and not path.is_symlink():
                raise InvalidRequest(f"the output {str(path)!r} exists and is no file")
            if len(os.fsencode(path.name)) > NAME_MAX:
                raise InvalidRequest(f"the output's name is too long: {len(os.fsencode(path.name))} bytes")
            if os.path.lexists(path) and not self.force:
                raise InvalidRequest(
                    f"the output {str(path)!r} exists; choose another name, or replace it with --force"
                )
        return names

    def _names(self, images: int, suffix: str) -> list[Path]:
        if self.automatic:
            free = self._free()
            return [self.folder / f"{next(free)}{suffix}" for _ in range(images)]
        numbers = [""] if images == 1 else [f"-{number}" for number in range(1, images + 1)]
        return [self.folder / f"{self.stem}{number}{suffix}" for number in numbers]

    def _free(self) -> Iterator[str]:
        """Numbered names that no file has, whatever its format."""
        for number in count(1):
            name = f"{self.stem}-{number}"
            if not any(os.path.lexists(self.folder / (name + suffix)) for suffix in SUFFIXES):
                yield name

    def save(self, images: Sequence[ResultImage], asked: int, say: Say) -> list[Path]:
        """Write the images; one whose name was taken meanwhile gets the next free one beside it, and that is said.

        Raises:
            NotSaved: One cannot be written; the message says where it is kept.
        """
        saved = []
        for index, image in enumerate(images):
            suffix = self.suffix or suffix_of(image.media_type)
            path = self._names(max(asked, len(images)), suffix)[0 if self.automatic else index]
            try:
                saved.append(self._save(image, path, say, replace=self.force and index < asked))
            except (OSError, InvalidRequest) as error:
                before = f" ({', '.join(map(str, saved))} were written)" if saved else ""
                raise NotSaved(
                    f"the image was made, but cannot be written as {str(path)!r}: {error}{before}. "
                    f"It is kept as {getattr(image.stored, 'path', 'a file in the spool')}: copy it from there"
                ) from error
        return saved

    def _save(self, image: ResultImage, path: Path, say: Say, *, replace: bool) -> Path:
        try:
            return image.save(path, overwrite=replace)
        except FileExistsError:
            beside = Target(path.parent, path.stem, path.suffix, automatic=True, force=False)
            for name in beside._free():
                try:
                    found = image.save(path.with_name(name + path.suffix))
                except FileExistsError:
                    continue
                say.warning(f"{str(path)!r} appeared meanwhile; the image was saved as {str(found)!r}")
                return found
            raise


def _stem_of(source: str) -> str:
    """A word for a file's name, from the file or URL that the image is made from."""
    if source.lower().startswith(("http://", "https://")):
        source = unquote(urlsplit(source).path).rstrip("/") or "image"
    elif source == "-" or source[:5].lower() == "data:":
        source = "image"
    stem = re.sub(r"[^\w.-]+", "_", Path(source).stem).strip("._-")
    return stem[:LONGEST_STEM] or "image"
