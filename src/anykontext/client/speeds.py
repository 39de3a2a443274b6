"""How long candidates took of late, as the ledger knows it: for the strategy `fastest`."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from anykontext.ledger import Ledger

FRESH_S = 5.0  # a plan need not know of the very last success


class Speeds:
    """The durations of a ledger, read anew after some seconds. Safe to use from threads.

    They are kept by the provider's name: an emulator that was configured under the name of the service has left its
    own in the same ledger, which are soon pushed out by the service's.

    Args:
        ledger: Opens the ledger, or gives the open one.
        now: Seconds of a monotonic clock.
    """

    def __init__(self, ledger: Callable[[], Ledger], now: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._now = now
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._found: Mapping[str, Sequence[float]] = {}

    def __call__(self) -> Mapping[str, Sequence[float]]:
        """Seconds from submit to image of the last successes, by candidate name, the newest last."""
        with self._lock:
            if self._now() >= self._until:
                found = self._ledger().durations()
                self._found = {f"{provider}/{model}": seconds for (provider, model), seconds in found.items()}
                self._until = self._now() + FRESH_S
            return self._found
