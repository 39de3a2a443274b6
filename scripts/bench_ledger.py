"""What the ledger costs: milliseconds per job of five records, alone and with many in flight, and how it holds a loop.

Run it with the project's Python: `.venv/bin/python scripts/bench_ledger.py`. A job is begin, intent, accepted, the end
of its submit, and finish; each waits for its record to be durable, as the drivers do. The stall of the loop is how
late a timer of 1 ms comes; the same coroutines without a ledger are measured beside it, since they hold the loop too.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

from anykontext.ledger import NewJob, SqliteLedger
from anykontext.ledger.store import Store
from anykontext.model.job import JobHandle, JobState, Task
from anykontext.model.money import Cost

PRICE = Decimal("0.04")
RECORDS = 5
OWNER = "bench"


def records(ledger: SqliteLedger, job_id: str) -> list[Callable[[], "Future[Any]"]]:
    """The five records of a job, each ready to be asked for."""
    new = NewJob(
        job_id, "0" * 64, "make the car matte black", "flux-kontext-pro", "edit", time.time(), OWNER, {"customer": "a"}
    )
    handle = JobHandle(
        job_id,
        "bfl",
        "bfl",
        "flux-kontext-pro",
        "edit",
        (Task(job_id, f"https://api.bfl.ai/v1/get_result?id={job_id}"),),
    )
    cost = Cost(PRICE, "USD", "listed")
    result = {"images": [{"sha256": "0" * 64, "media_type": "image/jpeg", "width": 1024, "height": 1024}], "seed": 1}
    return [
        lambda: ledger.begin(new),
        lambda: ledger.intent(job_id, 0, 0, provider="bfl", model="flux-kontext-pro", price=PRICE, owner=OWNER),
        lambda: ledger.accepted(job_id, 0, 0, handle, owner=OWNER),
        lambda: ledger.sent_end(job_id, 0, 0, "accepted", cost=cost, owner=OWNER),
        lambda: ledger.finish(job_id, JobState.SUCCEEDED, owner=OWNER, result=result, cost=cost),
    ]


def one_by_one(ledger: SqliteLedger, jobs: int) -> list[float]:
    """Milliseconds of each job, when nothing else is in flight."""
    taken = []
    for number in range(jobs):
        start = time.perf_counter()
        for record in records(ledger, f"single-{number}"):
            record().result()
        taken.append((time.perf_counter() - start) * 1000)
    return taken


async def many(write: Callable[[str], Awaitable[None]], jobs: int, in_flight: int) -> tuple[float, float, float]:
    """Milliseconds per job, the longest and the 99th percentile of the loop's stalls, with so many at a time."""
    stalls: list[float] = []

    async def watch() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            stalls.append((time.perf_counter() - start) * 1000 - 1)

    numbers = iter(range(jobs))

    async def work() -> None:
        for number in numbers:
            await write(f"many-{number}")

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.05)
    stalls.clear()
    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    took = (time.perf_counter() - start) * 1000 / jobs
    watcher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watcher
    return took, max(stalls), statistics.quantiles(stalls, n=100)[98]


def measure(folder: Path, synchronous: str, jobs: int, in_flight: int, spread_s: float) -> None:
    """Print the figures for one way to sync."""
    store = Store(folder / f"{synchronous}.sqlite3", busy_s=10)
    with store.writing() as db:
        db.execute(f"PRAGMA synchronous = {synchronous}")
    with SqliteLedger(store, now=time.time, prompts="full") as ledger:
        singles = one_by_one(ledger, 200)

        async def write(job_id: str) -> None:
            for record in records(ledger, job_id):
                await asyncio.wrap_future(record())

        async def spread(job_id: str) -> None:
            for index, record in enumerate(records(ledger, "s" + job_id)):
                await asyncio.sleep(spread_s * (0.5 + (hash((job_id, index)) % 1000) / 1000))
                await asyncio.wrap_future(record())

        flood = asyncio.run(many(write, jobs, in_flight))
        calm = asyncio.run(many(spread, jobs, in_flight))
        text = (
            f"{synchronous:7} one at a time: {statistics.median(singles):6.2f} ms per job (p95 "
            f"{statistics.quantiles(singles, n=20)[18]:.2f})\n"
            f"        {in_flight} in flight, nothing but records: {flood[0]:6.3f} ms per job; stall of the loop "
            f"max {flood[1]:.1f} ms, p99 {flood[2]:.1f}\n"
            f"        {in_flight} in flight, {spread_s:g} s between records: stall of the loop "
            f"max {calm[1]:.1f} ms, p99 {calm[2]:.1f}"
        )
    print(text)


async def nothing(_: str) -> None:
    """As many steps of a coroutine as a job takes, without a record."""
    for _ in range(RECORDS):
        await asyncio.sleep(0)


def sync_ms(folder: Path) -> float:
    """The median time of a write and sync of one page here."""
    taken = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(100):
            start = time.perf_counter()
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where the files lie; the default is a temporary folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        print(
            f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, fsync {sync_ms(folder):.2f} ms, "
            f"{options.jobs} jobs of {RECORDS} records"
        )
        for synchronous in ("FULL", "NORMAL"):
            measure(folder, synchronous, options.jobs, options.in_flight, 0.2)
        _, stall, p99 = asyncio.run(many(nothing, options.jobs, options.in_flight))
        print(f"without a ledger, the same number of steps: stall of the loop max {stall:.1f} ms, p99 {p99:.1f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
