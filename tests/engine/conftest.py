"""A scripted world that drives flows: replies from a list, a clock that only Sleep and Send advance, fixed jitter."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from anykontext.adapting import Call, Facts, Kind, Purpose, Reply, State, Task, get, post
from anykontext.engine.effects import (
    Admit,
    All,
    Aside,
    Await,
    Detach,
    Download,
    Emit,
    Fault,
    Loss,
    Lost,
    NotAdmitted,
    NotDownloaded,
    Observed,
    Persist,
    Release,
    Renew,
    Send,
    Sleep,
    Told,
    Upload,
)
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.submit import Step
from anykontext.engine.watch import Watch
from anykontext.model.money import Price
from anykontext.model.request import ImageRequest
from anykontext.model.result import ResultImage
from anykontext_bfl import Bfl

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LINK = "https://delivery.ice.bfl.ai/ephemeral/one.jpeg?se=2026-11-20T12%3A10%3A00Z&sig=abc"


@dataclass(frozen=True)
class Said:
    """A reply to whatever was sent."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def said(status: int = 200, body: Any = None, **headers: str) -> Said:
    """A reply; a body that is neither bytes nor text is written as JSON. `retry_after` is the header Retry-After."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Said(status, raw, {name.replace("_", "-"): value for name, value in headers.items()})


def lost(loss: Loss) -> Lost:
    return Lost(loss, "as the script says")


def fault(what: Fault, status: int | None = None) -> NotDownloaded:
    return NotDownloaded(what, "as the script says", status)


def accepted(task: str = "one") -> Said:
    return said(200, {"id": task, "polling_url": f"https://api.eu2.bfl.ai/v1/get_result?id={task}", "cost": None})


def status(word: str, http: int = 200, **fields: Any) -> Said:
    return said(http, {"id": "one", "status": word, "result": None, "progress": None, "details": None} | fields)


def ready(link: str = LINK, cost: float | None = None, **result: Any) -> Said:
    return status("Ready", result={"sample": link, "seed": 42, "prompt": "as rewritten", **result}, cost=cost)


def image(sha256: str = "aa") -> ResultImage:
    return ResultImage("image/jpeg", 64, 48, sha256, "https://delivery.ice.bfl.ai/one.jpeg", None, stored=None)  # type: ignore[arg-type]


class ScriptEnded(AssertionError):
    """The flow asked for more than the script holds."""


@dataclass
class World:
    """Carries out the effects of flows, and keeps what they asked for.

    Attributes:
        script: What Sends are told, in order; a function gets the Send.
        then: What they are told when the script has ended, for ever.
        downloads: What Downloads are told, in order; afterwards each gives an image.
        uploads: What Uploads are told, in order.
        admits: Whether there is a free place, or why there is none, in order; afterwards there is.
        beside: What the Sends of each flow on the side are told, in the order in which these begin.
        send_s: How long a Send takes: at most what it may.
        oversleep_s: How much longer than asked a Sleep takes.
    """

    script: Iterable[Said | Lost | Callable[[Send], Said | Lost]] = ()
    then: Said | Lost | None = None
    downloads: Iterable[ResultImage | NotDownloaded] = ()
    last_download: ResultImage | NotDownloaded | None = None
    admits: Iterable[bool | NotAdmitted] = ()
    uploads: Iterable[Any] = ()
    beside: Iterable[Iterable[Any]] = ()
    send_s: float = 0.1
    oversleep_s: float = 0.0
    jitter: float = 0.5
    mono: float = 1000.0
    effects: list[Any] = field(default_factory=list)
    asides: dict[Aside, "World"] = field(default_factory=dict)
    ended: dict[Aside, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.mono
        self.script, self.downloads, self.admits = list(self.script), list(self.downloads), list(self.admits)
        self.uploads, self.beside = list(self.uploads), list(self.beside)

    def watch(self, deadline_s: float = 60.0, candidate: Candidate | None = None) -> Watch:
        return Watch("job_1", deadline_s, self.began, self.mono, START, self.jitter, candidate)

    def run(self, flow: Any) -> Any:
        try:
            effect = next(flow)
            while True:
                value = self._perform(effect)
                effect = flow.send(Told(value, self.mono, START + timedelta(seconds=self.seconds), self.jitter))
        except StopIteration as end:
            return end.value
        finally:
            flow.close()

    def _perform(self, effect: Any) -> Any:
        self.effects.append(effect)
        match effect:
            case Send(within_s=within_s):
                assert within_s > 0
                self.mono += min(self.send_s, within_s)
                return self._heard(effect)
            case Download(within_s=within_s):
                assert within_s > 0
                self.mono += min(self.send_s, within_s)
                return self.downloads.pop(0) if self.downloads else self.last_download or image()
            case Sleep(seconds):
                assert seconds >= 0
                self.mono += seconds + self.oversleep_s
                return None
            case Upload(within_s=within_s):
                assert within_s > 0
                self.mono += min(self.send_s, within_s)
                return self.uploads.pop(0)
            case Admit():
                free = self.admits.pop(0) if self.admits else True
                full = NotAdmitted(Kind.RATE_LIMITED, "all its places are taken")
                return free if isinstance(free, NotAdmitted) else None if free else full
            case All(flows):
                return self._side_by_side(flows)
            case Renew():
                return False
            case Detach(aside):
                if self.beside:
                    self.asides[aside] = World(self.beside.pop(0), mono=self.mono)
                return None
            case Await(asides, within_s):
                return self._first_ended(asides, within_s)
            case Persist() | Emit() | Release() | Observed():
                return None
        raise AssertionError(effect)

    def _first_ended(self, asides: Sequence[Aside], within_s: float) -> tuple[int, Any] | None:
        """Flows on the side have a clock and a script of their own, run when somebody waits; one without never ends."""
        for aside in asides:
            if aside in self.asides and aside not in self.ended:
                self.ended[aside] = self.asides[aside].run(aside.flow)
        ends = [self.asides[aside].mono if aside in self.asides else math.inf for aside in asides]
        first = ends.index(min(ends))
        until = self.mono + within_s
        self.mono = max(self.mono, min(ends[first], until))
        return (first, self.ended[asides[first]]) if ends[first] <= until else None

    def _heard(self, send: Send) -> Reply | Lost:
        if not self.script and self.then is None:
            raise ScriptEnded(send.call)
        told = self.script.pop(0) if self.script else self.then
        told = told(send) if callable(told) else told
        return Reply(send.call, told.status, told.headers, told.body) if isinstance(told, Said) else told

    def _side_by_side(self, flows: Sequence[Any]) -> list[Any]:
        began, ends, results = self.mono, [], []
        for flow in flows:
            self.mono = began
            results.append(self.run(flow))
            ends.append(self.mono)
        self.mono = max(ends)
        return results

    @property
    def seconds(self) -> float:
        return self.mono - self.began

    def all_of(self, kind: type) -> list[Any]:
        return [one for one in self.effects if isinstance(one, kind)]

    @property
    def sends(self) -> list[Send]:
        return self.all_of(Send)

    @property
    def submits(self) -> list[Send]:
        return [one for one in self.sends if one.call.purpose is Purpose.SUBMIT]

    @property
    def polls(self) -> list[Send]:
        return [one for one in self.sends if one.call.purpose is Purpose.POLL]

    @property
    def sleeps(self) -> list[float]:
        return [one.seconds for one in self.all_of(Sleep)]

    @property
    def entries(self) -> list[tuple[str, Any]]:
        """What was to be kept, in order: the kind of entry, and the outcome or state that it tells."""
        kept = [one.entry for one in self.all_of(Persist)]
        return [(type(one).__name__, getattr(one, "outcome", getattr(one, "state", None))) for one in kept]

    def events(self, kind: type = object) -> list[Any]:
        return [one.event for one in self.all_of(Emit) if isinstance(one.event, kind)]


class Toy:
    """An adapter whose replies name their state: for ways that BFL does not have."""

    def __init__(self, states: Mapping[str, State], **facts: Any) -> None:
        self.states = states
        self.facts: Facts = replace(Bfl.facts, name="toy", **facts)

    def submit(self, order: Any) -> Call:
        return post(Purpose.SUBMIT, "/toy", {"prompt": order.prompt})

    def poll(self, task: Task) -> Call:
        return get(Purpose.POLL, f"/toy/{task.id}")

    def cancel(self, task: Task) -> Call:
        return post(Purpose.CANCEL, f"/toy/{task.id}/cancel", {})

    def read(self, reply: Reply, task: Task | None) -> State:
        return self.states[reply.body.decode()]


def provider(name: str = "bfl", *, adapter: Any = None, price: str | None = "0.04", **more: Any) -> Provider:
    adapter = adapter or Bfl()
    listed = {} if price is None else dict.fromkeys(adapter.facts.models, Price.set_by_user(Decimal(price)))
    fields = {"origins": {"api": "https://api.bfl.ai"}, "listed": listed, "key": lambda: SecretStr("bfl_secret_key")}
    return Provider(name, adapter, **{**fields, **more})


def candidate(name: str = "bfl", model: str = "flux-kontext-pro", **more: Any) -> Candidate:
    return Candidate(provider(name, **more), model)


def step(who: Candidate | None = None, policy: Policy | None = None, **request: Any) -> Step:
    asked = ImageRequest(**{"prompt": "a cat", **request})
    return negotiate(asked, [], who or candidate(), policy or Policy())


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The world and its parts, by name."""
    parts = (said, lost, fault, accepted, status, ready, image, World, Toy, provider, candidate, step, ScriptEnded)
    return SimpleNamespace(**{one.__name__: one for one in parts}, LINK=LINK, START=START)
