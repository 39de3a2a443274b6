"""Handles: enough to find a paid image in another process, and of another release."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from _pytest.mark.structures import ParameterSet
from pydantic import SecretStr

from anykontext.adapting import Call, Cancels, Checks, Fetch, Purpose, Running, Task
from anykontext.engine.provider import Provider
from anykontext.engine.signing import address
from anykontext.model.errors import InvalidRequest
from anykontext.model.job import HANDLE_VERSION, JobHandle
from anykontext.testing.contract.base import Contract, Documented, listed

ODD_ID = "a/b?c&d=e f"
ODD_QUERY = "?zz=%2F+%20é"


class HandlesContract(Contract):
    """A task goes through JSON and is asked for as before."""

    def accepted_cases(self) -> list[ParameterSet]:
        """Every documented submit that names a task."""
        found = (pytest.param(one, id=one.name) for one in self.said(Purpose.SUBMIT, means=(Running, Fetch)))
        return listed(found, without="it names no task")

    def _task(self, said: Documented) -> Task:
        state = self.read(said)
        assert isinstance(state, Running | Fetch)
        return state.task

    def _handle(self, task: Task) -> JobHandle:
        model, hosted = next(iter(self.facts.models.items()))
        name = self.facts.name
        return JobHandle("job_1", name, name, model, next(iter(hosted.modes)), (task,))

    def _calls(self, task: Task) -> list[Call]:
        cancels = [self.adapter.cancel(task)] if isinstance(self.adapter, Cancels) else []
        return [self.adapter.poll(task), *cancels]

    def test_a_handle_survives_json(self, accepted: Documented) -> None:
        """The same task, and the same questions about it."""
        task = self._task(accepted)
        again = JobHandle.from_json(self._handle(task).to_json())

        assert again == self._handle(task)
        assert self._calls(again.tasks[0]) == self._calls(task)

    def test_a_handle_of_a_later_release_is_read(self, accepted: Documented) -> None:
        """What it does not know is passed over."""
        found: dict[str, Any] = json.loads(self._handle(self._task(accepted)).to_json())
        found |= {"region": "eu", "tasks": [{**one, "shard": 7} for one in found["tasks"]]}

        assert self._calls(JobHandle.from_json(json.dumps(found)).tasks[0]) == self._calls(self._task(accepted))

    def test_a_handle_of_another_version_is_refused(self, accepted: Documented) -> None:
        """A version is there to be told apart."""
        found = {**self._handle(self._task(accepted)).to_dict(), "version": HANDLE_VERSION + 1}

        with pytest.raises(InvalidRequest, match="version"):
            JobHandle.from_json(json.dumps(found))

    def test_a_polling_url_is_asked_verbatim(self, accepted: Documented) -> None:
        """A URL of the provider's own is not built anew: another host may not know the task."""
        task = self._task(accepted)
        if task.poll_url is None:
            call = self.adapter.poll(Task(ODD_ID, data=task.data))
            assert call.origin in self.facts.origins
            assert ODD_ID in unquote(call.path)
            assert ODD_ID not in call.path, "an id is quoted"
            return
        url = task.poll_url + ("&zz=%2F+%20é" if "?" in task.poll_url else ODD_QUERY)
        call = self.adapter.poll(Task(task.id, url, task.data))

        assert call.origin is None
        assert call.path == url

    def test_a_kept_url_is_asked_verbatim(self, accepted: Documented) -> None:
        """What a task keeps besides its polling URL is used as it is: to fetch its result, or to cancel it."""
        task = self._task(accepted)
        kept = {key: value + ODD_QUERY for key, value in task.data.items() if "://" in value}
        if not kept:
            pytest.skip("capability: a task keeps no URL but that of its polls")
        odd = Task(task.id, task.poll_url, {**task.data, **kept})
        states = [self.adapter.read(self.reply(one), odd) for one in self.said(Purpose.POLL, means=(Fetch,))]
        calls = [*self._calls(odd), *(state.call for state in states if isinstance(state, Fetch))]

        assert set(kept.values()) <= {call.path for call in calls if call.origin is None}

    def test_a_task_is_told_by_its_own_id(self, accepted: Documented) -> None:
        """Two tasks are two questions."""
        task = self._task(accepted)
        other = Task("another", task.poll_url and task.poll_url.replace(task.id, "another"), task.data)

        assert self.adapter.poll(other) != self.adapter.poll(task)

    def test_a_question_about_a_task_changes_nothing(self, accepted: Documented) -> None:
        """A poll is a GET, which may be repeated; each call says what it is for."""
        poll = self.adapter.poll(self._task(accepted))

        assert (poll.purpose, poll.method, poll.body) == (Purpose.POLL, "GET", None)
        assert [call.purpose for call in self._calls(self._task(accepted))[1:]] in ([], [Purpose.CANCEL])

    def test_the_key_goes_with_a_poll(self, accepted: Documented) -> None:
        """A documented polling URL is on a host that the facts trust, so that it is asked as the provider wants."""
        facts = self.facts
        provider = Provider(facts.name, self.adapter, facts.origins, lambda: SecretStr("k"))
        way = address(self.adapter.poll(self._task(accepted)), provider)

        assert way.signed
        assert not way.guarded

    def test_a_check_is_free(self) -> None:
        """It says that it is one: the engine sends it as often as it likes."""
        if not isinstance(self.adapter, Checks):
            pytest.skip("capability: a key cannot be checked without spending")
        assert self.adapter.check().purpose is Purpose.CHECK
        assert self.adapter.check() == self.adapter.check()
