"""The gate of a client: who may submit where, and when. Places, submit rates, breakers and drains meet here.

The state is small, in memory, and the client's own: clients that are made apart count apart, its views count together.
Decisions are those of `routing.breaker` and `routing.rates`. Nothing here waits: a driver asks, and looks again until
it is decided. Who came first is served first, except by a model whose own places are all taken. A place is held for as
long as a task is followed: one that is left while it may still run at its provider is not counted any more.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anykontext.engine.effects import Admit, NotAdmitted, Observed
from anykontext.engine.provider import Candidate, Provider
from anykontext.model.errors import Kind
from anykontext.routing.breaker import CLOSED, PAUSES, Breaker, Position, failed, probed, says
from anykontext.routing.rates import Times, noted, wait_s

LOOK_S = 1.0  # how often a wait is looked at when nothing calls, and how old may be what is known of drains
FULL = NotAdmitted(Kind.RATE_LIMITED, "all its places are taken by running tasks of ours")
DRAINED = "; `anykontext undrain {name}` lets it take jobs again"
ACCOUNT = frozenset({Kind.OUT_OF_CREDIT, Kind.AUTHENTICATION_FAILED})  # about one key, and not about the service
log = logging.getLogger("anykontext")


@dataclass(slots=True, eq=False)
class Asked:
    """One attempt at the gate, and the places that it holds once it was let in.

    Attributes:
        what: What it wants.
        wake: Called when it is decided, with the gate locked.
        admitted: Whether it holds its places.
        refused: Why not.
        probes: The breakers for which it finds out.
        unsent: How many submits it may still send; they count against the rate as if they left now.
    """

    what: Admit
    wake: Callable[[], None]
    admitted: bool = False
    refused: NotAdmitted | None = None
    probes: tuple[str, ...] = ()
    unsent: int = 0

    @property
    def candidate(self) -> Candidate:
        """Where it wants to go."""
        return self.what.candidate

    @property
    def decided(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.admitted or self.refused is not None


class Gate:
    """Safe to use from threads; an event loop is held for microseconds.

    Args:
        drains: Reads which providers are drained: name -> by whom, since when and why. It may block.
        clock: Seconds that only go forward.
        fraction: A random number of 0 to 1.
    """

    def __init__(
        self,
        drains: Callable[[], Mapping[str, str]] = dict,
        *,
        clock: Callable[[], float] = time.monotonic,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._read, self._clock, self._fraction = drains, clock, fraction
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._drained: Mapping[str, str] = {}
        self._read_at: float | None = None
        self._taken: Counter[str] = Counter()
        self._times: dict[str, Times] = {}
        self._unsent: Counter[str] = Counter()
        self._breakers: dict[str, Breaker] = {}
        self._queues: dict[str, list[Asked]] = {}

    # Drains

    @property
    def stale(self) -> bool:
        """Whether `refresh` has something to do."""
        return self._read_at is None or self._clock() - self._read_at >= LOOK_S

    def refresh(self) -> None:
        """Read anew which providers are drained, at most once a second; it may block, and it never raises."""
        if not self.stale:
            return
        with self._reading:
            if self.stale:
                try:
                    self._drained = self._read()
                except Exception as error:  # noqa: BLE001 - what cannot be read must not stop a job
                    log.debug("which providers are drained could not be read: %s", error)
                self._read_at = self._clock()

    # Admission

    def ask(self, what: Admit, wake: Callable[[], None] = lambda: None) -> Asked:
        """Come to the gate; it may be decided at once."""
        asked = Asked(what, wake)
        with self._lock:
            self._queues.setdefault(what.candidate.provider.name, []).append(asked)
            self._look(asked)
        return asked

    def look(self, asked: Asked) -> float:
        """Look again whether it is decided, since time has passed; the seconds after which another look pays."""
        with self._lock:
            self._look(asked)
            return min(max(self._rate_wait_s(asked), 0.001), LOOK_S)

    def end(self, asked: Asked) -> NotAdmitted | None:
        """Wait no more: None when it was let in, else why it was not."""
        with self._lock:
            if not asked.decided:
                asked.refused = self._in_the_way(asked) or FULL
                self._queues[asked.candidate.provider.name].remove(asked)
            return asked.refused

    def sent(self, provider: Provider, held: Iterable[Asked]) -> None:
        """A submit leaves; what the flow holds may have been let in long ago, before an upload."""
        rate = provider.adapter.facts.submit_rate
        if rate is None:
            return
        with self._lock:
            self._times[provider.name] = noted(rate, self._times.get(provider.name, ()), 1, self._clock())
            for asked in held:
                if asked.unsent and asked.candidate.provider.name == provider.name:
                    asked.unsent -= 1
                    self._unsent[provider.name] -= 1
                    break

    def give_back(self, asked: Asked) -> None:
        """Free what it holds, or take it out of the queue; once more does nothing."""
        self.end(asked)
        with self._lock:
            if not asked.admitted:
                return
            asked.admitted = False
            asked.refused = FULL
            for name in _names(asked.candidate):
                self._taken[name] -= asked.what.places
            self._unsent[asked.candidate.provider.name] -= asked.unsent
            asked.unsent = 0
            for name in asked.probes:  # it did not find out: the next one does
                self._breakers[name] = probed(self._breakers.get(name, CLOSED), probing=False)
            self._serve(asked.candidate.provider.name)

    def _look(self, asked: Asked) -> None:
        if not asked.decided and (refused := self._refusal(asked)) is not None:
            self._decide(asked, refused)
        self._serve(asked.candidate.provider.name)

    def _serve(self, provider: str) -> None:
        """Let in who can be, in the order in which they came."""
        queue = self._queues.get(provider, [])
        full: set[str] = set()
        for asked in [*queue]:
            own = asked.candidate.name
            if own in full:
                continue
            if (refused := self._refusal(asked)) is not None:
                self._decide(asked, refused)
            elif (name := self._taken_up(asked)) is None and self._rate_wait_s(asked) <= 0:
                self._decide(asked, None)
            elif name == own:
                full.add(own)
            else:
                break  # nobody overtakes at the provider's own limits, or many small jobs would starve a large one

    def _decide(self, asked: Asked, refused: NotAdmitted | None) -> None:
        provider = asked.candidate.provider.name
        self._queues[provider].remove(asked)
        asked.refused, asked.admitted = refused, refused is None
        if asked.admitted:
            now, rate = self._clock(), asked.candidate.provider.adapter.facts.submit_rate
            for name in _names(asked.candidate):
                self._taken[name] += asked.what.places
            if rate is not None:
                asked.unsent = asked.what.places
                self._unsent[provider] += asked.unsent
            if asked.what.heeds:
                asked.probes = tuple(name for name in _names(asked.candidate) if self._half_open(name, now))
                for name in asked.probes:
                    self._breakers[name] = probed(self._breakers[name], probing=True)
        asked.wake()

    def _half_open(self, name: str, now: float) -> bool:
        return self._breakers.get(name, CLOSED).position(now) is Position.HALF_OPEN

    def _refusal(self, asked: Asked) -> NotAdmitted | None:
        """What no waiting mends: a drain, an outage, or more tasks than ever may run at once."""
        what, provider = asked.what, asked.candidate.provider
        if provider.name in self._drained:
            return NotAdmitted(Kind.UNAVAILABLE, self._drain(provider))
        most = asked.candidate.most
        if most is not None and what.places > most:
            return NotAdmitted(
                Kind.RATE_LIMITED,
                f"it makes one task of each of {what.places} images, and takes at most {most} at once (its limits, or "
                "max_in_flight): ask for fewer images in one request",
            )
        now = self._clock()
        for breaker in (self._breakers.get(name, CLOSED) for name in _names(asked.candidate)):
            if breaker.kind in what.heeds and breaker.stops(now) and not _of_others(provider, breaker.kind):
                return NotAdmitted(breaker.kind, f"passed over: {breaker.words(now)}", breaker.since)
        return None

    def _taken_up(self, asked: Asked) -> str | None:
        """The name of the limit that has too few free places, the provider's before the model's."""
        for name, limit in zip(_names(asked.candidate), asked.candidate.limits, strict=True):
            if limit is not None and self._taken[name] + asked.what.places > limit:
                return name
        return None

    def _rate_wait_s(self, asked: Asked) -> float:
        provider = asked.candidate.provider
        rate = provider.adapter.facts.submit_rate
        if rate is None:
            return 0.0
        now = self._clock()
        times = (*self._times.get(provider.name, ()), *[now] * self._unsent[provider.name])
        return wait_s(rate, times, asked.what.places, now)

    def _in_the_way(self, asked: Asked) -> NotAdmitted | None:
        rate = asked.candidate.provider.adapter.facts.submit_rate
        if rate is None or self._taken_up(asked) or self._rate_wait_s(asked) <= 0:
            return None
        words = f"it takes {rate.submits} submits in {rate.seconds:g} s, and ours were as many"
        return NotAdmitted(Kind.RATE_LIMITED, words)

    # Breakers

    def observe(self, seen: Observed) -> None:
        """Learn from how an attempt went."""
        lives, candidate = says(seen.kind), seen.candidate
        if _of_others(candidate.provider, seen.kind):
            return
        with self._lock:
            if lives:
                for name in _names(candidate):
                    self._breakers.pop(name, None)
            elif lives is not None and seen.kind is not None:
                everywhere = seen.everywhere or PAUSES[seen.kind].everywhere
                name = candidate.provider.name if everywhere else candidate.name
                before = self._breakers.get(name, CLOSED)
                after = self._breakers[name] = failed(before, seen.kind, self._clock(), self._fraction())
                if after.openings > before.openings:
                    log.warning("%s is passed over: %s", name, after.words(self._clock()))
            for asked in [*self._queues.get(candidate.provider.name, ())]:
                if (refused := self._refusal(asked)) is not None:
                    self._decide(asked, refused)
            self._serve(candidate.provider.name)

    def closed(self, candidates: Sequence[Candidate], heeds: Iterable[Kind] = PAUSES) -> dict[str, str]:
        """Candidates that take nothing now, by name, and why; it reads which are drained, and may block.

        Where every one that is not drained is out, the one that has been out for longest is tried all the same.
        """
        self.refresh()
        out: dict[str, str] = {}
        passed: dict[str, NotAdmitted] = {}
        with self._lock:
            for candidate in candidates:
                asked = Asked(Admit(candidate, 0, 0.0, frozenset(heeds)), _nothing)
                if (refused := self._refusal(asked)) is not None:
                    out[candidate.name] = refused.message
                    if refused.since is not None:
                        passed[candidate.name] = refused
        if passed and len(out) == len({one.name for one in candidates}):
            del out[min(passed, key=lambda name: passed[name].since or 0.0)]
        return out

    def drained(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """Candidates whose provider was drained by hand, by name, and why; it reads which are, and may block."""
        self.refresh()
        return {one.name: self._drain(one.provider) for one in candidates if one.provider.name in self._drained}

    def _drain(self, provider: Provider) -> str:
        return self._drained[provider.name] + DRAINED.format(name=provider.name)


def _names(candidate: Candidate) -> tuple[str, str]:
    """What is counted: by provider, and by model there. In the order of `Candidate.limits`."""
    return (candidate.provider.name, candidate.name)


def _of_others(provider: Provider, kind: Kind | None) -> bool:
    """Whether a kind of outage tells of another account's credit or key."""
    return provider.other_account and kind in ACCOUNT


def _nothing(*_: Any) -> None:
    pass
