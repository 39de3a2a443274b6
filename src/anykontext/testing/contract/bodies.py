"""Replies that no provider documents: hostile bodies, and documented ones that something happened to."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from anykontext.testing.contract.orders import leaves

# Of a proxy that is nobody's own: some providers document pages of theirs as "not accepted".
HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Something in between</body></html>"
STATUSES = (200, 202, 204, 302, 400, 401, 404, 409, 422, 429, 500, 502, 503, 504, 520)
DEEP = 900  # as deep as JSON is read; beyond that it is no JSON to us
MEGABYTES = 2

HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "blank": lambda: b" \r\n",
    "html": lambda: HTML,
    "null": lambda: b"null",
    "a-number": lambda: b"7",
    "a-text": lambda: b'"Ready"',
    "a-list": lambda: b"[]",
    "an-object": lambda: b"{}",
    "torn": lambda: b'{"id": "1", "status": "Rea',
    "two-values": lambda: b"{}{}",
    "not-a-number": lambda: b'{"status": NaN, "cost": Infinity}',
    "no-utf-8": lambda: b'{"status": "\xff\xfe"}',
    "half-a-character": lambda: b'{"status": "\\ud800"}',
    "zip": lambda: b"PK\x03\x04" + bytes(200),
    "deep-lists": lambda: b"[" * DEEP + b"]" * DEEP,
    "deep-objects": lambda: b'{"status":' * DEEP + b"1" + b"}" * DEEP,
    "deeper": lambda: b"[" * 200_000,
    "huge-list": lambda: b"[" + b"0," * (MEGABYTES * 500_000) + b"0]",
    "huge-text": lambda: b'{"detail": "' + b"x" * (MEGABYTES * 1_000_000) + b'"}',
    "huge-number": lambda: b'{"status": ' + b"9" * 4000 + b"}",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    7,
    1.5,
    -0.5,
    10**30,
    "",
    "x",
    "null",
    "0",
    [],
    {},
    [[]],
    [None],
    {"a": {}},
    ["x", 7],
)


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A JSON document with another value at a path."""
    if not path:
        return value
    changed = document.copy()  # what lies beside the path is shared, and not changed by anybody
    changed[path[0]] = replaced(document[path[0]], path[1:], value)
    return changed


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def wrong_types(document: Any) -> Iterator[bytes]:
    """A document with an odd value at each of its places."""
    for path in paths(document):
        for odd in ODD_VALUES:
            yield json.dumps(replaced(document, path, odd)).encode()


def without_each(document: Any) -> Iterator[bytes]:
    """A document without each of its members."""
    for path in paths(document):
        if path and isinstance(path[-1], str):
            changed = copy.deepcopy(document)
            place = changed
            for step in path[:-1]:
                place = place[step]
            del place[path[-1]]
            yield json.dumps(changed).encode()


def with_more_fields(document: Any) -> Any:
    """A document with a new member in each of its objects."""
    if isinstance(document, dict):
        inner = {key: with_more_fields(item) for key, item in document.items()}
        return {"zz_new": {"field": [1, None]}, **inner, "zz_newer": "Ready"}
    return [with_more_fields(item) for item in document] if isinstance(document, list) else document


def words_of(document: Any) -> list[tuple[Any, ...]]:
    """The places of a document that hold a text or a whole number."""
    return [path for path, value in leaves(document) if isinstance(value, str | int) and not isinstance(value, bool)]
