"""What a model answers to a body: at once on the run host, as the result of a task on the queue."""

import asyncio
import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from anykontext.sandbox import pictures
from anykontext_fal.emulator.answers import (
    FLAGGED,
    INFRA,
    UNITS,
    UPSTREAM_QUOTA,
    Answer,
    field_error,
    invalid,
    problem,
)
from anykontext_fal.emulator.endpoints import SIZES, Endpoint
from anykontext_fal.emulator.fields import parse, validate
from anykontext_fal.emulator.images import Source, load, sources

if TYPE_CHECKING:
    from anykontext_fal.emulator.service import Emulator

MARKS = (
    *("moderated", "moderated-output", "failed", "infra-error", "resource-exhausted"),
    *("data-uri", "nsfw-length", "no-units", "one-flagged"),
)
"""Faults that say how a task ends; each applies from the submit on."""
BEYOND_DOUBLES = 2**53
REWRITTEN = ", highly detailed, natural light, sharp focus"  # what an enhanced prompt looks like is [INF]


@dataclass(frozen=True, slots=True)
class Order:
    """One request to a model, as it was sent, and what the injected faults make of it."""

    endpoint: Endpoint
    raw: bytes
    marks: frozenset[str]
    lifecycle: str | None
    """X-Fal-Object-Lifecycle-Preference."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The finished pictures, not delivered yet."""

    order: Order
    asked: Mapping[str, Any]
    seed: int
    pictures: tuple[bytes, ...]
    size: tuple[int, int]


def order(emulator: "Emulator", endpoint: Endpoint, raw: bytes, headers: Mapping[str, str]) -> Order:
    """An order with the faults that apply to it."""
    marks = frozenset(mark for mark in MARKS if emulator.take(mark))
    return Order(endpoint, raw, marks, headers.get("x-fal-object-lifecycle-preference"))


async def draw(emulator: "Emulator", order: Order) -> Drawn | Answer:
    """The pictures of an order, or the model's error."""
    body, problems = parse(order.raw)
    asked: dict[str, Any] = {}
    if not problems:
        asked, problems = validate(order.endpoint, body)
    if problems:
        return invalid(problems)
    for mark, answer in (("infra-error", INFRA), ("resource-exhausted", UPSTREAM_QUOTA)):
        if mark in order.marks:
            return answer
    if "moderated" in order.marks:
        entry = problem("content_policy_violation", ["body", "prompt"], FLAGGED, asked["prompt"])
        return field_error(422, entry, {"X-Fal-Retryable": "false"})
    if "failed" in order.marks:
        # Kontext runs at a partner. The status is 400 in one copy of the docs, 500 in another (fal sheet §5).
        entry = problem("downstream_service_error", ["body"], "Downstream service error", body)
        return field_error(500, entry, {"X-Fal-Needs-Retry": "0"})
    seed = BEYOND_DOUBLES + secrets.randbits(62) if asked["seed"] is None else asked["seed"]
    return await asyncio.to_thread(_paint, emulator, order, asked, sources(body), seed)


def _paint(
    emulator: "Emulator", order: Order, asked: Mapping[str, Any], inputs: list[Source], seed: int
) -> Drawn | Answer:
    inputs = [source for source in inputs if source.field in order.endpoint.fields]
    data: list[bytes] = []
    for source in inputs:
        loaded = load(source, emulator.media.uploaded)
        if loaded is None:  # private and foreign links too
            return field_error(
                422, problem("file_download_error", ["body", source.field], "File download error", source.text)
            )
        data.append(loaded)
    ratio, size = _shape(asked)
    flagged = order.marks & {"moderated-output", "one-flagged"}
    made: list[Image.Image] = []
    for index in range(asked["num_images"]):
        try:
            one = (
                pictures.edit(
                    data, asked["prompt"], seed=seed + index, aspect_ratio=ratio, megapixels=emulator.megapixels
                )
                if data
                else pictures.generate(
                    asked["prompt"],
                    seed=seed + index,
                    size=size or pictures.size_for(pictures.ratio_of(ratio or "1:1"), emulator.megapixels),
                )
            )
        except pictures.UnreadableImage:
            texts = [source.text for source in inputs]
            entry = problem("image_load_error", ["body", inputs[0].field], "Failed to load the image", texts[0])
            return field_error(422, entry)
        # What was flagged is still listed, and black (fal sheet §4).
        black = "moderated-output" in flagged or ("one-flagged" in flagged and index == 0)
        made.append(Image.new("RGB", one.size) if black else one)
    files = tuple(pictures.encode(one, asked["output_format"]) for one in made)
    return Drawn(order, asked, seed, files, made[0].size)


def _shape(asked: Mapping[str, Any]) -> tuple[str | None, tuple[int, int] | None]:
    """The ratio and the size, as far as the request tells; each endpoint has a word of its own for it."""
    mode = asked.get("resolution_mode", "auto")
    size = asked.get("image_size")
    ratio = asked.get("aspect_ratio") or (mode if ":" in mode else None)
    return ratio, SIZES[size] if isinstance(size, str) else size


def deliver(emulator: "Emulator", drawn: Drawn) -> Answer:
    """The answer with the pictures on the media host; from here on they are billed, flagged or not."""
    order, asked, count = drawn.order, drawn.asked, len(drawn.pictures)
    emulator.credit -= order.endpoint.usd * count
    emulator.counters["images"] += count
    media_type = f"image/{asked['output_format']}"
    inline = asked["sync_mode"] or "data-uri" in order.marks
    width, height = drawn.size
    images: list[dict[str, Any]] = []
    for data in drawn.pictures:
        url = _data_uri(data, media_type) if inline else emulator.media.keep(data, media_type, order.lifecycle)
        if order.endpoint.image_file:
            unknown = {"content_type": None, "file_name": None, "file_size": None}  # allowed to be null (fal sheet §4)
            images.append({"url": url, **unknown, "width": width, "height": height})
        else:
            images.append({"url": url, "width": width, "height": height, "content_type": media_type})
    flags = [
        "moderated-output" in order.marks or ("one-flagged" in order.marks and not index) for index in range(count)
    ]
    body = {
        "images": images,
        "timings": {},
        "seed": drawn.seed,
        "has_nsfw_concepts": flags[:-1] if "nsfw-length" in order.marks else flags,
        # "" in the documented sample of an edit, the words in the recorded one of multi (fal sheet §10).
        "prompt": _prompt(order.endpoint, asked),
    }
    served = {"X-Fal-Served-From": order.endpoint.name}  # what stands in it is [INF]
    units = {} if "no-units" in order.marks else {UNITS: str(count)}
    return Answer(200, body, {**served, **units})


def _prompt(endpoint: Endpoint, asked: Mapping[str, Any]) -> str:
    if asked["enhance_prompt"]:
        return str(asked["prompt"]) + REWRITTEN
    return "" if endpoint.image_file else str(asked["prompt"])


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
