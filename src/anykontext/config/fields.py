"""What the value of a setting may be. A refusal is a sentence that repeats no value, which might be a key in the wrong
place; only what looks like a misspelt word is shown.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, WrapSerializer

from anykontext.model.errors import Kind
from anykontext.model.frozen import Frozen
from anykontext.model.money import usd
from anykontext.model.words import near

V = TypeVar("V")
SECONDS_MAX = 10**7  # 115 days: more than anyone waits, and no clock or timer overflows
DAYS_MAX = 36_500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LOOKS_LIKE_A_WORD = re.compile(r"[A-Za-z_-]{1,24}")

# Kinds that never fail over by themselves, and the setting that lets them.
NOT_IN_FAILOVER = {
    Kind.MODERATED: 'set on_moderated = "continue" instead',
    Kind.OUTCOME_UNKNOWN: 'it may have been paid: set on_maybe_charged = "continue" instead',
    Kind.DEADLINE_EXCEEDED: "no time is left for another candidate: set deadline_s higher instead",
}


def word_of(value: object) -> str:
    """What kind of value this is, in the words of a user."""
    kinds = ((bool, "true or false"), (str, "a text"), (int, "a whole number"), (Mapping, "a table"))
    for kind, word in kinds:
        if isinstance(value, kind):
            return word
    return "a list" if isinstance(value, list | tuple) else f"a value of type {type(value).__name__}"


def shown(value: str) -> str:
    """The value when it is like a word, else only that it is none."""
    return f"unknown word {value!r}" if _LOOKS_LIKE_A_WORD.fullmatch(value) else "unknown word"


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise ValueError(f"a text is needed, not {word_of(value)}")
    if not value.strip():
        raise ValueError("it is empty")
    return value


def name(value: Any) -> str:
    """The name of a provider, a route or a tag."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        told = f"{value!r:.40} is none" if isinstance(value, str) else f"not {word_of(value)}"
        raise ValueError(f"a name is needed, of letters, digits, and - _ . between them: {told}")
    return value


def one_of(choices: Any) -> BeforeValidator:
    """One of the words of a `Literal`."""
    words: tuple[str, ...] = get_args(choices)

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"one of {', '.join(words)} is needed, not {word_of(value)}")
        if value not in words:
            raise ValueError(f"{shown(value)}; {near(value, words)}")
        return value

    return BeforeValidator(check)


def listed(value: Any) -> tuple[Any, ...]:
    """A list, and not the single word that people write in its place."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"a list is needed, not {word_of(value)}")
    return tuple(value)


def kinds(value: Any) -> tuple[Kind, ...]:
    """Kinds that may fail over."""
    found = dict.fromkeys(_kind(word) for word in listed(value))
    return tuple(found)


def _kind(word: Any) -> Kind:
    allowed = [kind.value for kind in Kind if kind not in NOT_IN_FAILOVER]
    if not isinstance(word, str):
        raise ValueError(f"the words are texts, not {word_of(word)}")
    if word not in set(Kind):
        raise ValueError(f"{shown(word)}; {near(word, allowed)}")
    if word in NOT_IN_FAILOVER:
        raise ValueError(f"{str(word)!r} never fails over from here: {NOT_IN_FAILOVER[Kind(word)]}")
    return Kind(word)


def count(value: Any) -> int:
    """A whole number from 1."""
    try:
        found = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = 0
    if not 1 <= found < 2**53:
        raise ValueError("a whole number from 1 is needed")
    return found


def days(value: Any) -> int:
    """A whole number of days."""
    found = count(value)
    if found > DAYS_MAX:
        raise ValueError(f"at most {DAYS_MAX} days are possible")
    return found


def positive(value: Any) -> float:
    """A number above 0."""
    try:
        found = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise ValueError("a number above 0 is needed")
    return found


def seconds(value: Any) -> float:
    """A number of seconds above 0, and below `SECONDS_MAX`."""
    found = positive(value)
    if found >= SECONDS_MAX:
        raise ValueError(f"a number of seconds below {SECONDS_MAX} is needed")
    return found


def fraction(value: Any) -> float:
    """A part of a whole, from 0 to 1."""
    try:
        found = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not 0 <= found <= 1:
        raise ValueError("a number from 0 to 1 is needed")
    return found


def share(value: Any) -> float:
    """A part of a whole, above 0."""
    found = fraction(value)
    if found == 0:
        raise ValueError("a number above 0, and at most 1, is needed")
    return found


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"true or false is needed, not {word_of(value)}")
    return value


def base_url(value: Any) -> str:
    """An http or https origin, with a path prefix or without; no slash at its end."""
    said = text(value).strip()
    try:
        found = urlsplit(said)
        usable = found.scheme in {"http", "https"} and bool(found.hostname) and (found.port is None or found.port > 0)
    except ValueError:
        usable = False
    if not usable or not said.isascii() or not said.isprintable() or {" ", "\\"} & set(said):
        raise ValueError('a base URL is needed, such as "https://api.example.com" or "http://127.0.0.1:8080/prefix"')
    if "@" in found.netloc:
        raise ValueError("a base URL holds no user or password; the key belongs into api_key")
    if {"?", "#"} & set(said):
        raise ValueError("a base URL ends with its path: no query and no fragment")
    host = found.netloc.lower().removesuffix({"http": ":80", "https": ":443"}[found.scheme])
    return f"{found.scheme}://{host}{found.path}".rstrip("/")


def _frozen_keys(check: Callable[[Any], str]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(f"a table is needed, not {word_of(value)}")
        for key in value:
            check(key)
        return value

    return checked


_Dumped = WrapSerializer(lambda value, dump: dump(dict(value)))
Table = Annotated[Mapping[str, V], BeforeValidator(_frozen_keys(text)), AfterValidator(Frozen), _Dumped]
"""A read-only mapping."""
Named = Annotated[Mapping[str, V], BeforeValidator(_frozen_keys(name)), AfterValidator(Frozen), _Dumped]
"""A read-only mapping whose keys are names of providers, routes or tags."""

Text = Annotated[str, BeforeValidator(text)]
Name = Annotated[str, BeforeValidator(name)]
Count = Annotated[int, BeforeValidator(count)]
Days = Annotated[int, BeforeValidator(days)]
Positive = Annotated[float, BeforeValidator(positive)]
Seconds = Annotated[float, BeforeValidator(seconds)]
Fraction = Annotated[float, BeforeValidator(fraction)]
Share = Annotated[float, BeforeValidator(share)]
Flag = Annotated[bool, BeforeValidator(flag)]
BaseUrl = Annotated[str, BeforeValidator(base_url)]
USD = BeforeValidator(usd)
