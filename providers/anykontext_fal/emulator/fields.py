"""A validator that answers as fal's apps do, in the words of pydantic and of fal's error list (fal sheet §5)."""

import json
import math
from collections.abc import Mapping
from typing import Any

from anykontext.sandbox.pictures import ratio_of
from anykontext_fal.emulator.answers import problem
from anykontext_fal.emulator.endpoints import SIZES, Endpoint, Field

SIDES = (64, 4096)  # of an image_size of one's own; not documented [INF]

TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def parse(raw: bytes) -> tuple[Any, list[Any]]:
    """The JSON of a body, or what is wrong with it. That bad syntax too shows only at the result is [INF]."""
    try:
        return json.loads(raw), []
    except (ValueError, RecursionError) as error:
        ctx = {"error": getattr(error, "msg", type(error).__name__)}
        return None, [problem("json_invalid", ["body", getattr(error, "pos", 0)], "JSON decode error", {}, ctx)]


def validate(endpoint: Endpoint, body: Any) -> tuple[dict[str, Any], list[Any]]:
    """The known fields with their defaults, and what is wrong with them. Unknown fields are ignored (fal sheet §4)."""
    if not isinstance(body, dict):
        return {}, [problem("model_attributes_type", ["body"], "Input should be a valid dictionary", body)]
    clean: dict[str, Any] = {}
    problems: list[Any] = []
    for name, field in endpoint.fields.items():
        value = body.get(name)
        if name not in body and field.required:
            problems.append(problem("missing", ["body", name], "Field required", body))
        elif value is None and not field.required:
            clean[name] = field.default
        else:
            try:
                clean[name] = _CHECKS[field.kind](field, value)
            except _InvalidError as error:
                problems.append(problem(error.type, ["body", name], str(error), value, error.ctx))
    return clean, problems


class _InvalidError(Exception):
    def __init__(self, kind: str, msg: str, **ctx: Any) -> None:
        super().__init__(msg)
        self.type, self.ctx = kind, ctx


def _text(_: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _InvalidError("string_type", "Input should be a valid string")
    return value


def _texts(_: Field, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _InvalidError("list_type", "Input should be a valid list")
    if not value:  # no lower end is documented [INF]
        raise _InvalidError("sequence_too_short", "List should have at least 1 item", min_length=1)
    return value


def _integer(field: Field, value: Any) -> int:
    number = _parsed(value, int, "int")
    if isinstance(number, float):
        if not number.is_integer():
            msg = "Input should be a valid integer, got a number with a fractional part"
            raise _InvalidError("int_from_float", msg)
        number = int(number)
    return int(_in_range(field, number))


def _number(field: Field, value: Any) -> float:
    number = _parsed(value, float, "float")
    if not math.isfinite(number):
        raise _InvalidError("finite_number", "Input should be a finite number")
    return float(_in_range(field, number))


def _parsed(value: Any, number: type[int] | type[float], kind: str) -> Any:
    if isinstance(value, str):
        try:
            return number(value)
        except ValueError:
            raise _InvalidError(f"{kind}_parsing", f"Input should be a valid {kind}, unable to parse string") from None
    if not isinstance(value, int | float):
        raise _InvalidError(f"{kind}_type", f"Input should be a valid {kind}")
    return value


def _in_range(field: Field, value: float) -> float:
    if field.high is not None and value > field.high:
        raise _InvalidError("less_than_equal", f"Input should be less than or equal to {field.high}", le=field.high)
    if field.low is not None and value < field.low:
        raise _InvalidError("greater_than_equal", f"Input should be greater than or equal to {field.low}", ge=field.low)
    return value


def _truth(_: Field, value: Any) -> bool:
    word = str(value).lower()
    if isinstance(value, list | dict) or word not in TRUTHS:
        raise _InvalidError("bool_parsing", "Input should be a valid boolean, unable to interpret input")
    return TRUTHS[word]


def _choice(field: Field, value: Any) -> str:
    # An int for a text, such as safety_tolerance 2, is refused as any other wrong value. Whether fal takes it is not
    # established (fal sheet §13); Vercel's client sends ints.
    if not isinstance(value, str) or value not in field.choices:
        expected = ", ".join(repr(choice) for choice in field.choices)
        raise _InvalidError("enum", f"Input should be one of {expected}", expected=expected)
    return value


def _size(_: Field, value: Any) -> str | tuple[int, int]:
    if isinstance(value, Mapping):
        sides = (value.get("width", 512), value.get("height", 512))
        if all(isinstance(side, int) and SIDES[0] <= side <= SIDES[1] for side in sides):
            return sides
    if not isinstance(value, str) or value not in SIZES:
        expected = ", ".join(map(repr, SIZES))
        raise _InvalidError("enum", f"Input should be one of {expected}", expected=expected)
    return value


def _ratio(field: Field, value: Any) -> str:
    text = _text(field, value)
    try:
        ratio_of(text)
    except ValueError:  # "any string" [DOC]; what becomes of one that is no ratio is not established
        raise _InvalidError("value_error", "Value error, Invalid aspect ratio") from None
    return text


_CHECKS = {
    "text": _text,
    "texts": _texts,
    "integer": _integer,
    "number": _number,
    "truth": _truth,
    "choice": _choice,
    "size": _size,
    "ratio": _ratio,
}
