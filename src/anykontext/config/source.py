"""Where a configuration comes from, and on which line of its file a setting stands.

`tomllib` tells no lines. So the text is cut into statements, each read by `tomllib` itself, and the whole is compared
with what the whole file means: where the two differ, no line is told rather than a wrong one.
"""

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Keys = tuple[str | int, ...]

# Beyond this many lines, of the file or of one statement, it would take too long.
_LINES_MAX = 2000
_STATEMENT_MAX = 200


@dataclass(frozen=True)
class Source:
    """Where a configuration comes from.

    Attributes:
        name: What messages call it: a path as it was given, or words.
        text: The text of the file; it may hold keys.
        folder: What relative paths in it start from; None for the working directory.
    """

    name: str = "Config"
    text: str = field(default="", repr=False)
    folder: Path | None = None

    def where(self, keys: Keys) -> str:
        """The name, and the line of this setting, or of the section in which it is missing, where that is sure."""
        for end in range(len(keys), 0, -1):
            if keys[:end] in self._lines:
                return f"{self.name}, line {self._lines[keys[:end]]}"
        return self.name

    def has(self, keys: Keys) -> bool:
        """Whether this setting or section surely stands in the file."""
        return keys in self._lines

    @functools.cached_property
    def _lines(self) -> Mapping[Keys, int]:
        return line_index(self.text)

    def resolve(self, path: str) -> Path:
        """A path of this configuration: `~` is the home folder, a relative one starts from the file's folder."""
        try:
            expanded = Path(path).expanduser()
        except (RuntimeError, ValueError):  # there is no home folder, or this is no path
            expanded = Path(path)
        return (self.folder or Path()) / expanded


def line_index(text: str) -> dict[Keys, int]:
    """The line of each setting and section of a TOML text; empty where it is not sure."""
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > _LINES_MAX:
        return {}
    try:
        found = _index(lines)
        sure = set(found) == set(_paths(tomllib.loads(text)))
    except (ValueError, RecursionError):
        return {}
    return found if sure else {}


def _index(lines: list[str]) -> dict[Keys, int]:
    found: dict[Keys, int] = {}
    section: Keys = ()
    tables: dict[Keys, int] = {}  # arrays of tables -> how many there are so far
    for number, table, is_header in _statements(lines):
        if is_header:
            section = _section(table, tables)
            paths: Iterator[Keys] = (section[:end] for end in range(1, len(section) + 1))
        else:
            paths = (section + path for path in _paths(table))
        for path in paths:
            found.setdefault(path, number)
    return found


def _statements(lines: list[str]) -> Iterator[tuple[int, dict[str, Any], bool]]:
    """Each statement's first line, what it means alone, and whether it is the header of a section."""
    start, pending = 1, ""
    for number, line in enumerate(lines, 1):
        pending += line + "\n"
        if number - start > _STATEMENT_MAX:
            raise ValueError("a statement of too many lines")
        try:
            table = tomllib.loads(pending)
        except ValueError:
            continue  # it goes on in the next line
        yield start, table, pending.lstrip().startswith("[")
        start, pending = number + 1, ""


def _section(header: Any, tables: dict[Keys, int]) -> Keys:
    path: Keys = ()
    while header:
        if isinstance(header, list):
            tables[path] = tables.get(path, 0) + 1
            return (*path, tables[path] - 1)
        ((key, header),) = header.items()
        path += (key,)
        if path in tables and isinstance(header, Mapping):
            path += (tables[path] - 1,)
    return path


def _paths(value: Any, base: Keys = ()) -> Iterator[Keys]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*base, key)
        yield from _paths(item, (*base, key))
