"""The fields of a request, and the models (kie sheet §2, §8)."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from anykontext_kie.emulator.envelope import Refused

CREDITS = {"flux-kontext-pro": 5, "flux-kontext-max": 10}
"""The models, each with its price for a picture; a credit is USD 0.005."""
RATIOS = ("21:9", "16:9", "4:3", "1:1", "3:4", "9:16")
FORMATS = ("jpeg", "png")
# kie-6: generation 0 to 6, editing 0 to 2 [DOC].
MOST_TOLERANT, MOST_TOLERANT_EDIT = 6, 2
OUT_OF_RANGE = "The security tolerance level is out of range and should be 0-2 or 0-6"
DEFAULTS: Mapping[str, Any] = {
    "enableTranslation": True,
    "uploadCn": False,
    "outputFormat": "jpeg",
    "promptUpsampling": False,
    "model": "flux-kontext-pro",
    "safetyTolerance": 2,
}
GENERATION_RATIO = "16:9"  # kie-7


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _url(value: object) -> bool:
    # kie-9. Base64 and data URIs are nowhere documented as accepted: that they are refused is not established.
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


def _truth(value: object) -> bool:
    return isinstance(value, bool)


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(*values: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in values


FIELDS: Mapping[str, Callable[[object], bool]] = {
    "prompt": _text,
    "enableTranslation": _truth,
    "uploadCn": _truth,
    "inputImage": _url,
    "aspectRatio": _one_of(*RATIOS),
    "outputFormat": _one_of(*FORMATS),
    "promptUpsampling": _truth,
    "model": _one_of(*CREDITS),
    "callBackUrl": _url,
    "safetyTolerance": _integer,
    "watermark": _text,  # kie-26: that a boolean is refused is [INF]
}


def parsed(raw: bytes) -> dict[str, Any]:
    """The fields of a body; null is the same as nothing [INF].

    Raises:
        Refused: it is no JSON object.
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(422, "The request body is not a JSON object")
    return {name: value for name, value in found.items() if value is not None}


def checked(sent: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The known fields with their defaults, and the names of the unknown ones, which have no effect (kie-22).

    422 is the code for what is not valid [DOC]; the words of it are [INF].

    Raises:
        Refused: a field is missing or wrong.
    """
    if "prompt" not in sent:
        raise Refused(422, "prompt is required")
    known = {name: value for name, value in sent.items() if name in FIELDS}
    for name, value in known.items():
        if not FIELDS[name](value):
            raise Refused(422, f"{name} is not valid")
    edits = "inputImage" in known
    asked = {**DEFAULTS, **({} if edits else {"aspectRatio": GENERATION_RATIO}), **known}
    if not 0 <= asked["safetyTolerance"] <= (MOST_TOLERANT_EDIT if edits else MOST_TOLERANT):
        raise OutOfRange
    return asked, sorted(set(sent) - set(known))


class OutOfRange(Refused):
    """A safetyTolerance that the mode does not know: code 500, which looks like an outage (kie-6)."""

    def __init__(self) -> None:
        super().__init__(500, OUT_OF_RANGE)
