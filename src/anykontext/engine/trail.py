"""What was tried for a job so far, and what the caller is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from anykontext.engine.ends import Ended
from anykontext.engine.submit import Step
from anykontext.engine.watch import Watch
from anykontext.model.errors import AllCandidatesFailed, ProviderError
from anykontext.model.job import JobHandle
from anykontext.model.money import NOTHING, Cost
from anykontext.model.result import Attempt, ImageResult


@dataclass(slots=True)
class Trail:
    """What was tried so far: really sent, not planned; what was passed over without anything sent is in it, too.

    Attributes:
        costs: Place of an attempt -> what it has cost, or may have; those that surely cost nothing have none.
        passed: Candidates that were passed over for an outage, and when it began.
    """

    attempts: list[Attempt] = field(default_factory=list)
    errors: list[ProviderError] = field(default_factory=list)
    costs: dict[int, Cost] = field(default_factory=dict)
    passed: list[tuple[float, Step]] = field(default_factory=list)

    def copy(self) -> "Trail":
        """A trail that goes on by itself."""
        return Trail([*self.attempts], [*self.errors], {**self.costs})

    @property
    def spent(self) -> Cost:
        """What its attempts have cost together, or may have."""
        return total([self.costs[place] for place in sorted(self.costs)])

    @property
    def at_risk(self) -> Cost:
        """What may have been charged for attempts that gave no image."""
        return total([one for place, one in sorted(self.costs.items()) if self.attempts[place].outcome != "succeeded"])

    def add(self, watch: Watch, step: Step, end: Ended, handle: JobHandle | None, began_s: float) -> None:
        """Record an attempt that ended without an image."""
        candidate = step.candidate
        error = end.error(candidate, watch.job_id, handle)
        seconds = watch.seconds - began_s
        outcome = "skipped" if end.skipped else end.kind
        if end.skipped and end.skipped.since is not None:
            self.passed.append((end.skipped.since, step))
        self.errors.append(error)
        self.attempts.append(
            Attempt(candidate.provider.name, candidate.model, outcome, end.maybe_charged, seconds, end.message)
        )
        if charged := sum(one.maybe_charged for one in end.all):
            self.costs[len(self.attempts) - 1] = step.price_of(charged, handle)

    def last_resort(self) -> Step | None:
        """What is tried when everything was passed over: what has been out for longest. An outage is not ours."""
        if not self.passed or any(attempt.outcome != "skipped" for attempt in self.attempts):
            return None
        return min(self.passed, key=lambda one: one[0])[1]

    def with_late(self, result: ImageResult) -> ImageResult:
        """The image of an attempt that was left, with what was tried beside it."""
        return replace(result, attempts=tuple(self.attempts), spent=self.spent)

    def ended_late(self, place: int, own: "Trail") -> None:
        """Take over how an attempt that was left has ended, from its own trail."""
        if len(own.attempts) <= place:
            return
        self.attempts[place] = own.attempts[place]
        self.costs.pop(place, None)
        if place in own.costs:
            self.costs[place] = own.costs[place]
        if own.attempts[place].outcome != "succeeded":
            self.errors[place - len(self.attempts)] = own.errors[-1]

    def error(self, *, all_passed_over: bool, place: int = -1) -> ProviderError:
        """What the caller is told: the error that stopped the route, or that every candidate failed."""
        last = self.errors[place if place < 0 else place - len(self.attempts)]
        maybe_charged = any(attempt.maybe_charged for attempt in self.attempts)
        if all_passed_over and len(self.errors) > 1:
            tried = "; ".join(f"{a.provider}/{a.model}: {a.outcome}" for a in self.attempts)
            last = AllCandidatesFailed(
                f"every candidate failed ({tried}); the last one said: {last.message}",
                errors=self.errors,
                provider=last.provider,
                model=last.model,
                http_status=last.http_status,
                raw=last.raw,
                retry_after=last.retry_after,
                handle=last.handle,
                job_id=last.job_id,
                advice=last.advice,
            )
        last.maybe_charged = maybe_charged
        last.attempts = tuple(self.attempts)
        last.errors = tuple(self.errors)
        return last


def total(costs: Sequence[Cost]) -> Cost:
    """The sum of costs; nothing for none."""
    return sum(costs[1:], start=costs[0]) if costs else NOTHING
