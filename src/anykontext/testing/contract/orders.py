"""Orders as the engine gives them to an adapter: the plainest ones, and values that the facts allow."""

import functools
import io
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from anykontext.adapting import (
    Base64,
    Call,
    Choices,
    Effective,
    Facts,
    InputImage,
    ModeFacts,
    Numbers,
    Ratios,
    Sizes,
    Spec,
    Toggle,
)
from anykontext.model.job import Mode

OPTIONS = frozenset(one.name for one in fields(Effective)) - {
    *(
        "model",
        "facts",
        "mode",
        "prompt",
        "images",
        "num_images",
        "webhook_url",
        "start_within_s",
        "fails_fast",
        "extra",
    ),
}
ANY_TEXTS = ("one", "two")
BEYOND_31_BITS = 2**31 + 5


@functools.cache
def picture(index: int = 0, media_type: str = "image/png") -> bytes:
    """A small picture, a different one for each index; bytes that are none, of a type that Pillow cannot write."""
    from PIL import Image

    out = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((64, 48))
    drawn = gradient.point(lambda light: (light + 16 * index) % 256).convert("RGB")
    try:
        drawn.save(out, media_type.rpartition("/")[2].upper())
    except (KeyError, OSError):
        return f"a picture of the type {media_type}, number {index}".encode()
    return out.getvalue()


def image_for(facts: Facts, index: int, *, raw: bool = False) -> InputImage:
    """An input image as an adapter gets it: its bytes, or a URL where bytes are uploaded first."""
    uploaded = facts.uploads is not None and facts.uploads.over == 0
    if not raw and (uploaded or "bytes" not in facts.inputs.forms):
        return InputImage(None, f"https://example.com/{index}.png", None, None, None)
    return InputImage(picture(index), None, "image/png", 64, 48)


def typed_image(media_type: str) -> InputImage:
    """An input image of a type, as bytes."""
    return InputImage(picture(0, media_type), None, media_type, 64, 48)


def token(image: InputImage) -> bytes:
    """What stands for an image in the body of a submit: its URL, or its bytes as base64."""
    return (image.url or "").encode() if image.data is None else b"".join(Base64(image.data).chunks())


def order_of(facts: Facts, model: str, mode: Mode, **changes: Any) -> Effective:
    """The plainest order of a model and mode, with some fields changed."""
    hosted = facts.models[model]
    images = (image_for(facts, 0),) if mode == "edit" else ()
    return replace(Effective(model, hosted, mode, "a cat", images), **changes)


def any_order(facts: Facts) -> Effective:
    """The plainest order of the first model."""
    model, hosted = next(iter(facts.models.items()))
    return order_of(facts, model, next(iter(hosted.modes)))


def modes(facts: Facts) -> Iterator[tuple[str, Mode, ModeFacts]]:
    """Every model and mode."""
    for model, hosted in facts.models.items():
        for mode, offered in hosted.modes.items():
            yield model, mode, offered


def places(facts: Facts) -> Iterator[tuple[tuple[str, Mode], tuple[InputImage, ...]]]:
    """Every model and mode, with one input image and with two: a provider may have another dialect for several."""
    for model, mode, offered in modes(facts):
        for count in sorted({min(count, offered.max_images) for count in (1, 2)}):
            yield (model, mode), tuple(image_for(facts, index) for index in range(count))


def values(spec: Spec) -> list[Any]:
    """Legal values of an option: the lowest, and others."""
    match spec:
        case Toggle():
            return [False, True]
        case Numbers(low=low, high=high, fractions=True):
            return [low, (low + high) / 2, high]
        case Numbers(low=low, high=high):
            return [int(low), int(low) + 1, int(high)]
        case Choices(values=words):
            return list(words or ANY_TEXTS)
        case Ratios(narrowest=narrowest, widest=widest):
            return [f"{narrowest[0]}:{narrowest[1]}", "1:1", f"{widest[0]}:{widest[1]}"]
        case Sizes(low=low, high=high, step=step):
            first, last = -(-low // step) * step, high // step * step
            return [(first, first), (first, last), (last, first)]


def telling(option: str, spec: Spec) -> list[Any]:
    """Legal values of an option that show what becomes of them: `values`, and those that get lost by the way."""
    if not isinstance(spec, Numbers):
        return values(spec)
    more = [0, 1, BEYOND_31_BITS] if option == "seed" else [round(spec.low + 0.37 * (spec.high - spec.low), 2)]
    allowed = [one for one in more if spec.low <= one <= spec.high and (spec.fractions or one == int(one))]
    return list(dict.fromkeys([*values(spec), *allowed]))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value of a JSON document that holds no others, with its path."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def sent(call: Call) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
    """All that a call says."""
    return call.path, tuple(sorted(call.headers.items())), bytes(call.body or b"")
