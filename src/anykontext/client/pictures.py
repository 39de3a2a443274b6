"""The pictures of a plan, as each of its candidates takes them."""

from collections.abc import Sequence
from dataclasses import replace

from anykontext.adapting import InputImage, InputLimits
from anykontext.engine.misfit import Misfit
from anykontext.engine.needs import needs
from anykontext.engine.provider import Candidate
from anykontext.engine.shape import needs_pixels
from anykontext.engine.submit import Step
from anykontext.io.prepare import fit
from anykontext.model.errors import InvalidRequest
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment
from anykontext.routing.plan import Excluded
from anykontext.routing.residency import check_exposure
from anykontext.routing.rules import Rules

STAND_IN = (1024, 1024)  # pixels, for a picture that was not fetched


def must_fetch(request: ImageRequest, candidate: Candidate) -> bool:
    """Whether a candidate needs the bytes or the size of a picture that was given as a URL."""
    model = candidate.provider.adapter.facts.models.get(candidate.model)
    mode = model.modes.get(request.mode) if model else None
    return "url" not in candidate.provider.inputs.forms or needs_pixels(request, mode)


def fitted(steps: Sequence[Step]) -> tuple[tuple[Step, ...], list[Excluded]]:
    """The steps with their images as each provider takes them; those whose images cannot be made to fit are out.

    Raises:
        InvalidRequest: None is left.
    """
    done: dict[tuple[int, InputLimits], InputImage] = {}
    ready: list[Step] = []
    unfit: list[Excluded] = []
    failed: InvalidRequest | None = None
    for step in steps:
        limits = step.candidate.provider.inputs
        try:
            for image in step.orders[0].images:
                if (id(image), limits) not in done:
                    done[id(image), limits] = fit(image, limits)
        except InvalidRequest as error:
            failed = error
            unfit.append(Excluded(step.candidate, Misfit("images", None, None, str(error))))
            continue
        images = tuple(done[id(image), limits] for image in step.orders[0].images)
        adjustments = tuple(_as_sent(one, step.orders[0].images, images, limits) for one in step.adjustments)
        orders = tuple(replace(order, images=images) for order in step.orders)
        ready.append(replace(step, orders=orders, adjustments=adjustments))
    if failed is not None and not ready:
        raise failed
    return tuple(ready), unfit


def not_exposed(steps: Sequence[Step], rules: Rules) -> tuple[tuple[Step, ...], list[Excluded]]:
    """The steps whose images, as they are now, go only the ways that are allowed: fitting may have made one larger."""
    ready, exposed = [], []
    for step in steps:
        try:
            check_exposure(step.candidate, step.orders[0].images, public_uploads=rules.public_uploads)
            ready.append(step)
        except Misfit as misfit:
            exposed.append(Excluded(step.candidate, misfit))
    return tuple(ready), exposed


def unfetched(
    request: ImageRequest, images: list[InputImage], candidates: Sequence[Candidate]
) -> tuple[list[InputImage], tuple[str, ...]]:
    """Pictures to plan with: in place of one behind a URL whose size matters, a square; and what is to be said."""
    needing = [one.name for one in candidates if must_fetch(request, one)]
    if not needing or all(image.data is not None for image in images):
        return images, ()
    width, height = STAND_IN
    planned = [replace(one, width=width, height=height) if one.data is None else one for one in images]
    told = f"an image given as a URL was not fetched: {', '.join(needing)} is planned as if it were {width} x {height}"
    return planned, (told,)


def _as_sent(
    adjustment: Adjustment, before: Sequence[InputImage], after: Sequence[InputImage], limits: InputLimits
) -> Adjustment:
    """The adjustment of an image that was fitted, with what it became in place of what was planned."""
    for old, new in zip(before, after, strict=True):
        if new is not old and new.data is not None and needs(old, limits) == adjustment:
            return replace(adjustment, sent=f"{new.media_type} {new.width} x {new.height}, {len(new.data):,} bytes")
    return adjustment
