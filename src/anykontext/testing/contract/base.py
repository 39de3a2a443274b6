"""What a contract is told, and what all its themes share."""

import importlib
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from _pytest.mark.structures import ParameterSet  # its only home

from anykontext.adapting import (
    Adapter,
    Call,
    Cancels,
    Checks,
    Facts,
    Fetch,
    Kind,
    Purpose,
    Reply,
    Running,
    State,
    Task,
    Uploads,
    get,
)
from anykontext.model.errors import ProviderError
from anykontext.model.frozen import Frozen
from anykontext.testing.contract.mistakes import mistake, wrong_reply
from anykontext.testing.contract.orders import any_order, image_for

if TYPE_CHECKING:
    from anykontext.sandbox import Emulator

NO_TASK = frozenset({Purpose.SUBMIT, Purpose.CHECK, Purpose.UPLOAD})
KINDS = ("Client", "AsyncClient")


@dataclass(frozen=True)
class Documented:
    """A reply as the provider sends it, and what must come of it.

    Attributes:
        purpose: Of the call that it answers.
        status: The HTTP status.
        body: Bytes or text as they are; anything else becomes JSON.
        means: A type of `State`, or `(Refused, Kind)` or `(Failed, Kind)`, each with whether it may be charged as an
            optional third: for `Failed` what it says, for a `Refused` submit what the money table says.
        evidence: A quirk id of the adapter, or words that name a source.
        headers: Of the reply; names in any case.
        told: Further attributes of the state, with their values.
    """

    purpose: Purpose
    status: int
    body: Any
    means: Any
    evidence: str
    headers: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := wrong_reply(self.purpose, self.means, self.told):
            raise TypeError(wrong)

    @property
    def expected(self) -> type:
        """The type of the state."""
        found: type = self.means[0] if isinstance(self.means, tuple) else self.means
        return found

    @property
    def kind(self) -> Kind | None:
        """The kind, of a refusal or a failure."""
        return self.means[1] if isinstance(self.means, tuple) else None

    @property
    def maybe_charged(self) -> bool | None:
        """Whether it may be charged, where that is told."""
        return self.means[2] if isinstance(self.means, tuple) and len(self.means) > 2 else None

    @property
    def raw(self) -> bytes:
        """The body as it comes over the wire."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None

    @property
    def name(self) -> str:
        """The id of its tests."""
        kind = f"-{self.kind}" if self.kind else ""
        return f"{self.evidence.split(' [')[0]}-{self.purpose}-{self.status}-{self.expected.__name__}{kind}"


@dataclass(frozen=True)
class End:
    """Where a fault of the emulator ends.

    Attributes:
        error: The class of the error; None where an image comes all the same.
        maybe_charged: What the error says.
        accepted: How many tasks the emulator accepts.
        deadline_s: Of the call.
        because: Why it ends elsewhere than at most providers.
    """

    error: type[ProviderError] | None
    maybe_charged: bool = False
    accepted: int = 0
    deadline_s: float = 15.0
    because: str = ""


class Contract:
    """What a subclass names; the themes are mixed in by `AdapterContract`.

    Attributes:
        adapter: The adapter.
        documented: Replies as the provider sends them, and what must come of them.
        emulator: Its emulator; None for none.
        cassettes: A folder of recorded exchanges, as a path or a text; None for none.
        package: The package that must be pure; empty for that of the adapter's class.
        ends: Faults of the emulator that end elsewhere than at most providers, or that only it has.
        without_faults: Faults that mean nothing there -> why.
        inverted: Toggles whose sense is the other way round at the provider -> why.
        reworded: Options whose values the provider spells in words of its own -> why. They are only told apart.
        headers: Further headers of the adapter's calls -> why. Only `accept` and `content-type` need no name.
    """

    adapter: ClassVar[Adapter]
    documented: ClassVar[tuple[Documented, ...]] = ()
    emulator: ClassVar["type[Emulator] | None"] = None
    cassettes: ClassVar[Path | str | None] = None
    package: ClassVar[str] = ""
    ends: ClassVar[Mapping[str, End]] = Frozen()
    without_faults: ClassVar[Mapping[str, str]] = Frozen()
    inverted: ClassVar[Mapping[str, str]] = Frozen()
    reworded: ClassVar[Mapping[str, str]] = Frozen()
    headers: ClassVar[Mapping[str, str]] = Frozen()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """An argument `x` of a test gets its values from `x_cases` of the class.

        Raises:
            pytest.Collector.CollectError: The class is not written as it should be; a sentence tells.
        """
        if wrong := self._mistake():
            raise pytest.Collector.CollectError(wrong)
        for name in metafunc.fixturenames:
            source = getattr(self, f"{name}_cases", None)
            if source is not None:
                metafunc.parametrize(name, source())

    @classmethod
    @cache
    def _mistake(cls) -> str:
        """What is wrong with the class: each of its hundred tests asks for it."""
        return mistake(cls, Contract, Documented)

    def kind_cases(self) -> list[ParameterSet]:
        """Both clients."""
        return [pytest.param(kind, id=kind) for kind in KINDS]

    @property
    def facts(self) -> Facts:
        """What is known about the provider."""
        return self.adapter.facts

    @property
    def has_tasks(self) -> bool:
        """Whether the provider names tasks that can be asked for."""
        return any(one.purpose is Purpose.SUBMIT and one.expected in {Running, Fetch} for one in self.documented)

    @property
    def home(self) -> str:
        """The package that holds the adapter; empty where it is a single module."""
        if self.package:
            return self.package
        module = importlib.import_module(type(self.adapter).__module__)
        return module.__name__ if hasattr(module, "__path__") else module.__package__ or ""

    @property
    def files(self) -> Path:
        """The folder of that package, or the file of the module."""
        if self.home:
            return Path(next(iter(importlib.import_module(self.home).__path__)))
        return Path(inspect.getfile(type(self.adapter)))

    def task(self) -> Task:
        """A task as a documented reply to a submit names it."""
        for said in self.said(Purpose.SUBMIT):
            state = self.read(said) if said.expected in {Running, Fetch} else None
            if isinstance(state, Running | Fetch):
                return state.task
        return Task("task-1")

    def said(self, *purposes: Purpose, means: tuple[type, ...] = ()) -> list[Documented]:
        """The documented replies to calls of these purposes that mean these states."""
        return [
            one
            for one in self.documented
            if (not purposes or one.purpose in purposes) and (not means or one.expected in means)
        ]

    def call(self, purpose: Purpose) -> Call | None:
        """A call of this purpose; None where the adapter makes none."""
        adapter = self.adapter
        if purpose is Purpose.SUBMIT:
            return adapter.submit(any_order(self.facts))
        if purpose is Purpose.POLL:
            return adapter.poll(self.task()) if self.has_tasks else None
        if purpose is Purpose.FETCH:
            return get(Purpose.FETCH, "/")
        if purpose is Purpose.CANCEL:
            return adapter.cancel(self.task()) if isinstance(adapter, Cancels) else None
        if purpose is Purpose.CHECK:
            return adapter.check() if isinstance(adapter, Checks) else None
        return adapter.upload(image_for(self.facts, 0, raw=True)) if isinstance(adapter, Uploads) else None

    def purposes(self) -> list[Purpose]:
        """What the adapter reads replies of."""
        own = {one.purpose for one in self.documented} | {Purpose.SUBMIT}
        own |= {Purpose.CHECK} if isinstance(self.adapter, Checks) else set()
        own |= {Purpose.CANCEL} if isinstance(self.adapter, Cancels) else set()
        own |= {Purpose.UPLOAD} if isinstance(self.adapter, Uploads) else set()
        return [one for one in Purpose if one in own | ({Purpose.POLL} if self.has_tasks else set())]

    def reply(self, said: Documented, body: bytes | None = None, status: int | None = None) -> Reply:
        """A documented reply, with another body or status where one is given."""
        call = self.call(said.purpose)
        assert call is not None, f"{said.name} answers a call that the adapter does not make"
        headers = {name.lower(): value for name, value in said.headers.items()}
        return Reply(call, said.status if status is None else status, headers, said.raw if body is None else body)

    def understood(self, reply: Reply) -> State:
        """What the adapter makes of a reply."""
        return self.adapter.read(reply, None if reply.call.purpose in NO_TASK else self.task())

    def read(self, said: Documented, body: bytes | None = None, status: int | None = None) -> State:
        """What the adapter makes of a documented reply, or of a changed one."""
        if said.purpose is Purpose.SUBMIT:  # the one call that `task` itself asks for
            return self.adapter.read(self.reply(said, body, status), None)
        return self.understood(self.reply(said, body, status))

    def is_evidence(self, text: str) -> bool:
        """Whether a text names quirks of the adapter that are told, or else a source in words."""
        ids = re.findall(rf"\b{self.facts.name}-[0-9]+\b", text)
        return all(one in self.facts.quirks for one in ids) and (bool(ids) or " " in text.strip())


def no(reason: str) -> pytest.MarkDecorator:
    """The mark of a test that an adapter needs not pass, because it cannot do what is tested."""
    return pytest.mark.skip(reason=f"capability: {reason}")


def listed(found: Iterable[ParameterSet], *, without: str) -> list[ParameterSet]:
    """Parameters of a test; where there are none, the one that skips it by capability."""
    return list(found) or [pytest.param(None, id="none", marks=no(without))]
