"""Pictures on their way in: how the caller hands one over, and the checked form that adapters see.

Nothing is opened here; `io/inputs.py` reads what these values point at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from anykontext.model.errors import InvalidRequest

if TYPE_CHECKING:
    from os import PathLike

    from PIL.Image import Image as PillowImage

    ImageInput: TypeAlias = str | bytes | PathLike[str] | IO[bytes] | PillowImage | "ImageSource"

Form = Literal["path", "bytes", "url", "data", "file", "pil"]
_URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One input image as the caller handed it over, not yet read.

    Attributes:
        form: What `value` is: a `path`, `bytes`, an http(s) `url`, a `data` URI, an open binary `file`, a `pil` image.
        value: The thing itself; never in a repr.
    """

    form: Form
    value: Any = field(repr=False)

    @property
    def name(self) -> str:
        """A name for messages: the path or the URL's host and path, never the bytes."""
        if self.form == "path":
            return repr(str(self.value))
        return repr(self.value.split("?")[0]) if self.form == "url" else f"the image given as {self.form}"

    @classmethod
    def of(cls, given: Any) -> "ImageSource":
        """Tell by type, and for a text by its first letters, what was handed over.

        Raises:
            InvalidRequest: It is none of the forms we know.
        """
        if isinstance(given, ImageSource):
            return given
        if isinstance(given, bytes | bytearray | memoryview):
            return cls("bytes", bytes(given))
        if isinstance(given, str):
            return cls._of_text(given)
        if hasattr(given, "__fspath__"):
            return cls("path", given.__fspath__())
        if callable(getattr(given, "read", None)):
            return cls("file", given)
        if type(given).__module__.startswith("PIL."):
            return cls("pil", given)
        raise InvalidRequest(
            f"an image is a path, bytes, URL, data URI, binary file or PIL image, not {type(given).__name__}"
        )

    @classmethod
    def _of_text(cls, text: str) -> "ImageSource":
        if not text.strip():
            raise InvalidRequest("an image is needed, and the path given is empty")
        if text[:5].lower() == "data:":
            return cls("data", text)
        if _URL.match(text):
            if text.split(":", 1)[0].lower() not in {"http", "https"}:
                raise InvalidRequest(f"an image URL is http or https, not {text.split(':', 1)[0]!r}")
            return cls("url", text)
        return cls("path", text)


def sources(given: Any) -> tuple[ImageSource, ...]:
    """One image or a list of them as a tuple of sources."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray | memoryview):
        return tuple(ImageSource.of(one) for one in given)
    return (ImageSource.of(given),)


@dataclass(frozen=True, slots=True)
class InputImage:
    """One input image, read and checked: what negotiation and adapters see.

    Attributes:
        data: The bytes to send; None when the provider is to fetch `url` itself.
        url: The http(s) URL, where the caller gave one.
        media_type: Found by content, such as `image/jpeg`; None for a URL that was not fetched.
        width: In pixels; None for a URL that was not fetched.
        height: In pixels; None for a URL that was not fetched.
        name: For messages.
    """

    data: bytes | None = field(repr=False)
    url: str | None = field(repr=False)
    media_type: str | None
    width: int | None
    height: int | None
    name: str = "the image"
