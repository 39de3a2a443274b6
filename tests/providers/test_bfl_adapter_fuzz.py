from datetime import datetime
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
from anykontext_bfl import Bfl

BFL = Bfl()
STATES = (Balance, Cancelling, Failed, Fetch, Refused, Running, Succeeded, Uploaded)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(
    [
        *("Ready", "Pending", "Error", "Request Moderated", "Content Moderated", "Task not found", "Odd", ""),
        *("Invalid API key format", "https://x.example/a?se=2025-12-18T15%3A49%3A07Z", "https://[x?se=1", "?se=&se="),
    ]
)
LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT | WORDS
KEYS = st.sampled_from(
    [
        *("id", "polling_url", "webhook_url", "status", "result", "sample", "seed", "prompt", "progress", "details"),
        *("Moderation Reasons", "error", "detail", "msg", "message", "loc", "cost", "credits", "input", "type"),
    ]
)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=6), max_leaves=20
)
STATUS = st.sampled_from([200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 422, 429, 500, 502, 503, 504, 599, 0, 999])
PURPOSE = st.sampled_from(list(Purpose))
DEEP = [b'{"%s":' % key + b"[" * 900 + b"]" * 900 + b"}" for key in (b"detail", b"status", b"details", b"result")]


def check(purpose: Purpose, status: int, body: bytes, task: Task | None) -> State:
    """`read` returns a state that the engine can act on, and its end can be told."""
    reply: Heard = Reply(Call(purpose, "GET", "/"), status, {"retry-after": "1"}, body)
    assert isinstance(reply, Reply)
    found = BFL.read(reply, task)
    assert isinstance(found, STATES)
    assert set(STATES) == set(get_args(State))
    row = after_submit(reply, found, BFL.facts) if purpose is Purpose.SUBMIT else after_poll(reply, found)
    if row is not None:
        end = ended_by(row, reply, found)
        assert end.message
        assert len(end.message) <= 600
        assert end.raw is not None
    if isinstance(found, Succeeded):
        assert found.outputs
        assert all(isinstance(one.url, str) and one.url for one in found.outputs)
        assert found.cost_usd is None or (isinstance(found.cost_usd, Decimal) and found.cost_usd >= 0)
        assert all(one.expires_at is None or isinstance(one.expires_at, datetime) for one in found.outputs)
    if isinstance(found, Running):
        assert found.task.id
        assert found.progress is None or 0 <= found.progress <= 1
    return found


@settings(max_examples=300, deadline=None)
@given(purpose=PURPOSE, status=STATUS, body=st.binary(max_size=300), has_task=st.booleans())
def test_read_never_raises_on_any_bytes(purpose: Purpose, status: int, body: bytes, has_task: bool) -> None:
    check(purpose, status, body, Task("one") if has_task else None)


@settings(max_examples=1000, deadline=None)
@given(purpose=PURPOSE, status=STATUS, body=JSON, has_task=st.booleans())
@example(Purpose.POLL, 200, {"status": "Ready", "result": {"sample": "https://[x?se=1"}}, True)
@example(Purpose.SUBMIT, 422, {"detail": [{"loc": [["a"], None], "msg": {"x": []}}, 7, None, []]}, False)
@example(Purpose.POLL, 200, {"status": "Content Moderated", "details": [[[]], {}]}, True)
def test_read_never_raises_on_any_json(purpose: Purpose, status: int, body: Any, has_task: bool) -> None:
    check(purpose, status, orjson.dumps(body), Task("one") if has_task else None)


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("status", [200, 404, 422, 503])
@pytest.mark.parametrize("body", DEEP, ids=lambda body: body[2:8].decode())
def test_f40_read_never_raises_on_deep_json(purpose: Purpose, status: int, body: bytes) -> None:
    check(purpose, status, body, Task("one"))


@pytest.mark.parametrize(
    "inner",
    [b'{"loc":["body",%s],"msg":"x"}', b'{"loc":[],"msg":%s}', b"%s"],
    ids=["loc", "msg", "bare"],
)
def test_f40_deep_findings_of_a_422_are_told_in_words(inner: bytes) -> None:
    body = b'{"detail":[' + inner.replace(b"%s", b"[" * 900 + b"]" * 900) + b"]}"

    found = check(Purpose.SUBMIT, 422, body, None)

    assert isinstance(found, Refused)
    assert "detail" == found.shape
    assert "[[" not in found.message


@settings(max_examples=300, deadline=None)
@given(status=STATUS, body=JSON)
def test_a_submit_is_accepted_only_by_a_2xx_that_names_a_task(status: int, body: Any) -> None:
    found = check(Purpose.SUBMIT, status, orjson.dumps(body), None)

    named = isinstance(body, dict) and isinstance(body.get("id"), str) and body["id"]
    assert bool(200 <= status < 300 and named) == isinstance(found, Running)


@settings(max_examples=300, deadline=None)
@given(status=STATUS, body=JSON)
def test_only_a_status_word_ends_a_task(status: int, body: Any) -> None:
    found = check(Purpose.POLL, status, orjson.dumps(body), Task("one"))

    if isinstance(found, Failed):
        assert body["status"] in {"Error", "Request Moderated", "Content Moderated"}
    if isinstance(found, Succeeded):
        assert body["status"] == "Ready"
