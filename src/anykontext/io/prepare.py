"""An input image made ready: upright, without what is private, in a common format; then fit to one provider.

The way of an image is `load` or `fetch_source`, once `prepare_source`, then for each provider `needs` (pure) and `fit`.
"""

import asyncio
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx

from anykontext.adapting import InputImage, InputLimits
from anykontext.engine.effects import NotDownloaded
from anykontext.engine.needs import fits, needs
from anykontext.io.convert import check_pixels, convert, scale_to
from anykontext.io.download import EXPECTED, USER_AGENT, Receiving, areceive, receive
from anykontext.io.guard import AsyncGuardedClient, GuardedClient, bounded
from anykontext.io.inputs import MAX_BYTES, TAKEN, checked
from anykontext.io.metadata import Keep, Traits, look, strip
from anykontext.io.probe import NAMES, NotAPicture, probe
from anykontext.model.errors import InvalidRequest
from anykontext.model.result import Adjustment

__all__ = ["FETCH_S", "Prepared", "afetch_source", "fetch_source", "fit", "needs", "prepare_source"]

FETCH_S = 30.0
_ENOUGH = 1024  # bytes that tell a picture from a page


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input image that can be sent.

    Attributes:
        image: Upright, 8-bit, a JPEG, PNG or WebP without what is private; or a URL, untouched.
        adjustments: What was done to its pixels; cutting metadata is the documented default, and no adjustment.
    """

    image: InputImage
    adjustments: tuple[Adjustment, ...] = ()


def prepare_source(image: InputImage, metadata: Keep = "private") -> Prepared:
    """Cut metadata losslessly where the pixels can stay as they are, else make the picture anew.

    It is made anew when it is to be turned, has several frames, more than 8 bits or print colours, or is of a format
    that no provider takes. With `keep` its EXIF block then goes along, saying that the picture is upright.

    Args:
        image: As `load` or `fetch_source` gives it; a URL that was not fetched comes back as it is.
        metadata: What is cut; see `anykontext.io.metadata`.

    Raises:
        InvalidRequest: It has too many pixels, is damaged, or cannot be decoded here.
    """
    data, media_type = image.data, image.media_type
    if data is None or media_type is None:
        return Prepared(image)
    check_pixels(image.width or 0, image.height or 0, image.name)
    traits = look(data, media_type)
    reasons = _reasons(media_type, traits)
    if not reasons:
        stripped = strip(data, media_type, metadata)
        return Prepared(image if stripped is data else replace(image, data=bytes(stripped)))
    made = convert(data, media_type, image.name, metadata)
    if made.first_of_many and not traits.animated:
        reasons.append("only its first frame or page is taken")
    new = replace(image, data=made.data, media_type=made.media_type, width=made.width, height=made.height)
    asked = _described(NAMES[media_type], image.width, image.height, traits)
    sent = _described(NAMES[made.media_type], made.width, made.height)
    return Prepared(new, (Adjustment("images", asked, sent, "; ".join(reasons)),))


def _reasons(media_type: str, traits: Traits) -> list[str]:
    """Why the pixels cannot stay as they are."""
    found = {
        "no provider is known to take this format": media_type not in TAKEN,
        "it is turned upright, because providers may not heed its orientation tag": traits.orientation != 1,
        "only its first frame is taken": traits.animated,
        "print colours (CMYK) become sRGB": traits.print_colours,
        "more than 8 bits in a channel become 8": traits.deep,
        "its parts cannot be told apart, so that nothing could be cut out": traits.damaged,
    }
    return [reason for reason, holds in found.items() if holds]


def _described(name: str, width: int | None, height: int | None, traits: Traits | None = None) -> str:
    said = [name if width is None else f"{name} {width} x {height}"]
    if traits is not None:
        said += [f"orientation {traits.orientation}"] if traits.orientation != 1 else []
        said += ["animated"] if traits.animated else []
        said += ["CMYK"] if traits.print_colours else []
        said += ["more than 8 bits"] if traits.deep else []
    return ", ".join(said)


def fit(image: InputImage, limits: InputLimits) -> InputImage:
    """Carry out what `needs` says of an image and a provider; the same image when there is nothing to do.

    Raises:
        InvalidRequest: It cannot be made to fit; the message says why.
    """
    found = needs(image, limits)
    if isinstance(found, str):
        raise InvalidRequest(f"{image.name}: {found}")
    if image.url is not None and "url" in limits.forms:
        return image if image.data is None else InputImage(None, image.url, None, None, None, image.name)
    if image.data is None or image.media_type is None:
        raise InvalidRequest(f"{image.name} was not fetched, and the provider does not fetch URLs")
    if fits(image, limits):
        return image
    made = scale_to(
        image.data,
        image.media_type,
        image.name,
        max_pixels=limits.max_pixels,
        max_bytes=limits.max_bytes,
        media_types=limits.media_types,
    )
    return replace(image, data=made.data, media_type=made.media_type, width=made.width, height=made.height)


@dataclass(frozen=True, slots=True)
class _Link:
    url: str
    within_s: float


class _Arriving(io.BytesIO):
    """The bytes of a picture as they arrive; a page is noticed before all of it has come."""

    def write(self, chunk: object, /) -> int:
        seen = self.tell()
        count = super().write(chunk)  # type: ignore[arg-type]  # io.BytesIO says what it takes
        if seen < _ENOUGH <= seen + count:
            try:
                probe(self.getvalue())
            except NotAPicture as error:
                if not error.cut:
                    raise
        return count


def fetch_source(
    image: InputImage,
    client: httpx.Client,
    *,
    within_s: float = FETCH_S,
    max_bytes: int = MAX_BYTES,
    clock: Callable[[], float] = time.monotonic,
    user_agent: str = USER_AGENT,
) -> InputImage:
    """Fetch an image given as a URL, for providers that take none: no key, no private address, bounded.

    Args:
        image: With a `url` and no `data`; with data it comes back as it is.
        client: From `guarded_client`; another one is refused, because it may go anywhere.
        within_s: Seconds for connecting, redirects, head and body together.
        max_bytes: The largest image, in bytes.
        clock: Seconds on a clock that only goes forward.
        user_agent: Our name in the request.

    Returns:
        The image with both its URL and its bytes, checked by content as `load` does.

    Raises:
        InvalidRequest: It could not be fetched, or is no image; nothing was paid.
    """
    if image.url is None or image.data is not None:
        return image
    _check_guarded(image, client)
    receiving = Receiving(_Link(image.url, within_s), clock=clock, max_bytes=max_bytes, user_agent=user_agent)
    arriving = _Arriving()
    try:
        with bounded(receiving.seconds_left):
            receive(client, receiving, arriving)
    except (NotAPicture, *EXPECTED) as error:
        raise _not_fetched(image, receiving, error) from None
    return _fetched(image, arriving)


async def afetch_source(
    image: InputImage,
    client: httpx.AsyncClient,
    *,
    within_s: float = FETCH_S,
    max_bytes: int = MAX_BYTES,
    clock: Callable[[], float] = time.monotonic,
    user_agent: str = USER_AGENT,
) -> InputImage:
    """As `fetch_source`, for asyncio; the client is from `async_guarded_client`."""
    if image.url is None or image.data is not None:
        return image
    _check_guarded(image, client)
    receiving = Receiving(_Link(image.url, within_s), clock=clock, max_bytes=max_bytes, user_agent=user_agent)
    arriving = _Arriving()
    try:
        async with asyncio.timeout(max(receiving.seconds_left(), 0)):
            await areceive(client, receiving, arriving)
    except (NotAPicture, *EXPECTED) as error:
        raise _not_fetched(image, receiving, error) from None
    return _fetched(image, arriving)


def _check_guarded(image: InputImage, client: httpx.Client | httpx.AsyncClient) -> None:
    if not isinstance(client, GuardedClient | AsyncGuardedClient):
        raise InvalidRequest(
            f"{image.name} is not fetched: your http_client resolves names itself, so that private addresses "
            "could not be refused; give the image's bytes"
        )


def _not_fetched(image: InputImage, receiving: Receiving, error: Exception) -> InvalidRequest:
    if isinstance(error, NotAPicture):
        return InvalidRequest(f"{image.name}: this is {error}; give the URL of the image itself")
    told: NotDownloaded = receiving.verdict(error)
    return InvalidRequest(f"the image could not be fetched: {told.message}. Nothing was sent to a provider")


def _fetched(image: InputImage, arriving: io.BytesIO) -> InputImage:
    return replace(checked(arriving.getvalue(), image.name), url=image.url)
