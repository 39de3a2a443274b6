"""What is wrong with a value, as a sentence: the file, the line, the setting, and what is needed instead."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from anykontext.config.fields import word_of
from anykontext.config.source import Keys, Source

# What pydantic finds by itself -> our words; every other finding has its sentence from `fields` and `keys`.
_ABSENT = {"extra_forbidden": "there is no such setting", "missing": "it is missing"}
_FINDINGS = {
    "bool_type": "true or false is needed",
    "dict_type": "a table is needed",
    "mapping_type": "a table is needed",
    "model_type": "a table is needed",
    "string_type": "a text is needed",
    "tuple_type": "a list is needed",
}


def findings(error: ValidationError, source: Source) -> Iterator[str]:
    """A sentence for each of pydantic's findings."""
    for one in error.errors(include_url=False):
        keys = _as_written(one["loc"])
        yield f"{source.where(keys)}: {dotted(keys)}: {_sentence(one)}"


def _as_written(keys: Keys) -> Keys:
    """Our `urls` of a provider stand beside its other settings in the file."""
    return keys[:2] + keys[3:] if keys[:1] == ("providers",) and keys[2:3] == ("urls",) else keys


def _sentence(one: Any) -> str:
    kind = one["type"]
    if kind in _ABSENT:
        return _ABSENT[kind]
    if kind in _FINDINGS:
        return f"{_FINDINGS[kind]}, not {word_of(one['input'])}"
    if kind == "value_error":
        return str(one["ctx"]["error"])
    return "this value cannot be used"


def dotted(keys: Keys) -> str:
    """The name of a setting as it would be written in one line; places in lists are left out."""
    return ".".join(str(key) for key in keys if isinstance(key, str)) or "the configuration"
