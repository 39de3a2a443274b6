"""Jobs in any order of faults, crashes, stops, restarts and recoveries: engine, ledger and client against a provider
that remembers what it took. No sockets, and no time but the test's own.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import anykontext as ak
from anykontext.adapting import Purpose
from anykontext.client import claims, jobs, store, sync
from anykontext.engine.effects import Admit, Await, Download, Fault, NotDownloaded, Persist, Send, Sleep, Told
from anykontext.engine.entries import Acceptance
from anykontext.engine.job import run_job
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.watch import Watch
from anykontext.io.journal import Journal
from anykontext.ledger import SendRecord, open_ledger
from anykontext.model.result import ResultImage

from .providers import MODEL, Clock, Crash, Providers, Taken, flat, sha

LEASE_S = 60.0
KEY = {"api_key": "of-no-one", "max_in_flight": 9}
CONFIG = ak.Config(providers={"bfl": KEY, "bfl-eu": {"adapter": "bfl", **KEY}, "together": KEY})
ROUTES = (("bfl",), ("bfl", "bfl-eu"), ("bfl", "bfl-eu"), ("together",), ("bfl", "together"), ("together", "bfl"))
SUBMITS = ("ok", "ok", "ok", "lost, taken", "lost", "refused", "outage", "gateway, taken", "gateway", "not connected")
POLLS = ("done", "done", "running", "lost", "failed")
FILES = ("ok", "ok", "ok", "lost")

fates = st.fixed_dictionaries(
    {"submit": st.sampled_from(SUBMITS), "poll": st.sampled_from(POLLS), "file": st.sampled_from(FILES)}
)
KIND = {"submit": "ok", "poll": "done", "file": "ok"}


@dataclass
class Process:
    """One process with one client; what it does is done by `Machine.perform`."""

    client: ak.Client
    owner: str
    job_id: str = ""
    steps: Any = None
    pending: Any = None  # the effect that comes next
    outcome: Any = None
    over: bool = False


class Quiet(Journal):
    """Leases are prolonged where a test says so, and by no thread."""

    def keep_leases(self) -> None:
        pass


class Driver:
    """Runs the flows of a recovery, and crashes after so many effects."""

    def __init__(self, world: "Machine", journal: Journal, told: list[dict[str, str]], left: int | None) -> None:
        self.world, self.journal, self.told, self.left = world, journal, told, left

    def watch(self, job_id: str, deadline_s: float) -> Watch:
        return self.world.watch(job_id, deadline_s)

    def run(self, flow: Any, notifier: Any) -> Any:
        steps = flat(flow, self.world.told)
        self.world.graveyard.append((flow, steps))
        value = None
        try:
            while True:
                effect = steps.send(value)
                if self.left == 0:
                    raise Crash
                self.left = None if self.left is None else self.left - 1
                value = self.world.perform(effect, self.journal, self.told)
        except StopIteration as end:
            return end.value


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ledger = open_ledger("memory", now=self.clock)
        self.providers = Providers()
        self.live: list[Process] = []
        self.may: dict[str, dict[str, int]] = {}  # job -> provider -> how many of its submits may be accepted
        self.most: dict[str, int] = {}
        self.kept: set[str] = set()  # tasks whose handle was written down
        self.graveyard: list[Any] = []  # a generator that is let go would clean up after itself, as no crash does
        self.owners = 0
        self.patches = ExitStack()
        fake = SimpleNamespace(time=self.clock, monotonic=self.clock, sleep=self.clock.sleep)
        for module in (store, jobs, claims):
            self.patches.enter_context(mock.patch.object(module, "time", fake))
        self.patches.enter_context(
            mock.patch.object(sync, "side_by_side", lambda actions: [action() for action in actions])
        )

    # What the rules are made of

    def told(self, value: Any) -> Told:
        return Told(value, self.clock.at, datetime.fromtimestamp(self.clock.at, UTC), 0.5)

    def watch(self, job_id: str, deadline_s: float) -> Watch:
        return Watch(job_id, deadline_s, self.clock.at, self.clock.at, datetime.fromtimestamp(self.clock.at, UTC))

    def born(self, told: list[dict[str, str]] | None = None, left: int | None = None) -> Process:
        self.owners += 1
        client = ak.Client(CONFIG)
        found = client._core.store
        journal = Quiet(self.ledger, found.owner)
        found._journal = journal
        found.spool = SimpleNamespace(ensure=lambda: None, find=lambda _: None)
        client._shared.made = Driver(self, journal, told or [KIND], left)
        return Process(client, found.owner)

    def perform(self, effect: Any, journal: Journal, told: list[dict[str, str]]) -> Any:
        fate = told.pop(0) if len(told) > 1 and isinstance(effect, Send | Download) else told[0]
        match effect:
            case Send(call=call):
                if call.purpose is Purpose.SUBMIT:
                    job_id = json.loads(bytes(call.body))["prompt"]
                    assert any(one.outcome is None or one.outcome == "unknown" for one in self.ledger.sends(job_id))
                return self.providers.hears(effect, fate["submit" if call.purpose is Purpose.SUBMIT else "poll"])
            case Download(url=url):
                if fate["file"] == "lost":
                    return NotDownloaded(Fault.LOST, "reset by peer")
                assert url is not None
                return ResultImage("image/jpeg", 64, 48, sha(url.rpartition("/")[2]), None, None, None)  # type: ignore[arg-type]
            case Sleep(seconds):
                return self.clock.sleep(seconds)
            case Persist(entry):
                if isinstance(entry, Acceptance) and entry.handle:
                    self.kept.add(entry.handle.tasks[0].id)
                return journal.verdict(entry, journal.write(entry))
            case Await(within_s=within_s):
                return self.clock.sleep(within_s)
            case Admit():
                return True
        return None

    def advance(self, process: Process, told: list[dict[str, str]]) -> None:
        """Perform the effect that comes next, and go on to the one after it."""
        journal = process.client._core.journal
        value = self.perform(process.pending, journal, told)
        try:
            process.pending = process.steps.send(value)
        except StopIteration as end:
            process.outcome, process.over = end.value, True
        except ak.AnykontextError as error:
            process.outcome, process.over = error, True

    # Rules

    @precondition(lambda self: len(self.live) < 3)
    @rule(
        route=st.sampled_from(ROUTES), images=st.sampled_from([1, 1, 2]), goes_on=st.booleans(),
        effects=st.sampled_from([0, 1, 2, 3, 4, 4, 5, 6, 8, 12]), told=st.lists(fates, min_size=1, max_size=4),
    )  # fmt: skip
    def begins(
        self, route: Sequence[str], images: int, goes_on: bool, effects: int, told: list[dict[str, str]]
    ) -> None:
        process = self.born()
        core, found = process.client._core, process.client._core.store
        job_id = process.job_id = f"job_{len(self.may):032x}"
        request = ak.ImageRequest(job_id, num_images=images)  # the prompt is the name by which the providers know it
        policy = Policy(on_maybe_charged="continue" if goes_on else "raise", submit_grace_s=1.0, attempt_share=0.01)
        steps = [negotiate(request, [], Candidate(core.provider(name), MODEL), policy) for name in route]
        self.may[job_id] = {one.candidate.provider.name: len(one.orders) for one in steps}
        self.most[job_id] = sum(self.may[job_id].values()) if goes_on else max(self.may[job_id].values())
        assert (job_id, 0) == found.begin(found.new_job(request, job_id, core.options({}), job_id))
        watch = self.watch(job_id, 180.0)
        flow = process.client._claimed(run_job(watch, steps, policy), watch)
        process.steps = flat(flow, self.told)
        process.pending = next(process.steps)
        self.graveyard.append((flow, process))
        self.live.append(process)
        self.works(len(self.live) - 1, effects, told)

    @precondition(lambda self: len(self.live) < 3)
    @rule(images=st.sampled_from([1, 2]), after=st.integers(0, 12), told=fates, dies=st.booleans())
    def leaves_a_slow_attempt_for_another(self, images: int, after: int, told: dict[str, str], dies: bool) -> None:
        slow = KIND | {"poll": "running"}
        self.begins(("bfl", "bfl-eu"), images, goes_on=True, effects=0, told=[slow])
        process = self.live[-1]
        while not process.over and len({one.attempt for one in self.ledger.handles(process.job_id)}) < 2:
            self.advance(process, [slow])
        self.works(len(self.live) - 1, after, [told])
        if dies and process in self.live:
            self.crashes(self.live.index(process), told, done=False)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 2), effects=st.integers(1, 20), told=st.lists(fates, min_size=1, max_size=4))
    def works(self, which: int, effects: int, told: list[dict[str, str]]) -> None:
        process = self.live[which % len(self.live)]
        for _ in range(effects):
            if not process.over:
                self.advance(process, told)
        if process.over:
            self.live.remove(process)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 2), told=fates, done=st.booleans())
    def crashes(self, which: int, told: dict[str, str], done: bool) -> None:
        process = self.live.pop(which % len(self.live))
        if done:  # what it was about to do is done, and it never learns of it
            self.perform(process.pending, process.client._core.journal, [told])

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 2))
    def prolongs(self, which: int) -> None:
        self.ledger.renew(self.live[which % len(self.live)].owner, lease_s=LEASE_S).result()

    @rule(seconds=st.sampled_from([10.0, LEASE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.at += seconds

    @precondition(lambda self: self.may)
    @rule(told=st.lists(fates, min_size=1, max_size=4), left=st.none() | st.integers(0, 8), late=st.booleans())
    def recovers(self, told: list[dict[str, str]], left: int | None, late: bool) -> None:
        if late:
            self.clock.at += LEASE_S + 1
        arrived = len(self.providers.arrived)
        process = self.born([*told, KIND], left)
        try:
            process.client.recover()
        except Crash:
            pass
        else:
            self.ledger.renew(process.owner, lease_s=0).result()  # it is closed
        assert arrived == len(self.providers.arrived), "a recovery has submitted"

    @precondition(lambda self: self.live)
    @rule(
        which=st.integers(0, 2), before=st.sampled_from([0, 0, 1, 2, 3]), after=st.sampled_from([1, 2, 3, 4, 6, 20]),
        told=fates, dies=st.booleans(),
    )  # fmt: skip
    def is_stopped_and_recovered_and_awakes(
        self, which: int, before: int, after: int, told: dict[str, str], dies: bool
    ) -> None:
        self.works(which, before, [told])
        self.recovers([told], None, late=True)
        if self.live:
            self.works(which, after, [told])
        if self.live and dies:
            self.crashes(which, told, done=False)

    # What must hold

    @invariant()
    def no_more_is_accepted_than_may_be(self) -> None:
        for job_id, may in self.may.items():
            # One that failed for free is no image that is paid for: the next candidate may be tried.
            mine = [one for one in self.providers.tasks.values() if one.job_id == job_id and not one.failed]
            assert len(mine) <= self.most[job_id], (job_id, mine)
            for name, count in may.items():
                assert sum(one.provider == name for one in mine) <= count, (job_id, mine)

    def teardown(self) -> None:
        try:
            self.settle()
            for task, taken in self.providers.tasks.items():
                self.check_accounted_for(task, taken)
        finally:
            self.patches.close()
            self.ledger.close()

    def settle(self) -> None:
        """Every process dies, every fault ends, and another one recovers all that is left, at once."""
        self.clock.at += LEASE_S + 1
        self.born().client.recover()
        self.clock.at += LEASE_S + 1
        assert [] == self.ledger.unfinished()

    def check_accounted_for(self, task: str, taken: Taken) -> None:
        if taken.failed:
            return
        job = self.ledger.job(taken.job_id)
        assert job is not None
        late = [one.detail for one in self.ledger.events(taken.job_id) if one.what == "surplus"]
        collected = sha(task) in json.dumps(job.to_json()["result"]) or any(sha(task) in one for one in late)
        if task in self.kept:
            assert collected, (job, self.ledger.sends(taken.job_id), self.ledger.events(taken.job_id))
        reported = job.state is ak.JobState.UNKNOWN or any(map(at_risk, self.ledger.sends(taken.job_id)))
        assert collected or reported, (task, job, self.ledger.sends(taken.job_id), self.ledger.events(taken.job_id))


def at_risk(send: SendRecord) -> bool:
    return send.money == "risk"


TestMachine = Machine.TestCase
TestMachine.pytestmark = [pytest.mark.timeout(600)]  # many examples, on machines of any speed
TestMachine.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
