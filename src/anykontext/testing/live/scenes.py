"""The scenes of a live run: each is played once at the provider, and once at its emulator.

None provokes moderation on purpose: accounts are flagged and closed for it, and a refusal that somebody else has
published is worth no account.
"""

import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from anykontext.adapting import Call, Checks, Sizes, Task
from anykontext.client import Client
from anykontext.client.core import new_job_id
from anykontext.config import Config
from anykontext.engine.check import ProviderCheck, look
from anykontext.engine.effects import Flow, Send
from anykontext.engine.ends import Ended
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import address
from anykontext.io.notify import Notifier
from anykontext.model.errors import AuthenticationFailed, Kind, ProviderError, RequestRejected
from anykontext.model.events import Drift, Event, Submitted
from anykontext.model.frozen import Frozen
from anykontext.model.job import JobHandle, Mode
from anykontext.model.request import ImageRequest
from anykontext.model.result import ImageResult
from anykontext.plugins import Registry
from anykontext.testing.live.purse import Bill, Purse

PROMPTS: Mapping[Mode, str] = {"edit": "make the sky a little darker", "generate": "a blue paper boat on a table"}
SEED = 42
DEADLINE_S = 180.0
WITHIN_S = 15.0


class Cannot(Exception):
    """A scene that means nothing at this provider, or that cannot be played without risk; says why."""


class Unexpected(AssertionError):
    """A scene ended otherwise than it should, without an error of ours that says so."""


@dataclass(frozen=True)
class Subject:
    """A provider that is visited, and what only its sheet can tell.

    Attributes:
        provider: The name of the adapter.
        invalid: `provider_options` that it must refuse at the submit, without billing; empty where the sheet does not
            say that.
        why_valid: Why there are none.
        unknown: A task that it does not know, in a form that can be asked for.
        early: The call that asks for the result of a task that still runs, where the protocol has one.
    """

    provider: str
    invalid: Mapping[str, Any] = Frozen()
    why_valid: str = "it is not known to refuse an option without billing"
    unknown: Task = field(default_factory=lambda: Task("00000000-0000-4000-8000-000000000000"))
    early: Callable[[Task], Call] | None = None


class Stage:
    """A provider at one place, the real one or the emulator, and what is remembered from scene to scene."""

    def __init__(
        self, subject: Subject, section: Mapping[str, Any], purse: Purse, photo: bytes, registry: Registry
    ) -> None:
        self.subject, self.purse, self.photo, self.registry = subject, purse, photo, registry
        self.wrong_key = other_key(section["api_key"])
        self.section = section
        self.provider = self._config().provider_list(registry)[0]
        self.tasks: list[Task] = []
        self.drifts: list[str] = []
        self.scene = ""

    def _config(self, **settings: Any) -> Config:
        return Config(providers={self.subject.provider: {**self.section, **settings}})

    def client(self, *, wrong_key: bool = False) -> Client:
        """A new client, or one with a key of the same form that nobody has."""
        return Client(self._config(**({"api_key": self.wrong_key} if wrong_key else {})), registry=self.registry)

    def check(self, *, wrong_key: bool = False) -> ProviderCheck:
        """What the provider says about the key."""
        with self.client(wrong_key=wrong_key) as client:
            return client.check()[0]

    def request(self, mode: Mode, **fields: Any) -> ImageRequest:
        """The cheapest request of this mode, and the smallest picture where a size can be told."""
        candidate = cheapest(self.provider, mode)
        options = candidate.facts.modes[mode].options
        size = options.get("size")
        if isinstance(size, Sizes):
            side = -(-size.low // size.step) * size.step
            fields["size"] = (side, side)
        if "seed" in options:
            fields["seed"] = SEED
        images = {"images": [self.photo]} if mode == "edit" else {}
        return ImageRequest(PROMPTS[mode], model=candidate.model, **images, **fields)

    @contextmanager
    def paying(self, mode: Mode, *, capped: bool = True) -> Iterator[Bill]:
        """A block that may cost one image of this mode."""
        price = cheapest(self.provider, mode).price(mode)
        with self.purse.paying(self.provider.name, self.scene, price, capped=capped) as bill:
            yield bill

    def run(self, mode: Mode, *, wrong_key: bool = False, **fields: Any) -> ImageResult:
        """Run a request."""
        with self.client(wrong_key=wrong_key) as client:
            return client.run(self.request(mode, **fields), deadline=DEADLINE_S, on_event=self.heard)

    def resumed(self, handle: JobHandle) -> ImageResult:
        """The images of a job, in a new client, from JSON."""
        with self.client() as client:
            return client.resume(handle.to_json(), on_event=self.heard).wait(DEADLINE_S)

    def ask(self, client: Client, call: Call) -> None:
        """Make one exchange, for what it looks like."""

        def flow() -> Flow[None]:
            yield Send(call, self.provider, address(call, self.provider), WITHIN_S)

        client._driver.run(flow(), Notifier())

    def heard(self, event: Event) -> None:
        """Keep what the adapter does not know, and the tasks, whose ids are replaced in what is compared."""
        if isinstance(event, Drift):
            self.drifts.append(f"{self.scene}: {event.what} {event.word!r} is unknown to the adapter")
        if isinstance(event, Submitted):
            self.tasks += event.handle.tasks


def other_key(key: str) -> str:
    """A random key of the same form: digits, letters of a to f, and everything else in its place."""
    kinds = {**dict.fromkeys(string.digits, string.digits), **dict.fromkeys(string.ascii_lowercase, "abcdef")}
    kinds |= dict.fromkeys(string.ascii_uppercase, "ABCDEF")
    return "".join(secrets.choice(kinds[letter]) if letter in kinds else letter for letter in key)


def cheapest(provider: Provider, mode: Mode) -> Candidate:
    """The model with the lowest listed price in a mode; those without a price come last.

    Raises:
        Cannot: There is none.
    """
    hosted = provider.adapter.facts.models.items()
    found = [Candidate(provider, model) for model, facts in hosted if mode in facts.modes]
    if not found:
        raise Cannot(f"it does not {mode}")
    return min(found, key=lambda one: _sortable(one.price(mode).amount))


def _sortable(amount: Decimal | None) -> Decimal:
    return Decimal("Infinity") if amount is None else amount


def plain_mode(provider: Provider) -> Mode:
    """The cheaper mode; to generate where both cost the same, since no picture need be sent."""
    modes: list[Mode] = ["generate", "edit"]
    found = [mode for mode in modes if any(mode in one.modes for one in provider.adapter.facts.models.values())]
    return min(found, key=lambda mode: _sortable(cheapest(provider, mode).price(mode).amount))


def _expect(error: type[ProviderError], what: Callable[[], ImageResult], bill: Bill | None = None) -> None:
    try:
        result = what()
    except error as found:
        if bill is not None and not found.maybe_charged:
            bill.free()
        return
    if bill is not None:
        bill.paid(result.spent)
    raise Unexpected(f"it was done, and {error.__name__} was expected")


def _key(stage: Stage) -> None:
    """The key is valid."""
    if not isinstance(stage.provider.adapter, Checks):
        raise Cannot("a key cannot be checked without spending")
    found = stage.check()
    if found.key != "ok":
        raise Unexpected(f"the key is {found.key}: {found.message}")


def _wrong_key(stage: Stage) -> None:
    """A wrong key is refused, by the check and by a submit, which no account can be charged for."""
    if isinstance(stage.provider.adapter, Checks):
        found = stage.check(wrong_key=True)
        if found.key != "refused":
            raise Unexpected(f"a wrong key is {found.key}: {found.message}")
    # Words alone: an edit might upload a picture first.
    mode: Mode = "generate" if _offers(stage.provider, "generate") else "edit"
    # A proxy may put a key of its own in the place of ours, and pay.
    with stage.paying(mode, capped=not stage.provider.at_home) as bill:
        _expect(AuthenticationFailed, lambda: stage.run(mode, wrong_key=True), bill)


def _unknown_task(stage: Stage) -> None:
    """A task that nobody has is not found: one question, without the patience for a task that is new."""
    task = stage.subject.unknown
    if not stage.provider.adapter.poll(task).path:
        raise Cannot("it names no task that can be asked for")
    stage.tasks.append(task)
    candidate = cheapest(stage.provider, plain_mode(stage.provider))
    with stage.client() as client:
        driver = client._driver
        found = driver.run(look(driver.watch(new_job_id(), WITHIN_S), candidate, task), Notifier())
    if not isinstance(found, Ended) or found.kind is not Kind.JOB_NOT_FOUND:
        raise Unexpected(f"the task is {found.kind if isinstance(found, Ended) else found}, and not unknown")


def _rejected(stage: Stage) -> None:
    """An option that the provider must refuse; the price is reserved, should it be taken all the same."""
    invalid = dict(stage.subject.invalid)
    if not invalid:
        raise Cannot(stage.subject.why_valid)
    mode = plain_mode(stage.provider)
    with stage.paying(mode) as bill:
        options = {stage.provider.name: invalid}
        _expect(RequestRejected, lambda: stage.run(mode, provider_options=options), bill)


def _generate(stage: Stage) -> None:
    """An image from words."""
    with stage.paying("generate") as bill:
        bill.paid(stage.run("generate").spent)


def _edit(stage: Stage) -> None:
    """An edit of a small photo."""
    with stage.paying("edit") as bill:
        bill.paid(stage.run("edit").spent)


def _resume(stage: Stage) -> None:
    """A task that was just accepted: its result asked for too early, and then its handle resumed in a new client."""
    if not stage.provider.adapter.poll(stage.subject.unknown).path:
        raise Cannot("it names no task that can be asked for")
    mode = plain_mode(stage.provider)
    with stage.paying(mode) as bill:
        with stage.client() as client:
            handle = client.submit(stage.request(mode), deadline=DEADLINE_S, on_event=stage.heard).handle
            if handle is None:
                raise Unexpected("the provider named no task")
            if stage.subject.early is not None:
                stage.ask(client, stage.subject.early(handle.tasks[0]))
        bill.paid(stage.resumed(handle).spent)


def _offers(provider: Provider, mode: Mode) -> bool:
    return any(mode in one.modes for one in provider.adapter.facts.models.values())


FREE: Mapping[str, Callable[[Stage], None]] = {
    "key": _key,
    "wrong-key": _wrong_key,
    "unknown-task": _unknown_task,
    "rejected": _rejected,
}
PAID: Mapping[str, Callable[[Stage], None]] = {"generate": _generate, "edit": _edit, "resume": _resume}
SCENES: Mapping[str, Callable[[Stage], None]] = {**FREE, **PAID}


def order(provider: Provider) -> list[str]:
    """The names of the scenes: first those that are free, then the others, the cheapest first."""

    def price(scene: str) -> Decimal:
        mode = plain_mode(provider) if scene == "resume" else scene
        return _sortable(cheapest(provider, mode).price(mode).amount) if _offers(provider, mode) else Decimal(0)  # type: ignore[arg-type]  # a mode's name

    return [*FREE, *sorted(PAID, key=price)]
