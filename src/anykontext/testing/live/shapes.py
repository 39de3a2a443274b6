"""What a recording looks like without its values, and where the provider's looks otherwise than the emulator's.

Questions about the same thing are one exchange, and their replies are told apart by HTTP status and status word: how
often a task is asked for, and which of its states are heard, is a matter of time. So nothing is said of a state that
only one of the two was heard in, as long as the facts of the adapter know its word.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from anykontext.testing.live.tape import load
from anykontext.testing.recording import RESPONSE_HEADERS

ID = "{id}"
HEADERS = RESPONSE_HEADERS - {"date", "content-encoding", "content-type"}
# Keys whose values are words of the protocol. Of all other texts and numbers only the type is compared.
WORDS = frozenset({"status", "state", "type", "error_type", "code", "successFlag", "object", "token_type"})
WORD = re.compile(r"[\w .:/-]{1,60}")
STATES = ("status", "state", "successFlag")
_LOOKS_LIKE_ID = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{12,}|[0-9]{4,}|(?=.*[0-9])[A-Za-z0-9_]{16,}", re.IGNORECASE
)


@dataclass
class Look:
    """The replies of one exchange under one HTTP status and status word.

    Attributes:
        keys: The path of a key in the JSON body -> the types of its values.
        words: The path of such a key -> its words.
        headers: Names of headers that mean something.
        media: The media types.
    """

    keys: dict[str, set[str]] = field(default_factory=dict)
    words: dict[str, set[str]] = field(default_factory=dict)
    headers: set[str] = field(default_factory=set)
    media: set[str] = field(default_factory=set)

    @property
    def state(self) -> str:
        """The status word; empty where there is none."""
        return next((_or(words) for key, words in self.words.items() if key.rpartition(".")[2] in STATES), "")

    def add(self, other: "Look") -> None:
        """Take in what another reply looks like."""
        for mine, theirs in ((self.keys, other.keys), (self.words, other.words)):
            for key, found in theirs.items():
                mine.setdefault(key, set()).update(found)
        self.headers |= other.headers
        self.media |= other.media


@dataclass
class Exchange:
    """The exchanges of a recording that ask for the same.

    Attributes:
        role: `check`, `submit`, `upload`, `poll`, `fetch` or `download`.
        method: The HTTP method.
        path: Without host and ids; empty for a download, which lies anywhere.
        looks: HTTP status and status word -> how the replies look.
    """

    role: str
    method: str
    path: str
    looks: dict[tuple[int, str], Look] = field(default_factory=dict)


@dataclass(frozen=True)
class Guide:
    """What tells the exchanges of a provider apart.

    Attributes:
        ids: Ids of tasks.
        roles: Paths, with ids replaced, -> roles.
        states: The status words that the adapter knows.
    """

    ids: Collection[str] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    states: Collection[str] = ()


def exchanges(path: Path, guide: Guide) -> list[Exchange]:
    """The exchanges of a cassette in order, those that ask for the same as one."""
    found: dict[tuple[str, str, str], Exchange] = {}
    for one in load(path) if path.exists() else []:
        method, place = one["request"]["method"], pattern(one["request"]["uri"], guide.ids)
        reply = one["response"]
        headers = {name.lower(): value for name, value in reply["headers"].items()}
        media = _media(headers)
        default = "submit" if method == "POST" else "fetch"
        role = "download" if media.startswith("image/") else guide.roles.get(place.partition("?")[0], default)
        place = "" if role == "download" else place
        exchange = found.setdefault((role, method, place), Exchange(role, method, place))
        look = Look(headers=headers.keys() & HEADERS, media={media})
        _see(reply["body"]["string"], look)
        exchange.looks.setdefault((reply["status"]["code"], look.state), Look()).add(look)
    return list(found.values())


def pattern(url: str, ids: Collection[str]) -> str:
    """The path of a URL with its ids replaced, and the names of its query."""
    parts = urlsplit(url)
    path = "/".join(ID if one in ids or _LOOKS_LIKE_ID.fullmatch(one) else one for one in parts.path.split("/"))
    names = sorted({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)})
    return f"{path}?{'&'.join(names)}" if names else path


def _media(headers: Mapping[str, Any]) -> str:
    value = headers.get("content-type", "")
    return str(value[0] if isinstance(value, list) else value).partition(";")[0].strip().lower()


def _see(body: str | bytes, look: Look) -> None:
    if isinstance(body, bytes):
        return
    try:
        found = json.loads(body)
    except ValueError:
        look.keys.setdefault("(body)", set()).add("text" if body else "nothing")
        return
    _walk(found, "", look)


def _walk(value: Any, path: str, look: Look) -> None:
    look.keys.setdefault(path or "(body)", set()).add(_type(value))
    if isinstance(value, dict):
        for key, one in value.items():
            below = f"{path}.{key}" if path else key
            is_word = key in WORDS and isinstance(one, str | int) and not isinstance(one, bool)
            if is_word and WORD.fullmatch(str(one)):
                look.words.setdefault(below, set()).add(str(one))
            _walk(one, below, look)
    elif isinstance(value, list):
        for one in value:
            _walk(one, f"{path}[]", look)


def _type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth", type(None): "null"}
    return names.get(type(value), "number")


def differences(live: Sequence[Exchange], emulated: Sequence[Exchange], states: Collection[str] = ()) -> list[str]:
    """What differs, a line for each, from the first exchange to the last; `states` are words that need no mention."""
    others = {(one.role, one.method, one.path): one for one in emulated}
    lines = []
    for number, one in enumerate(live, 1):
        where = f"exchange {number} ({one.role}): "
        other = others.pop((one.role, one.method, one.path), None)
        if other is None:
            lines.append(f"{where}live is asked {one.method} {one.path}, the emulator is not")
            continue
        lines += [where + said for said in _compared(one, other, states)]
    lines += [f"the emulator is asked {one.method} {one.path} ({one.role}), live is not" for one in others.values()]
    return lines


def _compared(live: Exchange, other: Exchange, states: Collection[str]) -> list[str]:
    said = []
    for (status, state), look in live.looks.items():
        there = {code for code, word in other.looks if word == state}
        if (status, state) in other.looks:
            said += _looks(look, other.looks[status, state])
        elif state and there:
            codes = _or(map(str, there))
            said.append(f"live says {state!r} under HTTP {status}, the emulator under {codes}")
        elif state not in states:
            said += _new(status, look, other)
    heard = {status for status, _ in live.looks}
    missing = sorted({status for status, state in other.looks if status not in heard and state not in states})
    return [*said, *(f"the emulator answers HTTP {status}, live does not" for status in missing)]


def _new(status: int, look: Look, other: Exchange) -> list[str]:
    """A reply in a state that the emulator does not have, beside all that it says under this HTTP status."""
    alike = [one for (code, _), one in other.looks.items() if code == status]
    if not alike:
        keys = ", ".join(f"{key}: {_or(types)}" for key, types in sorted(look.keys.items()))
        return [f"live answers HTTP {status} ({keys or 'no text'}), the emulator does not"]
    together = Look()
    for one in alike:
        together.add(one)
    return _looks(look, together)


def _looks(live: Look, other: Look) -> list[str]:
    mine, theirs = live.keys, other.keys
    new, old = sorted(mine.keys() - theirs.keys()), sorted(theirs.keys() - mine.keys())
    other_types = sorted(key for key in mine.keys() & theirs.keys() if _other_types(mine[key], theirs[key]))
    words = [(key, word, other.words.get(key, set())) for key, found in live.words.items() for word in sorted(found)]
    unheard = [(key, word, _or(known) or "nothing") for key, word, known in words if word not in known]
    said = [
        *(f"live has key `{key}: {_or(mine[key])}`, the emulator has not" for key in new),
        *(f"the emulator has key `{key}: {_or(theirs[key])}`, live has not" for key in old),
        *(f"live has `{key}: {_or(mine[key])}`, the emulator `{_or(theirs[key])}`" for key in other_types),
        *(f"live says `{key}` {word!r}, the emulator {known}" for key, word, known in unheard),
    ]
    for name in sorted(live.headers ^ other.headers):
        who, whom = ("live", "the emulator") if name in live.headers else ("the emulator", "live")
        said.append(f"{who} sends the header {name}, {whom} does not")
    if live.media != other.media:
        said.append(f"live sends {_or(live.media)}, the emulator {_or(other.media)}")
    return said


def _other_types(live: set[str], other: set[str]) -> set[str]:
    """Types that one has alone; whether a value of both was ever null is a matter of when it was asked for."""
    return live - other - ({"null"} if live & other else set())


def _or(words: Iterable[str]) -> str:
    return "|".join(sorted(words))
