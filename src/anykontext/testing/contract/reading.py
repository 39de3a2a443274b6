"""What is made of replies: documented ones, new ones, and any bytes at all."""

import json
import time
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anykontext.adapting import Failed, Fetch, Purpose, Refused, Reply, Running, State, Succeeded
from anykontext.testing.contract import bodies
from anykontext.testing.contract.base import Contract, Documented, listed
from anykontext.testing.contract.orders import leaves
from anykontext.testing.contract.truth import ODD_HEADERS, odd_link, untrue, with_link

STATES = get_args(State)
GOOD = (Succeeded, Fetch)
UNKNOWN = "zz_unknown"
QUICK_S = 10.0  # for all purposes and statuses, on a slow machine
EXAMPLES = settings(
    max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


class ReadingContract(Contract):
    """Every reply is read, and none is believed that says nothing."""

    def said_cases(self) -> list[ParameterSet]:
        """Every documented reply."""
        return listed((pytest.param(one, id=one.name) for one in self.documented), without="no reply is documented")

    def said_in_json_cases(self) -> list[ParameterSet]:
        """Every documented reply that is a JSON object or list."""
        found = (pytest.param(one, id=one.name) for one in self.documented if isinstance(one.json(), dict | list))
        return listed(found, without="no reply in JSON is documented")

    def running_cases(self) -> list[ParameterSet]:
        """Every documented poll of a task that runs in a known way."""
        found = (
            pytest.param(one, id=one.name)
            for one in self.said(Purpose.POLL, means=(Running,))
            if one.told.get("known", True)
        )
        return listed(found, without="no running task is ever polled")

    def status_word_cases(self) -> list[ParameterSet]:
        """Every word for a state that the facts know."""
        found = (pytest.param(word, id=str(word)) for word in self.facts.statuses)
        return listed(found, without="its facts list no words for the state of a task")

    def error_word_cases(self) -> list[ParameterSet]:
        """Every status, code or type of error that the facts know."""
        found = (pytest.param(word, id=str(word)) for word in self.facts.errors)
        return listed(found, without="its facts list no errors")

    def hostile_cases(self) -> list[ParameterSet]:
        """Bodies that nobody should send."""
        return [pytest.param(body, id=name) for name, body in bodies.HOSTILE.items()]

    def test_a_documented_reply_means_what_it_should(self, said: Documented) -> None:
        """The state, its kind, whether it may be charged, and what else is told."""
        state = self.read(said)
        found = (type(state), getattr(state, "kind", None), {name: getattr(state, name) for name in said.told})

        assert found == (said.expected, said.kind, dict(said.told)), state
        if isinstance(state, Failed) and said.maybe_charged is not None:
            assert state.maybe_charged is said.maybe_charged

    def test_there_are_documented_replies_of_every_kind(self) -> None:
        """A contract that is told nothing holds nothing: an acceptance, a refusal, and an end at least."""
        accepted = self.said(Purpose.SUBMIT, means=(Running, Fetch, Succeeded))

        assert accepted, "no accepted submit is documented"
        assert self.said(Purpose.SUBMIT, means=(Refused,)), "no refused submit is documented"
        assert self.said(means=(Succeeded,)), "no image is documented"
        if self.has_tasks:
            assert self.said(Purpose.POLL, means=(Running,)), "no running task is documented"
            assert self.said(Purpose.POLL, Purpose.FETCH, means=(Failed,)), "no failed task is documented"

    def test_a_documented_status_has_a_reply(self, status_word: str) -> None:
        """What the facts say of words is seen in a reply."""
        told = self.said(Purpose.SUBMIT, Purpose.POLL, Purpose.FETCH)

        assert any(str(status_word) in self._values(one) for one in told), (
            f"no documented reply to a submit, a poll or a fetch has {status_word!r} as a value"
        )

    def test_a_documented_error_has_a_reply(self, error_word: str) -> None:
        """What the facts say of errors is seen in a reply."""
        for word in str(error_word).split(", "):
            told = self.said(means=(Refused, Failed))
            assert any(word in {str(one.status), *self._values(one)} for one in told), (
                f"no documented refusal or failure has the status {word}, or has it as a value"
            )

    def _values(self, said: Documented) -> set[str]:
        """The whole values of a reply in JSON."""
        return {str(value) for _, value in leaves(said.json())} if isinstance(said.json(), dict | list) else set()

    def test_an_accepted_submit_names_a_task_or_brings_images(self) -> None:
        """What is paid can be found again."""
        for said in self.said(Purpose.SUBMIT, means=(Running, Fetch, Succeeded)):
            state = self.read(said)
            if isinstance(state, Running | Fetch):
                assert state.task.id
            elif isinstance(state, Succeeded):
                assert state.outputs or state.flagged

    def test_an_output_has_a_link_or_a_text(self) -> None:
        """Each image can be fetched in one way."""
        outputs = [one for said in self.said(means=(Succeeded,)) for one in self._outputs(self.read(said))]

        assert outputs
        assert all((one.url is None) != (one.base64 is None) for one in outputs)
        assert all(one.url is None or one.url in self._texts() for one in outputs), "a link is passed on verbatim"

    def test_a_link_is_passed_on_byte_for_byte(self) -> None:
        """Its signature is over every byte of it."""
        asked = 0
        for said in self.said(means=(Succeeded,)):
            for link in [one.url for one in self._outputs(self.read(said)) if one.url]:
                odd = odd_link(link)
                state = self.read(said, json.dumps(with_link(said.json(), link, odd)).encode())
                assert [one.url for one in self._outputs(state)].count(odd) >= 1, f"{odd} became {state!r}"
                asked += 1
        if not asked:
            pytest.skip("capability: images come inside replies, and not as links")

    def test_a_state_says_nothing_impossible(self, said: Documented) -> None:
        """Whatever stands in a reply: no negative seed or cost, no endless wait, no time without a zone."""
        task = None if said.purpose in {Purpose.SUBMIT, Purpose.CHECK, Purpose.UPLOAD} else self.task()
        reply, document = self.reply(said), said.json()
        replies = [reply, replace(reply, headers={"retry-after": "-1"}), replace(reply, headers={})]
        for name in (*reply.headers, "retry-after"):
            replies += [replace(reply, headers={**reply.headers, name: odd}) for odd in ODD_HEADERS]
        if isinstance(document, dict | list):
            changed = (*bodies.wrong_types(document), *bodies.without_each(document))
            replies += [replace(reply, body=body) for body in changed]
        for one in replies:
            wrong = untrue(self.adapter.read(one, task))
            assert not wrong, f"{', '.join(wrong)} of {one.body[:300]!r} with {dict(one.headers)}"

    def _outputs(self, state: State) -> tuple[Any, ...]:
        return state.outputs if isinstance(state, Succeeded) else ()

    def _texts(self) -> set[Any]:
        return {value for said in self.documented for _, value in leaves(said.json()) if isinstance(value, str)}

    def test_an_unknown_status_runs_on(self, running: Documented) -> None:
        """A new word is neither a success nor an end: it is reported, and asked again until the deadline."""
        before, document = self.read(running), running.json()
        assert isinstance(before, Running)
        assert before.known
        places = bodies.words_of(document)
        own = [path for path, value in leaves(document) if value == before.raw_status]
        states = {path: self.read(running, self._with(document, path, UNKNOWN)) for path in own or places}
        odd = {path: state for path, state in states.items() if isinstance(state, Running) and not state.known}

        assert odd, f"another word than {before.raw_status!r} was read as {list(states.values())}"
        assert all(UNKNOWN in state.raw_status for state in odd.values())
        assert not [state for state in states.values() if isinstance(state, Succeeded | Failed | Fetch)]

    def _with(self, document: Any, path: tuple[Any, ...], value: Any) -> bytes:
        return json.dumps(bodies.replaced(document, path, value)).encode()

    def test_unknown_fields_change_nothing(self, said_in_json: Documented) -> None:
        """Providers add fields without notice."""
        changed = json.dumps(bodies.with_more_fields(said_in_json.json())).encode()

        assert self._plain(self.read(said_in_json, changed)) == self._plain(self.read(said_in_json))

    def _plain(self, state: State) -> dict[str, Any]:
        """A state without what repeats the reply: its words and the reply itself."""
        names = {one.name for one in fields(state)} - {"message", "raw", "reasons"}
        return {"": type(state), **{name: getattr(state, name) for name in sorted(names)}}

    def test_any_bytes_are_survived(self, hostile: Any) -> None:
        """Whatever was asked and whatever the status: a state, soon, and never an image or an accepted task."""
        body = hostile()
        calls = {purpose: call for purpose in self.purposes() if (call := self.call(purpose))}
        began = time.monotonic()
        for purpose, call in calls.items():
            for status in bodies.STATUSES:
                state = self.understood(Reply(call, status, {}, body))
                assert isinstance(state, STATES), f"{purpose} {status}: {state!r}"
                assert not isinstance(state, GOOD), f"{purpose} {status}: {state!r}"
                assert purpose is not Purpose.SUBMIT or not isinstance(state, Running), f"{status}: {state!r}"
        assert time.monotonic() - began < QUICK_S

    def test_wrong_types_are_survived(self, said_in_json: Documented) -> None:
        """Every place of a documented reply with something else in it, or missing, or cut off."""
        document, raw = said_in_json.json(), said_in_json.raw
        changed = [*bodies.wrong_types(document), *bodies.without_each(document)]
        changed += [raw[:end] for end in range(0, len(raw), max(1, len(raw) // 40))]
        reply = self.reply(said_in_json)
        task = None if said_in_json.purpose in {Purpose.SUBMIT, Purpose.CHECK, Purpose.UPLOAD} else self.task()
        for body in changed:
            state = self.adapter.read(replace(reply, body=body), task)
            assert isinstance(state, STATES), f"{body[:200]!r}: {state!r}"
            assert not isinstance(state, Running | Fetch) or (state.task.id and isinstance(state.task.id, str))
            assert all(isinstance(one.url or one.base64, str) for one in self._outputs(state)), body[:200]

    def test_any_change_of_a_reply_is_survived(self, said_in_json: Documented) -> None:
        """Any JSON at any place, under any status and headers."""
        document, reply = said_in_json.json(), self.reply(said_in_json)
        task = None if said_in_json.purpose in {Purpose.SUBMIT, Purpose.CHECK, Purpose.UPLOAD} else self.task()
        places = st.sampled_from(list(bodies.paths(document)))

        @EXAMPLES
        @given(places, bodies.json_values, st.sampled_from([said_in_json.status, *bodies.STATUSES]))
        def changed(path: tuple[Any, ...], value: Any, status: int) -> None:
            body = self._with(document, path, value)
            state = self.adapter.read(replace(reply, body=body, status=status), task)
            assert isinstance(state, STATES)

        changed()

    def test_an_end_is_only_told_by_the_provider(self) -> None:
        """A page of something in between says nothing about the task, which runs on and is paid."""
        for purpose in {Purpose.POLL, Purpose.FETCH} & set(self.purposes()):
            call = self.call(purpose)
            assert call is not None
            for status in bodies.STATUSES:
                state = self.understood(Reply(call, status, {"content-type": "text/html"}, bodies.HTML))
                assert isinstance(state, Refused | Running), f"{purpose} {status}: {state!r}"
