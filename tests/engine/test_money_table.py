import re
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from anykontext.adapting import Failed, Kind, Output, Refused, Rejection, Running, Succeeded, Task, Uploaded
from anykontext.engine.effects import Fault, Loss
from anykontext.engine.ends import Ended
from anykontext.engine.follow import Made, follow_task
from anykontext.engine.job import run_job
from anykontext.engine.money_table import (
    BY_EVENT,
    TABLE,
    Again,
    Charged,
    Happened,
    Row,
    after_download,
    after_poll,
    after_submit,
    after_upload,
)
from anykontext.engine.policy import Policy
from anykontext.engine.submit import Accepted, submit_attempt
from anykontext_bfl import Bfl

H = Happened
NOT_FOUND = (404, {"status": "Task not found"})
PENDING = (200, {"status": "Pending"})

# What the world says so that a row is reached: (HTTP status, body), a Loss, a Fault, or the name of a Toy's state.
UPLOAD: dict[Happened, Any] = {
    H.NOT_CONNECTED: Loss.NOT_CONNECTED,
    H.CERTIFICATE: Loss.CERTIFICATE,
    H.NO_CONNECTION_FREE: Loss.NO_CONNECTION_FREE,
    H.FORBIDDEN: Loss.FORBIDDEN,
    H.INTERRUPTED: Loss.INTERRUPTED,
    H.LOST: Loss.AFTER_SENDING,
    H.TOO_LARGE: Loss.TOO_LARGE,
    H.RATE_LIMITED: Refused(Kind.RATE_LIMITED, "not now"),
    H.REFUSED: Refused(Kind.AUTHENTICATION_FAILED, "no such key"),
    H.BUSY: Refused(Kind.UNAVAILABLE, "maintenance"),
    H.UNREADABLE: Refused(Kind.PROTOCOL_ERROR, "no URL"),
}
SUBMIT: dict[Happened, Any] = {
    H.NOT_CONNECTED: Loss.NOT_CONNECTED,
    H.CERTIFICATE: Loss.CERTIFICATE,
    H.NO_CONNECTION_FREE: Loss.NO_CONNECTION_FREE,
    H.FORBIDDEN: Loss.FORBIDDEN,
    H.INTERRUPTED: Loss.INTERRUPTED,
    H.LOST: Loss.AFTER_SENDING,
    H.TOO_LARGE: Loss.TOO_LARGE,
    H.RATE_LIMITED: (429, {"detail": "Too many tasks"}),
    H.REFUSED: (402, {"detail": "Insufficient credits"}),
    H.LISTED: (503, {"detail": "Overloaded"}),
    H.GATEWAY: (502, "<html>Bad Gateway</html>"),
    H.UNREADABLE: (200, "<html>Welcome</html>"),
    H.FAILED: "failed",
}
POLL: dict[Happened, Any] = {
    H.INTERRUPTED: Loss.INTERRUPTED,
    H.NOT_CONNECTED: Loss.NOT_CONNECTED,
    H.CERTIFICATE: Loss.CERTIFICATE,
    H.NO_CONNECTION_FREE: Loss.NO_CONNECTION_FREE,
    H.LOST: Loss.AFTER_SENDING,
    H.BUSY: (503, "<html>Service Unavailable</html>"),
    H.FORBIDDEN: Loss.FORBIDDEN,
    H.TOO_LARGE: Loss.TOO_LARGE,
    H.NOT_FOUND: NOT_FOUND,
    H.REFUSED: (403, {"detail": "Not authenticated"}),
    H.UNREADABLE: (200, "<html>Welcome</html>"),
    H.FAILED: (200, {"status": "Error", "details": {"error": "broken"}}),
    H.DEADLINE: PENDING,
}
DOWNLOAD: dict[Happened, Fault] = {
    H.GONE: Fault.GONE,
    H.LOST: Fault.LOST,
    H.FORBIDDEN: Fault.FORBIDDEN,
    H.BAD: Fault.BAD,
    H.DISK: Fault.DISK,
}
KIND_OF_REFUSAL = {("submit", H.REFUSED): Kind.OUT_OF_CREDIT, ("poll", H.REFUSED): Kind.AUTHENTICATION_FAILED}


def rows(purpose: str) -> list[Any]:
    return [pytest.param(row, id=row.happened.name.lower()) for row in TABLE if row.purpose == purpose]


def heard(lab: SimpleNamespace, what: Any) -> Any:
    return lab.lost(what) if isinstance(what, Loss) else lab.said(*what)


def kind_of(row: Row) -> Kind:
    return row.kind or KIND_OF_REFUSAL.get((row.purpose, row.happened), Kind.GENERATION_FAILED)


def test_every_row_has_a_scenario_here() -> None:
    reached = {
        *(("upload", what) for what in UPLOAD),
        *(("submit", what) for what in SUBMIT),
        *(("poll", what) for what in POLL),
        *(("download", what) for what in DOWNLOAD),
    }

    assert reached == set(BY_EVENT)


def test_no_event_has_two_rows() -> None:
    assert len(BY_EVENT) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.purpose}-{row.happened.name.lower()}")
def test_every_row_says_why_and_names_only_faults_that_exist(row: Row) -> None:
    assert row.because
    assert all(re.fullmatch(r"F([1-9]|[1-5]\d|6[0-7])", one) for one in row.faults.split())


@pytest.mark.parametrize("row", [row for row in TABLE if row.purpose == "submit"], ids=lambda row: row.happened.name)
def test_a_submit_that_may_be_charged_is_never_made_again(row: Row) -> None:
    assert row.charged is Charged.NO or row.again is Again.NEVER


@pytest.mark.parametrize("loss", Loss)
def test_every_loss_has_a_row_at_a_submit_and_at_a_poll(lab: SimpleNamespace, loss: Loss) -> None:
    at_submit = after_submit(lab.lost(loss), None, Bfl.facts)
    at_poll = after_poll(lab.lost(loss), None)

    assert at_submit in TABLE
    assert at_poll in TABLE


@pytest.mark.parametrize("what", Fault)
def test_every_fault_of_a_download_has_a_row(what: Fault) -> None:
    assert after_download(what) in TABLE


@pytest.mark.parametrize("row", rows("upload"))
def test_an_upload_is_acted_on_as_its_row_says(lab: SimpleNamespace, row: Row) -> None:
    what = UPLOAD[row.happened]
    heard, state = (lab.lost(what), None) if isinstance(what, Loss) else (None, what)

    assert after_upload(heard, state) is row
    assert after_upload(None, Uploaded("https://files.example/1.png")) is None
    assert row.charged is Charged.NO
    assert row.again in {Again.NEVER, Again.SHORTLY}


@pytest.mark.parametrize("row", rows("submit"))
def test_a_submit_is_acted_on_as_its_row_says(lab: SimpleNamespace, row: Row) -> None:
    what = SUBMIT[row.happened]
    if what == "failed":
        charged = Failed(Kind.GENERATION_FAILED, "broken", maybe_charged=True)
        free = Failed(Kind.GENERATION_FAILED, "broken", maybe_charged=False)
        for state in (charged, free):
            toy = lab.candidate(adapter=lab.Toy({"ended": state}))
            world = lab.World([lab.said(200, "ended")])
            end = world.run(submit_attempt(world.watch(), lab.step(toy), Policy(), is_last=True))
            assert (end.kind, end.maybe_charged, len(world.submits)) == (row.kind or state.kind, state.maybe_charged, 1)
        return
    world = lab.World([heard(lab, what)], then=lab.accepted())
    always = lab.World(then=heard(lab, what))

    outcome = world.run(submit_attempt(world.watch(), lab.step(), Policy(), is_last=True))
    end = always.run(submit_attempt(always.watch(), lab.step(), Policy(), is_last=True))

    assert isinstance(outcome, Accepted) == (row.again is Again.SHORTLY)
    assert len(world.submits) == (2 if row.again is Again.SHORTLY else 1)
    assert len(always.submits) == (3 if row.again is Again.SHORTLY else 1)
    assert isinstance(end, Ended)
    assert (end.kind, end.maybe_charged) == (kind_of(row), row.charged is Charged.MAYBE)


@pytest.mark.parametrize("row", rows("poll"))
def test_a_poll_is_acted_on_as_its_row_says(lab: SimpleNamespace, row: Row) -> None:
    task = Task("one", "https://api.bfl.ai/v1/get_result?id=one")
    what = heard(lab, POLL[row.happened])
    once, always = lab.World([what], then=lab.ready()), lab.World(then=what)
    limit = Bfl.facts.not_found_polls if row.happened is H.NOT_FOUND else Bfl.facts.unreadable_polls

    outcome = once.run(follow_task(once.watch(candidate=lab.candidate()), task, None))
    end = always.run(follow_task(always.watch(candidate=lab.candidate()), task, None))

    asked_once_only = row.again is Again.NEVER and row.happened is not H.DEADLINE
    assert isinstance(outcome, Ended if asked_once_only else Made)
    assert isinstance(end, Ended)
    assert (end.kind, end.maybe_charged) == (kind_of(row), row.charged is Charged.MAYBE)
    if row.again is Again.LIMITED:
        assert len(always.polls) == limit + 1
    elif row.again is Again.NEVER and row.happened is not H.DEADLINE:
        assert len(always.polls) == 1
    else:
        assert always.seconds == pytest.approx(60, abs=1)


@pytest.mark.parametrize("row", rows("download"))
def test_a_download_is_acted_on_as_its_row_says(lab: SimpleNamespace, row: Row) -> None:
    task = Task("one", "https://api.bfl.ai/v1/get_result?id=one")
    what = lab.fault(DOWNLOAD[row.happened])
    once = lab.World(then=lab.ready(), downloads=[what])
    always = lab.World(then=lab.ready(), last_download=what)

    outcome = once.run(follow_task(once.watch(candidate=lab.candidate()), task, None))
    end = always.run(follow_task(always.watch(candidate=lab.candidate()), task, None))

    assert isinstance(outcome, Ended if row.again is Again.NEVER else Made)
    assert isinstance(end, Ended)
    assert (end.kind, end.maybe_charged) == (row.kind, True)
    assert (always.seconds > 50) == (row.again is Again.ALWAYS)


@pytest.mark.parametrize("http", [408, 504])
def test_an_upstream_that_did_not_answer_is_never_a_rejection_even_where_facts_list_it(
    lab: SimpleNamespace, http: int
) -> None:
    world = lab.World([lab.said(http, {"detail": "timeout"})])
    state = Refused(Kind.UNAVAILABLE, "timeout", shape="detail")

    end = world.run(submit_attempt(world.watch(), lab.step(), Policy(), is_last=True))

    assert (end.kind, end.maybe_charged, len(world.submits)) == (Kind.OUTCOME_UNKNOWN, True, 1)
    assert state.shape in {row.shape for row in Bfl.facts.rejections}
    assert not {row.status for row in Bfl.facts.rejections} & {408, 504}


def test_f18_a_refusal_in_the_body_of_a_200_is_judged_by_the_body(lab: SimpleNamespace) -> None:
    toy = lab.candidate(adapter=lab.Toy({"no": Refused(Kind.OUT_OF_CREDIT, "no credit", shape="code")}))
    world = lab.World([lab.said(200, "no")])

    end = world.run(submit_attempt(world.watch(), lab.step(toy), Policy(), is_last=True))

    assert (end.kind, end.maybe_charged) == (Kind.OUT_OF_CREDIT, False)


@pytest.mark.parametrize(
    ("code", "shape", "kind", "end", "maybe_charged", "submits"),
    [
        (402, "envelope", Kind.OUT_OF_CREDIT, Kind.OUT_OF_CREDIT, False, 1),
        (455, "envelope", Kind.UNAVAILABLE, Kind.UNAVAILABLE, False, 3),  # listed below
        (505, "envelope", Kind.REQUEST_REJECTED, Kind.REQUEST_REJECTED, False, 1),  # listed below
        (500, "envelope", Kind.UNAVAILABLE, Kind.OUTCOME_UNKNOWN, True, 1),
        (408, "envelope", Kind.UNAVAILABLE, Kind.OUTCOME_UNKNOWN, True, 1),
        (504, "envelope", Kind.UNAVAILABLE, Kind.OUTCOME_UNKNOWN, True, 1),
    ],
)
def test_f18_a_code_in_the_body_is_judged_as_an_http_status_would_be(
    lab: SimpleNamespace, code: int, shape: str, kind: Kind, end: Kind, maybe_charged: bool, submits: int
) -> None:
    listed = tuple(Rejection(one, "envelope", "kie-x") for one in (408, 455, 504, 505))
    toy = lab.candidate(adapter=lab.Toy({"no": Refused(kind, "no", shape=shape, code=code)}, rejections=listed))
    world = lab.World(then=lab.said(200, "no"))

    ended = world.run(submit_attempt(world.watch(), lab.step(toy), Policy(), is_last=True))

    assert (ended.kind, ended.maybe_charged, len(world.submits)) == (end, maybe_charged, submits)


def test_a_state_that_answers_no_submit_is_outcome_unknown(lab: SimpleNamespace) -> None:
    from anykontext.adapting import Balance, Cancelling

    states = {"balance": Balance(None, "credits"), "cancelling": Cancelling(Task("one"))}
    toy = lab.candidate(adapter=lab.Toy(states))

    for name in states:
        world = lab.World([lab.said(200, name)])
        end = world.run(submit_attempt(world.watch(), lab.step(toy), Policy(), is_last=True))
        assert (end.kind, end.maybe_charged) == (Kind.OUTCOME_UNKNOWN, True)


def test_what_a_provider_accepted_has_no_row(lab: SimpleNamespace) -> None:
    from anykontext.adapting import Call, Fetch, Purpose, Reply

    call = Call(Purpose.SUBMIT, "POST", "/")
    reply = Reply(call, 200, {}, b"")

    for state in (Running(Task("one"), "Pending"), Fetch(call, Task("one")), Succeeded(())):
        assert after_submit(reply, state, Bfl.facts) is None
        assert after_poll(reply, state) is None


@pytest.mark.parametrize(("at_home", "end", "submits"), [(True, Kind.UNAVAILABLE, 3), (False, Kind.OUTCOME_UNKNOWN, 1)])
def test_a_page_of_the_providers_front_door_is_a_rejection_only_at_its_own_address(
    lab: SimpleNamespace, at_home: bool, end: Kind, submits: int
) -> None:
    listed = (Rejection(502, "ingress", "fal-18", at_home=True),)
    toy = lab.Toy({"page": Refused(Kind.UNAVAILABLE, "nginx", shape="ingress")}, rejections=listed)
    origins = {} if at_home else {"origins": {"api": "https://proxy.example"}}
    world = lab.World(then=lab.said(502, "page"))

    ended = world.run(
        submit_attempt(world.watch(), lab.step(lab.candidate(adapter=toy, **origins)), Policy(), is_last=True)
    )

    assert (ended.kind, len(world.submits)) == (end, submits)


@pytest.mark.parametrize("cost", [Decimal("NaN"), Decimal("Infinity"), Decimal(-1), "0.04", 0.04])
@pytest.mark.parametrize("seed", [{"a": 1}, "abc", True, -1, 1.5])
def test_values_that_cannot_be_are_unknown_and_cost_no_paid_image(lab: SimpleNamespace, seed: Any, cost: Any) -> None:
    done = Succeeded((Output(lab.LINK),), Task("one"), seed=seed, prompt=7, cost_usd=cost, units=cost)  # type: ignore[arg-type]
    toy = lab.candidate(adapter=lab.Toy({"accepted": Running(Task("one"), "Pending"), "done": done}))
    world = lab.World([lab.said(200, "accepted"), lab.said(200, "done")])

    result = world.run(run_job(world.watch(), [lab.step(toy)], Policy()))

    assert (None, None, Decimal("0.04")) == (result.seed, result.prompt, result.cost.amount)
