"""Whose turn it is, and what chance says: used up by requests, and only looked at by plans."""

import threading
from collections.abc import Callable, Sequence
from random import random

from anykontext.engine.provider import Candidate


class Turns:
    """The turns and the next random fraction of a client and of all its views. Safe to use from threads.

    Turns begin anew with each process: the first request of a route goes to its first candidate.

    Args:
        draw: A random number of 0 to 1.
    """

    def __init__(self, draw: Callable[[], float] = random) -> None:
        self._draw = draw
        self._fraction = draw()
        self._turns: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def look(self, candidates: Sequence[Candidate]) -> tuple[int, float]:
        """The turn of these candidates and the random fraction that the next request with them gets."""
        with self._lock:
            return self._turns.get(_key(candidates), 0), self._fraction

    def take(self, candidates: Sequence[Candidate]) -> tuple[int, float]:
        """The same, used up."""
        with self._lock:
            turn, fraction = self._turns.get(_key(candidates), 0), self._fraction
            self._turns[_key(candidates)], self._fraction = turn + 1, self._draw()
            return turn, fraction


def _key(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(one.name for one in candidates)
