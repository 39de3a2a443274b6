"""Bring a canonical request into one candidate's ranges, by its facts alone.

Meaning is never adjusted: a candidate that cannot do it does not fit. Dials are fitted or left out, and recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd
from typing import Any

from anykontext.adapting import Choices, Effective, InputImage, ModeFacts, Numbers, Ratios, Sizes, Toggle, json_body
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.submit import Step
from anykontext.model.errors import UnsupportedOption
from anykontext.model.frozen import Frozen
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment
from anykontext.model.words import near

DIALS = ("output_format", "seed", "safety_tolerance", "guidance", "steps", "prompt_upsampling")
MEGAPIXEL = 1_048_576
SHOWN = 200  # characters of a provider option that an adjustment records


@dataclass(slots=True, eq=False)
class Misfit(Exception):
    """Why a candidate cannot do a request.

    Attributes:
        option: The canonical option.
        asked: What was asked for.
        allowed: What it can do, in words or values.
        reason: The whole sentence.
    """

    option: str
    asked: Any
    allowed: Any
    reason: str

    def error(self, provider: str) -> UnsupportedOption:
        """The error for a caller who asked for this one provider."""
        message = f"{provider}: {self.reason}. Nothing was sent"
        return UnsupportedOption(message, option=self.option, asked=self.asked, allowed=self.allowed, provider=provider)


def negotiate(
    request: ImageRequest,
    images: Sequence[InputImage],
    candidate: Candidate,
    policy: Policy,
    *,
    waits: bool = True,
) -> Step:
    """The request as this candidate will get it.

    Args:
        request: What the caller asked for.
        images: Its input images, read and checked, in their order.
        candidate: Whose facts to use.
        policy: Whether dials may be adjusted.
        waits: Whether somebody will poll for the result, which a provider may take away with a webhook.

    Raises:
        Misfit: The candidate cannot do it.
    """
    facts = candidate.provider.adapter.facts
    if candidate.model not in facts.models:
        hosted = ", ".join(facts.models)
        raise Misfit("model", candidate.model, tuple(facts.models), f"it has no {candidate.model}; it hosts {hosted}")
    mode = candidate.facts.modes.get(request.mode)
    if mode is None:
        modes = ", ".join(candidate.facts.modes)
        raise Misfit("images", request.mode, modes, f"{candidate.model} is offered there to {modes} only")
    _check_images(images, mode, candidate)
    if request.webhook_url and facts.webhook_hides_polling and waits:
        why = "with webhook_url it gives nothing to poll: use submit(), and wait for the webhook"
        raise Misfit("webhook_url", request.webhook_url, None, why)
    shape = _shape(request, mode)
    meaning = {name: _meant(name, getattr(request, name), mode) for name in ("translate_prompt", "watermark")}
    dials, adjustments = _dials(request, mode, policy)
    extra, overrides = _extra(request, candidate)
    orders = tuple(
        Effective(
            model=candidate.model,
            facts=candidate.facts,
            mode=request.mode,
            prompt=request.prompt,
            images=tuple(images),
            num_images=count,
            webhook_url=request.webhook_url,
            extra=extra,
            **shape,
            **meaning,
            **dials,
        )
        for count in _split(request.num_images, candidate)
    )
    price = candidate.price(request.mode).times(request.num_images)
    return Step(candidate, orders, (*adjustments, *overrides), price)


def _check_images(images: Sequence[InputImage], mode: ModeFacts, candidate: Candidate) -> None:
    if len(images) > mode.max_images:
        why = f"{candidate.model} takes at most {mode.max_images} input images there, and {len(images)} were given"
        raise Misfit("images", len(images), mode.max_images, why)
    limits = candidate.provider.adapter.facts.inputs
    for image in images:
        if image.data is None:
            if "url" not in limits.forms:
                raise Misfit("images", "url", limits.forms, f"it does not fetch URLs ({image.name})")
            continue
        if "bytes" not in limits.forms:
            raise Misfit("images", "bytes", limits.forms, f"it takes images as {' or '.join(limits.forms)} only")
        if image.media_type not in limits.media_types:
            formats = ", ".join(limits.media_types)
            raise Misfit(
                "images", image.media_type, formats, f"it takes {formats}, and {image.name} is {image.media_type}"
            )
        if len(image.data) > limits.max_bytes:
            why = f"{image.name} has {len(image.data):,} bytes, and it takes at most {limits.max_bytes:,}"
            raise Misfit("images", len(image.data), limits.max_bytes, why)
        pixels = (image.width or 0) * (image.height or 0)
        if pixels > limits.max_pixels:
            why = f"{image.name} has {image.width} x {image.height} pixels, and it takes at most {limits.max_pixels:,}"
            raise Misfit("images", pixels, limits.max_pixels, why)


def _split(count: int, candidate: Candidate) -> list[int]:
    """How many images each task is to make."""
    per_task = candidate.provider.adapter.facts.images_per_task
    tasks = ceil(count / per_task)
    most = min((limit for limit in candidate.limits if limit is not None), default=None)
    if most is not None and tasks > most:
        why = f"{count} images need {tasks} tasks at once, and it runs at most {most}"
        raise Misfit("num_images", count, most * per_task, why)
    return [min(per_task, count - index * per_task) for index in range(tasks)]


def _shape(request: ImageRequest, mode: ModeFacts) -> dict[str, Any]:
    """Aspect ratio and size: the same picture shape at every provider, or a misfit."""
    ratios, sizes = mode.options.get("aspect_ratio"), mode.options.get("size")
    asked, size = request.aspect_ratio, request.size
    if size is not None:
        if isinstance(sizes, Sizes):
            return {"size": _fitting_size(size, sizes)}
        width, height = size
        ratio = f"{width // gcd(width, height)}:{height // gcd(width, height)}"
        raise Misfit("size", size, None, f"it takes no size in pixels; the nearest is aspect_ratio={ratio!r}")
    if asked is None and request.mode == "edit":
        return {}
    ratio = asked or "1:1"
    width, height = map(int, ratio.split(":"))
    if isinstance(ratios, Ratios):
        if not Fraction(*ratios.narrowest) <= Fraction(width, height) <= Fraction(*ratios.widest):
            end = ratios.narrowest if Fraction(width, height) < Fraction(*ratios.narrowest) else ratios.widest
            nearest = f"{end[0]}:{end[1]}"
            raise Misfit(
                "aspect_ratio", ratio, nearest, f"aspect_ratio {ratio} is beyond its range; the nearest is {nearest}"
            )
        return {"aspect_ratio": ratio}
    if isinstance(sizes, Sizes):
        return {"size": _size_of_ratio(width, height, sizes)}
    if asked is None:
        return {}
    raise Misfit("aspect_ratio", ratio, None, "it takes no aspect_ratio")


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


def _meant(name: str, value: Any, mode: ModeFacts) -> Any:
    """An option that is part of the meaning: sent where it is supported, a misfit where it was asked for and is not."""
    if name in mode.options:
        return value
    if value:
        raise Misfit(name, value, None, f"it does not support {name}")
    return None


def _dials(request: ImageRequest, mode: ModeFacts, policy: Policy) -> tuple[dict[str, Any], list[Adjustment]]:
    """Fit every dial; what the caller did not set is our default, and is not reported when it cannot be sent."""
    sent: dict[str, Any] = {}
    adjustments: list[Adjustment] = []
    for name in DIALS:
        asked, spec = getattr(request, name), mode.options.get(name)
        explicit = name in request.model_fields_set
        value, reason, allowed = _fit(asked, spec)
        sent[name] = value
        if value == asked or (spec is None and not explicit) or (spec is None and asked is False):
            continue
        if policy.strict and explicit:
            raise Misfit(name, asked, allowed, f"{name}={asked!r} is not possible: {reason}")
        looser = name == "safety_tolerance" and (value is None or value > asked)
        adjustments.append(Adjustment(name, asked, value, reason, more_permissive=looser))
    return sent, adjustments


def _fit(asked: Any, spec: object) -> tuple[Any, str, Any]:
    """The nearest legal value, why, and what is allowed."""
    if asked is None:
        return None, "", None
    match spec:
        case Numbers():
            return _fit_number(asked, spec)
        case Choices(values=values):
            return (asked if asked in values else values[0]), f"it offers {', '.join(values)}", values
        case Toggle():
            return asked, "", (True, False)
        case _:
            return None, "it does not offer this option", None


def _fit_number(asked: float, spec: Numbers) -> tuple[Any, str, Any]:
    number: Callable[[float], Any] = float if spec.fractions else int
    low, high = number(spec.low), number(spec.high)
    if spec.wraps and not low <= asked <= high:
        return (
            low + (int(asked) - low) % (high - low + 1),
            f"it takes {low} to {high}; the remainder is sent",
            (low, high),
        )
    whole = asked if spec.fractions else round(asked)
    kind = "" if whole == asked else "whole numbers from "
    return min(max(whole, low), high), f"it takes {kind}{low} to {high}", (low, high)


def _extra(request: ImageRequest, candidate: Candidate) -> tuple[Mapping[str, Any], list[Adjustment]]:
    """The caller's fields in the provider's own words, each allowed by the facts and recorded."""
    facts = candidate.provider.adapter.facts
    options = request.provider_options
    given = {**options.get(facts.name, {}), **options.get(candidate.provider.name, {})}
    adjustments = []
    for name, value in given.items():
        if name in facts.reserved_options:
            ours = facts.reserved_options[name]
            raise Misfit(f"{facts.name}.{name}", value, None, f"the provider option {name!r} is set by {ours}")
        known = candidate.facts.passthrough
        if name not in known:
            why = f"{candidate.model} has no field {name!r} there; {near(name, known)}"
            raise Misfit(f"{facts.name}.{name}", value, tuple(known), why)
        try:
            json_body({name: value})
        except TypeError as error:
            raise Misfit(f"{facts.name}.{name}", value, None, f"{name!r} cannot be written as JSON: {error}") from None
        looser = known[name] == "safety_tolerance"
        reason = "set by the caller in the provider's own words"
        sent = _shown(name, value)
        adjustments.append(Adjustment(name, None, sent, reason, more_permissive=looser, by="provider_options"))
    return Frozen(given), adjustments


def _shown(name: str, value: Any) -> Any:
    """A value as it is recorded: adjustments go into handles and logs, where no secret and no picture belongs."""
    if "secret" in name:
        return "[hidden]"
    return f"<{len(value)} characters>" if isinstance(value, str) and len(value) > SHOWN else value
