"""Budgets: what counts, checked and reserved in one transaction."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.ledger import Cap, Ledger, NewSend, OverBudget, counting, open_ledger, schema
from anykontext.model.job import JobState
from anykontext.model.money import Cost
from anykontext.routing.budgets import of_budget

from .conftest import PRICE, A, B, Clock, handle, intend, new

WORKER = Path(__file__).with_name("worker.py")
Open = Callable[..., Ledger]
DAY_S = 86_400
MIDNIGHT = 1_700_006_400.0
LOTS = Cap("daily", Decimal(100), since=MIDNIGHT, renews_at=MIDNIGHT + DAY_S)
AT_RISK = Cap("at-risk", PRICE, at_risk_only=True)


@pytest.fixture
def ledger(opened: Open, clock: Clock) -> Ledger:
    clock.at = MIDNIGHT + 3600
    return opened()


def left(ledger: Ledger, cap: Cap = LOTS) -> Decimal:
    ((found, rest),) = ledger.left([cap])
    assert cap == found
    return rest


def test_processes_that_share_a_budget_reserve_what_it_holds_and_no_more(path: Path, opened: Open) -> None:
    command = [sys.executable, str(WORKER), "reserve", str(path)]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b")]

    reserved = [line for process in processes for line in process.communicate(timeout=30)[0].split()]

    assert [0, 0] == [process.returncode for process in processes]
    assert 10 == len(set(reserved)) == len(reserved)
    assert [Decimal("0.40")] == [row.at_risk for row in opened().spend()]


def test_who_is_refused_is_told_what_is_left_and_when_it_begins_anew(ledger: Ledger) -> None:
    ledger.begin(new()).result()
    cap = Cap("daily", Decimal("0.03"), since=MIDNIGHT, renews_at=MIDNIGHT + DAY_S, tag=("customer", "acme"))

    with pytest.raises(OverBudget) as caught:
        intend(ledger, caps=[cap])

    told = str(caught.value)
    assert "0.04 USD more would be spent" in told
    assert "of the daily budget of 0.03 USD for customer=acme 0.03 USD are left" in told
    assert "it begins anew at 2023-11-16 00:00 UTC" in told


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        ({"outcome": "refused", "kind": "moderated"}, Decimal(0)),
        ({"outcome": "unknown", "kind": "outcome_unknown", "maybe_charged": True}, PRICE),
        ({"outcome": "accepted", "kind": "generation_failed"}, Decimal(0)),
        ({"outcome": "accepted", "kind": "generation_failed", "maybe_charged": True}, PRICE),
        ({"outcome": "accepted", "cost": Cost(Decimal("0.05"), "USD", "reported")}, Decimal("0.05")),
        ({"outcome": "accepted", "cost": Cost(Decimal(0), "USD", "reported")}, Decimal(0)),
        ({"outcome": "accepted", "cost": Cost()}, PRICE),  # something was paid: what was reserved for it counts on
    ],
)
def test_what_was_reserved_becomes_what_it_came_to(ledger: Ledger, end: dict[str, Any], counts: Decimal) -> None:
    ledger.begin(new()).result()
    intend(ledger, caps=[LOTS])
    assert LOTS.limit - PRICE == left(ledger)

    ledger.sent_end("job", 0, 0, owner=A, **end).result()

    assert LOTS.limit - counts == left(ledger)


@pytest.mark.parametrize(("charged", "counts"), [(True, PRICE), (False, Decimal(0))])
def test_what_a_person_settles_counts_as_they_say(ledger: Ledger, charged: bool, counts: Decimal) -> None:
    ledger.begin(new()).result()
    intend(ledger)
    ledger.finish("job", JobState.UNKNOWN, owner=A).result()

    ledger.resolve("job", charged=charged, who="ann").result()

    assert LOTS.limit - counts == left(ledger)


def test_it_is_counted_on_the_day_on_which_it_was_sent(ledger: Ledger, clock: Clock) -> None:
    clock.at = MIDNIGHT - 1
    ledger.begin(new()).result()
    intend(ledger)
    clock.at = MIDNIGHT + 1
    ledger.sent_end("job", 0, 0, "accepted", owner=A, cost=Cost(Decimal("0.05"), "USD", "reported")).result()

    assert LOTS.limit == left(ledger)
    assert LOTS.limit - Decimal("0.05") == left(ledger, Cap("daily", LOTS.limit, since=MIDNIGHT - DAY_S))


def test_a_budget_holds_what_such_a_submit_was_last_reported_to_cost(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    listed, reported = Decimal("0.01"), Cost(PRICE, "USD", "reported")
    cap = Cap("daily", Decimal("0.10"), MIDNIGHT)
    for number in range(2):
        ledger.begin(new(f"j{number}")).result()
        assert intend(ledger, f"j{number}", price=listed, caps=[cap], provider="dear")
        ledger.accepted(f"j{number}", 0, 0, handle(f"j{number}"), owner=A).result()
        ledger.sent_end(f"j{number}", 0, 0, "accepted", owner=A, maybe_charged=True, cost=reported).result()

    ledger.begin(new("over")).result()
    with pytest.raises(OverBudget, match=r"0\.04 USD more would be spent"):
        intend(ledger, "over", price=listed, caps=[cap], provider="dear")
    # another price is another kind of image
    assert intend(ledger, "over", price=PRICE / 2, caps=[cap], provider="dear")
    (second,) = ledger.sends("j1")
    assert (PRICE, listed) == (second.price, second.listed)
    assert 1 == sum("set the true price" in one.message for one in caplog.records)


def test_a_job_that_waits_past_midnight_is_held_to_the_new_day(ledger: Ledger, clock: Clock) -> None:
    clock.at = MIDNIGHT + DAY_S - 1
    cap = Cap("daily", PRICE, MIDNIGHT, MIDNIGHT + DAY_S)
    for job_id in ("yesterday", "waits", "late"):
        ledger.begin(new(job_id)).result()
    assert intend(ledger, "yesterday", caps=[cap])
    clock.at += 2

    assert intend(ledger, "waits", caps=[cap])
    with pytest.raises(OverBudget) as caught:
        intend(ledger, "late", caps=[cap])
    assert of_budget(replace(cap, renews_at=MIDNIGHT + 2 * DAY_S), Decimal("0.00")) in str(caught.value)


def test_a_tag_without_a_name_counts_once(ledger: Ledger) -> None:
    ledger.begin(new(tags={"": ""})).result()
    intend(ledger)

    assert LOTS.limit - PRICE == left(ledger)


def test_to_forget_a_job_gives_no_budget_back(ledger: Ledger, clock: Clock) -> None:
    ledger.begin(new(tags={"customer": "acme"})).result()
    intend(ledger)
    ledger.accepted("job", 0, 0, handle(), owner=A).result()
    ledger.finish("job", JobState.SUCCEEDED, owner=A, cost=Cost(PRICE, "USD", "listed")).result()

    assert 1 == ledger.forget(job_id="job").result()
    assert 0 == ledger.forget(before=clock.at + 1).result()

    assert [] == ledger.spend()
    assert LOTS.limit - PRICE == left(ledger)
    assert LOTS.limit - PRICE == left(ledger, Cap("daily", LOTS.limit, MIDNIGHT, tag=("customer", "acme")))


def test_what_no_budget_can_count_any_more_is_not_kept(ledger: Ledger, clock: Clock) -> None:
    for job_id, day in (("old", 0), ("young", 100)):
        clock.at = MIDNIGHT + day * DAY_S
        ledger.begin(new(job_id, tags={"customer": job_id})).result()
        intend(ledger, job_id)
        ledger.finish(job_id, JobState.SUCCEEDED, owner=A).result()

    ledger.forget(before=clock.at).result()

    assert ["young"] == ledger.tag_values("customer", since=0)


def test_a_file_of_an_older_version_counts_what_is_in_it(path: Path, opened: Open, clock: Clock) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        for statement in (one for step in schema.STEPS[:2] for one in step):
            db.execute(statement)
        db.execute("UPDATE ledger_schema SET version = 2")
        job = "'d', 'm', 'edit', '{}', '', 0, 0, 'succeeded', 1, 'a', 0"
        names = "job_id, request_digest, model, mode, tags, tenant, created_at, updated_at, state, version, owner"
        db.execute(f"INSERT INTO jobs ({names}, lease_until) VALUES ('job', {job})")
        db.execute("INSERT INTO tags VALUES ('job', 'customer', 'acme')")
        names = "job_id, attempt, part, send, provider, model, price, owner, intent_at, outcome"
        for part, outcome in enumerate(["accepted", "refused", None]):
            db.execute(
                f"INSERT INTO sends ({names}) VALUES ('job', 0, ?, 0, 'bfl', 'm', '0.04', 'a', ?, ?)",
                (part, MIDNIGHT, outcome),
            )
    db.close()

    ledger = opened()

    assert LOTS.limit - 2 * PRICE == left(ledger)
    assert LOTS.limit - 2 * PRICE == left(ledger, Cap("daily", LOTS.limit, MIDNIGHT, tag=("customer", "acme")))


@pytest.mark.parametrize(
    ("query", "index"), [(counting._WHOLE_DAYS, "tally USING PRIMARY KEY"), (counting._LEFT_AT_RISK, "sends_at_risk")]
)
def test_a_check_reads_no_more_rows_when_the_ledger_grows(ledger: Ledger, path: Path, query: str, index: str) -> None:
    names = ("name", "value", "since", "now", "day", "job_id", "attempt")
    with sqlite3.connect(path) as db:
        plan = " ".join(str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {query}", dict.fromkeys(names, 0)))
    db.close()

    assert index in plan
    assert "SCAN tally" not in plan


class TestAtRisk:
    """A cap on going on: it counts what is at risk on attempts that were left."""

    def goes_on(self, ledger: Ledger, job_id: str = "going", attempt: int = 1, price: Decimal | None = PRICE) -> bool:
        try:
            return intend(ledger, job_id, attempt, caps=[AT_RISK], price=price)
        except OverBudget:
            return False

    def going(self, ledger: Ledger, price: Decimal | None = Decimal(0), **end: Any) -> None:
        """A job whose first attempt is to be left."""
        ledger.begin(new("going")).result()
        intend(ledger, "going", price=price)
        ledger.sent_end("going", 0, 0, "unknown", owner=A, **end).result()

    @pytest.mark.parametrize(("price", "goes"), [("0.04", True), ("0.041", False)])
    def test_what_the_job_itself_leaves_is_held_to_it(self, ledger: Ledger, price: str, goes: bool) -> None:
        self.going(ledger, Decimal(price), maybe_charged=True)

        assert goes == self.goes_on(ledger)

    def test_a_slow_attempt_that_may_still_finish_is_left(self, ledger: Ledger) -> None:
        ledger.begin(new("going")).result()
        intend(ledger, "going", price=2 * PRICE)
        ledger.accepted("going", 0, 0, handle("going"), owner=A).result()

        with pytest.raises(OverBudget, match=r"0\.08 USD would be at risk .* at most 0\.04 USD .*max_at_risk"):
            intend(ledger, "going", 1, caps=[AT_RISK])

    def test_what_is_sent_next_is_waited_for_and_does_not_count(self, ledger: Ledger) -> None:
        self.going(ledger, PRICE, maybe_charged=True)

        assert self.goes_on(ledger, price=Decimal(5))

    def test_an_attempt_of_unknown_price_is_never_left(self, ledger: Ledger) -> None:
        self.going(ledger, None, maybe_charged=True)

        with pytest.raises(OverBudget, match="an unknown amount would be at risk"):
            intend(ledger, "going", 1, caps=[AT_RISK])

    def other(self, ledger: Ledger) -> None:
        ledger.begin(new("other", B)).result()
        intend(ledger, "other", price=2 * PRICE, owner=B)

    def test_a_job_that_another_process_waits_for_does_not_count(self, ledger: Ledger) -> None:
        self.going(ledger)
        self.other(ledger)
        assert self.goes_on(ledger)

    def accepted(self, ledger: Ledger, clock: Clock) -> None:
        ledger.accepted("other", 0, 0, handle("other"), owner=B).result()

    def lost(self, ledger: Ledger, clock: Clock) -> None:
        ledger.sent_end("other", 0, 0, "unknown", owner=B).result()

    def doubtful(self, ledger: Ledger, clock: Clock) -> None:
        ledger.sent_end("other", 0, 0, "accepted", owner=B, maybe_charged=True).result()

    def left_behind(self, ledger: Ledger, clock: Clock) -> None:
        self.accepted(ledger, clock)
        intend(ledger, "other", 1, price=Decimal(0), owner=B)

    def ended(self, ledger: Ledger, clock: Clock) -> None:
        ledger.accepted("other", 0, 0, None, owner=B).result()
        ledger.finish("other", JobState.FAILED, owner=B).result()

    def abandoned(self, ledger: Ledger, clock: Clock) -> None:
        ledger.renew(B, lease_s=0).result()

    def settled(self, ledger: Ledger, clock: Clock) -> None:
        ledger.finish("other", JobState.UNKNOWN, owner=B).result()
        ledger.resolve("other", charged=True, who="ann").result()

    @pytest.mark.parametrize(
        ("what", "counts"),
        [
            *((what, True) for what in (lost, doubtful, left_behind, ended, abandoned)),
            *((what, False) for what in (accepted, settled)),
        ],
    )
    def test_what_counts_of_other_jobs(
        self, ledger: Ledger, clock: Clock, what: Callable[..., None], counts: bool
    ) -> None:
        self.going(ledger)
        self.other(ledger)
        what(self, ledger, clock)

        assert (not counts) == self.goes_on(ledger)
        assert (Decimal(0) if counts else PRICE) == left(ledger, AT_RISK)


amounts = st.sampled_from(["0.04", "0.025", "0.040", "0.000001", "0.3"]).map(Decimal)
asks = st.tuples(st.just("ask"), st.lists(amounts, min_size=1, max_size=3), st.sampled_from(["acme", "else", None]))
ends = st.tuples(st.just("end"), st.integers(0, 30), st.sampled_from(["refused", "unknown", "accepted"]), st.booleans())
pays = st.tuples(st.just("pay"), st.integers(0, 30), st.none() | amounts)
settles = st.tuples(st.just("settle"), st.integers(0, 30), st.booleans())
waits = st.tuples(st.just("wait"), st.integers(1, DAY_S))


class Story:
    """Jobs under a budget of everybody's and one of a customer's; after each step the counts are those of the rows."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.jobs: list[tuple[str, str | None]] = []

    def caps(self) -> list[Cap]:
        since = self.clock.at // DAY_S * DAY_S
        limit = Decimal("0.13")
        return [Cap("daily", limit, since), Cap("daily", limit / 2, since, tag=("customer", "acme"))]

    def counted(self, cap: Cap) -> Decimal:
        """From the rows, one by one."""
        total = Decimal(0)
        for job_id, customer in self.jobs:
            for one in self.ledger.sends(job_id):
                if one.money != "free" and one.intent_at >= cap.since and (not cap.tag or customer == cap.tag[1]):
                    total += (one.price if one.cost is None else one.cost) or 0
        return total

    def reserved(self, price: Decimal) -> Decimal:
        """The price, or what the last submit of that price was reported to cost."""
        rows = [one for job_id, _ in self.jobs for one in self.ledger.sends(job_id) if one.basis == "reported"]
        costs = [one.cost for one in rows if f"{one.listed:f}" == f"{price:f}" and one.cost is not None]
        return max(price, *costs[-1:]) if costs else price

    def ask(self, prices: list[Decimal], customer: str | None) -> None:
        job_id = f"j{len(self.jobs)}"
        self.ledger.begin(new(job_id, tags={"customer": customer} if customer else {})).result()
        self.jobs.append((job_id, customer))
        caps = self.caps()[: 2 if customer == "acme" else 1]
        before = [self.counted(cap) + sum(map(self.reserved, prices)) for cap in caps]
        fits = all(sum_ <= cap.limit for sum_, cap in zip(before, caps, strict=True))
        sends = [NewSend(part, "bfl", "m", price) for part, price in enumerate(prices)]
        try:
            sent = self.ledger.intents(job_id, 0, sends, owner=A, caps=caps).result()
        except OverBudget:
            sent = False
        assert fits == sent
        assert not sent or all(self.counted(cap) <= cap.limit for cap in caps)

    def end(self, which: int, outcome: Any, maybe_charged: bool) -> None:
        if self.jobs:
            job_id = self.jobs[which % len(self.jobs)][0]
            for one in self.ledger.sends(job_id):
                self.ledger.sent_end(job_id, 0, one.part, outcome, owner=A, maybe_charged=maybe_charged).result()

    def pay(self, which: int, amount: Decimal | None) -> None:
        if self.jobs:
            job_id = self.jobs[which % len(self.jobs)][0]
            self.ledger.accepted(job_id, 0, 0, handle(job_id), owner=A).result()
            self.ledger.finish(job_id, JobState.SUCCEEDED, owner=A, cost=Cost(amount, "USD", "reported")).result()

    def settle(self, which: int, charged: bool) -> None:
        if self.jobs:
            job_id = self.jobs[which % len(self.jobs)][0]
            self.ledger.finish(job_id, JobState.UNKNOWN, owner=A).result()
            self.ledger.resolve(job_id, charged=charged, who="ann").result()

    def wait(self, seconds: int) -> None:
        self.clock.at += seconds


@settings(max_examples=60, deadline=None)
@given(st.lists(asks | asks | ends | pays | settles | waits, max_size=25))
def test_no_submit_passes_a_cap_whatever_happened_before(steps: list[tuple[Any, ...]]) -> None:
    clock = Clock()
    with open_ledger("memory", now=clock) as ledger:
        story = Story(ledger, clock)
        for what, *values in steps:
            getattr(story, what)(*values)
            for cap in story.caps():
                assert max(cap.limit - story.counted(cap), Decimal(0)) == left(ledger, cap)
