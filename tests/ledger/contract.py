"""What every ledger must do. A class of tests for an implementation inherits this one and gives it a `ledger`."""

import json
from decimal import Decimal
from typing import Any

import pytest

from anykontext.ledger import Cap, Existing, Finish, Ledger, New, NewSend, OverBudget, SpendRow
from anykontext.model.errors import BudgetExceeded
from anykontext.model.job import JobState
from anykontext.model.money import Cost

from .conftest import PRICE, A, B, Clock, handle, intend, new

LISTED = Cost(PRICE, "USD", "listed")
ENDS = [JobState.SUCCEEDED, JobState.FAILED, JobState.MODERATED, JobState.CANCELLED, JobState.EXPIRED]


def total(ledger: Ledger, **asked: Any) -> tuple[Decimal, Decimal, int]:
    rows = ledger.spend(by=(), **asked)
    return (rows[0].spent, rows[0].at_risk, rows[0].unknown) if rows else (Decimal(0), Decimal(0), 0)


class LedgerContract:
    # begin

    def test_a_job_that_was_begun_is_found_as_it_was_given(self, ledger: Ledger) -> None:
        given = new(tags={"customer": "acme", "übung": "ja"}, tenant="t", idempotency_key="k", deadline_at=5.0)

        assert New("job") == ledger.begin(given).result()
        job = ledger.job("job")
        assert job is not None
        assert job.state is JobState.QUEUED
        for name in given.to_json():
            assert getattr(given, name) == getattr(job, name), name
        assert (None, False, False, None, None) == (job.provider, job.at_risk, job.charged, job.result, job.error)

    def test_a_job_that_nobody_began_is_not_found(self, ledger: Ledger) -> None:
        assert ledger.job("none") is None
        assert [] == ledger.handles("none") == ledger.events("none") == ledger.sends("none")

    @pytest.mark.parametrize(("digest", "same"), [("digest", True), ("other", False)])
    def test_an_idempotency_key_gives_the_job_that_has_it(self, ledger: Ledger, digest: str, same: bool) -> None:
        ledger.begin(new(idempotency_key="k")).result()

        begun = ledger.begin(new("second", idempotency_key="k", request_digest=digest)).result()

        assert isinstance(begun, Existing)
        assert ("job", same) == (begun.job.job_id, begun.same_request)
        assert ledger.job("second") is None

    def test_an_idempotency_key_counts_within_its_tenant(self, ledger: Ledger) -> None:
        ledger.begin(new("a", tenant="one", idempotency_key="k")).result()

        assert New("b") == ledger.begin(new("b", tenant="two", idempotency_key="k")).result()
        assert New("c") == ledger.begin(new("c", tenant="one")).result()
        assert New("d") == ledger.begin(new("d", tenant="one")).result()

    def test_a_job_id_is_begun_once(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()

        assert isinstance(ledger.begin(new()).result(), Existing)

    # intent

    def test_an_intent_puts_its_price_at_risk(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()

        assert intend(ledger)
        (send,) = ledger.sends("job")
        assert (0, PRICE, None, "risk") == (send.send, send.price, send.outcome, send.money)
        assert (Decimal(0), PRICE, 0) == total(ledger)
        job = ledger.job("job")
        assert job is not None
        assert ("bfl", True, False) == (job.provider, job.at_risk, job.charged)

    def test_no_intent_for_a_job_of_another(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()

        assert not intend(ledger, owner=B)
        assert [] == ledger.sends("job")

    def test_no_intent_for_a_job_that_nobody_began(self, ledger: Ledger) -> None:
        assert not intend(ledger)
        assert [] == ledger.sends("job")

    @pytest.mark.parametrize("state", [*ENDS, JobState.UNKNOWN])
    def test_no_intent_for_a_job_that_has_ended(self, ledger: Ledger, state: JobState) -> None:
        ledger.begin(new()).result()
        ledger.finish("job", state, owner=A).result()

        assert not intend(ledger)
        assert [] == ledger.sends("job")

    @pytest.mark.parametrize("outcome", [None, "unknown", "accepted"])
    def test_a_part_is_not_sent_again_unless_it_was_refused(self, ledger: Ledger, outcome: Any) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        if outcome:
            ledger.sent_end("job", 0, 0, outcome, owner=A).result()

        assert not intend(ledger)
        assert 1 == len(ledger.sends("job"))

    def test_a_refused_part_is_sent_again_as_a_new_row(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.sent_end("job", 0, 0, "refused", kind="rate_limited", message="later", owner=A).result()

        assert intend(ledger)
        first, second = ledger.sends("job")
        assert (0, "refused", "rate_limited", "later", "free") == (
            first.send, first.outcome, first.kind, first.message, first.money,
        )  # fmt: skip
        assert (1, None, "risk") == (second.send, second.outcome, second.money)

    def test_parts_are_intended_all_or_none(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        sends = [NewSend(part, "bfl", "flux-kontext-pro", PRICE) for part in range(3)]

        assert ledger.intents("job", 0, sends, owner=A).result()
        assert not ledger.intents("job", 0, [*sends, NewSend(3, "bfl", "x", PRICE)], owner=A).result()
        assert 3 == len(ledger.sends("job"))

    # caps

    def test_a_cap_counts_what_is_spent_and_at_risk_and_about_to_be(self, ledger: Ledger) -> None:
        ledger.begin(new("spent")).result()
        intend(ledger, "spent")
        ledger.accepted("spent", 0, 0, handle("spent"), owner=A).result()
        ledger.finish("spent", JobState.SUCCEEDED, owner=A, cost=LISTED).result()
        ledger.begin(new("risk")).result()
        intend(ledger, "risk")
        ledger.begin(new()).result()

        with pytest.raises(OverBudget, match=r"daily budget of 0\.11 USD 0\.03 USD are left") as caught:
            intend(ledger, caps=[Cap("daily", Decimal("0.11"))])
        assert Decimal("0.03") == caught.value.left
        assert isinstance(caught.value, BudgetExceeded)
        assert [] == ledger.sends("job")
        assert intend(ledger, caps=[Cap("daily", Decimal("0.12"))])

    def test_a_cap_is_checked_for_all_parts_together(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        sends = [NewSend(part, "bfl", "flux-kontext-pro", PRICE) for part in range(3)]

        with pytest.raises(OverBudget):
            ledger.intents("job", 0, sends, owner=A, caps=[Cap("daily", Decimal("0.11"))]).result()
        assert [] == ledger.sends("job")

    def test_a_cap_begins_at_its_time_and_keeps_to_its_tag(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new("old", tags={"customer": "acme"})).result()
        intend(ledger, "old")
        clock.at += 100
        ledger.begin(new("other", tags={"customer": "else"})).result()
        intend(ledger, "other")
        ledger.begin(new(tags={"customer": "acme"})).result()
        cap = Cap("daily", PRICE, since=clock.at, tag=("customer", "acme"))

        assert intend(ledger, caps=[cap])
        with pytest.raises(OverBudget, match="customer=acme"):
            intend(ledger, attempt=1, caps=[cap])

    def test_an_unknown_price_is_within_no_cap(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()

        with pytest.raises(OverBudget, match=r"bfl/flux-kontext-pro: .*the price is unknown.*\[providers\.bfl\."):
            intend(ledger, price=None, caps=[Cap("daily", Decimal(100))])
        assert intend(ledger, price=None)

    @pytest.mark.parametrize("price", ["-1", "NaN", "Infinity"])
    def test_a_price_that_is_none_is_refused_at_once(self, ledger: Ledger, price: str) -> None:
        with pytest.raises(ValueError, match="an amount"):
            intend(ledger, price=Decimal(price))

    # handles

    def test_an_accepted_task_makes_the_job_run(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)

        assert ledger.accepted("job", 0, 0, handle(), owner=A).result()
        (found,) = ledger.handles("job")
        assert (handle(), 0, 0, A) == (found.handle, found.attempt, found.part, found.added_by)
        job = ledger.job("job")
        assert job is not None
        assert job.state is JobState.RUNNING
        assert "risk" == ledger.sends("job")[0].money

    def test_a_handle_that_is_added_twice_is_there_once(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        for _ in range(2):
            ledger.accepted("job", 0, 0, handle(), owner=A).result()

        assert 1 == len(ledger.handles("job"))

    def test_a_late_handle_makes_an_unknown_job_run_whoever_owns_it(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=10).result()
        intend(ledger)
        clock.at += 11
        taken = ledger.take_over("job", B).result()
        assert taken is not None
        assert taken.state is JobState.UNKNOWN

        assert ledger.accepted("job", 0, 0, handle(), owner=A).result()
        job = ledger.job("job")
        assert job is not None
        assert (JobState.RUNNING, B) == (job.state, job.owner)
        assert "accepted" == ledger.sends("job")[0].outcome

    @pytest.mark.parametrize("state", ENDS)
    def test_a_late_handle_of_a_job_that_has_ended_is_kept(self, ledger: Ledger, state: JobState) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.sent_end("job", 0, 0, "refused", owner=A).result()
        ledger.finish("job", state, owner=A).result()

        assert not ledger.accepted("job", 0, 0, handle(), owner=A).result()
        job = ledger.job("job")
        assert job is not None
        assert state is job.state
        assert job.at_risk
        assert [handle()] == [one.handle for one in ledger.handles("job")]

    def test_a_handle_of_a_job_that_nobody_began_is_kept(self, ledger: Ledger) -> None:
        assert not ledger.accepted("job", 0, 0, handle(), owner=A).result()
        assert 1 == len(ledger.handles("job"))

    def test_a_doubt_does_not_take_back_what_a_handle_has_proven(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        ledger.sent_end("job", 0, 0, "unknown", kind="deadline_exceeded", maybe_charged=True, owner=A).result()

        (send,) = ledger.sends("job")
        assert ("accepted", "deadline_exceeded", "risk") == (send.outcome, send.kind, send.money)

    # finish

    @pytest.mark.parametrize("state", [*ENDS, JobState.UNKNOWN])
    def test_the_owner_ends_a_job(self, ledger: Ledger, state: JobState) -> None:
        ledger.begin(new()).result()

        told = {"error": {"kind": "x"}} if state is not JobState.SUCCEEDED else {"result": {"images": [{"width": 1}]}}
        assert Finish.RECORDED == ledger.finish("job", state, owner=A, **told).result()
        job = ledger.job("job")
        assert job is not None
        assert state is job.state
        assert told == {name: value for name in ("result", "error") if (value := job.to_json()[name])}

    @pytest.mark.parametrize("wrong", [{"owner": B}, {"owner": A, "version": 99}])
    def test_nobody_else_ends_it(self, ledger: Ledger, wrong: Any) -> None:
        ledger.begin(new()).result()

        assert Finish.REFUSED == ledger.finish("job", JobState.FAILED, **wrong).result()
        job = ledger.job("job")
        assert job is not None
        assert job.state is JobState.QUEUED
        assert Finish.RECORDED == ledger.finish("job", JobState.FAILED, owner=A, version=job.version).result()

    def test_a_success_counts_whoever_brings_it(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=10).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        clock.at += 11
        ledger.take_over("job", B).result()

        assert Finish.RECORDED == ledger.finish("job", JobState.SUCCEEDED, owner=A, cost=LISTED).result()
        assert Finish.REPEATED == ledger.finish("job", JobState.SUCCEEDED, owner=B, cost=LISTED).result()
        assert (PRICE, Decimal(0), 0) == total(ledger)

    def test_an_end_of_a_job_that_nobody_began_is_refused(self, ledger: Ledger) -> None:
        assert Finish.REFUSED == ledger.finish("job", JobState.SUCCEEDED, owner=A).result()

    def test_a_job_ends_once(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        ledger.finish("job", JobState.CANCELLED, owner=A).result()

        assert Finish.REFUSED == ledger.finish("job", JobState.FAILED, owner=A).result()
        job = ledger.job("job")
        assert job is not None
        assert job.state is JobState.CANCELLED

    @pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED])
    def test_a_success_after_another_end_is_surplus(self, ledger: Ledger, state: JobState) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        ledger.sent_end("job", 0, 0, "accepted", maybe_charged=True, owner=A).result()
        ledger.finish("job", state, owner=A).result()
        late = {"owner": A, "attempt": 0, "cost": LISTED, "result": {"images": [{"sha256": "abc"}]}}

        assert Finish.SURPLUS == ledger.finish("job", JobState.SUCCEEDED, **late).result()
        assert Finish.REPEATED == ledger.finish("job", JobState.SUCCEEDED, **late).result()
        job = ledger.job("job")
        assert job is not None
        assert (state, True, None) == (job.state, job.surplus, job.result)
        (event,) = [one for one in ledger.events("job") if one.what == "surplus"]
        assert '"sha256":"abc"' in event.detail
        assert (PRICE, Decimal(0), 0) == total(ledger)

    def test_a_second_success_is_surplus_and_paid_too(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        for attempt in (0, 1):
            intend(ledger, attempt=attempt)
            ledger.accepted("job", attempt, 0, handle(task=f"t{attempt}"), owner=A).result()

        ended = [
            ledger.finish("job", JobState.SUCCEEDED, owner=A, attempt=attempt, cost=LISTED).result()
            for attempt in (1, 0)
        ]

        assert [Finish.RECORDED, Finish.SURPLUS] == ended
        assert (2 * PRICE, Decimal(0), 0) == total(ledger)

    def test_a_state_that_is_no_end_ends_nothing(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="no end"):
            ledger.finish("job", JobState.RUNNING, owner=A)

    def test_an_unknown_job_where_nothing_is_at_risk_any_more_is_ended_by_the_late_writer(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        ledger.begin(new(), lease_s=10).result()
        intend(ledger)
        clock.at += 11
        ledger.take_over("job", B).result()
        assert Finish.REFUSED == ledger.finish("job", JobState.FAILED, owner=A).result()

        ledger.sent_end("job", 0, 0, "refused", kind="unavailable", owner=A).result()

        assert Finish.RECORDED == ledger.finish("job", JobState.FAILED, owner=A).result()

    # money

    @pytest.mark.parametrize(
        ("outcome", "maybe", "cost", "spent", "risk", "unknown"),
        [
            (None, False, None, "0", "0.04", 0),
            ("unknown", False, None, "0", "0.04", 0),
            ("unknown", True, None, "0", "0.04", 0),
            ("refused", False, None, "0", "0", 0),
            ("refused", True, None, "0", "0.04", 0),
            ("accepted", True, None, "0", "0.04", 0),
            ("accepted", False, None, "0", "0", 0),
            ("accepted", False, Cost(Decimal("0.05"), "USD", "reported"), "0.05", "0", 0),
            ("accepted", True, Cost(), "0", "0", 1),
            ("accepted", False, Cost(Decimal(5), "EUR", "reported"), "0", "0", 1),
        ],
    )
    def test_what_a_submit_cost_follows_from_how_it_ended(
        self, ledger: Ledger, outcome: Any, maybe: bool, cost: Any, spent: str, risk: str, unknown: int
    ) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        if outcome:
            assert ledger.sent_end("job", 0, 0, outcome, maybe_charged=maybe, cost=cost, owner=A).result()

        assert (Decimal(spent), Decimal(risk), unknown) == total(ledger)

    def test_the_end_of_a_submit_that_never_was_is_not_written(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()

        assert not ledger.sent_end("job", 0, 0, "accepted", cost=LISTED, owner=A).result()
        assert [] == ledger.spend()

    def test_the_cost_of_a_job_of_several_parts_is_counted_once(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        for part in range(3):
            intend(ledger, part=part)
            ledger.accepted("job", 0, part, handle(task=f"t{part}"), owner=A).result()
        ledger.sent_end("job", 0, 2, "accepted", kind="generation_failed", maybe_charged=True, owner=A).result()

        ledger.finish("job", JobState.SUCCEEDED, owner=A, cost=Cost(Decimal("0.08"), "USD", "listed")).result()

        assert (Decimal("0.08"), PRICE, 0) == total(ledger)

    def test_costs_told_one_by_one_are_not_counted_again_at_the_end(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.sent_end("job", 0, 0, "accepted", cost=LISTED, owner=A).result()

        ledger.finish("job", JobState.SUCCEEDED, owner=A, cost=LISTED).result()

        assert (PRICE, Decimal(0), 0) == total(ledger)

    def test_a_success_without_a_cost_is_an_unknown_amount(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, None, owner=A).result()
        ledger.finish("job", JobState.SUCCEEDED, owner=A).result()

        assert (Decimal(0), Decimal(0), 1) == total(ledger)

    def test_an_unknown_price_at_risk_is_counted_as_unknown(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger, price=None)

        assert (Decimal(0), Decimal(0), 1) == total(ledger)

    def test_sums_lose_no_digit(self, ledger: Ledger) -> None:
        prices = [Decimal("999999999999.999999999999"), Decimal("0.1"), Decimal("0.1"), Decimal("0.000000000001")]
        ledger.begin(new()).result()
        for part, price in enumerate(prices):
            intend(ledger, part=part, price=price)

        assert Decimal("1000000000000.200000000000") == total(ledger)[1]

    def test_spend_is_grouped(self, ledger: Ledger, clock: Clock) -> None:
        for number, (provider, customer) in enumerate([("bfl", "acme"), ("fal", "acme"), ("fal", None)]):
            tags = {"customer": customer} if customer else {}
            ledger.begin(new(f"j{number}", tags=tags)).result()
            intend(ledger, f"j{number}", provider=provider)
            clock.at += 86_400

        assert [
            SpendRow({"provider": "bfl"}, Decimal(0), PRICE, 0, 1),
            SpendRow({"provider": "fal"}, Decimal(0), 2 * PRICE, 0, 2),
        ] == ledger.spend()
        assert [None, "acme"] == [row.group["tag:customer"] for row in ledger.spend(by=("tag:customer",))]
        days = [row.group for row in ledger.spend(by=("day", "model"))]
        assert ["2023-11-14", "2023-11-15", "2023-11-16"] == [day["day"] for day in days]
        assert ["j0", "j1"] == [row.group["job"] for row in ledger.spend(by=("job",), tag="customer=acme")]
        assert 2 == sum(row.sends for row in ledger.spend(since=clock.at - 2 * 86_400))
        assert 1 == sum(row.sends for row in ledger.spend(until=clock.at - 2 * 86_400))

    def test_an_unknown_word_of_grouping_names_the_near_one(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="provider"):
            ledger.spend(by=("providers",))

    # leases

    def test_a_job_is_not_taken_over_while_its_lease_runs(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=10).result()
        clock.at += 9

        assert ledger.take_over("job", B).result() is None
        assert [] == ledger.unfinished()

    def test_a_job_is_taken_over_once(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=10).result()
        clock.at += 10

        assert ["job"] == [job.job_id for job in ledger.unfinished()]
        taken = ledger.take_over("job", B, lease_s=10).result()
        assert taken is not None
        assert B == taken.owner
        assert ledger.take_over("job", "process-c").result() is None
        assert ledger.take_over("job", B).result() is not None
        assert [] == ledger.unfinished()

    def test_a_takeover_only_polls(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=10).result()
        clock.at += 11
        ledger.take_over("job", B, lease_s=10).result()
        assert not intend(ledger, owner=B)
        assert not intend(ledger, owner=A)
        clock.at += 11
        ledger.take_over("job", A).result()

        assert not intend(ledger, owner=A)

    def test_a_lease_that_the_clock_has_jumped_back_from_has_ended(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=60).result()
        clock.at -= 3600

        assert ["job"] == [job.job_id for job in ledger.unfinished()]
        assert ledger.job("job").lease_until <= clock.at  # type: ignore[union-attr]
        assert ledger.take_over("job", B).result() is not None
        assert [] == ledger.unfinished()

    def test_a_job_is_not_over_without_a_success_while_a_task_of_it_is_open(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        for attempt in range(2):
            intend(ledger, attempt=attempt)
            ledger.accepted("job", attempt, 0, handle(task=f"t{attempt}"), owner=A).result()
        ledger.sent_end("job", 1, 0, "accepted", kind="generation_failed", owner=A).result()

        assert Finish.OPEN == ledger.finish("job", JobState.FAILED, owner=A, attempt=1).result()
        job = ledger.job("job")
        assert job is not None
        assert (JobState.RUNNING, True) == (job.state, job.has_open_task)
        ledger.sent_end("job", 0, 0, "accepted", kind="generation_failed", owner=A).result()
        assert Finish.RECORDED == ledger.finish("job", JobState.FAILED, owner=A, attempt=0).result()

    @pytest.mark.parametrize("outcome", [None, "unknown"])
    @pytest.mark.parametrize("end", [JobState.MODERATED, JobState.UNKNOWN])
    def test_a_job_does_not_end_without_a_success_while_a_submit_of_it_is_unknown(
        self, ledger: Ledger, outcome: Any, end: JobState
    ) -> None:
        ledger.begin(new()).result()
        intend(ledger, provider="fal")
        if outcome:
            ledger.sent_end("job", 0, 0, outcome, kind="outcome_unknown", maybe_charged=True, owner=A).result()
        intend(ledger, attempt=1)
        ledger.sent_end("job", 1, 0, "accepted", kind="moderated", owner=A).result()
        told = {"class": "Moderated", "kind": "moderated", "message": "no", "provider": "bfl", "model": "m"}

        assert Finish.RECORDED is ledger.finish("job", end, owner=A, error=told).result()

        (job,) = ledger.jobs(state=JobState.UNKNOWN)
        assert job.error is not None
        assert ("outcome_unknown", "fal", True) == tuple(
            job.error[name] for name in ("kind", "provider", "maybe_charged")
        )
        assert "another attempt of the job ended: no" in job.error["message"]

    def test_a_job_whose_lost_submit_was_settled_ends(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.sent_end("job", 0, 0, "unknown", maybe_charged=True, owner=A).result()
        ledger.finish("job", JobState.FAILED, owner=A).result()
        ledger.resolve("job", charged=False, who="ann").result()

        assert JobState.FAILED is ledger.job("job").state  # type: ignore[union-attr]

    def two_attempts(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        for attempt in (0, 1):
            intend(ledger, attempt=attempt)
            ledger.accepted("job", attempt, 0, handle(task=str(attempt)), owner=A).result()

    def success(self, ledger: Ledger, attempt: int, *, aside: bool) -> Finish:
        told = {"images": [{"sha256": str(attempt)}], "attempt": attempt}
        return ledger.finish(
            "job", JobState.SUCCEEDED, owner=A, attempt=attempt, result=told, cost=Cost(PRICE), aside=aside
        ).result()

    @pytest.mark.parametrize(
        ("first", "second", "given"),
        [(True, False, 1), (True, True, 0), (False, True, 0), (False, False, 0)],
    )
    def test_what_was_collected_on_the_side_gives_way_to_what_the_caller_was_given(
        self, ledger: Ledger, first: bool, second: bool, given: int
    ) -> None:
        self.two_attempts(ledger)
        self.success(ledger, 0, aside=first)
        self.success(ledger, 1, aside=second)

        job = ledger.job("job")
        assert job is not None
        assert job.result is not None
        assert (given, True) == (job.result["attempt"], job.surplus)
        (event,) = [one for one in ledger.events("job") if one.what == "surplus"]
        assert f'"attempt":{1 - given}' in event.detail
        assert ["spent", "spent"] == [one.money for one in ledger.sends("job")]
        assert Finish.REPEATED is self.success(ledger, 1 - given, aside=True)

    def test_an_image_of_the_same_attempt_that_the_caller_did_not_get_is_surplus(self, ledger: Ledger) -> None:
        self.two_attempts(ledger)
        for images, aside in (("ab", True), ("a", False)):
            told = {"images": [{"sha256": one} for one in images]}
            ledger.finish("job", JobState.SUCCEEDED, owner=A, attempt=0, result=told, aside=aside).result()

        job = ledger.job("job")
        assert job is not None
        assert job.result is not None
        assert ["a"] == [one["sha256"] for one in job.result["images"]]
        (event,) = [one for one in ledger.events("job") if one.what == "surplus"]
        assert '"b"' in event.detail

    def test_a_task_that_ended_in_doubt_is_due_again_after_growing_pauses_for_a_day(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        began = clock.at
        ledger.begin(new(), lease_s=0).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        asked = []
        while clock.at < began + 2 * 86_400:
            job = ledger.job("job")
            assert job is not None
            if job.has_due_task or not asked:
                assert [] == asked or ["job"] == [one.job_id for one in ledger.unfinished()]
                assert asked == [] or ledger.take_over("job", B, lease_s=0).result()
                asked.append(clock.at - began)
                ledger.sent_end("job", 0, 0, "accepted", kind="protocol_error", maybe_charged=True, owner=A).result()
                ledger.finish("job", JobState.FAILED, owner=A).result()
            clock.at += max(5, (clock.at - began) / 4)

        assert 10 < len(asked) < 30
        assert asked[-1] < 86_400
        assert 10 <= asked[1] < 30

    @pytest.mark.parametrize("why", ["moderated", "settled", "paid", "free", "no handle"])
    def test_nothing_else_is_due_again(self, ledger: Ledger, clock: Clock, why: str) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, None if why == "no handle" else handle(), owner=A).result()
        kind = "moderated" if why == "moderated" else "protocol_error"
        cost = Cost(PRICE) if why == "paid" else None
        ledger.sent_end("job", 0, 0, "accepted", kind=kind, maybe_charged=why != "free", cost=cost, owner=A).result()
        ledger.finish("job", JobState.FAILED, owner=A).result()
        if why == "settled":
            ledger.resolve("job", charged=True, who="ann").result()
        clock.at += 3600

        assert not ledger.job("job").has_due_task  # type: ignore[union-attr]
        assert [] == ledger.unfinished()

    @pytest.mark.parametrize("how", ["collected", "ended", "resolved"])
    def test_an_ended_job_is_taken_over_until_every_task_of_it_has_ended(
        self, ledger: Ledger, clock: Clock, how: str
    ) -> None:
        ledger.begin(new(), lease_s=10).result()
        for attempt in range(2):
            intend(ledger, attempt=attempt)
            ledger.accepted("job", attempt, 0, handle(task=f"t{attempt}"), owner=A).result()
        ledger.finish("job", JobState.SUCCEEDED, owner=A, attempt=1, cost=LISTED).result()
        assert 1 == ledger.renew(A, lease_s=10).result()
        clock.at += 11

        assert ["job"] == [one.job_id for one in ledger.unfinished()]
        taken = ledger.take_over("job", B, lease_s=10).result()
        assert taken is not None
        assert (JobState.SUCCEEDED, True, B) == (taken.state, taken.has_open_task, taken.owner)
        assert 1 == ledger.renew(B, lease_s=10).result()
        if how == "collected":
            assert Finish.SURPLUS == ledger.finish("job", JobState.SUCCEEDED, owner=B, attempt=0, cost=LISTED).result()
        elif how == "ended":
            ledger.sent_end("job", 0, 0, "accepted", kind="moderated", owner=B).result()
        else:
            assert ledger.resolve("job", charged=False, who="ann").result()
        assert 0 == ledger.renew(B, lease_s=10).result()
        clock.at += 11
        assert [] == ledger.unfinished()

    def test_another_image_of_the_attempt_that_ended_the_job_is_surplus(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        for part in range(2):
            intend(ledger, part=part)
            ledger.accepted("job", 0, part, handle(task=f"t{part}"), owner=A).result()
        ends = [{"attempt": 0, "owner": A, "result": {"images": [{"sha256": word}]}} for word in ("first", "second")]

        told = [ledger.finish("job", JobState.SUCCEEDED, **one).result() for one in [*ends, *ends]]

        assert [Finish.RECORDED, Finish.SURPLUS, Finish.REPEATED, Finish.REPEATED] == told
        assert ["risk", "risk"] == [one.money for one in ledger.sends("job")]  # until each task has its end

    @pytest.mark.parametrize("state", ENDS)
    def test_an_ended_job_is_not_taken_over(self, ledger: Ledger, clock: Clock, state: JobState) -> None:
        ledger.begin(new(), lease_s=10).result()
        ledger.finish("job", state, owner=A).result()
        clock.at += 11

        assert ledger.take_over("job", B).result() is None
        assert [] == ledger.unfinished()

    def test_renewing_keeps_all_that_an_owner_works_on(self, ledger: Ledger, clock: Clock) -> None:
        for job_id, owner in [("a", A), ("b", A), ("c", B), ("d", A)]:
            ledger.begin(new(job_id, owner=owner), lease_s=10).result()
        ledger.finish("d", JobState.FAILED, owner=A).result()
        clock.at += 9

        assert 2 == ledger.renew(A, lease_s=10).result()
        clock.at += 9
        assert ["c"] == [job.job_id for job in ledger.unfinished()]
        assert 2 == ledger.renew(A, lease_s=0).result()
        assert ["a", "b", "c"] == [job.job_id for job in ledger.unfinished()]

    @pytest.mark.parametrize("outcome", [None, "unknown"])
    def test_a_job_whose_owner_is_gone_with_a_submit_undecided_is_unknown(
        self, ledger: Ledger, clock: Clock, outcome: Any
    ) -> None:
        ledger.begin(new(), lease_s=10).result()
        intend(ledger)
        if outcome:
            ledger.sent_end("job", 0, 0, outcome, owner=A).result()
        clock.at += 11

        job = ledger.job("job")
        assert job is not None
        assert job.state is JobState.UNKNOWN
        assert ["job"] == [one.job_id for one in ledger.jobs(state=JobState.UNKNOWN)]
        assert [JobState.UNKNOWN] == [one.state for one in ledger.unfinished()]

    def test_a_job_whose_owner_is_gone_and_that_has_a_task_still_runs(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=10).result()
        for part in range(2):
            intend(ledger, part=part)
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        clock.at += 11

        taken = ledger.take_over("job", B).result()
        assert taken is not None
        assert taken.state is JobState.RUNNING
        assert ["accepted", "unknown"] == [send.outcome for send in ledger.sends("job")]

    def test_a_job_whose_submits_were_all_refused_is_not_unknown(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new(), lease_s=10).result()
        intend(ledger)
        ledger.sent_end("job", 0, 0, "refused", owner=A).result()
        clock.at += 11

        job = ledger.job("job")
        assert job is not None
        assert job.state is JobState.QUEUED

    # resolve, reopen, forget

    @pytest.mark.parametrize(("charged", "spent"), [(True, PRICE), (False, Decimal(0))])
    def test_a_person_settles_what_is_at_risk(self, ledger: Ledger, charged: bool, spent: Decimal) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.finish("job", JobState.UNKNOWN, owner=A).result()

        assert ledger.resolve("job", charged=charged, who="ann").result()
        assert (spent, Decimal(0), 0) == total(ledger)
        job = ledger.job("job")
        assert job is not None
        assert (JobState.FAILED, charged) == (job.state, job.charged)
        event = ledger.events("job")[-1]
        assert ("ann", "resolved", JobState.UNKNOWN, JobState.FAILED) == (
            event.who, event.what, event.from_state, event.to_state,
        )  # fmt: skip
        assert not ledger.resolve("job", charged=charged, who="ann").result()

    def test_a_job_that_somebody_works_on_is_not_resolved(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)

        assert not ledger.resolve("job", charged=True, who="ann").result()
        assert not ledger.resolve("none", charged=True, who="ann").result()

    def test_a_running_job_that_nobody_works_on_is_resolved_and_its_success_still_counts(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        ledger.begin(new(), lease_s=10).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        clock.at += 11

        assert ledger.resolve("job", charged=True, who="ann").result()
        job = ledger.job("job")
        assert job is not None
        assert (JobState.FAILED, True, False) == (job.state, job.charged, job.at_risk)
        assert [] == ledger.unfinished()
        assert Finish.SURPLUS == ledger.finish("job", JobState.SUCCEEDED, owner=A, cost=LISTED).result()
        assert (PRICE, Decimal(0), 0) == total(ledger)

    def test_the_money_of_a_resolved_job_that_comes_after_all_is_counted(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.finish("job", JobState.UNKNOWN, owner=A).result()
        ledger.resolve("job", charged=False, who="ann").result()

        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        assert Finish.SURPLUS == ledger.finish("job", JobState.SUCCEEDED, owner=A, cost=LISTED).result()
        assert (PRICE, Decimal(0), 0) == total(ledger)

    def test_a_job_that_failed_for_nothing_is_reopened_under_its_key(self, ledger: Ledger) -> None:
        ledger.begin(new(idempotency_key="k")).result()
        intend(ledger)
        ledger.sent_end("job", 0, 0, "refused", owner=A).result()
        ledger.finish("job", JobState.FAILED, owner=A).result()

        opened = ledger.reopen("job", B).result()

        assert opened is not None
        assert (JobState.QUEUED, B) == (opened.state, opened.owner)
        assert ledger.reopen("job", A).result() is None
        assert intend(ledger, attempt=1, owner=B)

    @pytest.mark.parametrize("state", [JobState.FAILED, JobState.UNKNOWN, JobState.CANCELLED])
    def test_a_job_that_may_have_cost_something_is_not_reopened(self, ledger: Ledger, state: JobState) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.finish("job", state, owner=A).result()

        assert ledger.reopen("job", A).result() is None

    def test_ended_jobs_are_forgotten(self, ledger: Ledger, clock: Clock) -> None:
        for job_id in ("ended", "running", "risky", "young"):
            clock.at += job_id == "young" and 100
            ledger.begin(new(job_id, idempotency_key=job_id, tags={"a": "b"})).result()
        intend(ledger, "risky")
        for job_id in ("ended", "risky", "young"):
            ledger.finish(job_id, JobState.FAILED, owner=A).result()
            clock.at += job_id == "risky" and 100

        assert 0 == ledger.forget(before=clock.at - 200).result()
        assert 0 == ledger.forget(job_id="running").result()
        assert 1 == ledger.forget(before=clock.at - 50, job_id="ended").result()
        assert ["risky", "running", "young"] == sorted(job.job_id for job in ledger.jobs())
        assert [] == ledger.events("ended")
        assert isinstance(ledger.begin(new("ended", idempotency_key="ended")).result(), New)

    def test_forgetting_everything_is_not_said_by_saying_nothing(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="which"):
            ledger.forget()

    # reads

    def test_jobs_are_listed_by_state_time_and_tag_the_newest_first(self, ledger: Ledger) -> None:
        for number in range(5):
            tags = {"customer": "acme" if number % 2 else "else"} if number else {}
            ledger.begin(new(f"j{number}", created_at=float(number), tags=tags)).result()
        ledger.finish("j3", JobState.FAILED, owner=A).result()

        def listed(**asked: Any) -> list[str]:
            return [job.job_id for job in ledger.jobs(**asked)]

        assert ["j4", "j3", "j2", "j1", "j0"] == listed()
        assert ["j4", "j3"] == listed(limit=2)
        assert ["j3"] == listed(state=JobState.FAILED)
        assert ["j2", "j1"] == listed(since=1.0, until=3.0)
        assert ["j3", "j1"] == listed(tag="customer=acme")
        assert ["j4", "j3", "j2", "j1"] == listed(tag="customer")

    def test_the_history_of_a_job_says_who_did_what_when(self, ledger: Ledger, clock: Clock) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        clock.at += 1
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        ledger.finish("job", JobState.SUCCEEDED, owner=A, cost=LISTED).result()

        events = ledger.events("job")
        assert ["begun", "intent", "accepted", "finished"] == [event.what for event in events]
        assert [(None, "queued"), (None, None), ("queued", "running"), ("running", "succeeded")] == [
            (event.from_state, event.to_state) for event in events
        ]
        assert {A} == {event.who for event in events}
        assert [0, 0, 1, 1] == [event.at - 1_700_000_000 for event in events]

    def test_records_are_json(self, ledger: Ledger) -> None:
        ledger.begin(new(tags={"a": "b"})).result()
        intend(ledger)
        ledger.accepted("job", 0, 0, handle(), owner=A).result()
        records = [ledger.job("job"), *ledger.sends("job"), *ledger.handles("job"), *ledger.events("job")]
        told = json.loads(json.dumps([one.to_json() for one in [*records, *ledger.spend()] if one]))

        assert ("0.04", "running", {"a": "b"}) == (told[1]["price"], told[0]["state"], told[0]["tags"])

    def test_a_text_that_is_no_text_is_recorded_nevertheless(self, ledger: Ledger) -> None:
        ledger.begin(new()).result()
        intend(ledger)
        ledger.sent_end("job", 0, 0, "unknown", message="half \ud83d and \0" + "x" * 5000, owner=A).result()
        ledger.finish("job", JobState.FAILED, owner=A, error={"message": "half \ud83d"}).result()

        assert len(ledger.sends("job")[0].message) < 600

    def test_what_json_cannot_hold_is_refused_at_once(self, ledger: Ledger) -> None:
        with pytest.raises(TypeError):
            ledger.finish("job", JobState.SUCCEEDED, owner=A, result={"images": b"bytes"})

    # drains

    def test_a_drain_is_seen_until_it_is_taken_back_and_the_first_word_stays(self, ledger: Ledger) -> None:
        assert [] == ledger.drains()

        assert ledger.drain("kie", who="me", why="slow today").result()
        assert not ledger.drain("kie", who="you", why="another word").result()
        assert ledger.drain("bfl", who="you").result()

        assert [("bfl", "you", ""), ("kie", "me", "slow today")] == [
            (one.provider, one.who, one.why) for one in ledger.drains()
        ]
        assert "drained by me since 2023-11-14 22:13 UTC: slow today" == str(ledger.drains()[1])
        assert ledger.undrain("kie").result()
        assert not ledger.undrain("kie").result()
        assert ["bfl"] == [one.provider for one in ledger.drains()]
