import asyncio
import gc
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from anykontext.ledger import Ledger, LedgerError, New, told_error, told_result
from anykontext.model.errors import GenerationFailed
from anykontext.model.job import JobState
from anykontext.model.money import Cost
from anykontext.model.result import ImageResult, ResultImage, Timings

from .conftest import A, handle, intend, new

Open = Callable[..., Ledger]


def limit(ledger: Any, pages: int) -> None:
    with ledger._store.writing() as db:
        db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_told_to_every_record_and_the_writer_goes_on_when_there_is_room(opened: Open) -> None:
    ledger = opened()
    ledger.begin(new("before")).result()
    limit(ledger, 1)  # SQLite takes the present size

    futures = [ledger.begin(new(f"j{number}", prompt="x" * 5000)) for number in range(20)]
    failed = [future.exception() for future in futures]

    assert isinstance(failed[-1], LedgerError)
    assert "disk is full" in str(failed[-1])
    limit(ledger, 1_000_000)
    assert New("after") == ledger.begin(new("after")).result()
    recorded = {f"j{number}" for number, error in enumerate(failed) if error is None}
    assert {"before", "after", *recorded} == {job.job_id for job in ledger.jobs()}


def test_a_record_that_fails_does_not_take_the_others_with_it(opened: Open) -> None:
    ledger: Any = opened()
    held = threading.Event()
    ledger._writer.write(lambda db: held.wait(5))

    def wrong(db: Any) -> None:
        db.execute("INSERT INTO tags VALUES ('half', 'written', 'x')")
        raise ZeroDivisionError

    first, bad, last = ledger.begin(new("a")), ledger._writer.write(wrong), ledger.begin(new("b"))
    held.set()

    assert [New("a"), New("b")] == [first.result(), last.result()]
    assert isinstance(bad.exception(), ZeroDivisionError)
    with ledger._store.reading() as db:
        assert [] == db.execute("SELECT * FROM tags").fetchall()


def test_what_waits_is_committed_together(opened: Open) -> None:
    ledger: Any = opened()
    held, commits = threading.Event(), []
    ledger._writer.write(lambda db: db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None))
    holding = ledger._writer.write(lambda db: held.wait(5))
    futures = [ledger.begin(new(str(number))) for number in range(100)]
    held.set()

    for future in [holding, *futures]:
        future.result()
    assert len(commits) <= 3


def test_a_record_cannot_be_cancelled(opened: Open) -> None:
    ledger = opened()

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.wrap_future(ledger.begin(new())))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    ledger.renew(A).result()
    assert ledger.job("job") is not None


def test_a_loop_waits_for_many_records_at_once(opened: Open) -> None:
    ledger = opened()

    async def main() -> list[Any]:
        return await asyncio.gather(*(asyncio.wrap_future(ledger.begin(new(str(number)))) for number in range(50)))

    assert [New(str(number)) for number in range(50)] == asyncio.run(main())


@pytest.mark.parametrize("url", ["file", "memory"])
def test_threads_write_and_read_at_the_same_time(opened: Open, path: Path, url: str) -> None:
    ledger = opened(path if url == "file" else url)
    failed: list[Exception] = []

    def work(name: str) -> None:
        try:
            for number in range(5):
                job_id = f"{name}-{number}"
                assert ledger.begin(new(job_id)).result() == New(job_id)
                assert intend(ledger, job_id)
                assert ledger.job(job_id) is not None
                assert ledger.jobs()
        except Exception as error:  # noqa: BLE001  # whatever it is
            failed.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failed
    assert [Decimal("1.20")] == [row.at_risk for row in ledger.spend()]


@pytest.mark.parametrize("url", ["file", "memory"])
def test_closing_writes_what_was_asked_for_and_leaves_nothing(opened: Open, path: Path, url: str) -> None:
    before = set(threading.enumerate())
    ledger = opened(path if url == "file" else url)
    futures: list[Future[Any]] = [ledger.begin(new(str(number))) for number in range(50)]
    ledger.jobs()

    ledger.close()
    ledger.close()

    assert all(future.done() and future.exception() is None for future in futures)
    assert before == set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del ledger
        gc.collect()
    assert [] == [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)]
    if url == "file":
        assert [path.name] == [file.name for file in path.parent.iterdir()]


def test_a_closed_ledger_says_so(opened: Open) -> None:
    ledger = opened()
    ledger.close()

    with pytest.raises(LedgerError, match="is closed"):
        ledger.begin(new()).result()
    with pytest.raises(LedgerError, match="is closed"):
        ledger.jobs()


def run(source: str, path: Path) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), str(path)], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert "" == done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_ledger_is_refused_after_a_fork_and_serves_the_parent_on(path: Path) -> None:  # F66
    said = run(
        """
        import os, sys, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads
        from anykontext.ledger import LedgerError, open_ledger
        ledger = open_ledger(sys.argv[1], now=time.time)
        ledger.renew("a").result()
        child = os.fork()
        if child == 0:
            for ask in (lambda: ledger.renew("a").result(), ledger.jobs):
                try:
                    ask()
                except LedgerError as error:
                    print("forked" in str(error), flush=True)
            ledger.close()
            with open_ledger(sys.argv[1], now=time.time) as anew:
                print(anew.jobs(), flush=True)
            sys.exit()
        os.waitpid(child, 0)
        print(ledger.renew("a").result())
        ledger.close()
        """,
        path,
    )

    assert ["True", "True", "[]", "0"] == said.split()


def test_a_ledger_that_nobody_closed_writes_all_at_exit(path: Path, opened: Open) -> None:
    run(
        """
        import sys, time
        from anykontext.ledger import NewJob, open_ledger
        ledger = open_ledger(sys.argv[1], now=time.time)
        for number in range(300):
            ledger.begin(NewJob(str(number), "d", "p", "m", "edit", 0.0, "a"))
        """,
        path,
    )

    assert 300 == len(opened().jobs(limit=1000))


# What never lies on disk

KEY = "sk-live-4f2a9c"
IMAGE = "aGVsbG8gd29ybGQh" * 40


def disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def result(prompt: str | None) -> ImageResult:
    url = f"https://delivery.example/x.jpg?sig={KEY}"
    image = ResultImage("image/jpeg", 8, 8, "ab" * 32, url, None, None)  # type: ignore[arg-type]
    cost = Cost(Decimal("0.04"), "USD", "listed")
    return ImageResult(
        (image,), "bfl", "bfl", "flux-kontext-pro", "edit", 0, prompt, cost, cost, (), (), (), handle(), "job",
        Timings(None, 1, 2), {"task": {"sample": url, "b64": IMAGE}},
    )  # fmt: skip


def live(ledger: Ledger, prompt: str = "a secret wish") -> None:
    """A job with everything that could carry what must not be kept."""
    signed = f"see https://delivery.example/x.jpg?sig={KEY} or data:image/png;base64,{IMAGE}"
    ledger.begin(new(prompt=prompt)).result()
    intend(ledger)
    ledger.accepted("job", 0, 0, handle(), owner=A).result()
    ledger.sent_end("job", 0, 0, "accepted", message=signed, owner=A).result()
    ledger.finish("job", JobState.SUCCEEDED, owner=A, result=told_result(result(prompt))).result()
    ledger.begin(new("second")).result()
    error = GenerationFailed(signed, provider="bfl", raw=IMAGE)
    ledger.finish("second", JobState.FAILED, owner=A, error=told_error(error) | {"raw": [signed]}).result()


def test_no_image_and_no_signed_link_lies_on_disk(opened: Open, path: Path) -> None:
    live(opened())

    found = disk(path)
    assert b"ab" * 32 in found
    assert b"a secret wish" in found
    assert KEY.encode() not in found
    assert IMAGE[:100].encode() not in found


def test_with_digests_no_prompt_lies_on_disk(opened: Open, path: Path) -> None:
    ledger = opened(prompts="digest")
    live(ledger)

    job = ledger.job("job")
    assert job is not None
    assert None is job.prompt
    assert hashlib.sha256(b"a secret wish").hexdigest() == job.prompt_sha256
    assert b"a secret wish" not in disk(path)


def test_a_forgotten_job_leaves_no_trace_on_disk(opened: Open, path: Path) -> None:
    ledger = opened()
    live(ledger)

    assert 1 == ledger.forget(job_id="job").result()
    assert b"a secret wish" not in disk(path)
