"""Faults on demand: the names that every emulator knows, and the switchboard that arms them."""

import difflib
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "moderated": "The task ends because the prompt or an input image was refused.",
        "moderated-output": "The task ends because the finished picture was refused.",
        "failed": "The task ends in the provider's own failure.",
        "outage": "A submit is answered 503 as the provider documents it; nothing is accepted.",
        "server-error": "A submit is answered 500 in the provider's own shape; nothing is accepted.",
        "gateway-page": "A submit is accepted, but a gateway answers 502 with an HTML page.",
        "rate-limited": "A submit is answered 429 with Retry-After; nothing is accepted.",
        "out-of-credit": "A submit is refused because the account is empty.",
        "bad-key": "Every key is refused.",
        "submit-lost": "A submit is accepted, then the connection is reset without a reply.",
        "submit-slow": "A submit is accepted at once, but its reply comes late.",
        "poll-errors": "The first polls of each task go wrong in different ways.",
        "unknown-status": "Polls name a status that nobody knows.",
        "never-ends": "Tasks run forever.",
        "expired-url": "Every result URL has expired already.",
        "truncated-image": "Only half of a result's bytes are delivered, under a fitting Content-Length.",
        "not-an-image": "A result is an HTML page that calls itself an image.",
    }
)


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of an error message about an unknown word: the nearest known one, else all of them."""
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"


class Switchboard:
    """Which faults are armed, and for how many more requests; any thread may change it."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = known
        self._armed: dict[str, int | None] = {}
        self._lock = threading.Lock()

    def arm(self, name: str, times: int | None) -> None:
        """Arm a fault for `times` requests, or till it is cleared."""
        if name not in self.known:
            raise ValueError(f"unknown fault {name!r}: {nearest(name, self.known)}")
        if times is not None and times < 1:
            raise ValueError(f"a fault is injected for at least one request, not {times}")
        with self._lock:
            self._armed[name] = times

    def clear(self, name: str | None) -> None:
        """Disarm one fault, or all."""
        with self._lock:
            if name is None:
                self._armed.clear()
            else:
                self._armed.pop(name, None)

    def armed(self) -> dict[str, int | None]:
        """The armed faults with the number of requests left (None: no end)."""
        with self._lock:
            return dict(self._armed)

    def take(self, name: str) -> bool:
        """Whether the fault applies to this request; one of its `times` is used up."""
        with self._lock:
            if name not in self._armed:
                return False
            left = self._armed[name]
            if left is not None:
                if left > 1:
                    self._armed[name] = left - 1
                else:
                    del self._armed[name]
            return True
