"""How many tasks run at once, by provider and by model. The counting is plain; the waiting is the drivers'."""

from collections import Counter

from anykontext.engine.provider import Candidate


class Slots:
    """Counts of running tasks. Not safe by itself: each driver guards it with its own condition."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, candidate: Candidate, places: int) -> bool:
        """Take places when all are free; False when they are not."""
        names = (candidate.provider.name, candidate.name)
        for name, limit in zip(names, candidate.limits, strict=True):
            if limit is not None and self._taken[name] + places > limit:
                return False
        for name in names:
            self._taken[name] += places
        return True

    def give_back(self, candidate: Candidate, places: int) -> None:
        """Free places that were taken."""
        for name in (candidate.provider.name, candidate.name):
            self._taken[name] -= places
