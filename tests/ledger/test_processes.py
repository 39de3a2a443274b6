import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from anykontext.ledger import Ledger
from anykontext.model.job import JobState

from .worker import JOBS

WORKER = Path(__file__).with_name("worker.py")
Start = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    started = []

    def start_(what: str, name: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(WORKER), what, str(path), name]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start_
    for process in started:
        process.kill()
        process.communicate()


def test_several_processes_share_one_file(start: Start, opened: Callable[..., Ledger]) -> None:
    processes = [start("hammer", name) for name in ("a", "b", "c")]

    won = [int(line) for process in processes for line in process.communicate(timeout=30)[0].split()]

    assert [0, 0, 0] == [process.returncode for process in processes]
    assert list(range(JOBS)) == sorted(won)
    ledger = opened()
    assert JOBS == len(ledger.jobs(state=JobState.SUCCEEDED))
    assert JOBS == ledger.spend()[0].sends


@pytest.mark.parametrize("records", [1, 20, 100])
def test_what_was_said_to_be_recorded_is_there_after_a_kill(
    start: Start, opened: Callable[..., Ledger], records: int
) -> None:
    process = start("record", "a")
    assert process.stdout is not None
    told = [line.strip() for line in islice(process.stdout, records)]

    process.send_signal(signal.SIGKILL)
    told += [line.strip() for line in process.stdout if line.endswith("\n")]

    found = {job.job_id for job in opened().jobs(limit=100_000)}
    assert records <= len(told)
    assert set(told) <= found
