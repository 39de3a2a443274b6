"""What each adapter makes of replies that no provider should send, and of those that the providers document."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anykontext.adapting import (
    Adapter,
    Balance,
    Call,
    Cancelling,
    Cancels,
    Checks,
    Failed,
    Fetch,
    InputImage,
    Kind,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
    Uploaded,
    Uploads,
)
from anykontext.engine.ends import ended_by
from anykontext.engine.money_table import Charged, after_poll, after_submit
from anykontext.engine.redact import excerpt
from anykontext.plugins import default_registry

from .protocols import (
    DATA_URI,
    ECHO,
    FAL_APP,
    HTML,
    KIE_FLAGGED,
    PICTURE,
    POLICY,
    SPEECHES,
    Place,
    Said,
    Saying,
    Speech,
    bfl,
    bfl_ready,
    fal,
    fal_finding,
    fal_result,
    kie,
    kie_record,
    said,
    together,
    together_error,
)

ADAPTERS = default_registry().adapters
HERE = Place()
STATUSES = (
    *(200, 202, 301, 400, 401, 402, 403, 404, 405, 408, 409, 422, 429, 455),
    *(499, 500, 501, 502, 503, 504, 505, 522),
)
NUMBERS = ("NaN", "-1", "1e999", "Infinity", "x", "")
HEADERS: tuple[Mapping[str, str], ...] = (
    {},
    *(
        {
            "retry-after": text,
            "x-ratelimit-reset": text,
            "x-fal-billable-units": text,
            "x-fal-request-id": text,
            "x-fal-error-type": text,
            "x-fal-request-timeout-type": text,
        }
        for text in NUMBERS
    ),
)


class Asked(NamedTuple):
    """A call that has an answer, and the task that it is about."""

    call: Call
    task: Task | None


def asked_of(name: str) -> dict[Purpose, Asked]:
    """One call for each purpose that an adapter uses."""
    adapter, speech = ADAPTERS[name], SPEECHES[name]
    calls = {Purpose.SUBMIT: Asked(Call(Purpose.SUBMIT, "POST", "/v1/x"), None)}
    if "poll" in speech.stages:
        accepted = read(adapter, calls[Purpose.SUBMIT], speech.replies["submit"](HERE))
        assert isinstance(accepted, Running)
        task = accepted.task
        calls[Purpose.POLL] = Asked(adapter.poll(task), task)
        if "fetch" in speech.stages:
            ended = read(adapter, calls[Purpose.POLL], speech.replies["poll"](HERE))
            assert isinstance(ended, Fetch)
            calls[Purpose.FETCH] = Asked(ended.call, task)
        if isinstance(adapter, Cancels):
            calls[Purpose.CANCEL] = Asked(adapter.cancel(task), task)
    if isinstance(adapter, Checks):
        calls[Purpose.CHECK] = Asked(adapter.check(), None)
    if isinstance(adapter, Uploads):
        calls[Purpose.UPLOAD] = Asked(adapter.upload(InputImage(b"x", None, "image/png", 1, 1)), None)
    return calls


def read(adapter: Adapter, asked: Asked, what: Said, headers: Mapping[str, str] | None = None) -> State:
    told = dict(line.lower().split(": ", 1) for line in what.headers) if headers is None else headers
    return adapter.read(Reply(asked.call, what.status, told, what.plain()), asked.task)


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value; keys are none."""
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(one)


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(one)


def is_amount(value: Decimal | None) -> bool:
    return value is None or (isinstance(value, Decimal) and value.is_finite() and value >= 0)


def judge(name: str, asked: Asked, what: Said, headers: Mapping[str, str] | None = None) -> State:
    """What an adapter reads is a state that the engine can go on with, and whose end can be told."""
    adapter, purpose = ADAPTERS[name], asked.call.purpose
    found = read(adapter, asked, what, headers)
    assert isinstance(found, get_args(State))
    reply = Reply(asked.call, what.status, {}, what.plain())
    row = after_submit(reply, found, adapter.facts) if purpose is Purpose.SUBMIT else after_poll(reply, found)
    if row is not None and purpose in {Purpose.SUBMIT, Purpose.POLL, Purpose.FETCH}:
        end = ended_by(row, reply, found)
        assert 0 < len(end.message) <= 600
        assert end.message.isprintable()
        assert PICTURE[:120] not in end.message
    match found:
        case Running():
            assert isinstance(found.raw_status, str)
            assert found.progress is None or 0 <= found.progress <= 1
            assert found.queue_position is None or (type(found.queue_position) is int and found.queue_position >= 0)
        case Succeeded():
            assert found.outputs or found.flagged
            assert is_amount(found.cost_usd)
            assert is_amount(found.units)
            assert found.seed is None or type(found.seed) is int
            assert found.prompt is None or isinstance(found.prompt, str)
        case Refused():
            assert isinstance(found.message, str)
            assert found.retry_after_s is None or (math.isfinite(found.retry_after_s) and found.retry_after_s >= 0)
            assert ECHO not in found.message
        case Failed():
            assert isinstance(found.message, str)
            assert all(isinstance(one, str) for one in found.reasons)
            assert ECHO not in found.message
        case Balance():
            assert found.amount is None or found.amount.is_finite()
        case Uploaded():
            assert found.url.startswith("http")
    return found


# ------------------------------------------------------------------------------------------------------ hostile bodies

BARE: tuple[bytes, ...] = (
    *(b"", b" ", b"\0", b"null", b"true", b"0", b"-1e400", b'"x"', b"[]", b"[[]]", b"[null]", b"{}", HTML),
    *(b'{"id":', b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"id": "\xed\xa0\x80"}', b'{"a": NaN}', b'{"a": Infinity}'),
    *(b"[" * 200_000, b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900, b"9" * 5000, b"data: {}\n\n"),
    *(b'{"id": "a", "id": "b"}', b'{"\\u0000": 1}', b'{"id": "\\ud83d\\ude00"}'),
)
JUNK: tuple[bytes, ...] = (
    *(b"null", b"true", b"0", b"-1", b"7.5", b"1e308", b"18446744073709551615", b'""', b'"x"', b'"https://[x?se=1"'),
    *(b"[]", b"[null]", b"[[], {}]", b"{}", b'{"x": []}', b"[" * 900 + b"]" * 900),
)


def everything_said(speech: Speech) -> Iterator[Said]:
    """Every reply of a speech."""
    sayings: list[Saying] = [*speech.replies.values(), *speech.nameless.values()]
    sayings += [row[0] for row in speech.refused.values()]
    for ways in (speech.lost, speech.trouble, speech.moderated, speech.empty):
        sayings += [saying for _, saying in ways.values()]
    sayings += [row[1] for row in speech.failed.values()] + [saying for _, saying in speech.backwards]
    sayings += [speech.odd[0]] if speech.odd else []
    sayings += [speech.junk[1]] if speech.junk else []
    sayings += [row[2] for row in DOCUMENTED if row[0] == speech.name]
    for saying in sayings:
        yield saying(HERE)


def hostile(speech: Speech) -> Iterator[bytes]:
    yield from BARE
    replies = [one.plain() for one in everything_said(speech)]
    yield from replies
    words = sorted({word for one in everything_said(speech) for word in keys(one.body)})
    for word in words:
        for junk in JUNK:
            yield b"{%s:%s}" % (json.dumps(word).encode(), junk)
    for other in SPEECHES.values():  # a base URL of the wrong service
        yield from (saying(HERE).plain() for saying in other.replies.values())


@pytest.mark.parametrize("name", SPEECHES)
def test_read_makes_a_state_of_any_body_under_any_status(name: str) -> None:
    calls = asked_of(name)
    for body in hostile(SPEECHES[name]):
        for status in STATUSES:
            for asked in calls.values():
                judge(name, asked, Said(status, body))


@pytest.mark.parametrize("name", SPEECHES)
def test_headers_that_make_no_sense_do_no_harm(name: str) -> None:
    calls = asked_of(name)
    for what in everything_said(SPEECHES[name]):
        for headers in HEADERS:
            for status in {200, 422, 429, 499, 502, 503, 504, what.status}:
                for asked in calls.values():
                    judge(name, asked, Said(status, what.body), headers)


@pytest.mark.parametrize("name", SPEECHES)
def test_f40_every_field_may_be_deep(name: str) -> None:
    calls = asked_of(name)
    deep = json.loads("[" * 200 + "]" * 200)
    for what in everything_said(SPEECHES[name]):
        for path in paths(what.body):
            for asked in calls.values():
                judge(name, asked, Said(what.status, changed(what.body, path, deep)))


# --------------------------------------------------------------------------------------------------- mutated replies

Path = tuple[str | int, ...]


def paths(value: Any, here: Path = ()) -> list[Path]:
    """The way to every node of a JSON value, but its root."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, one in inner for way in ((*here, key), *paths(one, (*here, key)))]


def changed(value: Any, path: Path, new: Any) -> Any:
    """A copy with one node replaced, or left out when `new` is `...`."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    copy = dict(value) if isinstance(value, dict) else list(value)
    if not rest and new is ...:
        del copy[key]  # type: ignore[arg-type]
    else:
        copy[key] = changed(copy[key], rest, new)  # type: ignore[index]
    return copy


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAF = st.sampled_from([None, True, False, 0, 1, 2, 3, -1, 7.5, "", "x", "1", "0", "null", [], {}, [None], {"x": 1}])
LEAF |= st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT


@st.composite
def mutated(draw: st.DrawFn, name: str) -> Said:
    """A reply of a provider with up to three nodes replaced, left out, or turned into text."""
    what = draw(st.sampled_from(list(everything_said(SPEECHES[name]))))
    body = what.body
    for _ in range(draw(st.integers(0, 3))):
        ways = paths(body)
        if not ways:
            break
        path = draw(st.sampled_from(ways))
        old: Any = body
        for key in path:
            old = old[key]
        scalar = st.nothing() if isinstance(old, dict | list) else st.just(str(old))
        new = draw(LEAF | st.just(...) | st.just([old]) | scalar)
        body = changed(body, path, new)
    return Said(draw(st.sampled_from([what.status] * 4 + [200, 202, 400, 404, 422, 500, 503])), body, what.headers)


@pytest.mark.parametrize("name", SPEECHES)
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_mutated_reply_is_never_taken_for_more_than_it_says(name: str, data: st.DataObject) -> None:
    what = data.draw(mutated(name))
    body = None if isinstance(what.body, bytes) else json.loads(what.plain())
    texts = set(strings(body))
    for purpose, asked in asked_of(name).items():
        found = judge(name, asked, what)
        if purpose is Purpose.SUBMIT and isinstance(found, Running | Fetch):
            assert found.task.id
            assert found.task.id in texts
            assert 200 <= what.status < 300 or (isinstance(found, Running) and not found.known)
        if isinstance(found, Succeeded):
            assert purpose in {Purpose.SUBMIT, Purpose.POLL, Purpose.FETCH}
            assert (purpose is Purpose.SUBMIT) <= (not SPEECHES[name].stages.get("poll"))
            for output in found.outputs:
                words = output.url or output.base64
                assert words
                assert any(words in text for text in texts)
        if isinstance(found, Failed):
            assert purpose is not Purpose.CHECK


def says_so(name: str, body: Any) -> bool:
    """Whether a mutation hit a code or a flag of kie's that means an end: there the body is the truth."""
    data = body.get("data")
    flag = data.get("successFlag") if isinstance(data, dict) else None
    refused = re.fullmatch(r"[45]\d\d(\.0)?", str(body.get("code")))
    return name == "kie" and (refused is not None or flag in [2, 3, "2", "3"])


PROPOSALS = LEAF | st.just(...)


def changed_at(draw: st.DataObject, body: Any) -> Any:
    """A body with one node replaced or left out."""
    return changed(body, draw.draw(st.sampled_from(paths(body))), draw.draw(PROPOSALS))


@pytest.mark.parametrize("name", SPEECHES)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_mutation_of_an_acceptance_says_that_nothing_was_charged(name: str, data: st.DataObject) -> None:
    what = SPEECHES[name].replies["submit"](HERE)
    body = changed_at(data, what.body)
    assume(not says_so(name, body))
    asked = asked_of(name)[Purpose.SUBMIT]

    found = judge(name, asked, Said(200, body))

    row = after_submit(Reply(asked.call, 200, {}, json.dumps(body).encode()), found, ADAPTERS[name].facts)
    assert row is None or row.charged is Charged.MAYBE


@pytest.mark.parametrize("name", [name for name, speech in SPEECHES.items() if "poll" in speech.stages])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_good_end_is_a_failure(name: str, data: st.DataObject) -> None:
    speech = SPEECHES[name]
    body = changed_at(data, speech.replies[speech.end](HERE).body)
    assume(not says_so(name, body))

    found = judge(name, asked_of(name)[Purpose(speech.end)], Said(200, body))

    assert not isinstance(found, Failed)


# ------------------------------------------------------------------------------------- what is shown of a reply

AS_SENT = {
    "in one piece": PICTURE,
    "with escaped slashes": "iVBORw0KGgo/AAANSUhE+gAA".replace("/", "\\/") * 40,
    "in lines": "\\n".join([PICTURE[:76]] * 20),
}


@pytest.mark.parametrize("how", AS_SENT)
def test_the_raw_reply_of_an_error_holds_no_base64_however_it_was_written(how: str) -> None:
    shown = excerpt(b'{"detail":[{"input":"%s"}]}' % AS_SENT[how].encode())

    assert "base64" in shown
    assert len(shown) < 200


FLAGGED_AT_LENGTH: dict[str, tuple[Purpose, Saying]] = {
    "bfl": (Purpose.POLL, bfl(status="Request Moderated", details={"Moderation Reasons": [PICTURE * 9, "a\nb"]})),
    "fal": (Purpose.FETCH, fal_finding("content_policy_violation", PICTURE * 9)),
    "kie": (Purpose.POLL, kie_record(3, errorMessage=f"flagged as sensitive {PICTURE * 9}")),
    "together": (Purpose.SUBMIT, together_error(422, f"NSFW content {PICTURE * 9}")),
}


@pytest.mark.parametrize("name", FLAGGED_AT_LENGTH)
def test_the_reasons_of_a_moderation_are_short_and_printable_and_hold_no_base64(name: str) -> None:
    purpose, saying = FLAGGED_AT_LENGTH[name]
    asked, what = asked_of(name)[purpose], saying(HERE)
    found = read(ADAPTERS[name], asked, what)
    reply = Reply(asked.call, what.status, {}, what.plain())
    row = after_submit(reply, found, ADAPTERS[name].facts) if purpose is S else after_poll(reply, found)
    assert row is not None

    reasons = ended_by(row, reply, found).reasons

    assert reasons
    assert all(len(one) <= 600 and one.isprintable() and PICTURE[:120] not in one for one in reasons)


# ------------------------------------------------------------------------------------------ what the providers document

R, F = Refused, Failed
S, P, FETCH, CANCEL, CHECK, UPLOAD = Purpose


def detail(status: int, text: Any) -> Saying:
    return said(status, {"detail": text})


MISSING = {"type": "missing", "loc": ["body", "prompt"], "msg": "Field required"}
LIMIT = {"loc": ["body", "guidance_scale"], "msg": "Input should be less than or equal to 20", "ctx": {"le": 20}}
UPLOADED = "https://tempfile.redpandaai.co/kieai/136592/images/a.png"
UPLOAD_DATA = {"success": True, "fileName": "a.png", "downloadUrl": UPLOADED}
CANCELLED = {"detail": "Request was cancelled", "error_type": "client_cancelled"}
TIMEOUT = {"detail": "Request timed out", "error_type": "request_timeout"}
EXHAUSTED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
UNAUTHORISED = "No user found for Key ID and Secret"
ENDED = "x-fal-request-id: 1"

# Who, what for, what is said, what it means, and fields of that; the sheet and its section in the comments.
Row = tuple[str, Purpose, Saying, type, Mapping[str, Any]]
DOCUMENTED: list[Row] = [
    # bfl 4, 5: the statuses; those that are in no enum run on
    *(("bfl", P, bfl(status=word), Running, {"known": True}) for word in ("Pending", "Reasoning", "Generating")),
    *(("bfl", P, bfl(status=word), Running, {"known": False}) for word in ("Processing", "Queued", "Failed", "failed")),
    ("bfl", P, bfl(503, status="Pending"), Running, {"known": True}),
    ("bfl", P, bfl_ready(), Succeeded, {"seed": 42}),
    *(
        ("bfl", P, bfl(status=f"{word} Moderated"), F, {"kind": Kind.MODERATED, "stage": stage, "maybe_charged": False})
        for word, stage in (("Request", "input"), ("Content", "output"))
    ),
    ("bfl", P, bfl(422, status="Error"), F, {"kind": Kind.GENERATION_FAILED, "maybe_charged": False}),
    ("bfl", P, bfl(404, status="Task not found"), R, {"kind": Kind.JOB_NOT_FOUND}),
    # bfl 7: the errors
    ("bfl", S, detail(400, "Finetune not found or not ready"), R, {"kind": Kind.REQUEST_REJECTED}),
    ("bfl", S, detail(402, "Insufficient credits"), R, {"kind": Kind.OUT_OF_CREDIT}),
    ("bfl", S, detail(403, "Not authenticated - Invalid Authentication"), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    ("bfl", S, detail(404, "Not Found"), R, {"kind": Kind.REQUEST_REJECTED}),
    ("bfl", S, detail(422, "Invalid API key format"), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    ("bfl", S, detail(422, [{**MISSING, "input": {"x": ECHO, "y": PICTURE}}]), R, {"kind": Kind.REQUEST_REJECTED}),
    ("bfl", S, detail(429, "exceeded your concurrency limit"), R, {"kind": Kind.RATE_LIMITED}),
    ("bfl", S, detail(500, "Internal Server Error"), R, {"kind": Kind.UNAVAILABLE}),
    ("bfl", S, detail(503, "Service Unavailable"), R, {"kind": Kind.UNAVAILABLE}),
    # bfl 2: the key check
    ("bfl", CHECK, said(200, {"credits": 1234.5}), Balance, {"amount": Decimal("1234.5")}),
    # fal 2: the statuses, too early, not known
    *(("fal", P, fal(202, word), Running, {"known": True}) for word in ("IN_QUEUE", "IN_PROGRESS")),
    ("fal", P, fal(200, "COMPLETED"), Fetch, {}),
    ("fal", P, fal(200, "COMPLETED", error="Invalid status code: 422", error_type="x"), Fetch, {}),
    ("fal", P, said(404, {"status": "NOT_FOUND"}), R, {"kind": Kind.JOB_NOT_FOUND}),
    ("fal", FETCH, detail(400, "Request is still in progress"), Running, {"known": True}),
    ("fal", FETCH, detail(404, "Request not found"), R, {"kind": Kind.JOB_NOT_FOUND}),
    ("fal", FETCH, fal_result(), Succeeded, {"seed": 2841475369}),
    ("fal", FETCH, fal_result(seed=196619188014358660), Succeeded, {"seed": 196619188014358660}),
    # fal 5: the type decides
    ("fal", FETCH, fal_finding("content_policy_violation", POLICY), F, {"kind": Kind.MODERATED}),
    ("fal", FETCH, fal_finding("less_than_equal", "no"), F, {"kind": Kind.REQUEST_REJECTED}),
    ("fal", FETCH, fal_finding("file_download_error", "no"), F, {"kind": Kind.REQUEST_REJECTED}),
    ("fal", FETCH, fal_finding("a_type_of_tomorrow", "no"), F, {"kind": Kind.REQUEST_REJECTED}),
    ("fal", FETCH, said(422, {"detail": [{**LIMIT, "type": "x", "input": ECHO}]}), F, {"kind": Kind.REQUEST_REJECTED}),
    ("fal", FETCH, said(499, CANCELLED, ENDED), F, {"kind": Kind.CANCELLED}),
    ("fal", FETCH, said(504, TIMEOUT, ENDED, "X-Fal-Request-Timeout-Type: user"), F, {"maybe_charged": False}),
    # fal 1, 5: at the submit
    ("fal", S, detail(401, UNAUTHORISED), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    ("fal", S, detail(401, "invalid key credentials"), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    ("fal", S, detail(403, EXHAUSTED), R, {"kind": Kind.OUT_OF_CREDIT}),
    ("fal", S, detail(429, "Too many requests"), R, {"kind": Kind.RATE_LIMITED}),
    ("fal", S, fal(200, "IN_QUEUE"), Running, {}),
    # fal 2: cancel
    ("fal", CANCEL, said(202, {"status": "CANCELLATION_REQUESTED"}), Cancelling, {}),
    ("fal", CANCEL, said(400, {"status": "ALREADY_COMPLETED"}), R, {}),
    ("fal", CANCEL, said(404, {"status": "NOT_FOUND"}), R, {"kind": Kind.JOB_NOT_FOUND}),
    # kie 3: the flags
    ("kie", P, kie_record(0), Running, {"known": True}),
    ("kie", P, kie_record("成功"), Running, {"known": False}),
    ("kie", P, kie_record(2), F, {"kind": Kind.GENERATION_FAILED}),
    ("kie", P, kie_record(3), F, {"kind": Kind.GENERATION_FAILED}),
    ("kie", P, kie_record(3, errorMessage=KIE_FLAGGED, paramJson=ECHO), F, {"kind": Kind.MODERATED}),
    ("kie", P, kie(None), R, {"kind": Kind.JOB_NOT_FOUND}),
    # kie 4: the codes, under 200
    ("kie", S, kie(None, code=401, msg="no access"), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    ("kie", S, kie(None, code=402, msg="Insufficient credits"), R, {"kind": Kind.OUT_OF_CREDIT}),
    ("kie", S, kie(None, code=422, msg="url is wrong"), R, {"kind": Kind.REQUEST_REJECTED}),
    ("kie", S, kie(None, code=429, msg="limit"), R, {"kind": Kind.RATE_LIMITED}),
    ("kie", S, kie(None, code=455, msg="maintenance"), R, {"kind": Kind.UNAVAILABLE}),
    ("kie", S, kie(None, code=505, msg="Feature disabled"), R, {"kind": Kind.REQUEST_REJECTED}),
    ("kie", P, kie(None, code=501, msg="Image generation task failed"), F, {"kind": Kind.GENERATION_FAILED}),
    ("kie", P, kie(None, code=408, msg="Upstream is experiencing issues"), F, {"kind": Kind.GENERATION_FAILED}),
    ("kie", P, kie(None, code=400, msg="Your prompt was flagged by Website"), F, {"kind": Kind.MODERATED}),
    # kie 9, 10: credit and upload
    ("kie", CHECK, kie(5916.25), Balance, {"amount": Decimal("5916.25")}),
    ("kie", CHECK, said(200, {"code": 401, "msg": "no"}), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    ("kie", UPLOAD, kie(UPLOAD_DATA, msg="File uploaded successfully"), Uploaded, {"url": UPLOADED}),
    ("kie", UPLOAD, kie(None, code=401, msg="no"), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    # together, "Errors, client, price"
    ("together", S, together_error(400, "bad"), R, {"kind": Kind.REQUEST_REJECTED}),
    ("together", S, together_error(401, "Invalid API key"), R, {"kind": Kind.AUTHENTICATION_FAILED}),
    ("together", S, together_error(402, "limit reached"), R, {"kind": Kind.OUT_OF_CREDIT}),
    ("together", S, together_error(403, "context length exceeded"), R, {"kind": Kind.REQUEST_REJECTED}),
    ("together", S, together_error(404, "no such model"), R, {"kind": Kind.REQUEST_REJECTED}),
    ("together", S, together_error(422, "image may contain NSFW content"), R, {"kind": Kind.MODERATED}),
    ("together", S, together_error(429, "too fast"), R, {"kind": Kind.RATE_LIMITED}),
    ("together", S, together_error(503, "overloaded"), R, {"kind": Kind.UNAVAILABLE}),
    ("together", S, together([{"index": 0, "b64_json": "QUJD", "type": "b64_json"}]), Succeeded, {}),
]


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row[0]}-{row[1]}-{index}") for index, row in enumerate(DOCUMENTED)]
)
def test_what_is_documented_means_what_it_is_documented_to_mean(row: Row) -> None:
    name, purpose, saying, state, fields = row

    found = judge(name, asked_of(name)[purpose], saying(HERE))

    assert isinstance(found, state), found
    assert fields == {field: getattr(found, field) for field in fields}


def test_the_links_of_fal_are_followed_as_they_came() -> None:
    calls = asked_of("fal")

    assert f"{HERE.url}{FAL_APP}/task-1/status" == calls[Purpose.POLL].call.path.partition("?")[0]
    assert f"{HERE.url}{FAL_APP}/task-1" == calls[Purpose.FETCH].call.path


def test_the_echo_of_the_tables_holds_what_must_not_be_seen() -> None:
    assert PICTURE in DATA_URI
    assert len(PICTURE) > 120
    assert any(ECHO.encode() in one.plain() for speech in SPEECHES.values() for one in everything_said(speech))
