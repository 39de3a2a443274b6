"""Finding and reading `anykontext.toml`, and finding providers by the keys in the environment."""

import logging
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import platformdirs

from anykontext.adapting import Adapter
from anykontext.config.implied import KNOWN
from anykontext.config.source import Source
from anykontext.model.errors import ConfigurationError

log = logging.getLogger("anykontext")
APP = "anykontext"
FILE = "anykontext.toml"
PATH_VARIABLE = "ANYKONTEXT_CONFIG"
HOME_VARIABLE = "ANYKONTEXT_HOME"

_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|(end of document))\)$")


def read(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> tuple[Mapping[str, Any], Source] | None:
    """What the configuration file holds, and where it is; None when there is none.

    Raises:
        ConfigurationError: A file that was asked for is not there, or the one that was found cannot be read.
    """
    found = _search(path, environ)
    if found is None:
        return None
    name, why = found
    source = _opened(name, why)
    return _parsed(source), source


def _search(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The file to read, and why that one, for messages."""
    if path is not None:
        return os.fspath(path), ""
    if named := environ.get(PATH_VARIABLE, "").strip():
        return named, f" (named by ${PATH_VARIABLE})"
    for candidate in (Path(FILE), platformdirs.user_config_path(APP) / FILE):
        if _is_there(candidate):
            return str(candidate), ""
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a service whose user may not look into the folder has no file there
        log.debug("%s is passed over: %s", path, error.strerror)
        return False


def _opened(name: str, why: str) -> Source:
    try:
        file = Source().resolve(name).absolute()  # the working directory may change later
        raw = file.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"there is no file {name}{why}") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{name}{why} is a folder, not a file") from None
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else "it has no usable name"
        raise ConfigurationError(f"{name}{why} cannot be read: {told}") from None
    try:
        return Source(name, raw.decode("utf-8-sig"), file.parent)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{name}, line {line}: this is not UTF-8, as TOML must be") from None


def _parsed(source: Source) -> Mapping[str, Any]:
    try:
        return tomllib.loads(source.text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = at[1] or source.text.rstrip("\n").count("\n") + 1 if at else None
        place = f"{source.name}, line {line}" if line else source.name
        raise ConfigurationError(f"{place}: this is not TOML: {_AT_LINE.sub('', str(error))}") from None
    except (ValueError, ArithmeticError, RecursionError):
        # A number of thousands of digits, or lists in lists in lists …
        raise ConfigurationError(f"{source.name}: this is not usable TOML") from None


def discover(adapters: Mapping[str, Adapter], environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """A section for every adapter whose key is in the environment, in the order in which they are preferred."""
    return {name: {} for name in preferred(_keyed(adapters, environ))}


def preferred(names: Iterable[str]) -> list[str]:
    """Providers in the order in which they are preferred at equal prices."""
    return sorted(names, key=_preference)


def _keyed(adapters: Mapping[str, Adapter], environ: Mapping[str, str]) -> Iterator[str]:
    for name, adapter in adapters.items():
        if any(all(environ.get(one, "").strip() for one in names) for names in adapter.facts.keys):
            yield name


def _preference(name: str) -> tuple[int, str]:
    return (KNOWN.index(name) if name in KNOWN else len(KNOWN), name)


def home(environ: Mapping[str, str]) -> Path:
    """Where the ledger, the spool and learnt durations live: `$ANYKONTEXT_HOME`, or the user's data folder."""
    named = environ.get(HOME_VARIABLE, "").strip()
    return Source().resolve(named) if named else platformdirs.user_data_path(APP)
