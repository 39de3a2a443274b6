"""API keys: where they are, and how they are fetched when they are needed. No message and no repr holds one."""

import inspect
import logging
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


class KeySource(ABC):
    """Where a key is; its text never holds the key."""

    @abstractmethod
    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:
        """The key.

        Raises:
            MissingKey: It is not there.
        """


@dataclass(frozen=True, slots=True)
class Variables(KeySource):
    """Environment variables: alternatives, each of one variable or of several that are joined by `:`."""

    alternatives: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return "env:" + " or ".join("+".join(names) for names in self.alternatives)

    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """The first alternative that is wholly set."""
        for names in self.alternatives:
            values = [environ.get(name, "").strip() for name in names]
            if all(values):
                return ":".join(values)
        raise MissingKey(f"provider {provider!r} has no key: {self._missing(environ)}")

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
        path = source.resolve(self.path)
        try:
            with path.open("rb") as file:
                readers = os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH)
                found = file.read(65536).decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a text"
            raise MissingKey(f"provider {provider!r}: its key cannot be read from {path}: {why}") from None
        if not found:
            raise MissingKey(f"provider {provider!r}: the key file {path} is empty")
        if readers and os.name == "posix":
            log.warning("the key file %s can be read by others: chmod 600 it", path)
        return found


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


@dataclass(frozen=True, slots=True)
class Called(KeySource):
    """A callable that returns the key whenever it is needed."""

    call: Given = field(repr=False)

    def __str__(self) -> str:
        return "a callable"

    def read(self, provider: str, environ: Mapping[str, str], source: Source) -> str:  # noqa: ARG002
        """What the callable returns."""
        try:
            found: object = self.call()
        except Exception as error:
            # Its message is the caller's own, and might hold the key: it is told by the chain alone.
            raise MissingKey(f"provider {provider!r}: api_key() raised {type(error).__name__}") from error
        if isinstance(found, SecretStr):
            found = found.get_secret_value()
        if not isinstance(found, str) or not found.strip():
            told = "an empty text" if isinstance(found, str) else word_of(found)
            raise MissingKey(f"provider {provider!r}: api_key() must return the key, and returned {told}")
        return found


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
    if not _fits_a_header(key.strip()):
        raise ValueError(f"this cannot be a key: {_UNFIT}")
    return SecretStr(key.strip())


_UNFIT = "it holds a space, a line break or a letter beyond ASCII"


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


class Key:
    """What a driver calls when it needs the key of a provider. A file is read once, everything else each time."""

    def __init__(self, provider: str, where: KeySource, environ: Mapping[str, str], source: Source) -> None:
        self._provider = provider
        self._where = where
        self._environ = environ
        self._source = source
        self._kept: SecretStr | None = None

    def __call__(self) -> SecretStr:
        """The key.

        Raises:
            MissingKey: There is none; the message tells what was tried.
            ConfigurationError: It cannot be a key.
        """
        if self._kept is not None:
            return self._kept
        found = self._where.read(self._provider, self._environ, self._source).strip()
        if not _fits_a_header(found):
            raise ConfigurationError(f"provider {self._provider!r}: its key from {self._where} is none: {_UNFIT}")
        key = SecretStr(found)
        if isinstance(self._where, KeyFile):
            self._kept = key
        return key

    def __repr__(self) -> str:
        return f"Key({self._provider!r}, {self._where})"
