"""Recorded exchanges, read again by the adapter alone: all of it is understood, and none of it is a key."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from _pytest.mark.structures import ParameterSet

from anykontext.adapting import (
    Balance,
    Call,
    Failed,
    Fetch,
    Kind,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
)
from anykontext.testing.contract.base import Contract, listed
from anykontext.testing.contract.orders import order_of, places
from anykontext.testing.contract.submitting import SECRET_HEADERS
from anykontext.testing.recording import ORIGINS


@dataclass
class Walk:
    """Where a reader of a cassette has come to."""

    task: Task | None = None
    fetch: Call | None = None
    links: set[str] = field(default_factory=set)
    states: list[State] = field(default_factory=list)


class CassettesContract(Contract):
    """Walks through what was recorded, as the engine would."""

    def cassette_cases(self) -> list[ParameterSet]:
        """Every cassette of the folder but those of a live run that ask out of turn, such as for an unknown task."""
        out_of_turn = {"live-resume", "live-unknown-task"}
        every = sorted(Path(self.cassettes).glob("*.yaml")) if self.cassettes is not None else []
        found = [path for path in every if path.stem not in out_of_turn]
        return listed((pytest.param(one, id=one.stem) for one in found), without="cassettes: it has none")

    def test_the_cassettes_are_where_they_are_said_to_be(self) -> None:
        """A folder that is named and not there would pass for one without recordings."""
        if self.cassettes is None:
            pytest.skip("capability: cassettes: it has none")
        where = Path(self.cassettes)
        assert where.is_dir(), f"`cassettes` names {str(where)!r}, which is no folder (looked for from {Path.cwd()})"
        assert list(where.glob("*.yaml")), f"`cassettes` names {str(where)!r}, a folder without any *.yaml"

    def test_a_cassette_says_how_it_was_made(self, cassette: Path) -> None:
        """None pretends."""
        first = cassette.read_text(encoding="utf-8").splitlines()[0]

        assert re.fullmatch(rf"# origin: ({'|'.join(ORIGINS)})", first)

    def test_a_cassette_holds_no_key(self, cassette: Path) -> None:
        """Neither the header that carries it nor another that may."""
        for request, _ in self._exchanges(cassette):
            names = {name.lower() for name in request["headers"]}
            assert not names & {*SECRET_HEADERS, self.facts.auth[0].lower()}

    def test_a_cassette_is_understood(self, cassette: Path) -> None:
        """Each exchange is one that the adapter would make, and each reply has a meaning."""
        walk = Walk()
        for request, response in self._exchanges(cassette):
            if _place(request["uri"]) in walk.links:
                continue
            call = self._asked(request, walk)
            assert call is not None, f"nothing asks for {request['method']} {request['uri']}"
            headers = {name.lower(): _first(value) for name, value in response["headers"].items()}
            body = response["body"]["string"]
            raw = body.encode() if isinstance(body, str) else body
            reply = Reply(call, response["status"]["code"], headers, raw)
            state = self.adapter.read(reply, walk.task if call.purpose in {Purpose.POLL, Purpose.FETCH} else None)
            walk.states.append(state)
            assert not isinstance(state, Refused) or state.kind is not Kind.PROTOCOL_ERROR, state
            self._go_on(walk, state)

        assert walk.states
        assert isinstance(walk.states[-1], Succeeded | Failed | Refused | Balance)

    def _exchanges(self, cassette: Path) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        found = _parsed(cassette.read_text(encoding="utf-8"))
        return [(one["request"], one["response"]) for one in found["interactions"]]

    def _asked(self, request: Mapping[str, Any], walk: Walk) -> Call | None:
        """The call of the adapter's that a recorded request is."""
        poll = self.adapter.poll(walk.task) if walk.task else None
        fixed = [self.call(one) for one in (Purpose.CHECK, Purpose.UPLOAD)]
        for call in (walk.fetch, poll, *fixed, *self._submits()):
            if call is not None and _is(call, request):
                return call
        return None

    def _submits(self) -> list[Call]:
        orders = [order_of(self.facts, *place, images=images) for place, images in places(self.facts)]
        return [self.adapter.submit(order) for order in orders]

    def _go_on(self, walk: Walk, state: State) -> None:
        if isinstance(state, Running | Fetch):
            walk.task = state.task
        if isinstance(state, Fetch):
            walk.fetch = state.call
        if isinstance(state, Succeeded):
            walk.links |= {_place(one.url) for one in state.outputs if one.url}


@lru_cache(maxsize=64)  # several tests read each, and the parser is slow
def _parsed(text: str) -> Any:
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506


def _place(url: str) -> str:
    """A link without its query, whose signature is filtered out of a cassette."""
    return url.partition("?")[0]


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


def _is(call: Call, request: Mapping[str, Any]) -> bool:
    """Whether a recorded request has the method and the place of a call; its host may have been renamed."""
    if call.method != request["method"]:
        return False
    if call.origin is None:
        return bool(call.path == request["uri"])
    parts = urlsplit(request["uri"])
    return bool(call.path == parts.path + (f"?{parts.query}" if parts.query else ""))
