"""Values as TOML, and comments beside them."""

import json
from collections.abc import Iterable
from typing import Any


def toml(value: Any) -> str:
    """A text, number, true or false, list or table in one line.

    >>> toml(["bfl", {"provider": "fal", "weight": 2.0}])
    '["bfl", { provider = "fal", weight = 2.0 }]'
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key(name)} = {toml(one)}' for name, one in value.items())} }}"
    # JSON's texts, numbers and booleans are TOML's too, but for one letter.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def key(name: str) -> str:
    """A name on the left of an equals sign, or in a header.

    >>> key("flux-kontext-pro"), key("flux-1.1-pro")
    ('flux-kontext-pro', '"flux-1.1-pro"')
    """
    return name if name and name.isascii() and name.replace("-", "").replace("_", "").isalnum() else toml(name)


def header(keys: Iterable[str]) -> str:
    """The header of a section."""
    return f"[{'.'.join(map(key, keys))}]"


def beside(lines: Iterable[tuple[str, str]], widest: int = 56) -> list[str]:
    """Lines with their comments in one column; that of a long line stands above it."""
    lines = list(lines)
    width = max((len(line) for line, told in lines if told and len(line) <= widest), default=0)
    found: list[str] = []
    for line, told in lines:
        if told and len(line) > widest:
            found += [f"# {told}", line]
        else:
            found.append(f"{line:<{width}}  # {told}" if told else line)
    return found
