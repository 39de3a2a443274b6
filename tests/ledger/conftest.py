import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from anykontext.ledger import Ledger, NewJob, open_ledger
from anykontext.model.job import JobHandle, Task

A, B = "process-a", "process-b"
PRICE = Decimal("0.04")


class Clock:
    """The wall clock of all processes of a test."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def __call__(self) -> float:
        return self.at


class Shared:
    """Two connections to one file, as two processes have them: they take turns at every call."""

    def __init__(self, *ledgers: Ledger) -> None:
        self._ledgers = ledgers
        self._turns = itertools.cycle(ledgers)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._turns), name)

    def close(self) -> None:
        for ledger in self._ledgers:
            ledger.close()


def new(job_id: str = "job", owner: str = A, **fields: Any) -> NewJob:
    known = {"request_digest": "digest", "prompt": "make it black", "model": "flux-kontext-pro", "mode": "edit"}
    return NewJob(**{**known, "job_id": job_id, "created_at": 1_700_000_000.0, "owner": owner, **fields})


def handle(job_id: str = "job", task: str = "task") -> JobHandle:
    return JobHandle(job_id, "bfl", "bfl", "flux-kontext-pro", "edit", (Task(task, f"https://api.bfl.ai/{task}"),))


def intend(ledger: Ledger, job_id: str = "job", attempt: int = 0, part: int = 0, **fields: Any) -> bool:
    known = {"provider": "bfl", "model": "flux-kontext-pro", "price": PRICE, "owner": A}
    return ledger.intent(job_id, attempt, part, **{**known, **fields}).result()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.sqlite3"


@pytest.fixture
def opened(path: Path, clock: Clock) -> Iterator[Callable[..., Ledger]]:
    """Open ledgers that are closed at the end of the test."""
    ledgers: list[Ledger] = []

    def open_(url: str | Path = path, **options: Any) -> Ledger:
        ledgers.append(open_ledger(url, **{"now": clock, **options}))
        return ledgers[-1]

    yield open_
    for ledger in ledgers:
        ledger.close()
