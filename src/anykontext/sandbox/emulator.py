"""What every emulator is: origins, faults, a clock that can be moved on, and counters."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from anykontext.sandbox.faults import FAULTS, Switchboard

if TYPE_CHECKING:
    from starlette.types import ASGIApp

KEYS = frozenset({"sandbox", "sandbox:sandbox"})
"""The keys that emulators accept; every other is refused as the provider would."""


class Emulator(ABC):
    """A stand-in for one provider, true to its protocol sheet.

    State changes in the sandbox's thread only. Faults and the clock may be set, and counters and
    requests read, from any thread.
    """

    name: ClassVar[str]
    """The provider's name, as in `[providers.NAME]`."""
    origin_names: ClassVar[tuple[str, ...]]
    """The hosts that the provider has; each becomes an origin on a port of its own."""
    extra_faults: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Faults beyond `FAULTS`, each with its meaning in one sentence."""

    slow_seconds: float = 3.0
    """How long the fault `submit-slow` holds a reply back."""
    megapixels: float = 1.0
    """The size of pictures where the request leaves it open; smaller ones make tests quicker."""

    def __init__(self, *, seconds: float = 0.5) -> None:
        self.seconds = seconds
        self.origins: Mapping[str, str] = {}
        self.counters: Counter[str] = Counter()
        self.requests: list[Mapping[str, Any]] = []
        self._switchboard = Switchboard(self.known_faults())
        self._ahead = 0.0

    @classmethod
    def known_faults(cls) -> Mapping[str, str]:
        """Every fault that this emulator knows, with its meaning."""
        return {**FAULTS, **cls.extra_faults}

    @property
    def faults(self) -> Mapping[str, int | None]:
        """The faults that apply now, with the number of requests left (None: till cleared)."""
        return self._switchboard.armed()

    def inject(self, name: str, *, times: int | None = None) -> None:
        """Let a fault apply to the next `times` requests that it concerns, or till it is cleared."""
        self._switchboard.arm(name, times)

    def clear(self, name: str | None = None) -> None:
        """End one fault, or all."""
        self._switchboard.clear(name)

    def take(self, name: str) -> bool:
        """Whether a fault applies to the request being answered; uses up one of its times."""
        return self._switchboard.take(name)

    def armed(self, *names: str) -> bool:
        """Whether any of these faults applies now; uses nothing up."""
        return not self._switchboard.armed().keys().isdisjoint(names)

    def now(self) -> float:
        """The emulator's wall clock, in seconds since the epoch."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the emulator's clock on: tasks finish and URLs expire without waiting."""
        self._ahead += seconds

    @abstractmethod
    def app(self, origin_name: str) -> "ASGIApp":
        """What answers at one origin; called once for each of `origin_names`, when `origins` is known."""

    def config(self) -> Mapping[str, str | int | float | bool]:
        """The settings of `[providers.NAME]` that make anykontext speak to this emulator."""
        return {"api_key": "sandbox", "base_url": self.origins[self.origin_names[0]]}
