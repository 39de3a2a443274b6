"""The sandbox: starts every emulator on loopback, and stops them again."""

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anykontext.config import Config
from anykontext.sandbox.discovery import find_emulators
from anykontext.sandbox.emulator import Emulator
from anykontext.sandbox.faults import nearest

if TYPE_CHECKING:
    from anykontext.sandbox.server import ServerThread


class Sandbox:
    """Emulators on free ports of 127.0.0.1, served by one daemon thread.

    Args:
        providers: the emulators to start; all that are installed by default.
        seconds: how long a task takes.
        faults: `"NAME"` for every emulator that knows it, or `"PROVIDER:NAME"`.

    Raises:
        ValueError: an unknown provider or fault; the message names the nearest word.
        MissingExtra: the extra `sandbox` is not installed.
    """

    def __init__(
        self,
        *,
        providers: Sequence[str] | None = None,
        seconds: float = 0.5,
        faults: Sequence[str] = (),
    ) -> None:
        found = find_emulators(providers)
        self.emulators: Mapping[str, Emulator] = {name: emulator(seconds=seconds) for name, emulator in found.items()}
        self.origins: Mapping[str, Mapping[str, str]] = {}
        self._server: ServerThread | None = None
        for fault in faults:
            self._inject(fault)

    def start(self) -> Self:
        """Bind the ports and serve; returns when every origin answers. A sandbox starts once."""
        from anykontext.sandbox.server import ServerThread

        if self._server is not None:
            raise RuntimeError("this sandbox was started before: make a new one")
        self._server = ServerThread()
        try:
            for emulator in self.emulators.values():
                emulator.origins = {name: self._server.bind(emulator, name) for name in emulator.origin_names}
            self._server.start()
        except BaseException:
            self._server.stop()
            raise
        self.origins = {name: emulator.origins for name, emulator in self.emulators.items()}
        return self

    def stop(self) -> None:
        """Reset open connections and end the thread; may be called twice."""
        if self._server is not None:
            self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def config(self, **sections: Any) -> Config:
        """A configuration whose providers are these emulators; `sections` are further ones, as in `Config`."""
        return Config(providers={name: emulator.config() for name, emulator in self._started().items()}, **sections)

    def config_toml(self) -> str:
        """The text of an `anykontext.toml` that points at these emulators."""
        # JSON's strings, numbers and booleans are TOML's too.
        sections = (
            "\n".join(
                [
                    f"[providers.{name}]",
                    *(f"{key} = {json.dumps(value)}" for key, value in emulator.config().items()),
                ]
            )
            for name, emulator in self._started().items()
        )
        return "# The sandbox: emulators on this machine. Nothing is paid.\n\n" + "\n\n".join([*sections, ""])

    def _started(self) -> Mapping[str, Emulator]:
        if not self.origins:
            raise RuntimeError("the origins are known when the sandbox has started")
        return self.emulators

    def _inject(self, fault: str) -> None:
        provider, colon, name = fault.rpartition(":")
        if colon and provider not in self.emulators:
            raise ValueError(f"unknown provider {provider!r}: {nearest(provider, self.emulators)}")
        chosen = [self.emulators[provider]] if colon else list(self.emulators.values())
        knowing = [emulator for emulator in chosen if name in emulator.known_faults()]
        if not knowing:
            known = {word for emulator in chosen for word in emulator.known_faults()}
            raise ValueError(f"unknown fault {name!r}: {nearest(name, known)}")
        for emulator in knowing:
            emulator.inject(name)
