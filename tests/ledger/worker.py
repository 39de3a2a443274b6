"""A process of its own at a ledger: `worker.py hammer|record|reserve PATH NAME`. It prints what it was told."""

import contextlib
import sys
import time
from decimal import Decimal

from anykontext.ledger import Cap, Ledger, New, NewJob, OverBudget, open_ledger
from anykontext.model.job import JobHandle, JobState, Task

JOBS = 15


def new(job_id: str, name: str, key: str | None = None) -> NewJob:
    return NewJob(job_id, "d", "p", "m", "edit", time.time(), name, idempotency_key=key)


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def hammer(ledger: Ledger, name: str) -> None:
    """Begin, send and end jobs under keys that other processes claim, too; say which were won."""
    for number in range(JOBS):
        job_id = f"{name}-{number}"
        begun = ledger.begin(new(job_id, name, f"k{number}")).result()
        if isinstance(begun, New):
            assert ledger.intent(job_id, 0, 0, provider="bfl", model="m", price=None, owner=name).result()
            ledger.accepted(job_id, 0, 0, JobHandle(job_id, "bfl", "bfl", "m", "edit", (Task("t"),)), owner=name)
            ledger.finish(job_id, JobState.SUCCEEDED, owner=name)
            say(number)
        else:
            other = begun.job.job_id
            assert not ledger.intent(other, 0, 1, provider="bfl", model="m", price=None, owner=name).result()


def record(ledger: Ledger, name: str) -> None:
    """Begin jobs without an end; name each once its future has resolved."""
    number = 0
    while True:
        ids = [f"{number + offset}" for offset in range(5)]
        futures = [ledger.begin(new(job_id, name)) for job_id in ids]
        for job_id, future in zip(ids, futures, strict=True):
            future.result()
            say(job_id)
        number += 5


def reserve(ledger: Ledger, name: str) -> None:
    """Begin jobs under a budget that has room for 10 images; name those that may be sent."""
    cap = Cap("daily", Decimal("0.40"), since=time.time() // 86_400 * 86_400)
    for number in range(JOBS):
        job_id = f"{name}-{number}"
        ledger.begin(new(job_id, name)).result()
        intent = ledger.intent(job_id, 0, 0, provider="bfl", model="m", price=Decimal("0.04"), owner=name, caps=[cap])
        with contextlib.suppress(OverBudget):
            assert intent.result()
            say(job_id)


if __name__ == "__main__":
    with open_ledger(sys.argv[2], now=time.time) as opened:
        {"hammer": hammer, "record": record, "reserve": reserve}[sys.argv[1]](opened, sys.argv[3])
