"""The kie adapter reads any bytes without raising, and only the provider's own words start, end or lose a task."""

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
    Failed,
    Kind,
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
from anykontext_kie import Kie
from anykontext_kie.values import whole

KIE = Kie()
STATES = (Balance, Failed, Refused, Running, Succeeded, Uploaded)
CODES = st.sampled_from([200, 400, 401, 402, 404, 408, 422, 429, 433, 451, 455, 500, 501, 505, 0, -1, "200", "429"])
FLAGS = st.sampled_from([0, 1, 2, 3, 4, -1, "0", "1", "3", "成功", "", None, True, 1.0, 2**63])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(
    [
        *("success", "null", "recordInfo is null", "Your prompt was flagged by Website as violating content policies."),
        *("The security tolerance level is out of range", "2026-01-06 08:17:04", "2024-03-20T10:30:00Z", "one"),
        *("https://tempfile.aiquickdraw.com/r.png", "https://[x", "http://", "9999-12-31T23:59:59Z", "0001-01-01"),
    ]
)
LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT | WORDS | CODES
KEYS = st.sampled_from(
    [
        *("code", "msg", "message", "data", "taskId", "task_id", "successFlag", "response", "resultImageUrl"),
        *("originImageUrl", "completeTime", "errorCode", "errorMessage", "downloadUrl", "success", "paramJson"),
    ]
)
ANY = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=6), max_leaves=20
)
RECORDS = st.fixed_dictionaries(
    {"successFlag": FLAGS},
    optional={
        "response": ANY | st.fixed_dictionaries({"resultImageUrl": LEAF}),
        "completeTime": LEAF,
        "errorMessage": LEAF,
    },
)
SUBMITTED = st.fixed_dictionaries({}, optional={"taskId": LEAF, "task_id": LEAF, "downloadUrl": LEAF})
ENVELOPES = st.fixed_dictionaries(
    {}, optional={"code": CODES | LEAF, "msg": LEAF, "message": LEAF, "data": RECORDS | SUBMITTED | ANY, "taskId": LEAF}
)
JSON = ENVELOPES | ANY
STATUS = st.sampled_from([200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 422, 429, 500, 502, 503, 504, 599, 0, 999])
PURPOSE = st.sampled_from(list(Purpose))
RETRY_AFTER = st.sampled_from(["1", "0.5", "-1", "soon", "", "9" * 400, "٣"])
DEEP = [b'{"code":200,"%s":' % key + b"[" * 900 + b"]" * 900 + b"}" for key in (b"msg", b"data", b"taskId")]


def check(purpose: Purpose, status: int, body: bytes, task: Task | None, retry_after: str = "1") -> State:
    """`read` returns a state that the engine can act on, and its end can be told."""
    reply: Heard = Reply(Call(purpose, "GET", "/"), status, {"retry-after": retry_after}, body)
    assert isinstance(reply, Reply)
    found = KIE.read(reply, task)
    assert isinstance(found, STATES)
    assert set(STATES) <= set(get_args(State))
    row = after_submit(reply, found, KIE.facts) if purpose is Purpose.SUBMIT else after_poll(reply, found)
    if row is not None:
        end = ended_by(row, reply, found)
        assert end.message
        assert len(end.message) <= 600
    if isinstance(found, Succeeded):
        (output,) = found.outputs
        assert output.url is not None
        assert output.url.startswith("http")
        assert output.expires_at is None or (isinstance(output.expires_at, datetime) and output.expires_at.tzinfo)
    if isinstance(found, Uploaded):
        assert found.url.startswith("http")
    if isinstance(found, Running):
        assert found.task.id
    if isinstance(found, Balance):
        assert isinstance(found.amount, Decimal)
    if isinstance(found, Refused) and found.retry_after_s is not None:
        assert 0 <= found.retry_after_s < 1e9
    return found


@settings(max_examples=500, deadline=None)
@given(purpose=PURPOSE, status=STATUS, body=st.binary(max_size=200), has_task=st.booleans())
def test_read_never_raises_on_any_bytes(purpose: Purpose, status: int, body: bytes, has_task: bool) -> None:
    check(purpose, status, body, Task("one") if has_task else None)


@settings(max_examples=1500, deadline=None)
@given(purpose=PURPOSE, status=STATUS, body=JSON, has_task=st.booleans(), retry_after=RETRY_AFTER)
@example(Purpose.POLL, 200, {"code": 200, "data": {"successFlag": 1, "response": []}}, True, "1")
@example(Purpose.POLL, 200, {"code": 501, "msg": {"x": []}}, True, "1")
@example(Purpose.SUBMIT, 200, {"code": 429, "msg": None}, False, "9" * 400)
def test_read_never_raises_on_any_json(
    purpose: Purpose, status: int, body: Any, has_task: bool, retry_after: str
) -> None:
    check(purpose, status, orjson.dumps(body), Task("one") if has_task else None, retry_after)


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("body", DEEP, ids=lambda body: body[13:19].decode())
def test_f40_read_never_raises_on_deep_json(purpose: Purpose, status: int, body: bytes) -> None:
    check(purpose, status, body, Task("one"))


@settings(max_examples=500, deadline=None)
@given(status=STATUS, body=JSON)
def test_a_submit_is_accepted_only_by_a_success_that_names_a_task(status: int, body: Any) -> None:
    found = check(Purpose.SUBMIT, status, orjson.dumps(body), None)

    if isinstance(found, Running):
        data = body.get("data")
        places = [body.get("taskId"), *((data.get("taskId"), data.get("task_id")) if isinstance(data, dict) else ())]
        assert found.task.id in places
        assert found.known is (200 <= status < 300 and whole(body.get("code")) in {None, 200})


@settings(max_examples=500, deadline=None)
@given(status=STATUS, body=JSON)
def test_only_a_flag_or_a_code_ends_a_task(status: int, body: Any) -> None:
    found = check(Purpose.POLL, status, orjson.dumps(body), Task("one"))

    if isinstance(found, Succeeded):
        assert body["data"]["successFlag"] in {1, "1"}
    if isinstance(found, Failed):
        flag = body["data"].get("successFlag") if isinstance(body.get("data"), dict) else None
        assert body.get("code") in {400, 408, 501} or flag in {2, 3, "2", "3"}
        assert found.kind in {Kind.GENERATION_FAILED, Kind.MODERATED, Kind.REQUEST_REJECTED}
