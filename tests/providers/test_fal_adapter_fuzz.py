from decimal import Decimal
from typing import Any, get_args

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anykontext.adapting import (
    Balance,
    Call,
    Cancelling,
    Failed,
    Fetch,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
    Uploaded,
)
from anykontext.engine.effects import Heard
from anykontext.engine.ends import ended_by
from anykontext.engine.money_table import after_poll, after_submit
from anykontext.model.job import JobHandle
from anykontext_fal import Fal

FAL = Fal()
STATES = (Balance, Cancelling, Failed, Fetch, Refused, Running, Succeeded, Uploaded)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(
    [
        *("IN_QUEUE", "IN_PROGRESS", "COMPLETED", "NOT_FOUND", "ALREADY_COMPLETED", "CANCELLATION_REQUESTED", "OK", ""),
        *("Request is still in progress", "Request not found", "content_policy_violation", "image_too_large"),
        *("request_timeout", "client_cancelled", "runner_scheduling_failure", "User is locked", "prompt", "body"),
        *("https://queue.fal.run/x", "https://[x", "data:image/png;base64,AAAA", "data:,", "data:;base64,"),
    ]
)
LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT | WORDS
KEYS = st.sampled_from(
    [
        *("request_id", "status", "status_url", "response_url", "cancel_url", "queue_position", "token", "success"),
        *("detail", "error", "error_type", "loc", "msg", "type", "ctx", "input", "message", "code"),
        *("images", "url", "seed", "prompt", "has_nsfw_concepts"),
    ]
)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=6), max_leaves=20
)
STATUS = st.sampled_from(
    [200, 201, 202, 204, 302, 400, 401, 402, 403, 404, 405, 408, 409, 422, 429, 499, 500, 502, 503, 504, 0, 999]
)
PURPOSE = st.sampled_from(list(Purpose))
HEADERS = st.dictionaries(
    st.sampled_from(["x-fal-request-id", "x-fal-billable-units", "x-fal-error-type", "x-fal-request-timeout-type"]),
    st.sampled_from(["1", "0", "-1", "NaN", "1e999999", "user", "internal_error", "client_cancelled", "", "\u0663"]),
)
TASKS = st.sampled_from([None, Task("one"), Task("a/../b?c", "https://x.example/s", {"app": "../..//"})])
DEEP = [
    b'{"%s":' % key + b"[" * 900 + b"]" * 900 + b"}" for key in (b"detail", b"status", b"images", b"error", b"token")
]


def check(
    purpose: Purpose, status: int, body: bytes, task: Task | None, headers: dict[str, str] | None = None
) -> State:
    """`read` returns a state that the engine can act on, and its end can be told."""
    call = Call(purpose, "GET", "/fal-ai/flux-pro/kontext")
    reply: Heard = Reply(call, status, {"retry-after": "1", **(headers or {})}, body)
    assert isinstance(reply, Reply)
    found = FAL.read(reply, task)
    assert isinstance(found, STATES)
    assert set(STATES) == set(get_args(State))
    row = after_submit(reply, found, FAL.facts) if purpose is Purpose.SUBMIT else after_poll(reply, found)
    if row is not None:
        end = ended_by(row, reply, found)
        assert end.message
        assert len(end.message) <= 600
        assert end.raw is not None
    if isinstance(found, Succeeded):
        assert found.outputs or found.flagged
        assert all(bool(one.url) is not bool(one.base64) for one in found.outputs)
        assert found.units is None or (isinstance(found.units, Decimal) and 0 <= found.units < 10**12)
    if isinstance(found, Running):
        assert found.task.id
        assert found.queue_position is None or found.queue_position >= 0
        handle = JobHandle("job", "fal", "fal", "m", "edit", (found.task,))
        assert handle == JobHandle.from_json(handle.to_json())
    if isinstance(found, Fetch):
        assert found.call.path
    return found


@settings(max_examples=300, deadline=None)
@given(purpose=PURPOSE, status=STATUS, body=st.binary(max_size=300), task=TASKS, headers=HEADERS)
def test_read_never_raises_on_any_bytes(
    purpose: Purpose, status: int, body: bytes, task: Task | None, headers: dict[str, str]
) -> None:
    check(purpose, status, body, task, headers)


@settings(max_examples=1000, deadline=None)
@given(purpose=PURPOSE, status=STATUS, body=JSON, task=TASKS, headers=HEADERS)
@example(Purpose.FETCH, 422, {"detail": [{"loc": [["a"], None], "msg": {"x": []}, "ctx": {"": {}}}, 7]}, Task("o"), {})
@example(Purpose.FETCH, 200, {"images": {"url": "x"}, "has_nsfw_concepts": {}}, Task("o"), {})
@example(Purpose.SUBMIT, 503, {"detail": {}, "error_type": []}, None, {"x-fal-error-type": ""})
def test_read_never_raises_on_any_json(
    purpose: Purpose, status: int, body: Any, task: Task | None, headers: dict[str, str]
) -> None:
    check(purpose, status, orjson.dumps(body), task, headers)


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("status", [200, 404, 422, 503])
@pytest.mark.parametrize("body", DEEP, ids=lambda body: body[2:8].decode())
def test_f40_read_never_raises_on_deep_json(purpose: Purpose, status: int, body: bytes) -> None:
    check(purpose, status, body, Task("one"))


@pytest.mark.parametrize(
    "inner",
    [
        *(b'{"loc":["body",%s],"msg":"x"}', b'{"loc":[],"msg":%s}', b'{"msg":"x","ctx":{"a":%s}}', b"%s"),
        *(b'{"type":%s}', b'{"msg":"x","ctx":%s}', b'{"input":%s}'),
    ],
)
def test_f40_deep_findings_of_a_422_are_told_in_words(inner: bytes) -> None:
    body = b'{"detail":[' + inner.replace(b"%s", b"[" * 900 + b"]" * 900) + b"]}"

    found = check(Purpose.FETCH, 422, body, Task("one"))

    assert isinstance(found, Failed)
    assert "[[" not in found.message


@settings(max_examples=300, deadline=None)
@given(status=STATUS, body=JSON, headers=HEADERS)
@example(200, {"request_id": "x", "status": "COMPLETED"}, {})
def test_fal_20_a_submit_is_accepted_only_by_a_2xx_that_names_a_task(
    status: int, body: Any, headers: dict[str, str]
) -> None:
    found = check(Purpose.SUBMIT, status, orjson.dumps(body), None, headers)

    named = isinstance(body, dict) and isinstance(body.get("request_id"), str) and body["request_id"]
    assert bool(200 <= status < 300 and named) == isinstance(found, Running | Fetch)


@settings(max_examples=500, deadline=None)
@given(purpose=PURPOSE, status=STATUS, body=JSON, headers=HEADERS)
@example(Purpose.POLL, 422, {"detail": [{"type": "content_policy_violation"}], "images": [{"url": "x"}]}, {})
def test_fal_3_only_the_result_ends_a_task(purpose: Purpose, status: int, body: Any, headers: dict[str, str]) -> None:
    found = check(purpose, status, orjson.dumps(body), Task("one"), headers)

    if isinstance(found, Failed | Succeeded):
        assert Purpose.FETCH is purpose


@settings(max_examples=500, deadline=None)
@given(status=st.sampled_from([500, 502, 503, 504]), body=JSON)
def test_fal_18_a_5xx_without_a_word_of_fals_never_ends_a_task(status: int, body: Any) -> None:
    found = check(Purpose.FETCH, status, orjson.dumps(body), Task("one"))

    if isinstance(found, Failed):
        assert isinstance(body.get("detail"), list) or isinstance(body.get("error_type"), str)
