from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from anykontext.adapting import (
    Call,
    Cancelling,
    Failed,
    Fetch,
    Kind,
    Purpose,
    Refused,
    Running,
    Succeeded,
    Task,
    get,
)
from anykontext.engine.check import cancel, check_provider, look
from anykontext.engine.effects import Loss
from anykontext.engine.ends import Ended
from anykontext.model.job import JobState
from anykontext_bfl import Bfl

TASK = Task("one", "https://api.eu2.bfl.ai/v1/get_result?id=one")


@pytest.mark.parametrize(
    ("status", "body", "key", "amount"),
    [
        (200, {"credits": 1234}, "ok", Decimal(1234)),
        (200, {"credits": 0.5}, "ok", Decimal("0.5")),
        (200, {"credits": 0}, "ok", Decimal(0)),
        (200, {"credits": "many"}, "ok", None),
        (200, {"credits": True}, "ok", None),
        (200, {}, "unverified", None),
        (200, "<html>", "unverified", None),
        (403, {"detail": "Not authenticated - Invalid Authentication"}, "refused", None),
        (401, {"detail": "Not authenticated"}, "refused", None),
        (422, {"detail": "Invalid API key format"}, "refused", None),
        (403, "<html>", "unverified", None),
        (503, {"detail": "busy"}, "unverified", None),
    ],
)
def test_a_key_is_checked_without_spending(
    lab: SimpleNamespace, status: int, body: Any, key: str, amount: Decimal | None
) -> None:
    world = lab.World([lab.said(status, body)])

    found = world.run(check_provider(world.watch(), lab.provider()))

    assert (key, amount) == (found.key, found.amount)
    assert found.message
    assert [("GET", "https://api.bfl.ai/v1/credits", True)] == [
        (one.call.method, one.address.url, one.address.signed) for one in world.sends
    ]


def test_a_lost_check_is_unverified(lab: SimpleNamespace) -> None:
    world = lab.World([lab.lost(Loss.NOT_CONNECTED)])

    assert "unverified" == world.run(check_provider(world.watch(), lab.provider())).key


def test_a_provider_without_a_check_is_unverified_and_nothing_is_sent(lab: SimpleNamespace) -> None:
    world = lab.World()

    found = world.run(check_provider(world.watch(), lab.provider(adapter=lab.Toy({}))))

    assert ("unverified", []) == (found.key, world.sends)


def test_the_json_of_a_check(lab: SimpleNamespace) -> None:
    good, bad = lab.World([lab.said(200, {"credits": 7})]), lab.World([lab.said(403, {"detail": "no"})])

    first = good.run(check_provider(good.watch(), lab.provider("mine"))).to_json()
    second = bad.run(check_provider(bad.watch(), lab.provider())).to_json()

    assert ("mine", "bfl", "ok", {"amount": "7", "unit": "credits"}) == (
        *(first["provider"], first["adapter"]),
        *(first["key"], first["balance"]),
    )
    assert (None, "no") == (second["balance"], second["message"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("Pending", 200), JobState.RUNNING),
        (("Odd", 200), JobState.RUNNING),
        (("Error", 200), Kind.GENERATION_FAILED),
        (("Request Moderated", 200), Kind.MODERATED),
        (("Task not found", 404), Kind.JOB_NOT_FOUND),
    ],
)
def test_a_look_tells_how_a_task_is(lab: SimpleNamespace, said: Any, expected: Any) -> None:
    world = lab.World([lab.status(*said)])

    found = world.run(look(world.watch(), lab.candidate(), TASK))

    assert expected == (found.kind if isinstance(found, Ended) else found)


def test_a_look_at_a_finished_task_and_one_that_was_lost(lab: SimpleNamespace) -> None:
    done, gone = lab.World([lab.ready()]), lab.World([lab.lost(Loss.INTERRUPTED)])

    assert JobState.SUCCEEDED is done.run(look(done.watch(), lab.candidate(), TASK))
    assert Kind.DEADLINE_EXCEEDED is gone.run(look(gone.watch(), lab.candidate(), TASK)).kind


def test_a_look_at_a_hostile_url_sends_nothing(lab: SimpleNamespace) -> None:
    world = lab.World()

    found = world.run(look(world.watch(), lab.candidate(), Task("one", "https://u:p@bfl.ai/x")))

    assert (Kind.PROTOCOL_ERROR, []) == (found.kind, world.sends)


CANCELS = {
    "cancelling": Cancelling(TASK),
    "cancelled": Failed(Kind.CANCELLED, "cancelled", maybe_charged=False),
    "done": Succeeded((), TASK),
    "running": Running(TASK, "x"),
    "failed": Failed(Kind.GENERATION_FAILED, "broken", maybe_charged=False),
    "late": Refused(Kind.REQUEST_REJECTED, "already done", shape="code"),
}


@pytest.mark.parametrize("word", CANCELS)
def test_a_cancel_tells_what_came_of_it(lab: SimpleNamespace, word: str) -> None:
    who = lab.candidate(adapter=lab.Toy(CANCELS))
    world = lab.World([lab.said(200, word)])

    found = world.run(cancel(world.watch(), who, TASK))

    assert [Purpose.CANCEL] == [one.call.purpose for one in world.sends]
    if word in {"failed", "late"}:
        assert isinstance(found, Ended)
        assert CANCELS[word].kind is found.kind  # type: ignore[attr-defined]
    else:
        assert CANCELS[word] is found


def test_a_lost_cancel_is_an_end_of_the_question(lab: SimpleNamespace) -> None:
    who = lab.candidate(adapter=lab.Toy({}))
    world = lab.World([lab.lost(Loss.AFTER_SENDING)])

    found = world.run(cancel(world.watch(), who, TASK))

    assert isinstance(found, Ended)
    assert found.maybe_charged


def test_a_look_at_a_task_that_has_ended_fetches_how(lab: SimpleNamespace) -> None:
    fetch = Fetch(get(Purpose.FETCH, "/result"), TASK)
    for name, state in {"good": Succeeded((), TASK), "bad": Failed(Kind.MODERATED, "no", maybe_charged=True)}.items():
        toy = lab.candidate(adapter=lab.Toy({"ended": fetch, name: state}))
        world = lab.World([lab.said(200, "ended"), lab.said(200, name)])

        seen = world.run(look(world.watch(), toy, TASK))

        assert [Purpose.POLL, Purpose.FETCH] == [one.call.purpose for one in world.sends]
        assert seen is JobState.SUCCEEDED if name == "good" else seen.kind is Kind.MODERATED


def test_a_check_at_a_host_that_is_not_configured_is_unverified(lab: SimpleNamespace) -> None:
    class Elsewhere(Bfl):
        def check(self) -> Call:
            return get(Purpose.CHECK, "/token", origin="rest")

    world = lab.World()

    found = world.run(check_provider(world.watch(), lab.provider(adapter=Elsewhere())))

    assert "unverified" == found.key
    assert "'rest' host" in found.message
    assert not world.sends
