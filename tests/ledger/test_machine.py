"""Any order of records, expiring leases, late writers and restarts, against a model of what the ledger must know."""

import tempfile
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from anykontext.ledger import Existing, Finish, Ledger, New, is_ended, open_ledger
from anykontext.model.job import JobState
from anykontext.model.money import Cost

from .conftest import Clock, handle, new

OWNERS = ("a", "a", "b")  # mostly the same, so that runs go deep
IDS = ("j0", "j0", "j0", "j1")
LEASE_S = 10
OPEN = {JobState.QUEUED, JobState.RUNNING}
LEGAL = {
    None: {JobState.QUEUED},
    JobState.QUEUED: set(JobState),
    JobState.RUNNING: set(JobState) - {JobState.QUEUED},
    JobState.UNKNOWN: set(JobState) - {JobState.QUEUED},
    **{state: {state} for state in JobState if is_ended(state)},
}

owners = st.sampled_from(OWNERS)
ids = st.sampled_from(IDS)
attempts = st.sampled_from([0, 0, 0, 1])
amounts = st.none() | st.decimals("0", "9", places=4)
ends = st.sampled_from([state for state in JobState if state not in OPEN])


@dataclass
class Sent:
    price: Decimal | None
    outcome: str | None = None
    ended: bool = False
    maybe: bool = False
    basis: bool = False
    cost: Decimal | None = None
    resolved: bool | None = None

    def money(self) -> str:
        if self.basis or self.resolved is True:
            return "spent"
        if self.resolved is False:
            return "free"
        open_task = self.outcome == "accepted" and not self.ended
        return "risk" if self.outcome in {None, "unknown"} or self.maybe or open_task else "free"


@dataclass
class Known:
    owner: str
    submitter: str | None
    lease: float
    state: JobState = JobState.QUEUED
    sends: dict[int, list[Sent]] = field(default_factory=dict)  # by attempt
    handles: set[tuple[int, str]] = field(default_factory=set)
    won: int | None = None
    surplus: set[int | None] = field(default_factory=set)

    def all(self) -> list[Sent]:
        return [one for sends in self.sends.values() for one in sends]

    def open(self) -> bool:
        """Whether a task may still give an image. Every task here has a handle."""
        return any(one.outcome == "accepted" and not one.ended and one.resolved is None
                   and attempt in {known for known, _ in self.handles}
                   for attempt, sends in self.sends.items() for one in sends)  # fmt: skip

    def risk(self) -> bool:
        return any(one.money() == "risk" for one in self.all())

    def seen(self, now: float) -> JobState:
        undecided = any(one.money() == "risk" and one.outcome in {None, "unknown"} for one in self.all())
        task = any(one.outcome == "accepted" and not one.ended for one in self.all())
        gone = self.state in OPEN and self.lease <= now
        return JobState.UNKNOWN if gone and undecided and not task else self.state

    def latest(self) -> int | None:
        by = [(any(one.outcome == "accepted" for one in sends), attempt) for attempt, sends in self.sends.items()]
        return max(by)[1] if by else None


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        self.ledger: Ledger | None = None
        self.known: dict[str, Known] = {}
        self.keys: dict[str, str] = {}

    @initialize(memory=st.booleans())
    def open(self, memory: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.url = "memory" if memory else Path(self.folder.name) / "ledger"
        self.ledger = open_ledger(self.url, now=self.clock)
        self.begin("j0", "a", None, "x")

    def teardown(self) -> None:
        if self.ledger is not None and self.folder is not None:
            self.ledger.close()
            self.folder.cleanup()

    @rule()
    def restart(self) -> None:
        if self.url != "memory":
            self.ledger.close()
            self.ledger = open_ledger(self.url, now=self.clock)

    @rule(seconds=st.sampled_from([1, LEASE_S, 3 * LEASE_S]))
    def time_passes(self, seconds: int) -> None:
        self.clock.at += seconds

    @rule(
        job_id=st.sampled_from(["j0", "j1", "j2"]),
        owner=owners,
        key=st.sampled_from([None, "k0", "k1"]),
        digest=st.sampled_from(["x", "y"]),
    )
    def begin(self, job_id: str, owner: str, key: str | None, digest: str) -> None:
        asked = new(job_id, owner, idempotency_key=key, request_digest=digest)
        begun = self.ledger.begin(asked, lease_s=LEASE_S).result()
        holder = self.keys.get(key, job_id) if key else job_id
        if holder in self.known:
            assert isinstance(begun, Existing)
            assert holder == begun.job.job_id
            assert (begun.job.request_digest == digest) == begun.same_request
        else:
            assert New(job_id) == begun
            self.known[job_id] = Known(owner, owner, self.clock.at + LEASE_S)
            if key:
                self.keys[key] = job_id

    @rule(job_id=ids, owner=owners, attempt=attempts, price=amounts)
    def intent(self, job_id: str, owner: str, attempt: int, price: Decimal | None) -> None:
        asked = self.ledger.intent(job_id, attempt, 0, provider="bfl", model="m", price=price, owner=owner)
        job = self.known.get(job_id)
        before = job.sends.get(attempt, []) if job else []
        may = (
            job is not None
            and job.owner == job.submitter == owner
            and job.state in OPEN
            and (not before or before[-1].outcome == "refused")
        )
        assert may == asked.result()
        if may:
            job.sends.setdefault(attempt, []).append(Sent(price))

    @rule(job_id=ids, owner=owners, attempt=attempts, task=st.sampled_from(["t0", "t1"]))
    def accepted(self, job_id: str, owner: str, attempt: int, task: str) -> None:
        job = self.known.get(job_id)
        if job is None:
            return
        runs = self.ledger.accepted(job_id, attempt, 0, handle(job_id, task), owner=owner).result()
        job.handles.add((attempt, task))
        if (sends := job.sends.get(attempt)) and sends[-1].outcome != "accepted":
            sends[-1].outcome, sends[-1].ended, sends[-1].maybe = "accepted", False, False
        assert runs == (not is_ended(job.state))
        if runs:
            job.state = JobState.RUNNING

    @rule(
        job_id=ids, owner=owners, attempt=attempts, outcome=st.sampled_from(["accepted", "refused", "unknown"]),
        maybe=st.booleans(), cost=st.none() | amounts.map(lambda amount: Cost(amount, "USD", "listed")),
    )  # fmt: skip
    def sent_end(self, job_id: str, owner: str, attempt: int, outcome: Any, maybe: bool, cost: Cost | None) -> None:
        wrote = self.ledger.sent_end(job_id, attempt, 0, outcome, maybe_charged=maybe, cost=cost, owner=owner).result()
        sends = self.known[job_id].sends.get(attempt) if job_id in self.known else None
        assert bool(sends) == wrote
        if sends:
            last = sends[-1]
            last.ended, last.maybe = True, maybe
            last.outcome = "accepted" if last.outcome == "accepted" else outcome
            if cost and (cost.amount is not None or last.cost is None):
                last.basis, last.cost = True, cost.amount

    @rule(job_id=ids, owner=owners, state=ends, attempt=st.none() | attempts, cost=st.none() | amounts.map(Cost))
    def finish(self, job_id: str, owner: str, state: JobState, attempt: int | None, cost: Cost | None) -> None:
        ended = self.ledger.finish(job_id, state, owner=owner, attempt=attempt, cost=cost).result()
        job = self.known.get(job_id)
        success = state is JobState.SUCCEEDED
        if job is None:
            assert Finish.REFUSED == ended
            return
        by = job.latest() if attempt is None else attempt
        if is_ended(job.state):
            again = by in job.surplus or (job.state is JobState.SUCCEEDED and job.won == by)
            late = Finish.REPEATED if again else Finish.SURPLUS
            assert (late if success else Finish.REFUSED) == ended
            if success and not again:
                job.surplus.add(by)
                self._pay(job, by, cost, success)
            return
        mine = job.owner == owner or (job.state is JobState.UNKNOWN and not job.risk())
        held = Finish.OPEN if mine and job.open() else Finish.RECORDED if mine else Finish.REFUSED
        assert (Finish.RECORDED if success else held) == ended
        if ended is Finish.RECORDED:
            self._pay(job, by, cost, success)
            lost = any(one.money() == "risk" and one.outcome in {None, "unknown"} for one in job.all())
            job.state, job.won = JobState.UNKNOWN if lost and not success else state, by if success else None

    def _pay(self, job: Known, attempt: int | None, cost: Cost | None, success: bool) -> None:
        for last in job.sends.get(attempt, [])[-1:]:
            if last.outcome == "accepted" and not last.basis and (cost or (success and not self._named(job, attempt))):
                last.ended, last.basis, last.cost = True, True, cost.amount if cost else None

    def _named(self, job: Known, attempt: int | None) -> bool:
        return attempt in {known for known, _ in job.handles}

    @rule(job_id=ids, owner=owners)
    def take_over(self, job_id: str, owner: str) -> None:
        taken = self.ledger.take_over(job_id, owner, lease_s=LEASE_S).result()
        job = self.known.get(job_id)
        alive = job is not None and (not is_ended(job.state) or job.open())
        may = alive and (job.owner == owner or job.lease <= self.clock.at)
        assert may == (taken is not None)
        if may:
            if job.owner != owner:
                job.state, job.submitter = job.seen(self.clock.at), None
                for one in job.all():
                    one.outcome = one.outcome or "unknown"
            job.owner, job.lease = owner, self.clock.at + LEASE_S

    @rule(job_id=ids, owner=owners, price=amounts)
    def stopped_taken_over_and_awake_again(self, job_id: str, owner: str, price: Decimal | None) -> None:
        self.intent(job_id, owner, 0, price)
        for other in ({"a", "b"} - {owner}).pop(), owner:
            self.time_passes(3 * LEASE_S)
            self.take_over(job_id, other)
        self.intent(job_id, owner, 1, price)

    @rule(job_id=ids, attempt=attempts)
    def two_collect_the_same(self, job_id: str, attempt: int) -> None:
        for owner in ("a", "b"):
            self.finish(job_id, owner, JobState.SUCCEEDED, attempt, Cost(Decimal("0.04"), "USD", "listed"))

    @rule(owner=owners)
    def renew(self, owner: str) -> None:
        now = self.clock.at
        mine = [
            job
            for job in self.known.values()
            if job.owner == owner and (job.state in OPEN or (job.open() and job.lease > now))
        ]
        assert len(mine) == self.ledger.renew(owner, lease_s=LEASE_S).result()
        for job in mine:
            job.lease = self.clock.at + LEASE_S

    @rule(job_id=ids, charged=st.booleans())
    def resolve(self, job_id: str, charged: bool) -> None:
        done = self.ledger.resolve(job_id, charged=charged, who="ann").result()
        job = self.known.get(job_id)
        seen = job.seen(self.clock.at) if job else None
        held = job is not None and seen in OPEN and job.lease > self.clock.at
        may = job is not None and not held and (not is_ended(seen) or job.risk())
        assert may == done
        if may:
            for one in job.all():
                one.resolved = charged if one.money() == "risk" else one.resolved
            job.state = job.state if is_ended(seen) else JobState.FAILED
            job.submitter = None

    @rule(job_id=ids, owner=owners)
    def reopen(self, job_id: str, owner: str) -> None:
        opened = self.ledger.reopen(job_id, owner, lease_s=LEASE_S).result()
        job = self.known.get(job_id)
        may = (
            job is not None
            and is_ended(job.state)
            and job.state is not JobState.SUCCEEDED
            and all(one.money() == "free" for one in job.all())
        )
        assert may == (opened is not None)
        if may:
            job.state, job.owner, job.submitter, job.lease = JobState.QUEUED, owner, owner, self.clock.at + LEASE_S

    @rule(job_id=ids)
    def forget(self, job_id: str) -> None:
        job = self.known.get(job_id)
        gone = job is not None and is_ended(job.state) and not job.risk()
        assert int(gone) == self.ledger.forget(job_id=job_id).result()
        if gone:
            del self.known[job_id]
            self.keys = {key: holder for key, holder in self.keys.items() if holder != job_id}

    @invariant()
    def jobs_and_handles_are_as_known(self) -> None:
        if self.ledger is None:
            return
        now = self.clock.at
        listed = {job.job_id: job for job in self.ledger.jobs()}
        assert self.known.keys() == listed.keys()
        for job_id, job in self.known.items():
            assert (job.seen(now), job.owner, job.lease, bool(job.surplus), job.risk(), job.open()) == (
                listed[job_id].state, listed[job_id].owner, listed[job_id].lease_until, listed[job_id].surplus,
                listed[job_id].at_risk, listed[job_id].has_open_task,
            )  # fmt: skip
            found = {(one.attempt, one.handle.tasks[0].id) for one in self.ledger.handles(job_id)}
            assert job.handles == found
            sends = [one for _, sends in sorted(job.sends.items()) for one in sends]
            assert [(one.outcome, one.money()) for one in sends] == [
                (one.outcome, one.money) for one in self.ledger.sends(job_id)
            ]
            for event in self.ledger.events(job_id):
                if event.to_state is not None and event.what != "reopened":
                    assert event.to_state in LEGAL[event.from_state]
        left = {job_id for job_id, job in self.known.items() if job.state in OPEN or job.open()}
        gone = {job_id for job_id in left if self.known[job_id].lease <= now}
        assert gone == {job.job_id for job in self.ledger.unfinished()}

    @invariant()
    def sums_are_as_known(self) -> None:
        if self.ledger is None:
            return
        sums = {"spent": Decimal(0), "risk": Decimal(0)}
        unknown = 0
        for one in (one for job in self.known.values() for one in job.all() if one.money() != "free"):
            amount = one.cost if one.basis else one.price
            sums[one.money()] += amount or 0
            unknown += amount is None
        rows = self.ledger.spend(by=())
        found = (rows[0].spent, rows[0].at_risk, rows[0].unknown) if rows else (Decimal(0), Decimal(0), 0)
        assert (sums["spent"], sums["risk"], unknown) == found


Machine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLedger = Machine.TestCase
