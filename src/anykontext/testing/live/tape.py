"""A scene on a cassette, that is looked through for secrets before anybody else sees it."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from anykontext.testing.recording import Origin, recording, tiny_picture

PART_MIN = 8  # a part of a key this long is a secret, too: the half behind a colon
LONG_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{200,}")
NUMBER = re.compile(r"[-+]?[0-9][0-9.,eE+-]*")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


class Keys(tuple[str, ...]):
    """Keys that no report of a failing test shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<keys>"


class Leaked(AssertionError):
    """A cassette held what it must not hold; it was deleted."""


@contextmanager
def taped(
    path: Path, origin: Origin, keys: Sequence[str], hosts: Mapping[str, str], notes: Sequence[str]
) -> Iterator[None]:
    """Record a block, and delete the cassette if a key or a picture is in it.

    Raises:
        Leaked: At the end; it names the file and what was found, never the key.
    """
    __tracebackhide__ = True
    keys = Keys(keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = Keys(secrets_of(keys))
    try:
        with recording(path, origin=origin, secrets=parts, hosts=hosts, notes=notes):
            yield
    finally:
        inspect(path, keys)


def secrets_of(keys: Sequence[str]) -> list[str]:
    """The keys, longest first, and their parts at a colon."""
    parts = {part for key in keys for part in (key, *key.split(":")) if part == key or len(part) >= PART_MIN}
    return sorted(parts, key=len, reverse=True)


def inspect(path: Path, keys: Sequence[str]) -> None:
    """Look through a cassette; what is wrong is deleted.

    Raises:
        Leaked: A key in any encoding, long base64, or a body that is neither text nor one of our tiny pictures.
    """
    __tracebackhide__ = True
    if not path.exists():
        return
    found = sorted(set(_findings(path, keys)))
    if found:
        path.unlink()
        raise Leaked(f"{path} held {' and '.join(found)}, and was deleted")


def _findings(path: Path, keys: Sequence[str]) -> Iterator[str]:
    tiny = {tiny_picture(form) for form in FORMATS}
    forms = {form for part in secrets_of(keys) for form in encodings(part)}
    texts = [path.read_text(encoding="utf-8")]
    for value in _values(load(path)):
        if isinstance(value, bytes):
            if value not in tiny:
                yield "bytes that are no stand-in"
        else:
            texts.append(value)
    for text in texts:
        if any(form in text for form in forms):
            yield "a key"
        if LONG_BASE64.search(text):
            yield "long base64"


def encodings(secret: str) -> set[str]:
    """The forms in which a text may stand in a file: plain, in JSON, in a URL, in hex, and base64 of any beginning."""
    raw = secret.encode()
    forms = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret), raw.hex()}
    for before in range(3):  # three bytes are four letters: what stands around the middle depends on the neighbours
        middle = base64.b64encode(bytes(before) + raw).decode().rstrip("=")[(before * 4 + 2) // 3 :]
        middle = middle[:-1] if (before + len(raw)) % 3 else middle
        if len(middle) >= PART_MIN - 2:
            forms |= {middle, middle.replace("+", "-").replace("/", "_")}
    return forms


def load(path: Path) -> list[Mapping[str, Any]]:
    """The exchanges of a cassette, each with `request` and `response`."""
    import yaml

    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return list(found["interactions"]) if found else []


def hide_balance(path: Path, is_check: Callable[[str], bool]) -> None:
    """Put 1 for every number in the replies to checks: what is left is the account's own business.

    Args:
        path: The cassette.
        is_check: Whether a URL is that of a check. Any scene may hold one: "no credit" may be asked back about.
    """
    import yaml

    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    for exchange in document["interactions"]:
        body = exchange["response"]["body"]
        if is_check(exchange["request"]["uri"]):
            try:
                body["string"] = json.dumps(_without_numbers(json.loads(body["string"])))
            except ValueError:  # no JSON, and so no balance that an adapter reads
                continue
    top = "".join(takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
    path.write_text(top + yaml.safe_dump(document), encoding="utf-8")


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: one if key == "code" else _without_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_numbers(one) for one in value]
    if isinstance(value, str):
        return "1" if NUMBER.fullmatch(value) else value
    return type(value)(1) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _values(value: Any) -> Iterator[str | bytes]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _values(key)
            yield from _values(one)
    elif isinstance(value, list):
        for one in value:
            yield from _values(one)
    elif isinstance(value, str | bytes):
        yield value
