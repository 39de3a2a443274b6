"""Jobs whose process is gone: found by id or handle, and collected without a second submit."""

import asyncio
import contextlib
import logging
import sqlite3
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.io.journal import Journal
from anykontext.ledger import Ledger, NewJob, NewSend, open_ledger
from anykontext.model.job import Task
from anykontext.model.money import Cost
from anykontext.sandbox import Emulator, Sandbox

from .conftest import KINDS, Twin, configured, picture

DEAD = "a process that is gone"


def ledger_of(twin: Twin) -> Ledger:
    return twin.client._core.ledger  # type: ignore[no-any-return]


def state(twin: Twin, job_id: str) -> str:
    return ledger_of(twin).job(job_id).state  # type: ignore[union-attr]


def recovered(twin: Twin) -> list[ak.Outcome]:
    return twin.wait(twin.client.recover())  # type: ignore[no-any-return]


@pytest.fixture
def left(bfl: Emulator, request: pytest.FixtureRequest) -> ak.JobHandle:
    """A job of three tasks that its client left running, without a word in the ledger of how it ends."""
    bfl.inject("never-ends")
    with Twin("Client", configured(bfl)) as twin:
        handle: ak.JobHandle = twin.submit(seed=7, num_images=getattr(request, "param", 1)).handle
    bfl.clear()
    return handle


def gone(ledger: Ledger, job_id: str, *, sent: bool = True) -> None:
    """A job of a process that died after its intent, or before."""
    now = time.time()
    ledger.begin(NewJob(job_id, "digest", "words", "flux-kontext-pro", "edit", now, DEAD), lease_s=0).result()
    if sent:
        send = NewSend(0, "bfl", "flux-kontext-pro", None)
        assert ledger.intents(job_id, 0, [send], owner=DEAD).result()


class TestResume:
    """By id."""

    def test_a_job_is_resumed_by_its_id(self, twin: Twin, bfl: Emulator, left: ak.JobHandle) -> None:
        before = dict(bfl.counters)
        job = twin.wait(twin.client.resume(left.job_id))
        assert before == dict(bfl.counters)

        assert 7 == twin.wait(job.wait()).seed
        assert "succeeded" == state(twin, left.job_id)
        assert 1 == bfl.counters["submits"]

    @pytest.mark.parametrize("left", [3], indirect=True)
    @pytest.mark.parametrize("by", ["id", "handle"])
    def test_a_handle_of_three_tasks_is_collected(self, twin: Twin, bfl: Emulator, left: ak.JobHandle, by: str) -> None:
        job = twin.wait(twin.client.resume(left.job_id if by == "id" else left.to_json()))
        assert {task.id for task in left.tasks} == {task.id for task in job.handle.tasks}
        assert 1 == len(job.handles)

        assert 3 == len(twin.wait(job.wait()).images)
        assert ["spent"] * 3 == [one.money for one in ledger_of(twin).sends(job.id)]
        assert 3 == bfl.counters["submits"]

    @pytest.mark.parametrize("call", ["resume", "job"])
    def test_an_unknown_id_is_refused(self, twin: Twin, call: str) -> None:
        with pytest.raises(ak.InvalidRequest, match="knows no job 'job_nowhere'"):
            twin.wait(getattr(twin.client, call)("job_nowhere"))

    def test_a_look_into_the_ledger_sends_nothing(self, twin: Twin, bfl: Emulator, left: ak.JobHandle) -> None:
        before = dict(bfl.counters)

        job = twin.wait(twin.client.job(left.job_id))

        assert (left.job_id, ak.JobState.RUNNING, False) == (job.id, job.state, job.done)
        assert (left.tasks, 1) == (job.handle.tasks, len(job.handles))
        assert "0.04" == str(job.at_risk.amount)
        assert before == dict(bfl.counters)

    def test_a_job_that_has_ended_tells_its_end(self, twin: Twin, bfl: Emulator) -> None:
        result = twin.edit(seed=7)
        bfl.inject("moderated")
        with pytest.raises(ak.Moderated) as caught:
            twin.edit()
        before = dict(bfl.counters)

        good = twin.wait(twin.client.job(result.job_id))
        bad = twin.wait(twin.client.resume(caught.value.job_id))

        assert (ak.JobState.SUCCEEDED, True, "0") == (good.state, good.done, str(good.at_risk.amount))
        assert result.image.data == twin.wait(good.wait()).image.data
        assert (ak.JobState.MODERATED, True, "0") == (bad.state, bad.done, str(bad.at_risk.amount))
        with pytest.raises(ak.Moderated):
            twin.wait(bad.wait())
        assert before == dict(bfl.counters)

    def test_the_end_of_a_job_that_was_left_is_written_down_whatever_it_is(
        self, twin: Twin, bfl: Emulator, left: ak.JobHandle
    ) -> None:
        bfl.inject("not-found-always")
        job = twin.wait(twin.client.resume(left.to_json()))

        with pytest.raises(ak.JobNotFound):
            twin.wait(job.wait())
        assert "failed" == state(twin, left.job_id)

    def test_a_handle_of_a_later_attempt_is_written_to_that_attempt(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("bad-key")
        with pytest.raises(ak.AuthenticationFailed):
            twin.edit(seed=7, idempotency_key="k")
        bfl.clear()
        bfl.inject("never-ends")
        with pytest.raises(ak.DeadlineExceeded) as caught:
            twin.edit(seed=7, idempotency_key="k", deadline=0.3)
        bfl.clear()

        job = twin.wait(twin.client.resume(caught.value.handle))
        twin.wait(job.wait())

        assert ["free", "spent"] == [one.money for one in ledger_of(twin).sends(job.id)]

    def test_a_handle_that_the_ledger_does_not_know_is_collected_all_the_same(
        self, left: ak.JobHandle, bfl: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "another"))
        with Twin("Client", configured(bfl)) as twin:
            assert 7 == twin.client.resume(left).wait().seed
            assert [] == twin.client.jobs()


def test_jobs_are_listed_by_state_time_and_tag(twin: Twin, bfl: Emulator) -> None:
    first = twin.edit(tags={"customer": "a"})
    time.sleep(0.02)
    middle = time.time()
    second = twin.edit(tags={"customer": "b", "batch": "1"})
    bfl.inject("bad-key")
    with pytest.raises(ak.AuthenticationFailed) as caught:
        twin.edit()

    def ids(**options: Any) -> list[str]:
        return [one.job_id for one in twin.wait(twin.client.jobs(**options))]

    third = caught.value.job_id
    assert [third, second.job_id, first.job_id] == ids()
    assert [second.job_id, first.job_id] == ids(state="succeeded") == ids(state=ak.JobState.SUCCEEDED)
    assert [third] == ids(state="failed") == ids(limit=1)
    assert [third, second.job_id] == ids(since=middle)
    assert [second.job_id] == ids(tag="batch") == ids(tag="customer=b")
    wrongs = [{"limit": limit} for limit in (0, -1, 10**30, 1.5, "x", None, True)]
    for wrong in ({"state": "done"}, {"since": "yesterday"}, {"since": True}, *wrongs):
        with pytest.raises(ak.InvalidRequest):
            ids(**wrong)


class TestRecover:
    """All at once."""

    @pytest.mark.parametrize("left", [1, 3], indirect=True)
    def test_what_a_client_left_is_collected_and_written_down(
        self, twin: Twin, bfl: Emulator, left: ak.JobHandle
    ) -> None:
        (outcome,) = recovered(twin)

        assert (left.job_id, None) == (outcome.job_id, outcome.error)
        assert len(left.tasks) == len(outcome.result.images)  # type: ignore[union-attr]
        assert "succeeded" == state(twin, left.job_id)
        assert len(left.tasks) == bfl.counters["submits"]
        assert [] == recovered(twin)

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_end_that_was_never_written_is_found_again(
        self, kind: str, bfl: Emulator, monkeypatch: pytest.MonkeyPatch, home: Path
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("anykontext.client.claims.Claims.leave", lambda *_: None)
            writes = Journal._write

            def dies(journal: Journal, entry: Any) -> Any:
                if type(entry).__name__ in {"PartEnd", "JobEnd"}:
                    raise sqlite3.OperationalError("the process was killed")
                return writes(journal, entry)

            patch.setattr(Journal, "_write", dies)
            with Twin("Client", configured(bfl)) as twin:
                twin.edit(num_images=3, seed=7)
        assert [True] == [one.at_risk for one in _read(home)]

        with Twin(kind, configured(bfl)) as twin:
            (outcome,) = recovered(twin)
            assert 3 == len(outcome.result.images)  # type: ignore[union-attr]
            assert [("succeeded", False)] == [(one.state, one.at_risk) for one in ledger_of(twin).jobs()]
        assert 3 == bfl.counters["submits"]

    def test_an_intent_without_a_handle_is_unknown_and_never_sent_again(self, twin: Twin, bfl: Emulator) -> None:
        gone(ledger_of(twin), "lost")

        (outcome,) = recovered(twin)

        assert isinstance(outcome.error, ak.OutcomeUnknown)
        assert outcome.error.maybe_charged
        job = ledger_of(twin).job("lost")
        assert job is not None
        assert ("unknown", "OutcomeUnknown") == (job.state, job.error["class"])  # type: ignore[index]
        assert [] == recovered(twin)
        assert 0 == bfl.counters["submits"]

    def test_a_job_that_died_before_its_intent_cost_nothing(self, twin: Twin, bfl: Emulator) -> None:
        gone(ledger_of(twin), "early", sent=False)

        (outcome,) = recovered(twin)

        assert isinstance(outcome.error, ak.Cancelled)
        assert not outcome.error.maybe_charged
        assert "cancelled" == state(twin, "early")
        assert 0 == bfl.counters["submits"]

    def test_a_late_handle_turns_unknown_into_running_and_is_collected(
        self, twin: Twin, bfl: Emulator, left: ak.JobHandle
    ) -> None:
        ledger = ledger_of(twin)
        gone(ledger, "late")
        recovered(twin)
        assert "unknown" == state(twin, "late")

        assert ledger.accepted("late", 0, 0, left, owner=DEAD).result()
        assert "running" == state(twin, "late")
        job = twin.wait(twin.client.resume("late"))
        ledger.renew(twin.client._core.store.owner, lease_s=0).result()

        assert 7 == twin.wait(job.wait()).seed
        assert "succeeded" == state(twin, "late")

    def test_a_success_after_another_end_is_surplus(self, twin: Twin, left: ak.JobHandle) -> None:
        ledger = ledger_of(twin)
        ledger.take_over(left.job_id, DEAD).result()
        ledger.sent_end(left.job_id, 0, 0, "accepted", kind="job_not_found", maybe_charged=True, owner=DEAD).result()
        ledger.finish(left.job_id, ak.JobState.FAILED, owner=DEAD).result()

        job = twin.wait(twin.client.resume(left.to_json()))

        assert 7 == twin.wait(job.wait()).seed
        record = ledger.job(left.job_id)
        assert record is not None
        assert ("failed", True, True) == (record.state, record.surplus, record.charged)

    def test_jobs_that_somebody_works_on_are_left_alone(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        job = twin.submit(seed=7)
        with Twin(KINDS[twin.is_sync], configured(bfl)) as other:
            assert [] == recovered(other)
        assert [] == recovered(twin)
        bfl.clear()

        assert 7 == twin.wait(job.wait()).seed

    def test_two_that_recover_at_once_collect_each_job_once(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        with Twin("Client", configured(bfl)) as first:
            ids = {first.submit(seed=seed).id for seed in range(5)}
        bfl.clear()
        other = type(twin.client)(configured(bfl))

        if twin.is_sync:
            with ThreadPoolExecutor(2) as pool:
                both = list(pool.map(lambda client: client.recover(), (twin.client, other)))
        else:

            async def main() -> list[list[ak.Outcome]]:
                return await asyncio.gather(twin.client.recover(), other.recover())

            both = twin.wait(main())
        twin.wait(other.close())

        assert sorted(ids) == sorted(str(outcome.job_id) for outcomes in both for outcome in outcomes)
        assert 5 == bfl.counters["downloads"]
        assert 5 == bfl.counters["submits"]

    @pytest.mark.parametrize("after_s", [0.0, 0.02, 0.3])
    def test_a_recovery_that_is_cancelled_leaves_the_jobs_to_others(self, bfl: Emulator, after_s: float) -> None:
        bfl.inject("never-ends")
        with Twin("Client", configured(bfl)) as first:
            ids = {first.submit(seed=seed).id for seed in range(3)}

        async def main(client: ak.AsyncClient) -> None:
            task = asyncio.ensure_future(client.recover())
            await asyncio.sleep(after_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        with Twin("AsyncClient", configured(bfl)) as twin:
            twin.wait(main(twin.client))
            bfl.clear()
            assert set() == twin.client._core.store.claims._working
            with Twin("Client", configured(bfl)) as other:
                assert ids == {outcome.job_id for outcome in recovered(other) if outcome.error is None}
        assert 3 == bfl.counters["submits"]

    def test_f31_an_expired_link_is_renewed(self, twin: Twin, bfl: Emulator, left: ak.JobHandle) -> None:
        bfl.inject("expired-once")

        (outcome,) = recovered(twin)

        assert (left.job_id, None) == (outcome.job_id, outcome.error)
        assert 2 == bfl.counters["downloads"]
        assert 1 == bfl.counters["submits"]

    def test_a_job_of_a_provider_that_is_not_configured_here_stays(
        self, bfl: Emulator, left: ak.JobHandle, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.ERROR)
        with Twin("Client", ak.Config(providers={"fal": {"api_key": "sandbox"}})) as stranger:
            (outcome,) = recovered(stranger)
            assert isinstance(outcome.error, ak.UnknownProvider)
            assert "running" == state(stranger, left.job_id)
            with Twin("Client", configured(bfl)) as twin:
                (outcome,) = recovered(twin)
        assert None is outcome.error
        assert [] == caplog.records


PRICE = Decimal("0.04")


def job_of(ledger: Ledger, *attempts: Sequence[ak.JobHandle | None]) -> str:
    """A job of a process that is gone: its attempts, each with the handles of its parts; None is a lost submit."""
    job_id = f"job_{uuid.uuid4().hex}"
    ledger.begin(NewJob(job_id, "digest", "words", "flux-kontext-pro", "edit", time.time(), DEAD)).result()
    for attempt, handles in enumerate(attempts):
        sends = [NewSend(part, "bfl", "flux-kontext-pro", PRICE) for part in range(len(handles))]
        assert ledger.intents(job_id, attempt, sends, owner=DEAD).result()
        for part, handle in enumerate(handles):
            if handle is None:
                ledger.sent_end(
                    job_id, attempt, part, "unknown", kind="outcome_unknown", maybe_charged=True, owner=DEAD
                ).result()
            else:
                ledger.accepted(job_id, attempt, part, replace(handle, job_id=job_id), owner=DEAD).result()
    ledger.renew(DEAD, lease_s=0).result()
    return job_id


@pytest.fixture
def tasks(bfl: Emulator, tmp_path: Path) -> list[ak.JobHandle]:
    """Three tasks of three submits that another ledger knows."""
    bfl.inject("never-ends")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYKONTEXT_HOME", str(tmp_path / "another"))
        with Twin("Client", configured(bfl)) as twin:
            found = [twin.submit(seed=seed).handle for seed in (1, 2, 3)]
    bfl.clear()
    return found


def stranger(handle: ak.JobHandle) -> ak.JobHandle:
    """A task that the provider does not know."""
    (task,) = handle.tasks
    gone_id = "00000000-0000-4000-8000-000000000000"
    return replace(handle, tasks=(Task(gone_id, task.poll_url.replace(task.id, gone_id)),))  # type: ignore[union-attr]


class TestEveryAttempt:
    """A job may have several attempts that were accepted: none of them is forgotten."""

    def test_each_is_collected_the_second_image_as_surplus(
        self, twin: Twin, bfl: Emulator, tasks: list[ak.JobHandle]
    ) -> None:
        job_id = job_of(ledger_of(twin), [tasks[0]], [tasks[1]])

        (outcome,) = recovered(twin)

        record = ledger_of(twin).job(job_id)
        assert record is not None
        assert (None, "succeeded", True, False) == (outcome.error, record.state, record.surplus, record.at_risk)
        assert ["spent", "spent"] == [one.money for one in ledger_of(twin).sends(job_id)]
        assert 2 == bfl.counters["downloads"]
        assert [] == recovered(twin)

    @pytest.mark.parametrize("call", ["recover", "resume"])
    def test_one_that_was_left_is_collected_after_the_job_has_failed_at_another(
        self, twin: Twin, tasks: list[ak.JobHandle], call: str
    ) -> None:
        job_id = job_of(ledger_of(twin), [tasks[0]], [stranger(tasks[1])])

        if call == "recover":
            ((outcome),) = recovered(twin)
            result = outcome.result
        else:
            result = twin.wait(twin.wait(twin.client.resume(job_id)).wait())

        assert result is not None
        assert (job_id, 1) == (result.job_id, result.seed)
        assert "succeeded" == state(twin, job_id)

    @pytest.mark.parametrize("ended", [ak.JobState.SUCCEEDED, ak.JobState.FAILED])
    def test_one_that_was_left_by_a_job_that_has_ended_is_recovered(
        self, twin: Twin, tasks: list[ak.JobHandle], ended: ak.JobState
    ) -> None:
        ledger = ledger_of(twin)
        job_id = job_of(ledger, [tasks[0]] if ended is ak.JobState.SUCCEEDED else [None], [tasks[1]])
        ledger.take_over(job_id, DEAD, lease_s=0).result()
        if ended is ak.JobState.SUCCEEDED:
            told = {"images": [{"sha256": "0" * 64}]}
            ledger.finish(job_id, ended, owner=DEAD, attempt=1, result=told, cost=Cost(PRICE)).result()
        else:  # a late handle of an attempt that had been called refused
            ledger.sent_end(job_id, 0, 0, "refused", kind="unavailable", owner=DEAD).result()
            ledger.sent_end(job_id, 1, 0, "accepted", kind="moderated", owner=DEAD).result()
            ledger.finish(job_id, ended, owner=DEAD, attempt=1).result()
            ledger.accepted(job_id, 0, 0, replace(tasks[0], job_id=job_id), owner=DEAD).result()

        (outcome,) = recovered(twin)

        record = ledger.job(job_id)
        assert record is not None
        assert (job_id, 1) == (outcome.job_id, outcome.result.seed)  # type: ignore[union-attr]
        assert (ended, True, False) == (record.state, record.surplus, record.at_risk)
        assert [] == recovered(twin)

    def test_an_image_that_came_after_the_end_is_what_the_job_gives(
        self, twin: Twin, bfl: Emulator, tasks: list[ak.JobHandle]
    ) -> None:
        job_id = job_of(ledger_of(twin), [stranger(tasks[0])])
        assert isinstance(recovered(twin)[0].error, ak.JobNotFound)
        ledger_of(twin).accepted(job_id, 0, 0, replace(tasks[1], job_id=job_id), owner=DEAD).result()

        first = twin.wait(twin.wait(twin.client.resume(job_id)).wait())
        before = dict(bfl.counters)
        second = twin.wait(twin.wait(twin.client.resume(job_id)).wait())

        assert first.image.data == second.image.data
        assert before == dict(bfl.counters)

    def test_a_job_whose_attempts_have_all_failed_ends(self, twin: Twin, tasks: list[ak.JobHandle]) -> None:
        job_id = job_of(ledger_of(twin), [stranger(tasks[0])], [stranger(tasks[1])])

        (outcome,) = recovered(twin)

        assert (ak.JobNotFound, "failed") == (type(outcome.error), state(twin, job_id))
        assert [] == recovered(twin)

    @pytest.mark.parametrize("call", ["recover", "resume"])
    def test_a_job_of_which_a_submit_was_lost_stays_unknown_when_another_attempt_fails(
        self, twin: Twin, tasks: list[ak.JobHandle], call: str
    ) -> None:
        job_id = job_of(ledger_of(twin), [None], [stranger(tasks[0])])

        if call == "recover":
            error: Any = recovered(twin)[0].error
        else:
            with pytest.raises(ak.OutcomeUnknown) as caught:
                twin.wait(twin.wait(twin.client.resume(job_id)).wait())
            error = caught.value

        assert [ak.OutcomeUnknown, ak.JobNotFound] == [type(error), type(error.errors[0])]
        assert [job_id] == [one.job_id for one in twin.wait(twin.client.jobs(state="unknown"))]
        with pytest.raises(ak.OutcomeUnknown):
            twin.wait(twin.wait(twin.client.resume(job_id)).wait())
        assert [] == recovered(twin)

    def test_one_that_cannot_be_asked_for_here_keeps_the_job_open(self, twin: Twin, tasks: list[ak.JobHandle]) -> None:
        elsewhere = replace(tasks[0], provider="bfl-elsewhere")
        job_id = job_of(ledger_of(twin), [elsewhere], [stranger(tasks[1])])

        (outcome,) = recovered(twin)

        assert isinstance(outcome.error, ak.JobNotFound)
        assert "running" == state(twin, job_id)
        assert "failed" == twin.wait(twin.client.resolve(job_id, charged=False)).state
        assert [] == recovered(twin)


class TestResolve:
    """What nothing here can bring to its end."""

    def test_a_running_job_whose_provider_is_gone_is_settled_by_a_person(self, bfl: Emulator, left: Any) -> None:
        with Twin("Client", ak.Config(providers={"fal": {"api_key": "sandbox"}})) as other:
            settled = other.client.resolve(left.job_id, charged=True)
            assert ("failed", True, False) == (settled.state, settled.charged, settled.at_risk)
            assert [] == recovered(other)
            with pytest.raises(ak.OutcomeUnknown, match="resolved as charged"):
                other.client.resume(left.job_id).wait()
        with Twin("Client", configured(bfl)) as twin:
            assert 7 == twin.client.resume(left).wait().seed
            record = ledger_of(twin).job(left.job_id)
            assert record is not None
            assert ("failed", True) == (record.state, record.surplus)

    def test_one_that_somebody_works_on_is_not(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        job = twin.submit()

        with pytest.raises(ak.InvalidRequest, match="a process works on it"):
            twin.wait(twin.client.resolve(job.id, charged=True))


class TestWhatWasSpent:
    """The result of a job that goes on in another process tells of what was before it."""

    @pytest.mark.parametrize("by", ["id", "handle"])
    def test_the_attempts_before_are_told_with_their_money(
        self, twin: Twin, tasks: list[ak.JobHandle], by: str
    ) -> None:
        job_id = job_of(ledger_of(twin), [None], [tasks[0]])
        handle = replace(tasks[0], job_id=job_id)

        result = twin.wait(twin.wait(twin.client.resume(job_id if by == "id" else handle)).wait())

        assert [("bfl", "outcome_unknown", True), ("bfl", "succeeded", True)] == [
            (one.provider, one.outcome, one.maybe_charged) for one in result.attempts
        ]
        assert (PRICE, 2 * PRICE) == (result.cost.amount, result.spent.amount)
        assert result.spent == twin.wait(twin.wait(twin.client.job(job_id)).wait()).spent

    def test_a_lost_part_is_told_beside_the_image_of_another(self, twin: Twin, tasks: list[ak.JobHandle]) -> None:
        job_of(ledger_of(twin), [tasks[0], None])

        (outcome,) = recovered(twin)

        result = outcome.result
        assert result is not None
        assert [("outcome_unknown", True)] == [(one.kind, one.maybe_charged) for one in result.errors]
        assert (1, 2 * PRICE) == (len(result.images), result.spent.amount)

    def test_a_job_of_which_one_part_failed_and_one_was_lost_is_unknown(
        self, twin: Twin, tasks: list[ak.JobHandle]
    ) -> None:
        job_id = job_of(ledger_of(twin), [stranger(tasks[0]), None])

        (outcome,) = recovered(twin)

        assert outcome.error is not None
        record = ledger_of(twin).job(job_id)
        assert record is not None
        assert ("unknown", True) == (record.state, record.at_risk)
        assert [] == recovered(twin)


def test_jobs_that_another_process_holds_are_named_in_the_log(
    twin: Twin, bfl: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bfl.inject("never-ends")
    with Twin("Client", configured(bfl)) as other:
        job = other.submit()
        assert [] == recovered(twin)
        assert [] == recovered(other)

    (said,) = [one.message for one in caplog.records if "holds" in one.message]
    assert f"{job.id} until " in said


def test_a_handle_that_cannot_be_read_hides_no_other(
    twin: Twin, home: Path, tasks: list[ak.JobHandle], caplog: pytest.LogCaptureFixture
) -> None:
    job_id = job_of(ledger_of(twin), [tasks[0]], [tasks[1]])
    with contextlib.closing(sqlite3.connect(home / "ledger.sqlite3")) as db:
        db.execute("UPDATE handles SET handle = '{\"version\": 99}' WHERE attempt = 0")
        db.commit()

    (outcome,) = recovered(twin)

    assert 2 == outcome.result.seed  # type: ignore[union-attr]
    told = [one.detail for one in ledger_of(twin).events(job_id) if one.what == "unreadable handle"]
    assert ["attempt 0 part 0"] == [one.partition(":")[0] for one in told]
    assert "version 99" in told[0]
    assert any(job_id in one.message and "version 99" in one.message for one in caplog.records)


class TestAskedAgain:
    """The end of our asking is not the end of a task: by its id a job is asked for again."""

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ("not-found-always", ak.JobNotFound),
            ("expired-url", ak.ResultExpired),
            ("not-an-image", ak.ProtocolError),
        ],
    )
    @pytest.mark.usefixtures("quick")
    def test_it_gives_its_image_when_the_trouble_is_over(
        self, twin: Twin, bfl: Emulator, left: ak.JobHandle, fault: str, error: type[ak.ProviderError]
    ) -> None:
        bfl.inject(fault)
        with pytest.raises(error):
            twin.wait(twin.wait(twin.client.resume(left.job_id)).wait())
        ended = state(twin, left.job_id)
        assert ended in {"failed", "expired"}
        bfl.clear()

        assert 7 == twin.wait(twin.wait(twin.client.resume(left.job_id)).wait()).seed
        record = ledger_of(twin).job(left.job_id)
        assert record is not None
        assert (ended, True, False) == (record.state, record.surplus, record.at_risk)
        assert 1 == bfl.counters["submits"]

    @pytest.mark.usefixtures("quick")
    def test_a_surplus_image_that_could_not_be_fetched_is_recovered_later(
        self, twin: Twin, bfl: Emulator, tasks: list[ak.JobHandle], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, shift = time.time, [0.0]
        monkeypatch.setattr(time, "time", lambda: real() + shift[0])
        job_id = job_of(ledger_of(twin), [tasks[0]], [tasks[1]])
        ledger_of(twin).take_over(job_id, DEAD, lease_s=0).result()
        told = {"images": [{"sha256": "0" * 64}]}
        ledger_of(twin).finish(job_id, ak.JobState.SUCCEEDED, owner=DEAD, attempt=1, result=told, cost=Cost(PRICE))
        bfl.inject("not-an-image")
        (outcome,) = recovered(twin)
        assert isinstance(outcome.error, ak.ProtocolError)
        bfl.clear()

        assert [] == recovered(twin)
        shift[0] = 61.0
        (outcome,) = recovered(twin)

        assert (None, 1) == (outcome.error, outcome.result.seed)  # type: ignore[union-attr]
        record = ledger_of(twin).job(job_id)
        assert record is not None
        assert ("succeeded", True, False) == (record.state, record.surplus, record.at_risk)

    def test_a_refused_image_is_not_asked_for_again(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("moderated-output")
        with pytest.raises(ak.Moderated) as caught:
            twin.edit()
        assert caught.value.handle is not None
        before = dict(bfl.counters)

        with pytest.raises(ak.Moderated):
            twin.wait(twin.wait(twin.client.resume(caught.value.job_id)).wait())
        assert before == dict(bfl.counters)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wish_to_cancel_stands_in_the_history_of_the_job(kind: str) -> None:
    with Sandbox(providers=["fal"], seconds=0.05) as sandbox:
        emulator = sandbox.emulators["fal"]
        emulator.inject("never-ends")
        with Twin(kind, ak.Config(providers={"fal": {**emulator.config(), "poll_interval_s": 0.01}})) as twin:
            job = twin.submit(seed=7)
            twin.wait(job.cancel())

            (event,) = [one for one in ledger_of(twin).events(job.id) if one.what == "cancel asked"]
            assert twin.client._core.store.owner == event.who
            assert f"fal/flux-kontext-pro, task {job.handle.tasks[0].id}: it said " in event.detail
            emulator.clear()


def test_a_job_that_has_ended_has_nothing_to_cancel(twin: Twin) -> None:
    result = twin.edit()

    with pytest.raises(ak.InvalidRequest, match=r"has ended \(succeeded\): there is nothing to cancel"):
        twin.wait(twin.wait(twin.client.resume(result.job_id)).cancel())


def _read(home: Path) -> list[Any]:
    with open_ledger(home / "ledger.sqlite3", now=time.time) as ledger:
        return ledger.jobs()


class TestWithoutTaskIds:
    """Together names no task: what was accepted and not taken in is lost, and that is said."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_reply_that_came_before_the_process_died_is_unknown(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Sandbox(providers=["together"], seconds=0.05) as sandbox:
            emulator = sandbox.emulators["together"]
            with monkeypatch.context() as patch:
                writes = Journal._write

                def dies(journal: Journal, entry: Any) -> Any:
                    if type(entry).__name__ in {"PartEnd", "JobEnd"}:
                        raise sqlite3.OperationalError("the process was killed")
                    return writes(journal, entry)

                patch.setattr(Journal, "_write", dies)
                with Twin("Client", ak.Config(providers={"together": emulator.config()})) as twin:
                    job_id = twin.edit(picture(), seed=7).job_id

            with Twin(kind, ak.Config(providers={"together": emulator.config()})) as twin:
                (outcome,) = recovered(twin)
                assert isinstance(outcome.error, ak.OutcomeUnknown)
                assert (job_id, "unknown") == (outcome.job_id, state(twin, job_id))
                assert ledger_of(twin).resolve(job_id, charged=True, who="me").result()
            assert 1 == emulator.counters["submits"]


class TestOtherProviders:
    """What a handle holds is enough at each of them."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["fal", "kie"])
    def test_what_a_client_left_is_collected(self, kind: str, name: str) -> None:
        with Sandbox(providers=[name], seconds=0.05) as sandbox:
            emulator = sandbox.emulators[name]
            config = ak.Config(providers={name: {**emulator.config(), "poll_interval_s": 0.01}})
            emulator.inject("never-ends")
            with Twin("Client", config) as twin:
                job = twin.submit(seed=7) if name == "fal" else twin.submit()
            emulator.clear()

            with Twin(kind, config) as twin:
                (outcome,) = recovered(twin)
                assert (job.id, None) == (outcome.job_id, outcome.error)
                assert "succeeded" == state(twin, job.id)
            assert 1 == emulator.counters["submits"]
