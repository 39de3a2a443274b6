import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.model.errors import InvalidRequest
from anykontext.model.frozen import Frozen, freeze
from anykontext.model.job import JobHandle, JobState, Task
from anykontext.model.result import Adjustment

HANDLE = JobHandle(
    job_id="job_1",
    provider="bfl-eu",
    adapter="bfl",
    model="flux-kontext-pro",
    mode="edit",
    tasks=(
        Task("one", "https://api.eu2.bfl.ai/v1/get_result?id=one"),
        Task("zw\u00f6lf", None, Frozen({"response_url": "https://x.example/"})),
    ),
    adjustments=(
        Adjustment("safety_tolerance", 6, 2, "it takes 0 to 2"),
        Adjustment("raw", None, True, "own words", by="provider_options", more_permissive=True),
    ),
    created_at="2026-11-20T12:00:00+00:00",
)


def test_a_handle_survives_json() -> None:
    text = HANDLE.to_json()

    assert "\n" not in text
    assert HANDLE == JobHandle.from_json(text)
    assert HANDLE == JobHandle.from_json(text.encode())
    assert HANDLE == JobHandle.from_json(json.loads(text))
    assert HANDLE == JobHandle.from_json(HANDLE.to_dict())


def test_a_handle_can_be_pickled_and_hashed() -> None:
    assert HANDLE == pickle.loads(pickle.dumps(HANDLE))
    assert hash(HANDLE) == hash(JobHandle.from_json(HANDLE.to_json()))


def test_fields_of_a_later_release_are_passed_over() -> None:
    found = HANDLE.to_dict() | {"new": 1}
    found["tasks"][0]["new"] = 2

    assert HANDLE == JobHandle.from_json(found)


def test_a_handle_of_another_version_says_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="version 2, and this release reads 1"):
        JobHandle.from_json(HANDLE.to_dict() | {"version": 2})


def test_an_adjustment_of_any_json_like_value_can_be_written() -> None:
    value = freeze({"a": [1, {"b": (2, 3)}]})
    handle = JobHandle(
        *("job_1", "bfl", "bfl", "flux-kontext-pro", "edit"), (Task("one"),), (Adjustment("x", None, value, "y"),)
    )

    found = JobHandle.from_json(handle.to_json())

    assert {"a": [1, {"b": [2, 3]}]} == found.adjustments[0].sent


BROKEN: list[Any] = [
    *("", "{", "null", "[]", "7", '"x"', b"\xff", "{}", "[" * 100_000, "9" * 5000, '{"version": 1}'),
    HANDLE.to_dict() | {"tasks": []},
    HANDLE.to_dict() | {"tasks": None},
    HANDLE.to_dict() | {"tasks": {"id": "one"}},
    HANDLE.to_dict() | {"tasks": ["one"]},
    HANDLE.to_dict() | {"tasks": [{"id": 7}]},
    HANDLE.to_dict() | {"tasks": [{"id": ""}]},
    HANDLE.to_dict() | {"tasks": [{"id": "x", "poll_url": 7}]},
    HANDLE.to_dict() | {"tasks": [{"id": "x", "poll_url": ""}]},
    HANDLE.to_dict() | {"tasks": [{"id": "x", "data": {"a": 7}}]},
    HANDLE.to_dict() | {"mode": "video"},
    HANDLE.to_dict() | {"mode": ["edit"]},
    HANDLE.to_dict() | {"provider": None},
    HANDLE.to_dict() | {"job_id": ""},
    HANDLE.to_dict() | {"adjustments": 7},
    HANDLE.to_dict() | {"adjustments": ["x"]},
    HANDLE.to_dict() | {"adjustments": [{}]},
    HANDLE.to_dict() | {"version": "1"},
    HANDLE.to_dict() | {"version": None},
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: repr(one)[:30])
def test_what_is_no_handle_is_an_invalid_request(broken: Any) -> None:
    with pytest.raises(InvalidRequest):
        JobHandle.from_json(broken)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELD = st.sampled_from([*HANDLE.to_dict()])


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(FIELD, JSON, max_size=3), left_out=st.sets(FIELD, max_size=2))
def test_any_json_is_a_handle_or_an_invalid_request(changes: dict[str, Any], left_out: set[str]) -> None:
    found = {name: value for name, value in (HANDLE.to_dict() | changes).items() if name not in left_out}
    try:
        handle = JobHandle.from_json(json.dumps(found))
    except InvalidRequest:
        return

    assert handle.tasks
    assert handle == JobHandle.from_json(handle.to_json())


@given(text=st.text() | st.binary())
def test_any_text_is_no_handle_and_raises_only_invalid_request(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest):
        JobHandle.from_json(text)


def test_the_states_are_those_of_the_design() -> None:
    words = "queued running succeeded failed moderated cancelled expired unknown"

    assert words.split() == [state.value for state in JobState]


def test_an_adjustment_tells_itself() -> None:
    changed, left_out = HANDLE.adjustments[0], Adjustment("steps", 30, None, "it does not offer this option")

    assert "safety_tolerance: 6 became 2 (it takes 0 to 2)" == str(changed)
    assert "steps: left out (it does not offer this option)" == str(left_out)


@pytest.mark.parametrize(
    "ids",
    [["one", "one"], [str(number) for number in range(1001)], ["\ud800"], []],
    ids=["twice", "too many", "half a letter", "none"],
)
def test_a_handle_names_each_task_once_and_not_thousands(ids: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        JobHandle.from_json(HANDLE.to_dict() | {"tasks": [{"id": one} for one in ids]})
