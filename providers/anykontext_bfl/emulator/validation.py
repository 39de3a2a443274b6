"""A validator that answers as FastAPI with pydantic 2 does (bfl sheet §7, payloads 14 and 15)."""

import json
import math
from collections.abc import Mapping
from typing import Any

from anykontext.sandbox.pictures import ratio_of
from anykontext_bfl.emulator.models import REQUIRED, Field, Model

Problem = dict[str, Any]

FORMATS = ("jpeg", "png", "webp")
WIDEST = 21 / 9
TRUTHS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


def parse(raw: bytes) -> tuple[Any, list[Problem]]:
    """The JSON of a request body (None when it is empty), or what is wrong with it."""
    if not raw:
        return None, []
    try:
        return json.loads(raw), []
    except json.JSONDecodeError as error:
        problem = _problem("json_invalid", ["body", error.pos], "JSON decode error", {})
        return None, [{**problem, "ctx": {"error": error.msg}}]
    except (UnicodeDecodeError, RecursionError) as error:
        problem = _problem("json_invalid", ["body", 0], "JSON decode error", {})
        return None, [{**problem, "ctx": {"error": type(error).__name__}}]


def validate(model: Model, body: Any) -> tuple[dict[str, Any], list[Problem]]:
    """The body with defaults, without what the schema does not know; and what is wrong with it.

    Unknown fields are dropped in silence, `image` too: bfl sheet §3.1 [INF, strong].
    """
    if body is None:
        return {}, [_problem("missing", ["body"], "Field required", None)]
    if not isinstance(body, dict):
        wanted = "Input should be a valid dictionary or object to extract fields from"
        return {}, [_problem("model_attributes_type", ["body"], wanted, body)]
    clean: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, field in model.fields.items():
        place: list[str | int] = ["body", name]
        if name in body:
            try:
                clean[name] = _checked(field, body[name])
            except _InvalidError as error:
                problems.append(_problem(error.type, place, error.msg, body[name], error.ctx))
        elif field.default is REQUIRED:
            # The whole body comes back, images and all: bfl sheet §7 and payload 15.
            problems.append(_problem("missing", place, "Field required", body))
        else:
            clean[name] = field.default
    return clean, problems


def _problem(kind: str, loc: list[str | int], msg: str, value: Any, ctx: Mapping[str, Any] | None = None) -> Problem:
    problem = {"type": kind, "loc": loc, "msg": msg, "input": value}
    return {**problem, "ctx": ctx} if ctx else problem


class _InvalidError(Exception):
    def __init__(self, kind: str, msg: str, **ctx: Any) -> None:
        super().__init__(msg)
        self.type, self.msg, self.ctx = kind, msg, ctx


def _checked(field: Field, value: Any) -> Any:
    if value is None and field.nullable:
        return None
    return _CHECKS[field.kind](field, value)


def _text(_: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _InvalidError("string_type", "Input should be a valid string")
    return value


def _integer(field: Field, value: Any) -> int:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            msg = "Input should be a valid integer, unable to parse string as an integer"
            raise _InvalidError("int_parsing", msg) from None
    if isinstance(value, float):
        if not value.is_integer():
            msg = "Input should be a valid integer, got a number with a fractional part"
            raise _InvalidError("int_from_float", msg)
        value = int(value)
    if not isinstance(value, int):
        raise _InvalidError("int_type", "Input should be a valid integer")
    return int(_in_range(field, int(value)))  # a bool is an integer too


def _number(field: Field, value: Any) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            msg = "Input should be a valid number, unable to parse string as a number"
            raise _InvalidError("float_parsing", msg) from None
    if not isinstance(value, int | float):
        raise _InvalidError("float_type", "Input should be a valid number")
    return _in_range(field, float(value))


def _in_range(field: Field, value: float) -> float:
    number = type(value)
    if field.multiple_of is not None and value % field.multiple_of:
        msg = f"Input should be a multiple of {field.multiple_of}"
        raise _InvalidError("multiple_of", msg, multiple_of=number(field.multiple_of))
    if field.le is not None and not value <= field.le:
        msg = f"Input should be less than or equal to {field.le}"
        raise _InvalidError("less_than_equal", msg, le=number(field.le))
    if field.ge is not None and not value >= field.ge:
        msg = f"Input should be greater than or equal to {field.ge}"
        raise _InvalidError("greater_than_equal", msg, ge=number(field.ge))
    return value


def _truth(_: Field, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        word = str(int(value)) if value in {0, 1} else str(value).lower()
        if word in TRUTHS:
            return TRUTHS[word]
        if not isinstance(value, float) or value.is_integer():
            msg = "Input should be a valid boolean, unable to interpret input"
            raise _InvalidError("bool_parsing", msg)
    raise _InvalidError("bool_type", "Input should be a valid boolean")


def _format(_: Field, value: Any) -> str:
    if value not in FORMATS:
        expected = "'jpeg', 'png' or 'webp'"
        raise _InvalidError("enum", f"Input should be {expected}", expected=expected)
    return str(value)


def _url(_: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _InvalidError("url_type", "URL input should be a string or URL")
    scheme, separator, rest = value.partition("://")
    if not (separator and rest):
        reason = "relative URL without a base" if value else "input is empty"
        msg = f"Input should be a valid URL, {reason}"
        raise _InvalidError("url_parsing", msg, error=reason)
    if scheme.lower() not in {"http", "https"}:
        expected = "'http' or 'https'"
        raise _InvalidError("url_scheme", f"URL scheme should be {expected}", expected_schemes=expected)
    return value


def _ratio(field: Field, value: Any) -> str:
    text = _text(field, value)
    try:
        ratio = ratio_of(text)
    except ValueError:
        ratio = math.inf
    # The range is [DOC]; that it is enforced, and with these words, is [INF]: bfl sheet §14.
    if not 1 / WIDEST - 1e-9 <= ratio <= WIDEST + 1e-9:
        msg = "Value error, Aspect ratio must be between 21:9 and 9:21"
        raise _InvalidError("value_error", msg, error={})
    return text


_CHECKS = {
    "str": _text,
    "int": _integer,
    "float": _number,
    "bool": _truth,
    "format": _format,
    "url": _url,
    "ratio": _ratio,
}
