"""API keys: where they may be, and how they are read from there. No message and no repr holds one."""

import inspect
import logging
import os
import re
import shlex
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from anykontext.config.fields import word_of
from anykontext.config.source import Source
from anykontext.model.errors import ConfigurationError, MissingKey

log = logging.getLogger("anykontext")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_HIDDEN = "**********"
# The keys that the emulators of the sandbox take: they open nothing.
_SANDBOX_KEYS = {"sandbox", "sandbox:sandbox"}

Given = Callable[[], "str | SecretStr"]


class Reentered(ConfigurationError):
    """A callable that is asked for a key has called the client that asks; the message holds no word of the caller's."""


class KeySource(ABC):
    """Where a key is; its text never holds the key."""

    @abstractmethod
    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:
        """The key.

        Raises:
            MissingKey: It is not there.
            ConfigurationError: It may not be used as it is.
        """

    def check(self, provider: str, source: Source) -> None:  # noqa: B027 - most have nothing to check
        """Look, before anything is sent, whether there is a mistake in the configuration; nothing is read.

        Raises:
            ConfigurationError: There is one; the message begins with its place.
        """

    @abstractmethod
    def state(self, environ: Mapping[str, str], source: Source) -> str:
        """Whether there seems to be a key, in a word or two; nothing is read or called."""


@dataclass(frozen=True, slots=True)
class Variables(KeySource):
    """Environment variables: alternatives, each of one variable or of several that are joined by `:`."""

    alternatives: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return "env:" + " or ".join("+".join(names) for names in self.alternatives)

    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """The first alternative that is wholly set."""
        if names := self.found(environ):
            return ":".join(environ[name].strip() for name in names)
        raise MissingKey(f"provider {provider!r} has no key: {self._missing(environ)}")

    def state(self, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """Whether one of the alternatives is wholly set."""
        return "set" if self.found(environ) else "not set"

    def found(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """The alternative that is taken; empty when none is wholly set."""
        return next((names for names in self.alternatives if all(environ.get(one, "").strip() for one in names)), ())

    def _missing(self, environ: Mapping[str, str]) -> str:
        if not self.alternatives:
            return "its adapter knows no variable for one; set api_key"
        first = self.alternatives[0][0]
        tried = ["+".join(names) for names in self.alternatives]
        said = f"{tried[0]} is not set" if len(tried) == 1 else f"none of {', '.join(tried)} is set"
        for names in self.alternatives:
            there = [name for name in names if environ.get(name, "").strip()]
            empty = [name for name in names if name in environ and name not in there]
            said += f"; {' and '.join(empty)} is empty" if empty else ""
            said += f"; {' and '.join(there)} alone is not enough" if there else ""
        return f"{said}. For example: export {first}=..."


@dataclass(frozen=True, slots=True)
class KeyFile(KeySource):
    """A file that holds nothing but the key."""

    path: str

    def __str__(self) -> str:
        return f"file:{self.path}"

    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """What is in the file, without white space around it."""
        place = f"{source.where(('providers', provider, 'api_key'))}: provider {provider!r}"
        path = source.resolve(self.path)
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                found = file.read(65536).decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a text"
            raise MissingKey(f"{place}: its key cannot be read from {path}: {why}") from None
        if not found:
            raise MissingKey(f"{place}: the key file {path} is empty")
        self._check_mode(mode, place, path)
        if mode & stat.S_IRGRP and os.name == "posix":
            log.warning("the key file %s can be read by its group: chmod 600 it", path)
        return found

    def check(self, provider: str, source: Source) -> None:
        """Whether the file is there, and closed to everybody else."""
        place = f"{source.where(('providers', provider, 'api_key'))}: provider {provider!r}"
        path = source.resolve(self.path)
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "it has no usable name"
            raise ConfigurationError(f"{place}: its key cannot be read from {path}: {why}") from None
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{place}: its key cannot be read from {path}: it is a folder")
        self._check_mode(mode, place, path)

    def state(self, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """Whether the file can be read."""
        return "readable" if os.access(source.resolve(self.path), os.R_OK) else "not readable"

    @staticmethod
    def _check_mode(mode: int, place: str, path: Path) -> None:
        if mode & stat.S_IROTH and os.name == "posix":
            raise ConfigurationError(
                f"{place}: everybody on this machine can read the key file {path}; close it: "
                f"chmod 600 {shlex.quote(str(path))}"
            )


@dataclass(frozen=True, slots=True)
class Written(KeySource):
    """The key itself."""

    key: SecretStr

    def __str__(self) -> str:
        return _HIDDEN

    @property
    def is_secret(self) -> bool:
        """Whether anybody could spend money with it."""
        return self.key.get_secret_value() not in _SANDBOX_KEYS

    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """The key as it was given."""
        return self.key.get_secret_value()

    def state(self, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """It is here."""
        return "set"


@dataclass(frozen=True, slots=True)
class Called(KeySource):
    """A callable that returns the key."""

    call: Given = field(repr=False)

    def __str__(self) -> str:
        return "a callable"

    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """What the callable returns."""
        try:
            found: object = self.call()
        except Reentered:
            raise
        except Exception as error:
            # Its message is the caller's own, and might hold the key: it is told by the chain alone.
            raise MissingKey(f"provider {provider!r}: api_key() raised {type(error).__name__}") from error
        if isinstance(found, SecretStr):
            found = found.get_secret_value()
        if not isinstance(found, str) or not found.strip():
            told = "an empty text" if isinstance(found, str) else word_of(found)
            raise MissingKey(f"provider {provider!r}: api_key() must return the key, and returned {told}")
        return found

    def state(self, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """Only a call would tell."""
        return "not called yet"


def key_source(value: Any) -> KeySource | None:
    """What a setting `api_key` means.

    Raises:
        ValueError: It means nothing; the message does not repeat it.
    """
    if value is None or isinstance(value, KeySource):
        return value
    if isinstance(value, SecretStr):
        return Written(_checked(value.get_secret_value()))
    if inspect.iscoroutinefunction(value):
        raise ValueError("a plain callable is needed, not an async one")
    if callable(value):
        return Called(value)
    if not isinstance(value, str):
        raise ValueError(f'"env:NAME", "file:PATH" or the key as a text is needed, not {word_of(value)}')
    return _from_text(value.strip())


def _from_text(said: str) -> KeySource:
    scheme, _, rest = said.partition(":")
    rest = rest.strip()
    if scheme.lower() == "env":
        if not _VARIABLE.fullmatch(rest):
            raise ValueError('after "env:" the name of a variable is needed, of letters, digits and _')
        return Variables(((rest,),))
    if scheme.lower() == "file":
        if not rest or not rest.isprintable():
            raise ValueError('after "file:" the path of a file is needed')
        return KeyFile(rest)
    if shell := _SHELL_VARIABLE.fullmatch(said):
        raise ValueError(f'variables are not put in by themselves: write "env:{shell[1]}"')
    return Written(_checked(said))


def _checked(key: str) -> SecretStr:
    if not key.strip():
        raise ValueError("it is empty")
    if not fits_a_header(key.strip()):
        raise ValueError(f"this cannot be a key: {UNFIT}")
    return SecretStr(key.strip())


UNFIT = "it holds a space, a line break or a letter beyond ASCII"


def fits_a_header(key: str) -> bool:
    """Whether a text can be sent as a key."""
    return key.isascii() and key.isprintable() and " " not in key
