"""The fields of a request, and the models (together sheet, "Base, models, request")."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from anykontext.sandbox.pictures import ratio_of

MOST_IMAGES = 4
STEP = 8
# "Maximum length varies by model" [DOC]; how long is not established.
LONGEST_PROMPT = 10_000
FORMATS = ("jpeg", "png")
RESPONSE_FORMATS = ("base64", "url")


@dataclass(frozen=True, slots=True)
class Model:
    """One model: its price for a picture, and which of the fields mean something to it."""

    usd: Decimal
    edits: bool
    ratio: bool


MODELS = {
    "black-forest-labs/FLUX.1-kontext-pro": Model(Decimal("0.04"), edits=True, ratio=True),
    "black-forest-labs/FLUX.1-kontext-max": Model(Decimal("0.08"), edits=True, ratio=True),
    "black-forest-labs/FLUX.1.1-pro": Model(Decimal("0.04"), edits=False, ratio=False),
}
TYPES: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "prompt": (str,),
    "image_url": (str,),
    "aspect_ratio": (str,),
    "width": (int,),
    "height": (int,),
    "steps": (int,),
    "seed": (int,),
    "n": (int,),
    "negative_prompt": (str,),
    "guidance_scale": (int, float),
    "response_format": (str,),
    "output_format": (str,),
    "disable_safety_checker": (bool,),
    "reference_images": (list,),
    "image_loras": (list,),
}
DEFAULTS: dict[str, Any] = {"width": 1024, "height": 1024, "n": 1, "response_format": "url", "output_format": "jpeg"}
NO_EFFECT = ("steps", "guidance_scale", "disable_safety_checker", "reference_images", "image_loras")


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": code}}


def parsed(raw: bytes) -> dict[str, Any]:
    """The fields of a body.

    Raises:
        Refused: it is no JSON object.
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(400, "The request body is not valid JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "The request body is not a JSON object")
    return found


def checked(fields: Mapping[str, Any]) -> tuple[Model, dict[str, Any], list[str]]:
    """The model, the known fields with their defaults, and the names of those that have no effect.

    Statuses of wrong values are [INF], except the 404 of an unknown model [DOC]; unknown fields are ignored [INF].

    Raises:
        Refused: a field is missing or wrong.
    """
    for name in ("model", "prompt"):
        if not isinstance(fields.get(name), str):  # null too: huggingface_hub's comment
            raise Refused(400, f"{name} is required")
    model = MODELS.get(fields["model"])
    if model is None:
        raise Refused(404, f"Unable to access model {fields['model'][:80]}", code="model_not_available")
    known: dict[str, Any] = {name: value for name, value in fields.items() if name in TYPES}
    for name, value in known.items():
        if not isinstance(value, TYPES[name]) or (isinstance(value, bool) and bool not in TYPES[name]):
            raise Refused(400, f"{name} has a wrong type")
    asked = DEFAULTS | known
    _check_values(model, asked)
    no_effect = {*NO_EFFECT, *(() if model.edits else ("image_url",)), *(() if model.ratio else ("aspect_ratio",))}
    ignored = sorted(name for name in fields if name not in TYPES or name in no_effect)
    return model, {name: value for name, value in asked.items() if name not in no_effect}, ignored


def _check_values(model: Model, asked: Mapping[str, Any]) -> None:
    for name in ("width", "height"):
        if asked[name] % STEP or not STEP <= asked[name] <= 4096:
            raise Refused(400, f"{name} must be a multiple of {STEP}")
    if not 1 <= asked["n"] <= MOST_IMAGES:
        raise Refused(400, f"n must be between 1 and {MOST_IMAGES}")
    for name, values in (("response_format", RESPONSE_FORMATS), ("output_format", FORMATS)):
        if asked[name] not in values:
            raise Refused(400, f"{name} must be one of {', '.join(values)}")
    if model.ratio and "aspect_ratio" in asked:
        try:
            ratio_of(asked["aspect_ratio"])
        except ValueError:
            raise Refused(400, "aspect_ratio is invalid") from None
    if len(asked["prompt"]) > LONGEST_PROMPT:  # together-4
        raise Refused(403, "The input is longer than the context length of the model")
