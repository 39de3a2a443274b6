"""What the fixture `anykontext_sandbox` gives: running emulators, and a configuration that leads to them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from anykontext.client import Client
from anykontext.config import Config
from anykontext.sandbox import Emulator, Sandbox
from anykontext.testing.isolated import isolated

MEGAPIXELS = 0.1  # small pictures, where the request leaves the size open
POLL_S = 0.05


class TestSandbox:
    """The emulators of one test.

    Attributes:
        config: The configuration that leads to them; `ak.Client()` finds it by itself.
        emulators: By the provider's name, for what is not offered here.
        origins: Provider -> host -> base URL.
    """

    __test__ = False  # its name is not that of a test class

    def __init__(self, sandbox: Sandbox, config: Config, stack: ExitStack) -> None:
        self.config = config
        self.emulators: Mapping[str, Emulator] = sandbox.emulators
        self.origins: Mapping[str, Mapping[str, str]] = sandbox.origins
        self._stack = stack

    def client(self, **options: Any) -> Client:
        """A client of these emulators, closed at the end of the test."""
        return self._stack.enter_context(Client(self.config, **options))

    def inject(self, provider: str, fault: str, times: int | None = None) -> None:
        """Let a fault apply to the next `times` requests that it concerns, or till the end of the test.

        Raises:
            ValueError: The provider is not in this sandbox, or its emulator does not know the fault.
        """
        self._emulator(provider).inject(fault, times=times)

    def clear(self, provider: str, fault: str | None = None) -> None:
        """End one fault, or all."""
        self._emulator(provider).clear(fault)

    def requests(self, provider: str) -> Sequence[Mapping[str, Any]]:
        """The requests that the emulator accepted, in order, in the provider's own words."""
        return list(self._emulator(provider).requests)

    def counters(self, provider: str) -> "Counter[str]":
        """What was counted there: `submits` that arrived, `accepted`, `polls`, `downloads`, …"""
        return Counter(self._emulator(provider).counters)

    def advance(self, seconds: float) -> None:
        """Move the clock of every emulator on: tasks end and links expire without waiting."""
        for emulator in self.emulators.values():
            emulator.advance(seconds)

    def _emulator(self, provider: str) -> Emulator:
        if provider not in self.emulators:
            raise ValueError(f"no provider {provider!r} in this sandbox; there are: {', '.join(self.emulators)}")
        return self.emulators[provider]


def quick(providers: Sequence[str] | None = None, seconds: float = 0.0) -> Sandbox:
    """A sandbox for tests, not started yet: quick tasks of small pictures.

    Raises:
        MissingExtra: The extra `sandbox` is not installed.
        ValueError: A provider has no emulator.
    """
    sandbox = Sandbox(providers=providers, seconds=seconds)
    for emulator in sandbox.emulators.values():
        emulator.megapixels = MEGAPIXELS
    return sandbox


@contextmanager
def sandboxed(sandbox: Sandbox, folder: Path, more: str = "") -> Iterator[TestSandbox]:
    """Let the default configuration lead to a running sandbox.

    Args:
        sandbox: It is stopped by whoever started it.
        folder: An empty one, for the configuration and the home folder.
        more: Further settings of the configuration, as TOML.
    """
    text = "\n\n".join([more, *map(_section, sandbox.emulators.values())])
    with (
        pytest.MonkeyPatch.context() as patch,
        isolated(patch, folder, text) as file,
        ExitStack() as stack,
    ):
        yield TestSandbox(sandbox, Config.load(file), stack)


def _section(emulator: Emulator) -> str:
    settings = {**emulator.config(), "poll_interval_s": POLL_S}
    # JSON's strings, numbers and booleans are TOML's too.
    return "\n".join([f"[providers.{emulator.name}]", *(f"{key} = {json.dumps(one)}" for key, one in settings.items())])
