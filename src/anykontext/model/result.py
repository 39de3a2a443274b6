"""What comes back: the images, who made them, at what price, and what was changed on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from anykontext.model.frozen import thaw
from anykontext.model.money import Cost

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from PIL.Image import Image as PillowImage

    from anykontext.model.errors import ProviderError
    from anykontext.model.job import JobHandle, Mode


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One difference between what was asked and what is sent.

    Attributes:
        option: The canonical option, or for `by="provider_options"` the provider's own field.
        asked: What the request said.
        sent: What is sent; None when the option is left out.
        reason: Why, in words.
        more_permissive: Whether the result is, or may be, looser than asked (safety).
        by: `negotiation`, or `provider_options` when the caller overrode a field.
    """

    option: str
    asked: Any
    sent: Any
    reason: str
    more_permissive: bool = False
    by: Literal["negotiation", "provider_options"] = "negotiation"

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping."""
        names = ("option", "asked", "sent", "reason", "more_permissive", "by")
        return {name: thaw(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            option=str(found["option"]),
            asked=found.get("asked"),
            sent=found.get("sent"),
            reason=str(found.get("reason", "")),
            more_permissive=bool(found.get("more_permissive")),
            by="provider_options" if found.get("by") == "provider_options" else "negotiation",
        )

    def __str__(self) -> str:
        change = "left out" if self.sent is None else f"{self.asked!r} became {self.sent!r}"
        looser = ", which is or may be more permissive" if self.more_permissive else ""
        return f"{self.option}: {change}{looser} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One candidate that was tried.

    Attributes:
        provider: The name of the provider.
        model: The canonical name of the model.
        outcome: `succeeded`, `skipped`, or the word of the error's kind.
        maybe_charged: Whether money may have been spent on it.
        seconds: How long it took.
        message: What the error said; empty when it succeeded.
    """

    provider: str
    model: str
    outcome: str
    maybe_charged: bool
    seconds: float
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping."""
        return {
            "provider": self.provider,
            "model": self.model,
            "outcome": self.outcome,
            "maybe_charged": self.maybe_charged,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in seconds from the start of the job.

    Attributes:
        submitted: When the provider had accepted; None when it answered with the image at once.
        ready: When the provider said that the image is ready.
        total: When the images were in the spool.
    """

    submitted: float | None
    ready: float
    total: float


class StoredImage(Protocol):
    """An image in the spool: `io/` provides it, so that this layer touches no disk."""

    def read(self) -> bytes:
        """The provider's bytes, untouched."""

    def save(self, path: "str | PathLike[str]", *, overwrite: bool) -> "Path":
        """Write it to a file; see `ResultImage.save`."""

    def pil(self) -> "PillowImage":
        """The decoded picture."""


@dataclass(frozen=True, slots=True)
class ResultImage:
    """One image of a result.

    Attributes:
        media_type: What the bytes are, found by content, such as `image/jpeg`.
        width: In pixels.
        height: In pixels.
        sha256: Of the provider's bytes, in hex.
        source_url: Where it was downloaded, without its signature; None when it came inside the reply.
        expires_at: When that link ends, where that is known.
    """

    media_type: str
    width: int
    height: int
    sha256: str
    source_url: str | None = field(repr=False)
    expires_at: datetime | None
    stored: StoredImage = field(repr=False, compare=False)

    @property
    def data(self) -> bytes:
        """The provider's bytes, untouched, read from the spool on each access."""
        return self.stored.read()

    def save(self, path: "str | PathLike[str]", *, overwrite: bool = False) -> "Path":
        """Write the image to a file and return its path.

        Without a suffix, or given a folder, the right suffix is added and the bytes are written untouched.
        The suffix of another format converts, which is logged as a warning.

        Raises:
            FileExistsError: The file exists, and `overwrite` is not set.
            FileNotFoundError: Its folder does not exist.
            InvalidRequest: The suffix names no image format that we can write.
        """
        return self.stored.save(path, overwrite=overwrite)

    def pil(self) -> "PillowImage":
        """The decoded picture as a Pillow image of the caller's own."""
        return self.stored.pil()


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The images of a job that succeeded, and all that is known about how they were made.

    Attributes:
        images: At least one.
        provider: The provider that made them, by its name in the config.
        adapter: The adapter that spoke with it.
        model: The canonical name of the model.
        mode: `edit` or `generate`.
        seed: The seed that the provider used; None when it does not tell.
        prompt: The prompt as the provider used it; None when it does not tell.
        cost: What these images cost.
        spent: `cost` and the attempts before it that may have been charged.
        adjustments: The differences between what was asked and what was sent.
        attempts: What was tried, in order; the last one succeeded.
        errors: Of images that were not made, when others were.
        job: The handle of the attempt; None where the provider names no task.
        job_id: Our id of the job.
        timings: Where the time went.
        raw: The provider's last reply about each task, without signatures, by task id.
    """

    images: tuple[ResultImage, ...]
    provider: str
    adapter: str
    model: str
    mode: "Mode"
    seed: int | None
    prompt: str | None
    cost: Cost
    spent: Cost
    adjustments: tuple[Adjustment, ...]
    attempts: tuple[Attempt, ...]
    errors: "tuple[ProviderError, ...]"
    job: "JobHandle | None"
    job_id: str
    timings: Timings
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def image(self) -> ResultImage:
        """The first image."""
        return self.images[0]

    def save(self, path: "str | PathLike[str]", *, overwrite: bool = False) -> "Path":
        """Write the first image; see `ResultImage.save`. The others are saved one by one from `images`."""
        return self.image.save(path, overwrite=overwrite)
