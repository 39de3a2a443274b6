"""The crash matrix: a process is killed at every point of a job's life, another one goes on, and both are watched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

import anykontext as ak
from anykontext.client import store
from anykontext.ledger import JobRecord, SendRecord, is_ended
from anykontext.sandbox import Emulator, Sandbox

CHILD = Path(__file__).with_name("child.py")
STILL_S = 0.25  # without another submit
MINUTE_S = 61.0  # a lease is over then
RECOVERY_S = 10.0  # the deadline: nothing is waited for that long
LOOP = frozenset({"Sleep", "Send(poll)", "Emit(Progress)"})  # as often as the task takes: one time is like the next
IN_THE_SUBMIT = (("in", "body", 1), ("in", "wait for the reply", 1), ("in", "reply", 1))

Point = tuple[str, str, int]


def words(point: Point) -> str:
    """A point as the table names it."""
    when, what, nth = point
    where = f"in the {what}" if when == "in" else f"{when} `{what}`"
    return where if nth == 1 else f"{where}, no. {nth}"


def points(effects: Sequence[str]) -> list[Point]:
    """Every point of a life with these effects, in their order; those within the submit stand where it does."""
    found: list[Point] = []
    seen: Counter[str] = Counter()
    for name in effects:
        seen[name] += 1
        if name in LOOP and seen[name] > 1:
            continue
        found.append(("before", name, seen[name]))
        if name == "Send(submit)":
            found += IN_THE_SUBMIT
        found.append(("after", name, seen[name]))
    return found


def expected(life: Sequence[Point], point: Point, *, names_tasks: bool) -> str:
    """What must become of a job whose process is killed at a point of such a life."""
    at = life.index(point)
    if at < life.index(("after", "Persist(Intent)", 1)):
        return "never sent"
    if at >= life.index(("after", "Persist(JobEnd)", 1)):
        asked_again = names_tasks and at < life.index(("after", "Persist(PartEnd)", 1))
        return "collected" if asked_again else "done"  # for its cost, which was not written yet
    if at < life.index(("after", "Persist(Acceptance)", 1)):
        return "unknown"
    return "collected" if names_tasks else "unknown"


@dataclass(frozen=True)
class Aftermath:
    """What was found after a process had been killed and another one had recovered its job.

    Attributes:
        code: How the process ended; -9 was killed.
        effects: What it had begun by then.
        submits: Submits that arrived at the emulator in all, whole or not.
        accepted: Those that it took.
        resent: Submits that the recovery caused.
        recovered: What the recovery told, one outcome for each job.
        job: The job as the ledger knows it then; None where it never got to know it.
        sends: Its submits in the ledger.
        at_once: How the ledger saw the job before the recovery.
        stored: Whether the spool holds every image of its result.
        recovery_s: How long the recovery took.
        again: What a second recovery told.
    """

    code: int | None
    effects: tuple[str, ...]
    submits: int
    accepted: int
    resent: int
    recovered: tuple[ak.Outcome, ...]
    job: JobRecord | None
    sends: tuple[SendRecord, ...]
    at_once: JobRecord | None
    stored: bool
    recovery_s: float
    again: tuple[ak.Outcome, ...]

    @property
    def outcome(self) -> str:
        """In a word or two: `done`, `collected`, `unknown`, `never sent`, or what is wrong."""
        if self.job is None:
            return "never begun"
        if self.job.state is ak.JobState.SUCCEEDED:
            return ("collected" if self.recovered else "done") if self.stored else "LOST"
        if self.job.state is ak.JobState.UNKNOWN:
            return "unknown"
        if is_ended(self.job.state) and not self.sends and not self.submits:
            return "never sent"
        return f"LEFT {self.job.state}"

    @property
    def cell(self) -> str:
        """A cell of the table."""
        return f"{self.outcome}, {self.submits}"


class Nursery:
    """Where the processes are born that will be killed."""

    def __init__(self) -> None:
        command = [sys.executable, str(CHILD)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._stopped: set[int] = set()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        (self._stopped.add if told["stopped"] else self._stopped.discard)(told["pid"])
        return told

    def run(self, **what: Any) -> dict[str, Any]:
        """Run a job in a process of its own until it ends, is killed, or stopped; see `child.job`."""
        return self._ask({"run": {"stop": False, "then": [], "lease_s": None, "images": 1, **what}})

    def wake(self, pid: int) -> int:
        """Let a stopped process go on to its end; its exit code."""
        os.kill(pid, signal.SIGCONT)
        code: int = self._ask({"wait": pid})["code"]
        return code

    def close(self) -> None:
        """End it, and whoever is still stopped."""
        for pid in self._stopped:
            os.kill(pid, signal.SIGKILL)
        self._process.communicate()


@contextmanager
def later(seconds: float) -> Iterator[None]:
    """Clients that are made here live so much later, as far as leases go."""
    clock = SimpleNamespace(**vars(time) | {"time": lambda: time.time() + seconds})
    with mock.patch.object(store, "time", clock):
        yield


class Lab:
    """One provider's emulator, and homes for processes that are killed while they use it."""

    def __init__(self, provider: str, folder: Path) -> None:
        self.provider = provider
        self.folder = folder
        self._homes = 0

    def __enter__(self) -> Self:
        self._sandbox = Sandbox(providers=[self.provider], seconds=0.02).start()
        self.emulator.megapixels = 0.01
        self.config = self.folder / f"{self.provider}.toml"
        route = f'[routes.default]\ncandidates = ["{self.provider}"]\ndeadline_s = {RECOVERY_S}\n'
        text = self._sandbox.config_toml().rstrip() + f"\npoll_interval_s = 0.02\n\n{route}"
        self.config.write_text(text)
        self.nursery = Nursery()
        return self

    def __exit__(self, *_: object) -> None:
        self.nursery.close()
        self._sandbox.stop()

    @property
    def emulator(self) -> Emulator:
        """What the provider's part is played by."""
        return self._sandbox.emulators[self.provider]

    def home(self) -> Path:
        """A new home folder, with nothing in it."""
        self._homes += 1
        home = self.folder / f"{self.provider}-{self._homes}"
        home.mkdir()
        return home

    def client(self, home: Path) -> ak.Client:
        """A client of this process at such a home."""
        return ak.Client(ak.Config.load(self.config, environ={"ANYKONTEXT_HOME": str(home)}))

    def with_a_second(self, name: str) -> None:
        """Make a route of two providers that this emulator plays, where a slow attempt is left for the other."""
        first = self.config.read_text().partition("[routes.default]")[0]
        second = first[first.index(f"[providers.{self.provider}]") :].replace(
            f"[providers.{self.provider}]", f'[providers.{name}]\nadapter = "{self.provider}"'
        )
        route = f'candidates = ["{self.provider}", "{name}"]\non_maybe_charged = "continue"\nattempt_share = 0.02'
        self.config.write_text(f"{first}{second}[routes.default]\n{route}\ndeadline_s = {RECOVERY_S}\n")

    def life(self, mode: str) -> list[Point]:
        """Every point of a job's life that ends well, as the driver counts them."""
        home = self.home()
        told = self.nursery.run(config=str(self.config), home=str(home), mode=mode, at=[])
        assert told["code"] == 0, told
        return points((home / "effects").read_text().splitlines())

    def killed(self, point: Point, mode: str = "edit", images: int = 1) -> Aftermath:
        """Kill a process there, let another recover a minute later, and look."""
        home = self.home()
        self.emulator.counters.clear()
        self.emulator.advance(MINUTE_S)  # past the emulator's limit of submits in so many seconds
        what = {"config": str(self.config), "home": str(home), "mode": mode, "at": list(point), "images": images}
        told = self.nursery.run(**what)
        if point in IN_THE_SUBMIT:
            self._wait_for_a_submit()
        if point in IN_THE_SUBMIT or images > 1:
            self._wait_until_it_is_still()
        with later(MINUTE_S):
            return self.looked_after(home, told["code"])

    def _wait_for_a_submit(self) -> None:
        """What a process has sent before its death may be read by the emulator a moment later."""
        until = time.monotonic() + 5.0
        while not self.emulator.counters["submits"] and time.monotonic() < until:
            time.sleep(0.002)

    def _wait_until_it_is_still(self) -> None:
        """Until the emulator has read all that was on its way."""
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < STILL_S:
            now = self.emulator.counters["submits"]
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.01)

    def looked_after(self, home: Path, code: int | None) -> Aftermath:
        """Recover what is left in a home, once and once more."""
        counters = self.emulator.counters
        before = counters["submits"]
        began = time.monotonic()
        with self.client(home) as client:
            at_once = next(iter(client.jobs()), None)
            recovered = client.recover()
            seconds = time.monotonic() - began
        with later(3 * MINUTE_S), self.client(home) as client:
            again = client.recover()
            job = next(iter(client.jobs()), None)
            sends = client._core.ledger.sends(job.job_id) if job else []
            told = job.result["images"] if job and job.result else ()
            stored = bool(told) and all(client._core.spool.find(one["sha256"]) for one in told)
        effects = tuple((home / "effects").read_text().splitlines())
        return Aftermath(
            code, effects, counters["submits"], counters["accepted"], counters["submits"] - before,
            tuple(recovered), job, tuple(sends), at_once, stored, seconds, tuple(again),
        )  # fmt: skip
