"""The shape of a picture, ratio or size, in the words that a provider takes. It is meaning, and never adjusted."""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, log
from typing import Any

from anykontext.adapting import Choices, InputImage, ModeFacts, Ratios, Sizes, Spec
from anykontext.engine.misfit import Misfit
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment

MEGAPIXEL = 1_048_576
AREA = (0.8, 1.2)  # in megapixels, for a size that only has to have a ratio
RATIO_ERROR = 0.02  # a grid that is further off does not keep the input's ratio


def shape_of(
    request: ImageRequest, images: Sequence[InputImage], mode: ModeFacts
) -> tuple[dict[str, Any], list[Adjustment]]:
    """Aspect ratio and size to send: the same picture shape at every provider.

    An edit without a ratio keeps that of its first input: by saying nothing where the provider keeps it, and by a size
    where the provider takes sizes, which would otherwise be its own default.

    Raises:
        Misfit: The shape is not possible there.
    """
    if request.mode == "edit" and request.size is None and request.aspect_ratio is None:
        sizes = mode.options.get("size")
        return _like(images[0], sizes) if isinstance(sizes, Sizes) else ({}, [])
    return _asked(request, mode), []


def needs_pixels(request: ImageRequest, mode: ModeFacts | None) -> bool:
    """Whether the size of the first input must be known to keep its ratio."""
    asked = request.size is not None or request.aspect_ratio is not None
    return request.mode == "edit" and not asked and mode is not None and isinstance(mode.options.get("size"), Sizes)


def _like(image: InputImage, grid: Sizes) -> tuple[dict[str, Any], list[Adjustment]]:
    """The size of about one megapixel whose ratio is nearest to the input's; a small difference is reported."""
    if not image.width or not image.height:
        why = f"the size of {image.name} is not known: give aspect_ratio or size, or hand in the bytes"
        raise Misfit("aspect_ratio", None, None, why)
    ratio = image.width / image.height
    heights = range(_low(grid), _high(grid) + 1, grid.step)
    sizes = [(_snap(height * ratio, grid), height) for height in heights]
    about = [size for size in sizes if AREA[0] <= size[0] * size[1] / MEGAPIXEL <= AREA[1]]
    near = [size for size in about if _error(size, ratio) <= RATIO_ERROR] or sizes
    best = min(near, key=lambda size: (_error(size, ratio), abs(size[0] * size[1] - MEGAPIXEL)))
    sent = f"{best[0]}x{best[1]}"
    if _error(best, ratio) > RATIO_ERROR:
        why = f"no size on its grid is near the input's {image.width}:{image.height}; the nearest is {sent}"
        raise Misfit("aspect_ratio", f"{image.width}:{image.height}", best, why)
    if best[0] * image.height == best[1] * image.width:
        return {"size": best}, []
    reason = "the input's ratio, on its grid of sizes"
    return {"size": best}, [Adjustment("size", f"{image.width}:{image.height}", sent, reason)]


def _error(size: tuple[int, int], ratio: float) -> float:
    """How far a size is from a ratio, as a fraction to three places: closer than that is as good."""
    return round(abs(size[0] / size[1] / ratio - 1), 3)


def _asked(request: ImageRequest, mode: ModeFacts) -> dict[str, Any]:
    ratios, sizes = mode.options.get("aspect_ratio"), mode.options.get("size")
    asked, size = request.aspect_ratio, request.size
    if size is not None:
        if isinstance(sizes, Sizes):
            return {"size": _fitting_size(size, sizes)}
        raise _no_sizes(size, ratios)
    ratio = asked or "1:1"
    width, height = map(int, ratio.split(":"))
    if isinstance(ratios, Choices | Ratios):
        wanted = Fraction(width, height)
        nearest = _nearest(wanted, ratios)
        if wanted != _value(nearest):
            why = f"it takes the ratios {_offered(ratios)}; the nearest to {ratio} is {nearest}"
            raise Misfit("aspect_ratio", ratio, nearest, why)
        return {"aspect_ratio": nearest}
    if isinstance(sizes, Sizes):
        return {"size": _size_of_ratio(width, height, sizes)}
    if asked is None:
        return {}
    raise Misfit("aspect_ratio", ratio, None, "it takes no aspect_ratio")


def _no_sizes(size: tuple[int, int], ratios: Spec | None) -> Misfit:
    if not isinstance(ratios, Choices | Ratios):
        return Misfit("size", size, None, "it takes no size in pixels")
    nearest = _nearest(Fraction(*size), ratios)
    return Misfit("size", size, nearest, f"it takes no size in pixels; the nearest is aspect_ratio={nearest!r}")


def _nearest(wanted: Fraction, ratios: Choices | Ratios) -> str:
    """The nearest ratio that is taken: among a list in the provider's spelling, else in its lowest terms."""
    if isinstance(ratios, Choices):
        shapes = [word for word in ratios.values if ":" in word]
        return min(shapes, key=lambda word: abs(log(_value(word) / wanted)))
    ends = {Fraction(*ratios.narrowest): ratios.narrowest, Fraction(*ratios.widest): ratios.widest}
    inside = min(max(wanted, min(ends)), max(ends))
    width, height = ends.get(inside, (inside.numerator, inside.denominator))
    return f"{width}:{height}"


def _offered(ratios: Choices | Ratios) -> str:
    if isinstance(ratios, Choices):
        return ", ".join(word for word in ratios.values if ":" in word)
    return " to ".join(f"{width}:{height}" for width, height in (ratios.narrowest, ratios.widest))


def _value(ratio: str) -> Fraction:
    return Fraction(*map(int, ratio.split(":")))


def _fitting_size(size: tuple[int, int], grid: Sizes) -> tuple[int, int]:
    nearest = tuple(min(max(round(side / grid.step) * grid.step, _low(grid)), _high(grid)) for side in size)
    if size != nearest:
        why = f"a side is {_low(grid)} to {_high(grid)} pixels in steps of {grid.step}; the nearest is {nearest}"
        raise Misfit("size", size, nearest, f"size {size[0]}x{size[1]} is not possible: {why}")
    return size


def _size_of_ratio(width: int, height: int, grid: Sizes) -> tuple[int, int]:
    """The size of exactly this ratio that is nearest to one megapixel."""
    common = gcd(width, height)
    width, height = width // common, height // common
    unit = grid.step  # k steps of the reduced ratio keep both sides on the grid
    sizes = [(width * unit * k, height * unit * k) for k in range(1, grid.high // unit + 1)]
    possible = [size for size in sizes if all(grid.low <= side <= grid.high for side in size)]
    if not possible:
        side = MEGAPIXEL**0.5
        wide = (Fraction(width, height)) ** Fraction(1, 2)
        nearest = tuple(_snap(side * factor, grid) for factor in (float(wide), 1 / float(wide)))
        why = f"no size of ratio {width}:{height} is on its grid; the nearest is size={nearest}"
        raise Misfit("aspect_ratio", f"{width}:{height}", nearest, why)
    return min(possible, key=lambda size: abs(size[0] * size[1] - MEGAPIXEL))


def _snap(side: float, grid: Sizes) -> int:
    return min(max(round(side / grid.step) * grid.step, _low(grid)), _high(grid))


def _low(grid: Sizes) -> int:
    return -(-grid.low // grid.step) * grid.step


def _high(grid: Sizes) -> int:
    return grid.high // grid.step * grid.step
