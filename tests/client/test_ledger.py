"""A client and its ledger: what is written when, submitted jobs that nobody waits for, and ledgers that are broken."""

import _thread
import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.ledger import Ledger, LedgerError, open_ledger, outcomes, rules
from anykontext.ledger.schema import VERSION
from anykontext.sandbox import Emulator

from .conftest import KINDS, Twin, configured, picture


def ledger_of(twin: Twin) -> Ledger:
    return twin.client._core.ledger  # type: ignore[no-any-return]


def state(twin: Twin, job_id: str) -> str:
    return ledger_of(twin).job(job_id).state  # type: ignore[union-attr]


def settled(twin: Twin, what: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether it comes true, while the event loop of an async client runs."""
    until = time.monotonic() + within_s
    while not what():
        if time.monotonic() > until:
            return False
        twin.wait(asyncio.sleep(0.02)) if not twin.is_sync else time.sleep(0.02)
    return True


def query(home: Path, sql: str) -> list[Any]:
    """What another process would see at this moment."""
    with contextlib.closing(sqlite3.connect(home / "ledger.sqlite3")) as db:
        found = db.execute(sql).fetchall()
        db.commit()
        return found


@pytest.mark.parametrize("images", [1, 3])
def test_the_intents_are_in_the_ledger_when_a_submit_arrives(
    twin: Twin, bfl: Emulator, home: Path, images: int
) -> None:
    seen: list[Any] = []
    accept = bfl.tasks.accept  # type: ignore[attr-defined]

    def look(*args: Any) -> Any:
        seen.append(query(home, "SELECT jobs.state, part, price FROM jobs JOIN sends USING (job_id) ORDER BY part"))
        return accept(*args)

    bfl.tasks.accept = look  # type: ignore[attr-defined]
    twin.edit(num_images=images)

    assert images == len(seen)
    assert [[(part, "0.04") for part in range(images)]] * images == [[row[1:] for row in rows] for rows in seen]
    assert {"queued", "running"} >= {row[0] for rows in seen for row in rows}
    assert "queued" == seen[0][0][0]


class TestFollowing:
    """Submitted jobs are followed, waited for or not."""

    def test_the_image_is_in_the_spool_although_nobody_waited(self, twin: Twin, bfl: Emulator) -> None:
        job = twin.submit(seed=7)

        assert settled(twin, lambda: state(twin, job.id) == "succeeded")
        record = ledger_of(twin).job(job.id)
        assert record is not None
        stored = twin.client._core.spool.find(record.result["images"][0]["sha256"])  # type: ignore[index]
        assert stored.read() == twin.wait(job.wait()).image.data
        assert (1, 1) == (bfl.counters["submits"], bfl.counters["downloads"])

    def test_a_failure_is_written_down_although_nobody_waited(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("moderated")
        job = twin.submit()

        assert settled(twin, lambda: state(twin, job.id) == "moderated")
        with pytest.raises(ak.Moderated):
            twin.wait(job.wait())

    @pytest.mark.parametrize("kind", KINDS)
    def test_its_place_is_held_until_it_ends(self, kind: str, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        with Twin(kind, configured(bfl, max_in_flight=1)) as twin:
            job = twin.submit()
            with pytest.raises(ak.ProviderError) as caught:
                twin.edit(deadline=0.4)
            assert not caught.value.maybe_charged
            assert 1 == bfl.counters["submits"]
            bfl.clear()

            assert 7 == twin.edit(seed=7, deadline=10).seed
            assert job.id == twin.wait(job.wait()).job_id

    def test_it_goes_on_when_a_wait_has_ended_at_its_deadline(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        job = twin.submit(seed=7)
        for _ in range(2):
            with pytest.raises(ak.DeadlineExceeded, match="runs on") as caught:
                twin.wait(job.wait(deadline=0.1))
            assert (job.handle, job.id, True) == (
                caught.value.handle, caught.value.job_id, caught.value.maybe_charged,
            )  # fmt: skip
        bfl.clear()

        assert settled(twin, lambda: state(twin, job.id) == "succeeded")
        assert 7 == twin.wait(job.wait()).seed
        assert 1 == bfl.counters["submits"]

    def test_ctrl_c_or_a_cancellation_in_wait_leaves_it_followed(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        job = twin.submit(seed=7)

        if twin.is_sync:
            timer = threading.Timer(0.2, _thread.interrupt_main)
            timer.start()
            with pytest.raises(KeyboardInterrupt) as stopped:
                job.wait()
            timer.join()
            assert any(job.id in note for note in stopped.value.__notes__)
        else:

            async def main() -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await job.wait()

            twin.wait(main())
        bfl.clear()

        assert settled(twin, lambda: state(twin, job.id) == "succeeded")

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_closed_client_leaves_it_running_for_others(
        self, kind: str, bfl: Emulator, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.ERROR)
        bfl.inject("never-ends")
        before = set(threading.enumerate())
        with Twin(kind, configured(bfl)) as twin:
            job = twin.submit(seed=7)
            twin.wait(twin.client.close())
            if not twin.is_sync:

                async def others() -> int:
                    return len(asyncio.all_tasks()) - 1

                assert 0 == twin.wait(others())
        rows = query(home, "SELECT job_id, state, lease_until FROM jobs")
        bfl.clear()

        assert [(job.id, "running")] == [row[:2] for row in rows]
        assert rows[0][2] <= time.time()
        assert set() == {
            one for one in set(threading.enumerate()) - before if not one.name.startswith("anykontext-sandbox")
        }
        assert [] == caplog.records
        with Twin(kind, configured(bfl)) as other:
            assert 7 == other.wait(other.client.recover())[0].result.seed

    def test_a_wait_in_progress_is_told_that_the_client_was_closed(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        job = twin.submit()

        if twin.is_sync:
            timer = threading.Timer(0.2, twin.client.close)
            timer.start()
            with pytest.raises(ak.AnykontextError, match="closed"):
                job.wait()
            timer.join()
        else:

            async def main() -> None:
                waiting = asyncio.ensure_future(job.wait())
                await asyncio.sleep(0.1)
                await twin.client.close()
                with pytest.raises(ak.AnykontextError, match="closed"):
                    await waiting

            twin.wait(main())

    def test_its_events_are_told(self, twin: Twin, bfl: Emulator) -> None:
        events: list[ak.Event] = []
        request = ak.ImageRequest("make it blue", picture())
        job = twin.wait(twin.client.submit(request, on_event=events.append))

        assert settled(twin, lambda: any(isinstance(one, ak.Finished) for one in events))
        names = [type(one).__name__ for one in events]
        assert ["Planned", "Submitting", "Submitted"] == names[:3]
        assert ["Downloading", "Finished"] == names[-2:]
        assert {job.id} == {one.job_id for one in events}

    def test_those_that_have_ended_are_let_go(self, twin: Twin, bfl: Emulator) -> None:
        for _ in range(3):
            twin.wait(twin.submit().wait())
        bfl.inject("never-ends")
        twin.submit()

        assert 1 == len(twin.client._shared.driver.flows._running)
        assert 1 == len(twin.client._core.store.claims._working)

    def test_a_job_that_was_left_at_its_deadline_can_be_collected_by_others(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        with pytest.raises(ak.DeadlineExceeded) as caught:
            twin.edit(seed=7, deadline=0.3)
        bfl.clear()

        with Twin(KINDS[twin.is_sync], configured(bfl)) as other:
            (outcome,) = other.wait(other.client.recover())
        assert (caught.value.job_id, None) == (outcome.job_id, outcome.error)
        assert 1 == bfl.counters["submits"]


class TestBadLedgers:
    """Nothing is sent without a ledger, and nothing that was paid is lost with it."""

    @staticmethod
    def refused(bfl: Emulator, kind: str, match: str) -> None:
        with Twin(kind, configured(bfl)) as twin:
            for use in (twin.edit, twin.submit, lambda: twin.wait(twin.client.jobs())):
                with pytest.raises(ak.ConfigurationError, match=match):
                    use()
        assert 0 == bfl.counters["submits"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_home_that_cannot_be_written(self, kind: str, bfl: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        with Twin(kind, configured(bfl)) as twin:
            twin.wait(twin.client.jobs())
        monkeypatch.setattr(os, "access", lambda *_: False)
        self.refused(bfl, kind, "cannot be opened .*ANYKONTEXT_HOME")

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system where nothing can be made")
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_home_that_cannot_be_made(self, kind: str, bfl: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANYKONTEXT_HOME", "/proc/nowhere")
        self.refused(bfl, kind, "ANYKONTEXT_HOME")

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_file_that_is_no_database(self, kind: str, bfl: Emulator, home: Path) -> None:
        home.mkdir()
        (home / "ledger.sqlite3").write_text("dear diary" * 200)
        self.refused(bfl, kind, "is not a database")
        assert (home / "ledger.sqlite3").read_text().startswith("dear diary")

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_file_of_a_newer_release(self, kind: str, bfl: Emulator, home: Path) -> None:
        home.mkdir()
        open_ledger(home / "ledger.sqlite3", now=time.time).close()
        query(home, f"UPDATE ledger_schema SET version = {VERSION + 1}")
        self.refused(bfl, kind, "newer release")

    def test_f60_a_file_that_was_deleted_stops_submits(self, twin: Twin, bfl: Emulator, home: Path) -> None:
        twin.edit()
        for file in home.glob("ledger.sqlite3*"):
            file.unlink()

        with pytest.raises(LedgerError, match="deleted while it was open"):
            twin.edit()
        assert 1 == bfl.counters["submits"]

    def test_f60_a_file_that_was_deleted_does_not_cost_the_image_of_a_running_job(
        self, twin: Twin, bfl: Emulator, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bfl.inject("never-ends")
        job = twin.submit(seed=7)
        for file in home.glob("ledger.sqlite3*"):
            file.unlink()
        bfl.clear()

        assert 7 == twin.wait(job.wait()).seed
        assert any(one.levelno == logging.ERROR and job.id in one.getMessage() for one in caplog.records)

    @staticmethod
    def fill(monkeypatch: pytest.MonkeyPatch, *places: tuple[Any, str]) -> None:
        def full(*_: object, **__: object) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]
            raise error

        for module, name in places:
            monkeypatch.setattr(module, name, full)

    @pytest.mark.parametrize("place", ["begin", "intents"])
    def test_f57_a_disk_that_is_full_before_the_submit_sends_nothing(
        self, twin: Twin, bfl: Emulator, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        with monkeypatch.context() as patch:
            self.fill(patch, (rules, place))
            for use in (lambda: twin.edit(idempotency_key="k"), lambda: twin.submit(idempotency_key="k")):
                with pytest.raises(LedgerError, match="disk is full"):
                    use()
        assert 0 == bfl.counters["submits"]
        assert not any(one.at_risk for one in ledger_of(twin).jobs())

        assert 7 == twin.edit(seed=7, deadline=10, **({} if place == "begin" else {"idempotency_key": "k2"})).seed

    def test_f57_a_disk_that_was_full_at_the_intent_leaves_a_key_that_can_be_used(
        self, twin: Twin, bfl: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            self.fill(patch, (rules, "intents"))
            with pytest.raises(LedgerError):
                twin.edit(idempotency_key="k")

        twin.edit(idempotency_key="k", deadline=10)
        assert 1 == bfl.counters["submits"]

    @pytest.mark.parametrize("submitted", [True, False])
    def test_f57_a_disk_that_is_full_at_the_acceptance_does_not_cost_the_image(
        self,
        twin: Twin,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        submitted: bool,
    ) -> None:
        self.fill(monkeypatch, (outcomes, "accepted"), (outcomes, "sent_end"), (outcomes, "finish"))

        result = twin.wait(twin.submit(seed=7).wait()) if submitted else twin.edit(seed=7)

        assert 7 == result.seed
        assert result.image.data
        errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
        assert any(result.job.tasks[0].id in one and "disk is full" in one for one in errors)

    def test_a_handle_that_was_only_logged_collects_the_job(
        self, twin: Twin, bfl: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        bfl.inject("never-ends")
        with monkeypatch.context() as patch:
            self.fill(patch, (outcomes, "accepted"))
            with pytest.raises(ak.DeadlineExceeded):
                twin.edit(seed=7, deadline=0.3)
        bfl.clear()
        (said,) = [one.getMessage() for one in caplog.records if "its handle: " in one.getMessage()]

        job = twin.wait(twin.client.resume(said.partition("its handle: ")[2]))

        assert 7 == twin.wait(job.wait()).seed
        assert "succeeded" == state(twin, job.id)


class TestSettings:
    """The section `[ledger]`."""

    @pytest.fixture(params=KINDS)
    def made(self, request: pytest.FixtureRequest, bfl: Emulator) -> Callable[..., Twin]:
        def make(**settings: Any) -> Twin:
            known = {"bfl": {**bfl.config(), "poll_interval_s": 0.01}}
            return Twin(request.param, ak.Config(providers=known, ledger=settings))

        return make

    def test_a_ledger_in_memory_keeps_the_rules_and_leaves_no_file(
        self, made: Callable[..., Twin], bfl: Emulator, home: Path
    ) -> None:
        with made(url="memory") as twin:
            first = twin.edit(idempotency_key="k")
            assert first.image.data == twin.edit(idempotency_key="k").image.data
            assert [first.job_id] == [one.job_id for one in twin.wait(twin.client.jobs())]
        assert 1 == bfl.counters["submits"]
        assert [] == list(home.glob("ledger*"))
        with made(url="memory") as twin:
            assert [] == twin.wait(twin.client.jobs())

    @pytest.mark.parametrize("prompts", ["full", "digest"])
    def test_with_digests_the_words_lie_nowhere_on_disk(
        self, made: Callable[..., Twin], bfl: Emulator, home: Path, prompts: str
    ) -> None:
        words = "a zebra that reads Proust"
        with made(prompts=prompts) as twin:
            twin.edit(prompt=words, idempotency_key="k")
            twin.edit(prompt=words, idempotency_key="k")
            bfl.inject("moderated")
            with pytest.raises(ak.Moderated):
                twin.edit(prompt=words)
            bfl.clear()
            on_disk = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
        assert (prompts == "full") == (words.encode() in on_disk)
        assert 2 == bfl.counters["submits"]

    def test_old_jobs_are_forgotten_but_not_those_with_money_at_risk(
        self, made: Callable[..., Twin], bfl: Emulator, home: Path
    ) -> None:
        with made() as twin:
            old, new = twin.edit().job_id, twin.edit().job_id
            bfl.inject("submit-lost")
            with pytest.raises(ak.OutcomeUnknown) as caught:
                twin.edit()
        query(home, f"UPDATE jobs SET updated_at = {time.time() - 8 * 86_400} WHERE job_id <> '{new}'")

        with made(keep_days=9) as twin:
            assert 3 == len(twin.wait(twin.client.jobs()))
        with made(keep_days=7) as twin:
            assert settled(twin, lambda: len(twin.wait(twin.client.jobs())) == 2)
            assert {new, caught.value.job_id} == {one.job_id for one in twin.wait(twin.client.jobs())}
            with pytest.raises(ak.InvalidRequest):
                twin.wait(twin.client.job(old))
