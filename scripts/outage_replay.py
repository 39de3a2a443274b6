"""An outage, replayed in the sandbox with and without the breaker: what is lost, paid twice, and sent in vain.

    .venv/bin/python scripts/outage_replay.py                # prints the table of docs/routing.md; about 45 s
    .venv/bin/python scripts/outage_replay.py --jobs 50      # fewer jobs

A route of two providers, `ordered`; bfl comes first and is out for a third of the run. Either it answers every submit
with its documented 503 while the second third of the jobs begins, or nothing listens at its address until a third has
begun. Submits in vain are those that it did not accept.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import os
import platform
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from unittest import mock

import uvicorn

import anykontext as ak
from anykontext.sandbox import Emulator, Sandbox

KINDS = ("answers 503", "refuses connections")
FIRST, SECOND = "bfl", "fal"
MEGAPIXELS = 0.01
log = logging.getLogger("outage_replay")
HEAD = ("outage", "breaker", "jobs done", "lost", "paid twice", "submits in vain", "seconds", "slowest job, s")


@dataclass(frozen=True)
class Conditions:
    """What is replayed.

    Attributes:
        jobs: How many in all.
        in_flight: How many at once.
        task_s: How long a task takes at either provider.
    """

    jobs: int = 200
    in_flight: int = 20
    task_s: float = 0.8


@dataclass(frozen=True)
class Found:
    """What came of one run.

    Attributes:
        done: Jobs that gave an image.
        lost: Jobs that gave none.
        paid_twice: Tasks that the providers accepted beyond one for each job.
        in_vain: Submits that the first provider did not accept.
        seconds: Of the whole run.
        slowest_s: Of one job.
    """

    done: int
    lost: int
    paid_twice: int
    in_vain: int
    seconds: float
    slowest_s: float


class Late:
    """The first provider on a port of its own, where connections are refused until it is opened."""

    def __init__(self, emulator: Emulator) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # a bound port that nobody listens at refuses connections
        here = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        emulator.origins = {**emulator.origins, "api": here}
        config = uvicorn.Config(emulator.app("api"), log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve(sockets=[self._socket])))

    def open(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """End, whether it was opened or not."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def providers(
    kind: str, conditions: Conditions
) -> Iterator[tuple[dict[str, Emulator], dict[int, Callable[[], object]]]]:
    """The emulators, and what happens when the job of a number begins."""
    with Sandbox(providers=[FIRST, SECOND], seconds=conditions.task_s) as sandbox, contextlib.ExitStack() as stack:
        emulators = dict(sandbox.emulators)
        for emulator in emulators.values():
            emulator.megapixels = MEGAPIXELS
        first = emulators[FIRST]
        third = conditions.jobs // 3
        if kind == KINDS[0]:
            yield emulators, {third: lambda: first.inject("outage"), 2 * third: lambda: first.clear("outage")}
        else:
            late = Late(first)
            stack.callback(late.close)
            yield emulators, {third: late.open}


def replay(kind: str, conditions: Conditions, *, breaker: bool) -> Found:
    """One run, from an empty ledger."""
    tried = itertools.count()

    def heard(event: ak.Event) -> None:
        again = isinstance(event, ak.Retrying) and event.purpose == "submit"
        if event.provider == FIRST and (again or isinstance(event, ak.Submitting)):
            next(tried)

    with (
        providers(kind, conditions) as (emulators, steps),
        tempfile.TemporaryDirectory() as home,
        mock.patch.dict(os.environ, ANYKONTEXT_HOME=home),
    ):
        config = ak.Config(
            providers={name: {**one.config(), "poll_interval_s": 0.1} for name, one in emulators.items()},
            routes={"default": {"candidates": [FIRST, SECOND], "strategy": "ordered", "breaker": breaker}},
        )
        number, turn = itertools.count(), threading.Lock()

        def job(client: ak.Client) -> float | None:
            with turn:
                steps.get(next(number), lambda: None)()
            began = time.monotonic()
            try:
                client.generate("a lighthouse", on_event=heard)
            except ak.ProviderError as error:
                log.error("a job gave no image: %s", error)
                return None
            return time.monotonic() - began

        with ak.Client(config) as client, ThreadPoolExecutor(conditions.in_flight) as threads:
            began = time.monotonic()
            took = list(threads.map(job, [client] * conditions.jobs))
            seconds = time.monotonic() - began
        accepted = {name: one.counters["accepted"] for name, one in emulators.items()}
    done = [one for one in took if one is not None]
    return Found(
        done=len(done),
        lost=conditions.jobs - len(done),
        paid_twice=sum(accepted.values()) - conditions.jobs,
        in_vain=next(tried) - accepted[FIRST],
        seconds=seconds,
        slowest_s=max(done, default=0.0),
    )


def rows(conditions: Conditions) -> Iterator[tuple[str, ...]]:
    """The table, row by row."""
    for kind, breaker in itertools.product(KINDS, (False, True)):
        found = replay(kind, conditions, breaker=breaker)
        counts = (found.done, found.lost, found.paid_twice, found.in_vain)
        yield (
            kind, "yes" if breaker else "no", *map(str, counts), f"{found.seconds:.1f}", f"{found.slowest_s:.2f}",
        )  # fmt: skip


def main() -> None:
    """Print the conditions and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("jobs", 200), ("in-flight", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--task-s", type=float, default=0.8)
    given = parser.parse_args()
    logging.getLogger("anykontext").setLevel(logging.ERROR)
    conditions = Conditions(given.jobs, given.in_flight, given.task_s)
    print(
        f"{conditions.jobs} jobs, {conditions.in_flight} at once in threads, {conditions.task_s:g} s for a task, one "
        f"client, emulators on the same machine; Python {platform.python_version()} on {platform.system()}\n"
    )
    print(f"| {' | '.join(HEAD)} |")
    print("|---" * len(HEAD) + "|")
    for row in rows(conditions):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
