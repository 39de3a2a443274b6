from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.adapting import Fetch, Kind, Output, Purpose, Running, Succeeded, Task, get
from anykontext.engine.effects import Admit, Loss, Send
from anykontext.engine.ends import Ended
from anykontext.engine.job import run_job
from anykontext.engine.policy import Policy
from anykontext.engine.submit import Accepted, submit_attempt
from anykontext.model.errors import Moderated, OutcomeUnknown
from anykontext.model.events import Adjusted, Retrying, Submitted, Submitting
from anykontext.model.job import JobState
from anykontext_bfl import Bfl

ID = {"id": "one", "polling_url": "https://api.eu2.bfl.ai/v1/get_result?id=one"}
DETAIL = {"detail": "as it says"}
HTML = "<!doctype html><title>Bad</title>"
MISSING = {"detail": [{"type": "missing", "loc": ["body", "prompt"], "msg": "Field required", "input": {"seed": 1}}]}
DATE = {"date": "Fri, 20 Nov 2026 12:00:00 GMT"}

# status, body, headers -> kind (None: accepted), may have been charged, times sent when it is said for ever
SUBMITS = [
    pytest.param(200, ID, {}, None, None, 1, id="200 ok"),
    pytest.param(201, ID, {}, None, None, 1, id="201 ok"),
    pytest.param(202, ID, {}, None, None, 1, id="202 ok"),
    pytest.param(200, {"id": "one"}, {}, None, None, 1, id="200 without polling_url"),
    pytest.param(200, {"id": "one", "status": "x", "webhook_url": "u"}, {}, None, None, 1, id="200 webhook"),
    pytest.param(200, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F16 200 html"),
    pytest.param(200, '{"id":"one","polling_u', {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F17 200 torn"),
    pytest.param(200, b"", {}, Kind.OUTCOME_UNKNOWN, True, 1, id="200 empty"),
    pytest.param(200, {"polling_url": "https://api.bfl.ai/x"}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F19 no id"),
    pytest.param(200, {"id": ""}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F19 empty id"),
    pytest.param(200, {"id": 7}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F19 id is a number"),
    pytest.param(200, [ID], {}, Kind.OUTCOME_UNKNOWN, True, 1, id="200 list"),
    pytest.param(200, b'{"id":"\xff"}', {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F41 not utf-8"),
    pytest.param(200, "[" * 5000 + "]" * 5000, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F40 deep"),
    pytest.param(204, b"", {}, Kind.OUTCOME_UNKNOWN, True, 1, id="204"),
    pytest.param(302, b"", {"location": "https://x.example/"}, Kind.OUTCOME_UNKNOWN, True, 1, id="302"),
    pytest.param(307, DETAIL, {"location": "/v2"}, Kind.OUTCOME_UNKNOWN, True, 1, id="307 detail"),
    pytest.param(400, DETAIL, {}, Kind.REQUEST_REJECTED, False, 1, id="400"),
    pytest.param(401, DETAIL, {}, Kind.AUTHENTICATION_FAILED, False, 1, id="F11 401"),
    pytest.param(402, {"detail": "Insufficient credits"}, {}, Kind.OUT_OF_CREDIT, False, 1, id="F12 402"),
    pytest.param(403, DETAIL, {}, Kind.AUTHENTICATION_FAILED, False, 1, id="F11 403"),
    pytest.param(404, {"detail": "Not Found"}, {}, Kind.REQUEST_REJECTED, False, 1, id="404"),
    pytest.param(404, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="404 html"),
    pytest.param(408, DETAIL, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="408 detail"),
    pytest.param(408, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="408 html"),
    pytest.param(500, {"message": "x"}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="bfl-16 500 of a gateway"),
    pytest.param(503, {"message": "x"}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="bfl-16 503 of a gateway"),
    pytest.param(500, {"detail": []}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="bfl-16 500 without words"),
    pytest.param(403, {"message": "Forbidden"}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="403 of a gateway"),
    pytest.param(413, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="413 html"),
    pytest.param(422, MISSING, {}, Kind.REQUEST_REJECTED, False, 1, id="F13 422 list"),
    pytest.param(
        422, {"detail": "Invalid API key format"}, {}, Kind.AUTHENTICATION_FAILED, False, 1, id="422 malformed key"
    ),
    pytest.param(422, {"detail": {"msg": "no"}}, {}, Kind.REQUEST_REJECTED, False, 1, id="422 mapping"),
    pytest.param(429, DETAIL, {"retry-after": "1"}, Kind.RATE_LIMITED, False, 6, id="F8 429 1 s"),
    pytest.param(429, DETAIL, {"retry-after": "2"}, Kind.RATE_LIMITED, False, 3, id="F8 429 2 s"),
    pytest.param(429, DETAIL, {"retry-after": "5"}, Kind.RATE_LIMITED, False, 2, id="F8 429 5 s"),
    pytest.param(429, DETAIL, {"retry-after": "6"}, Kind.RATE_LIMITED, False, 1, id="F8 429 6 s"),
    pytest.param(
        429, DETAIL, {"retry-after": "Fri, 20 Nov 2026 12:00:02 GMT", **DATE}, Kind.RATE_LIMITED, False, 3, id="F9 date"
    ),
    pytest.param(
        429, DETAIL, {"retry-after": "Fri, 20 Nov 2026 13:00:00 GMT", **DATE}, Kind.RATE_LIMITED, False, 1, id="F9 hour"
    ),
    pytest.param(
        429, DETAIL, {"retry-after": "Fri, 20 Nov 2026 12:00:02 GMT"}, Kind.RATE_LIMITED, False, 3, id="F9 no Date"
    ),
    pytest.param(429, DETAIL, {}, Kind.RATE_LIMITED, False, 3, id="F10 429 none"),
    pytest.param(429, DETAIL, {"retry-after": "0"}, Kind.RATE_LIMITED, False, 11, id="429 0 s"),
    pytest.param(429, DETAIL, {"retry-after": "-3"}, Kind.RATE_LIMITED, False, 3, id="429 negative"),
    pytest.param(429, DETAIL, {"retry-after": "soon"}, Kind.RATE_LIMITED, False, 3, id="429 a word"),
    pytest.param(429, DETAIL, {"retry-after": "nan"}, Kind.RATE_LIMITED, False, 3, id="429 nan"),
    pytest.param(429, DETAIL, {"retry-after": "inf"}, Kind.RATE_LIMITED, False, 3, id="429 inf"),
    pytest.param(429, DETAIL, {"retry-after": "9" * 400}, Kind.RATE_LIMITED, False, 1, id="429 400 digits"),
    pytest.param(429, {"message": "slow down"}, {}, Kind.RATE_LIMITED, False, 3, id="429 message"),
    pytest.param(429, HTML, {"retry-after": "1"}, Kind.OUTCOME_UNKNOWN, True, 1, id="429 html"),
    pytest.param(500, DETAIL, {}, Kind.UNAVAILABLE, False, 3, id="500 detail"),
    pytest.param(500, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F14 500 html"),
    pytest.param(500, {"oops": 1}, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F14 500 other json"),
    pytest.param(502, DETAIL, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F14 502 detail"),
    pytest.param(502, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F14 502 html"),
    pytest.param(503, DETAIL, {}, Kind.UNAVAILABLE, False, 3, id="F15 503 detail"),
    pytest.param(503, DETAIL, {"retry-after": "60"}, Kind.UNAVAILABLE, False, 1, id="F15 503 60 s"),
    pytest.param(503, HTML, {"retry-after": "1"}, Kind.OUTCOME_UNKNOWN, True, 1, id="F15 503 html"),
    pytest.param(504, DETAIL, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F14 504 detail"),
    pytest.param(504, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="F14 504 html"),
    pytest.param(520, HTML, {}, Kind.OUTCOME_UNKNOWN, True, 1, id="520 html"),
]


def attempt(lab: SimpleNamespace, world: Any, *, is_last: bool = True, deadline_s: float = 60.0, **request: Any) -> Any:
    return world.run(submit_attempt(world.watch(deadline_s), lab.step(**request), Policy(), is_last=is_last))


@pytest.mark.parametrize(("status", "body", "headers", "kind", "charged", "sends"), SUBMITS)
def test_what_a_reply_to_a_submit_means(
    lab: SimpleNamespace, status: int, body: Any, headers: dict[str, str], kind: Any, charged: Any, sends: int
) -> None:
    world = lab.World(then=lab.said(status, body, **headers))

    outcome = attempt(lab, world)

    assert sends == len(world.submits)
    assert all(submit.call == world.submits[0].call for submit in world.submits)
    if kind is None:
        assert isinstance(outcome, Accepted)
        return
    assert isinstance(outcome, Ended)
    assert (kind, charged, status) == (outcome.kind, outcome.maybe_charged, outcome.http_status)
    assert outcome.message
    assert sum(world.sleeps) <= 5


@pytest.mark.parametrize(
    ("loss", "kind", "charged", "sends"),
    [
        pytest.param(Loss.NOT_CONNECTED, Kind.UNAVAILABLE, False, 3, id="F1 F2 not connected"),
        pytest.param(Loss.CERTIFICATE, Kind.UNAVAILABLE, False, 1, id="F3 certificate"),
        pytest.param(Loss.NO_CONNECTION_FREE, Kind.UNAVAILABLE, False, 3, id="F4 pool"),
        pytest.param(Loss.AFTER_SENDING, Kind.OUTCOME_UNKNOWN, True, 1, id="F5 F6 F7 after sending"),
        pytest.param(Loss.FORBIDDEN, Kind.UNAVAILABLE, False, 1, id="forbidden"),
        pytest.param(Loss.INTERRUPTED, Kind.CANCELLED, False, 1, id="F61 interrupted before sending"),
        pytest.param(Loss.TOO_LARGE, Kind.OUTCOME_UNKNOWN, True, 1, id="F39 too large"),
    ],
)
def test_what_a_lost_submit_means(lab: SimpleNamespace, loss: Loss, kind: Kind, charged: bool, sends: int) -> None:
    world = lab.World(then=lab.lost(loss))

    end = attempt(lab, world)

    assert (kind, charged, None) == (end.kind, end.maybe_charged, end.http_status)
    assert sends == len(world.submits)


def test_f06_reset_after_the_full_body_is_outcome_unknown(lab: SimpleNamespace) -> None:
    world = lab.World([lab.lost(Loss.AFTER_SENDING)])

    end = attempt(lab, world)

    assert end.kind is Kind.OUTCOME_UNKNOWN
    assert end.state is JobState.UNKNOWN
    assert [("Intent", None), ("PartEnd", "unknown")] == world.entries


def test_a_lost_submit_is_not_sent_twice_after_one_that_was_surely_refused(lab: SimpleNamespace) -> None:
    busy = lab.said(503, DETAIL, retry_after="1")
    world = lab.World([busy, lab.lost(Loss.AFTER_SENDING)])

    end = attempt(lab, world)

    assert (Kind.OUTCOME_UNKNOWN, True) == (end.kind, end.maybe_charged)
    assert len(world.submits) == 2


def test_every_send_has_an_intent_before_it_and_an_end_after_it(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(503, DETAIL), lab.lost(Loss.NOT_CONNECTED), lab.accepted()])

    outcome = attempt(lab, world)

    assert isinstance(outcome, Accepted)
    assert [("Intent", None), ("PartEnd", "refused")] * 2 + [("Intent", None), ("Acceptance", None)] == world.entries


def test_an_unreachable_provider_is_not_waited_for_while_another_is_left(lab: SimpleNamespace) -> None:
    for what in (lab.lost(Loss.NOT_CONNECTED), lab.said(503, DETAIL)):
        world = lab.World(then=what)

        end = attempt(lab, world, is_last=False)

        assert (Kind.UNAVAILABLE, 1) == (end.kind, len(world.submits))


def test_a_rate_limited_provider_is_waited_for_even_when_another_is_left(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(429, DETAIL, retry_after="2"), lab.accepted()])

    outcome = attempt(lab, world, is_last=False)

    assert isinstance(outcome, Accepted)
    assert [2.0] == world.sleeps


def test_a_wait_beyond_the_deadline_is_not_begun(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(429, DETAIL, retry_after="4"))

    end = attempt(lab, world, deadline_s=4)

    assert (Kind.RATE_LIMITED, 1) == (end.kind, len(world.submits))
    assert end.retry_after == 4


def test_nothing_is_sent_after_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(200, ID))
    world.mono += 10

    end = attempt(lab, world, deadline_s=10)

    assert (Kind.DEADLINE_EXCEEDED, False) == (end.kind, end.maybe_charged)
    assert end.state is JobState.FAILED
    assert [] == world.submits


def test_f63_nothing_is_sent_again_when_a_wait_outlasted_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(429, DETAIL, retry_after="1"), oversleep_s=100)

    end = attempt(lab, world)

    assert (Kind.RATE_LIMITED, 1) == (end.kind, len(world.submits))


def test_the_waits_double_and_are_jittered(lab: SimpleNamespace) -> None:
    low, high = lab.World(then=lab.said(503, DETAIL), jitter=0.0), lab.World(then=lab.said(503, DETAIL), jitter=1.0)

    attempt(lab, low)
    attempt(lab, high)

    assert [0.5, 1.0, 2.0] == low.sleeps
    assert [1.0, 2.0] == high.sleeps


def test_without_a_free_place_nothing_is_sent(lab: SimpleNamespace) -> None:
    world = lab.World(admits=[False])

    end = attempt(lab, world)

    assert (Kind.RATE_LIMITED, False, []) == (end.kind, end.maybe_charged, world.sends)


@pytest.mark.parametrize(
    ("is_last", "waits_when_full", "within_s"), [(True, False, 60), (False, False, 0), (False, True, 60)]
)
def test_a_full_candidate_is_passed_over_while_another_can_serve_unless_the_caller_waits(
    lab: SimpleNamespace, is_last: bool, waits_when_full: bool, within_s: float
) -> None:
    world = lab.World([lab.accepted()])
    policy = Policy(waits_when_full=waits_when_full)

    world.run(submit_attempt(world.watch(60), lab.step(), policy, is_last=is_last))

    assert [within_s] == [one.within_s for one in world.all_of(Admit)]


def test_a_place_is_asked_for_each_task(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(200, ID))

    attempt(lab, world, num_images=3)

    assert [3] == [one.places for one in world.all_of(Admit)]
    assert [3] == [one.tasks for one in world.events(Submitting)]


def test_a_submit_may_take_the_grace_beyond_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()])

    world.run(submit_attempt(world.watch(20), lab.step(), Policy(submit_grace_s=7), is_last=True))

    assert [(27, 7)] == [(send.within_s, send.grace_s) for send in world.submits]


def test_a_submit_is_signed_for_the_configured_origin_and_holds_no_key(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()])

    attempt(lab, world)

    (send,) = world.submits
    assert send.address.url == "https://api.bfl.ai/v1/flux-kontext-pro"
    assert (True, False) == (send.address.signed, send.address.guarded)
    assert "bfl_secret_key" not in repr(send)


def test_adjustments_are_told_before_money_is_spent(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()])

    outcome = attempt(lab, world, guidance=3.0)

    (event,) = world.events(Adjusted)
    kinds = [type(one) for one in world.events()]
    assert kinds.index(Adjusted) < kinds.index(Submitting) < kinds.index(Submitted)
    assert (event.adjustment,) == outcome.handle.adjustments


def test_a_handle_names_the_task_and_how_to_poll_it(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()])

    outcome = attempt(lab, world)

    handle = outcome.handle
    assert ("job_1", "bfl", "bfl", "flux-kontext-pro", "generate") == (
        *(handle.job_id, handle.provider, handle.adapter),
        *(handle.model, handle.mode),
    )
    assert (Task("one", "https://api.eu2.bfl.ai/v1/get_result?id=one"),) == handle.tasks
    assert handle.created_at == "2026-11-20T12:00:00+00:00"
    assert [handle] == [one.handle for one in world.events(Submitted)]


def test_a_repeat_is_told_with_its_reason_and_wait(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(429, {"detail": "24 tasks run"}, retry_after="1"), lab.accepted()])

    attempt(lab, world)

    (event,) = world.events(Retrying)
    assert ("submit", "24 tasks run", 1.0) == (event.purpose, event.reason, event.wait_s)


def test_moderation_at_the_submit_keeps_stage_and_reasons(lab: SimpleNamespace) -> None:
    from anykontext.adapting import Refused

    state = Refused(Kind.MODERATED, "flagged", shape="code", stage="input", reasons=("nudity",))
    who = lab.candidate(adapter=lab.Toy({"no": state}))
    world = lab.World([lab.said(400, "no")])

    end = world.run(submit_attempt(world.watch(), lab.step(who), Policy(), is_last=True))
    error = end.error(who, "job_1", None)

    assert isinstance(error, Moderated)
    assert ("input", ("nudity",), False) == (error.stage, error.reasons, error.maybe_charged)


@pytest.mark.parametrize(
    "state",
    [
        Running(Task("one"), "x"),
        Fetch(get(Purpose.FETCH, "/x"), Task("one")),
        Succeeded((Output("https://x.example/a"),), Task("one")),
    ],
    ids=lambda state: type(state).__name__,
)
def test_any_way_to_accept_makes_a_handle(lab: SimpleNamespace, state: Any) -> None:
    who = lab.candidate(adapter=lab.Toy({"yes": state}))
    world = lab.World([lab.said(200, "yes")])

    outcome = world.run(submit_attempt(world.watch(), lab.step(who), Policy(), is_last=True))

    assert (Task("one"),) == outcome.handle.tasks


def test_a_provider_without_task_ids_gives_no_handle(lab: SimpleNamespace) -> None:
    who = lab.candidate(adapter=lab.Toy({"yes": Succeeded((Output(base64="eA=="),))}))
    world = lab.World([lab.said(200, "yes")])

    outcome = world.run(submit_attempt(world.watch(), lab.step(who), Policy(), is_last=True))

    assert outcome.handle is None
    assert [] == world.events(Submitted)


def test_the_error_shows_the_reply_without_its_base64_and_signatures(lab: SimpleNamespace) -> None:
    echo = {"detail": [{"msg": "no", "input": {"input_image": "QUJD" * 500}, "see": "https://x.example/a?sig=abc"}]}
    world = lab.World([lab.said(422, echo)])

    end = attempt(lab, world)

    assert "QUJDQUJD" not in end.raw
    assert "sig=abc" not in end.raw


REPLIES = st.one_of(
    st.sampled_from(list(Loss)),
    st.tuples(
        st.sampled_from([200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 409, 422, 425, 429, 500, 502, 503, 504]),
        st.sampled_from([ID, DETAIL, HTML, {}, [], "", {"message": "x"}, {"detail": []}, {"status": "Ready"}]),
        st.sampled_from([{}, {"retry-after": "0"}, {"retry-after": "1"}, {"retry-after": "x"}]),
    ),
)


@settings(max_examples=200, deadline=None)
@given(replies=st.lists(REPLIES, min_size=1, max_size=8), is_last=st.booleans(), jitter=st.floats(0, 1))
def test_whatever_is_answered_a_submit_is_sent_again_only_after_a_sure_refusal(
    lab: SimpleNamespace, replies: list[Any], is_last: bool, jitter: float
) -> None:
    script = [lab.lost(one) if isinstance(one, Loss) else lab.said(one[0], one[1], **one[2]) for one in replies]
    world = lab.World(script, then=lab.said(400, DETAIL), jitter=jitter)

    outcome = attempt(lab, world, is_last=is_last)

    told = replies[: len(world.submits)]
    sure = [Loss.NOT_CONNECTED, Loss.NO_CONNECTION_FREE]
    for one in told[: len(world.submits) - 1]:
        assert one in sure or (one[0] in {429, 500, 503} and ("detail" in one[1] or "message" in one[1]))
    assert sum(world.sleeps) <= 5
    assert isinstance(outcome, Accepted | Ended)


@pytest.mark.parametrize(
    ("balance", "kind", "submits"),
    [
        pytest.param((200, {"credits": 1013}), Kind.RATE_LIMITED, 3, id="credits are there"),
        pytest.param((200, {"credits": 3.9}), Kind.OUT_OF_CREDIT, 1, id="less than the price"),
        pytest.param((200, {"credits": None}), Kind.OUT_OF_CREDIT, 1, id="not told"),
        pytest.param((503, {"detail": "busy"}), Kind.OUT_OF_CREDIT, 1, id="not answered"),
    ],
)
def test_bfl_10_a_402_is_believed_only_when_the_credit_has_run_out(
    lab: SimpleNamespace, balance: Any, kind: Kind, submits: int
) -> None:
    def answer(send: Send) -> Any:
        checks = send.call.purpose is Purpose.CHECK
        return lab.said(*balance) if checks else lab.said(402, {"detail": "Insufficient credits"})

    world = lab.World(then=answer)

    error = world.run(run_job(world.watch(60), [lab.step(lab.candidate("a"))], Policy()))

    assert (kind, False) == (error.kind, error.maybe_charged)
    assert submits == len(world.submits)


def test_f19_one_task_named_twice_is_not_two_pictures(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(200, ID), lab.said(200, ID)], then=lab.ready())

    result = world.run(run_job(world.watch(60), [lab.step(lab.candidate("a"), num_images=2)], Policy()))

    assert 1 == len(result.images)
    assert [Kind.OUTCOME_UNKNOWN] == [one.kind for one in result.errors]


def test_an_adapter_that_raises_on_a_reply_does_not_lose_what_may_be_paid(lab: SimpleNamespace) -> None:
    class Broken(Bfl):
        def read(self, reply: Any, task: Any) -> Any:
            raise KeyError("id")

    world = lab.World(then=lab.said(200, ID))

    error = world.run(run_job(world.watch(60), [lab.step(lab.candidate("a", adapter=Broken()))], Policy()))

    assert isinstance(error, OutcomeUnknown)
    assert error.maybe_charged
    assert 1 == len(world.sends)
