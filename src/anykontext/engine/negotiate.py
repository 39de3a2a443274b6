"""Bring a canonical request into one candidate's ranges, by its facts alone.

Meaning is never adjusted: a candidate that cannot do it does not fit. Dials are fitted or left out, and recorded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from anykontext.adapting import Choices, Effective, InputImage, ModeFacts, Numbers, Toggle, json_body
from anykontext.engine.misfit import Misfit
from anykontext.engine.needs import needs
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.shape import shape_of
from anykontext.engine.submit import Step
from anykontext.model.frozen import Frozen, thaw
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment
from anykontext.model.words import near

DIALS = ("output_format", "seed", "safety_tolerance", "guidance", "steps", "prompt_upsampling")
LOOSEST = 6  # the most permissive safety_tolerance: without a dial it cannot become looser
SHOWN = 200  # characters of a provider option that an adjustment records


def negotiate(
    request: ImageRequest,
    images: Sequence[InputImage],
    candidate: Candidate,
    policy: Policy,
    *,
    waits: bool = True,
    prepared: Sequence[Adjustment] = (),
) -> Step:
    """The request as this candidate will get it; the client then fits the images as the adjustments say.

    Args:
        request: What the caller asked for.
        images: Its input images, read and checked, in their order.
        candidate: Whose facts to use.
        policy: Whether dials may be adjusted.
        waits: Whether somebody will poll for the result, which a provider may take away with a webhook.
        prepared: What was already done to the images, whoever gets them.

    Raises:
        Misfit: The candidate cannot do it.
        UnsupportedOption: A provider option is none of this provider's, at any model.
    """
    facts = candidate.provider.adapter.facts
    if not candidate.hosted:
        hosted = ", ".join(facts.models)
        raise Misfit("model", candidate.model, tuple(facts.models), f"it has no {candidate.model}; it hosts {hosted}")
    mode = candidate.facts.modes.get(request.mode)
    if mode is None:
        modes = ", ".join(candidate.facts.modes)
        raise Misfit("images", request.mode, modes, f"{candidate.model} is offered there to {modes} only")
    fitted = [*prepared, *_check_images(images, mode, candidate)]
    if policy.strict and fitted:
        raise Misfit("images", fitted[0].asked, fitted[0].sent, f"the image would be changed: {fitted[0].reason}")
    if request.webhook_url and not facts.webhooks:
        raise Misfit("webhook_url", request.webhook_url, None, "it has no webhooks")
    if request.webhook_url and facts.webhook_hides_polling and waits:
        why = "with webhook_url it gives nothing to poll: use submit(), and wait for the webhook"
        raise Misfit("webhook_url", request.webhook_url, None, why)
    shape, reshaped = shape_of(request, images, mode)
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
    price = candidate.price(request.mode, shape.get("size")).times(request.num_images)
    return Step(candidate, orders, (*fitted, *reshaped, *adjustments, *overrides), price)


def _check_images(images: Sequence[InputImage], mode: ModeFacts, candidate: Candidate) -> list[Adjustment]:
    """What must be done to the images for this provider."""
    if len(images) > mode.max_images:
        why = f"{candidate.model} takes at most {mode.max_images} input images there, and {len(images)} were given"
        raise Misfit("images", len(images), mode.max_images, why)
    limits = candidate.provider.inputs
    found = [needs(image, limits) for image in images]
    for image, need in zip(images, found, strict=True):
        if isinstance(need, str):
            raise Misfit("images", image.media_type or "url", limits.forms, need)
    return [need for need in found if isinstance(need, Adjustment)]


def _split(count: int, candidate: Candidate) -> list[int]:
    """How many images each task is to make."""
    per_task = candidate.provider.adapter.facts.images_per_task
    tasks = ceil(count / per_task)
    most = candidate.most
    if most is not None and tasks > most:
        why = f"{count} images need {tasks} tasks at once, and it takes at most {most} (its limits, or max_in_flight)"
        raise Misfit("num_images", count, most * per_task, why)
    return [min(per_task, count - index * per_task) for index in range(tasks)]


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
        looser = name == "safety_tolerance" and (asked < LOOSEST if value is None else value > asked)
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
            misfit = Misfit(f"{facts.name}.{name}", value, None, f"the provider option {name!r} is set by {ours}")
            raise misfit.error(candidate.provider.name)
        known = candidate.facts.passthrough
        if name not in known:
            why = f"{candidate.model} has no field {name!r} there; {near(name, known)}"
            misfit = Misfit(f"{facts.name}.{name}", value, tuple(known), why)
            elsewhere = any(name in model.passthrough for model in facts.models.values())
            # A field that no model has is a slip of the caller's, and no reason to go to another provider.
            raise misfit if elsewhere else misfit.error(candidate.provider.name)
        try:
            json_body({name: value})
            json.dumps(thaw(value), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
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
