"""What the money table makes of it: not accepted only with evidence, and unknown otherwise."""

import json
from dataclasses import replace

import pytest
from _pytest.mark.structures import ParameterSet

from anykontext.adapting import Failed, Fetch, Kind, Purpose, Refused, Reply, Running, State, Succeeded
from anykontext.adapting.facts import Rejection
from anykontext.engine.money_table import Again, Charged, Row, after_poll, after_submit
from anykontext.testing.contract import bodies
from anykontext.testing.contract.base import Contract, Documented, listed

ACCEPTED = (Running, Fetch, Succeeded)
UNANSWERED = (408, 504)


class MoneyContract(Contract):
    """The submit, which may cost money, and the polls, which cost none."""

    def refused_submit_cases(self) -> list[ParameterSet]:
        """Every documented submit that was not accepted."""
        found = (
            pytest.param(one, id=one.name) for one in self.said(Purpose.SUBMIT) if one.expected in {Refused, Failed}
        )
        return listed(found, without="no refused submit is documented")

    def refused_poll_cases(self) -> list[ParameterSet]:
        """Every documented question about a task that was refused."""
        found = (pytest.param(one, id=one.name) for one in self.said(Purpose.POLL, Purpose.FETCH, means=(Refused,)))
        return listed(found, without="no refused poll is documented")

    def claimed_cases(self) -> list[ParameterSet]:
        """The rejections that the facts claim."""
        found = (pytest.param(one, id=f"{one.status}-{one.shape}") for one in self.facts.rejections)
        return listed(found, without="its facts claim no 5xx as a rejection")

    def row(self, said: Documented, state: State, status: int | None = None) -> Row | None:
        """The line of the money table for what came of a submit."""
        return after_submit(self.reply(said, status=status), state, self.facts)

    def status_of(self, said: Documented, state: State) -> int:
        """The status that counts: the code in the body, where the provider puts it there."""
        return said.status if not isinstance(state, Refused) or state.code is None else state.code

    def test_a_claimed_rejection_is_seen_in_a_reply(self, claimed: Rejection) -> None:
        """The facts may claim that a 5xx was not accepted where a documented reply leads there."""
        seen = {}
        for said in self.said(Purpose.SUBMIT):
            state = self.read(said)
            if isinstance(state, Refused) and (self.status_of(said, state), state.shape) == (
                claimed.status,
                claimed.shape,
            ):
                seen[said.name] = self.row(said, state)

        assert seen, f"no documented reply to a submit is {claimed.status} in the shape {claimed.shape!r}"
        assert {row.charged for row in seen.values() if row} == {Charged.NO}

    def test_a_refused_submit_costs_what_it_should(self, refused_submit: Documented) -> None:
        """A 4xx in the provider's own words costs nothing; any 5xx that is not listed may have been accepted."""
        state = self.read(refused_submit)
        row = self.row(refused_submit, state)
        assert row is not None, f"{refused_submit.name} is taken for accepted"
        listed_ones = {(one.status, one.shape) for one in self.facts.rejections}
        status, shape = self.status_of(refused_submit, state), getattr(state, "shape", "")
        charged = state.maybe_charged if isinstance(state, Failed) else row.charged is Charged.MAYBE

        if refused_submit.maybe_charged is not None:
            assert charged is refused_submit.maybe_charged, row.because
        if status >= 500 and (status, shape) not in listed_ones:
            assert charged, f"HTTP {status} is no documented rejection: {row.because}"
        if status in UNANSWERED or refused_submit.status in UNANSWERED:
            assert charged

    def test_a_missing_answer_is_never_a_rejection(self, refused_submit: Documented) -> None:
        """408 and 504 say that nobody answered, whatever stands in the body."""
        for status in UNANSWERED:
            row = self.row(refused_submit, self.read(refused_submit, status=status), status=status)
            assert row is None or row.charged is not Charged.NO

    def test_an_undocumented_5xx_may_be_charged(self, refused_submit: Documented) -> None:
        """The same words under a status that nobody documents."""
        state = self.read(refused_submit, status=599)
        row = self.row(refused_submit, state, status=599)
        coded = isinstance(state, Refused) and state.code not in {None, 599}

        assert coded or row is None or row.charged is not Charged.NO

    def test_a_page_of_something_in_between_may_be_charged(self) -> None:
        """It says nothing about what the provider did; only "too many requests" is understood from anybody."""
        call = self.call(Purpose.SUBMIT)
        assert call is not None
        for status in bodies.STATUSES:
            reply = Reply(call, status, {"content-type": "text/html"}, bodies.HTML)
            state = self.adapter.read(reply, None)
            row = after_submit(reply, state, self.facts)
            free = row is not None and row.charged is Charged.NO
            assert row is not None, f"HTTP {status} is taken for accepted"
            assert not free or row.kind is Kind.RATE_LIMITED, f"HTTP {status}: {row.because}"

    def test_an_accepted_submit_is_accepted(self) -> None:
        """And one without the name of its task, or without an image, is unknown: it may be paid."""
        for said in self.said(Purpose.SUBMIT, means=ACCEPTED):
            assert self.row(said, self.read(said)) is None
            reply = replace(self.reply(said), body=json.dumps(self._emptied(said.json())).encode())
            row = after_submit(reply, self.adapter.read(reply, None), self.facts)
            assert row is not None, f"{said.name} without its values is taken for accepted"
            assert row.charged is Charged.MAYBE

    def _emptied(self, document: object) -> object:
        if isinstance(document, dict):
            return {key: self._emptied(item) if isinstance(item, dict) else None for key, item in document.items()}
        return None

    def test_a_refused_poll_is_asked_again(self, refused_poll: Documented) -> None:
        """It is the end of a question, and not of the task."""
        row = after_poll(self.reply(refused_poll), self.read(refused_poll))

        assert row is not None
        assert row.again is not Again.NEVER
        assert row.charged is Charged.MAYBE
