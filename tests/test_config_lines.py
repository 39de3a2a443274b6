"""The lines that are told of settings are those of the parser, or none."""

import tomllib
from typing import Any

import pytest

from anykontext.config.source import line_index

STRANGE = '''
a.b = { c = [1, { d = 2 }] }
"quoted.key" = """
a.z = 1
[not.a.section]
"""
[[t]]
x = [
  # a comment ]
  "]",

  { y = 1 },
]
[t.sub]
x = 1
[[t]]
[t.sub]
z = 1 # [other]
[[t.sub.deep]]
[[t.sub.deep]]
x = 1
[  spaced . "key" ]  # [other]
v = 1
'''


def stands(keys: tuple[str | int, ...], found: Any) -> bool:
    try:
        for key in keys:
            found = found[key]
    except (KeyError, IndexError):
        return False
    return True


def test_a_setting_begins_on_its_line_whatever_the_style() -> None:
    lines = STRANGE.split("\n")

    found = line_index(STRANGE)

    assert found["t", 1, "sub", "deep", 1, "x"] == 21
    for keys, number in found.items():
        assert not stands(keys, tomllib.loads("\n".join(lines[: number - 1])))
        end = {3: 6, 8: 13}.get(number, number)  # the statements of several lines
        assert stands(keys, tomllib.loads("\n".join(lines[:end])))


@pytest.mark.parametrize(
    "text", ["x = 1\n" * 2, "x = [", "\n" * 3000 + "x = 1", "x = [\n" + "1,\n" * 300 + "]", "x = " + "[" * 3000]
)
def test_no_line_is_told_where_none_is_sure(text: str) -> None:
    assert line_index(text) == {}
