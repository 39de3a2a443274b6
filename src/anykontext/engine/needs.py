"""Whether an input image fits a provider, and what would make it fit: decided from facts alone (pure)."""

from math import sqrt

from anykontext.adapting import InputImage, InputLimits
from anykontext.model.result import Adjustment

MADE = JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"  # what we can make


def needs(image: InputImage, limits: InputLimits) -> Adjustment | str | None:
    """What must happen to an image before a provider takes it; `fit` carries it out.

    Args:
        image: As `prepare_source` gives it. A URL that was fetched has both `url` and `data`: a provider that fetches
            URLs itself still gets the URL, as the caller gave it.
        limits: What the provider takes.

    Returns:
        None when it is taken as it is; an `Adjustment` when it can be made to fit; the reason, in words, when it
        cannot.
    """
    if image.url is not None and "url" in limits.forms:
        return None
    if "bytes" not in limits.forms:
        return f"it takes images as {' or '.join(limits.forms)} only, and {image.name} is none"
    if not set(limits.media_types) & set(MADE):
        return f"it takes {', '.join(limits.media_types)}, and nothing that {image.name} could be made into"
    reasons = ["it does not fetch URLs, so the image is fetched here"] if image.url is not None else []
    if image.data is None:
        return Adjustment("images", "a URL", "its bytes", "; ".join(reasons))
    if not fits(image, limits):
        reasons += _misfits(image, limits)
    if not reasons:
        return None
    size = f"{image.width} x {image.height}"
    asked = f"{_word(image.media_type)} {size}, {len(image.data):,} bytes"
    return Adjustment(
        "images", f"a URL ({asked})" if image.url is not None else asked, _sent(image, limits), "; ".join(reasons)
    )


def _misfits(image: InputImage, limits: InputLimits) -> list[str]:
    assert image.data is not None
    found = []
    if image.media_type not in limits.media_types:
        found.append(f"it takes {' or '.join(map(_word, limits.media_types))} only")
        if not set(limits.media_types) & {PNG, WEBP}:
            found.append("transparent parts become white")
    if (image.width or 1) * (image.height or 1) > limits.max_pixels:
        found.append(f"it takes at most {limits.max_pixels:,} pixels")
    if len(image.data) > limits.max_bytes:
        found.append(f"it takes at most {limits.max_bytes:,} bytes")
    return found


def _sent(image: InputImage, limits: InputLimits) -> str:
    assert image.data is not None
    width, height = target_size(image.width or 1, image.height or 1, limits.max_pixels)
    own = image.media_type in limits.media_types
    if len(image.data) > limits.max_bytes:
        return f"at most {width} x {height}, at most {limits.max_bytes:,} bytes"
    types = [image.media_type] if own else [one for one in MADE if one in limits.media_types]
    return f"{' or '.join(map(_word, types))} {width} x {height}"


def fits(image: InputImage, limits: InputLimits) -> bool:
    """Whether the bytes of an image can be sent as they are."""
    assert image.data is not None
    pixels = (image.width or 1) * (image.height or 1)
    return (
        image.media_type in limits.media_types and len(image.data) <= limits.max_bytes and pixels <= limits.max_pixels
    )


def target_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """The largest size of the same ratio with at most so many pixels; never larger than it is, no side below 1."""
    if width * height <= max_pixels:
        return width, height
    scale = sqrt(max_pixels / (width * height))
    short = max(1, int(min(width, height) * scale))
    long = min(max(1, int(max(width, height) * scale)), max(1, max_pixels // short))
    return (long, short) if width >= height else (short, long)


def _word(media_type: str | None) -> str:
    return "WebP" if media_type == WEBP else (media_type or "an image").removeprefix("image/").upper()
