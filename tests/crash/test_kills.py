"""A process is killed at every point of a job's life, and another one goes on a minute later."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import anykontext as ak
from anykontext.ledger import is_ended

from .matrix import MINUTE_S, RECOVERY_S, Aftermath, Lab, Point, expected, later, points, words

TEXT = (Path(__file__).parents[2] / "docs/crashes.md").read_text(encoding="utf-8")
PAGE = TEXT.partition("<!-- crash table: begin")[2].partition("<!-- crash table: end")[0].splitlines()
SAMPLES = {("before", "Persist(Intent)"), ("before", "Persist(Acceptance)"), ("after", "Persist(Acceptance)")}
# Where the outcome turns: enough for a job without input images, which ends as one with them.
TURNS = {
    ("before", "Persist(Intent)"), ("after", "Persist(Intent)"), ("in", "body"), ("in", "reply"),
    ("before", "Persist(Acceptance)"), ("after", "Persist(Acceptance)"), ("before", "Persist(JobEnd)"),
    ("after", "Persist(JobEnd)"),
}  # fmt: skip
PROVIDERS = sorted(entry.name for entry in entry_points(group="anykontext"))
pytestmark = pytest.mark.sandbox


def check(found: Aftermath, point: Point) -> None:
    """What must hold wherever a process was killed."""
    where = (words(point), found)
    assert (-9, 0, ()) == (found.code, found.resent, found.again), where
    assert found.submits <= 1, where
    assert found.recovery_s < RECOVERY_S, where
    assert found.job is not None, where
    errors = [one.error for one in found.recovered if one.error is not None]
    if found.outcome == "unknown":
        assert found.sends, where
        assert [(ak.OutcomeUnknown, True)] == [(type(one), one.maybe_charged) for one in errors], where
        assert found.job.at_risk or found.job.charged, where
    elif found.outcome == "never sent":
        assert 0 == found.submits, where
        assert is_ended(found.job.state), where
        assert (False, False) == (found.job.at_risk, found.job.charged), where
    else:
        assert (1, True, []) == (found.accepted, found.stored, errors), where
        assert (False, True) == (found.job.at_risk, found.job.charged), where


def on_the_page(row: str, provider: str) -> str:
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE if line.startswith("|")]
    return next(cells for cells in rows if cells[0] == row)[head.index(provider)]


@pytest.mark.parametrize("mode", ["edit", "generate"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_wherever_a_process_is_killed_nothing_is_paid_twice_and_nothing_is_lost(
    provider: str, mode: str, lab: Callable[[str], Lab]
) -> None:
    where = lab(provider)
    life = where.life(mode)
    chosen = life if mode == "edit" else [one for one in life if one[:2] in TURNS]

    found = {point: where.killed(point, mode) for point in chosen}

    for point, aftermath in found.items():
        check(aftermath, point)
    names_tasks = provider != "together"  # together-1
    assert {words(one): expected(life, one, names_tasks=names_tasks) for one in chosen} == {
        words(one): aftermath.outcome for one, aftermath in found.items()
    }
    told = [one for one in chosen if one[:2] in SAMPLES]
    assert [on_the_page(words(one), provider) for one in told] == [found[one].cell for one in told]


def test_of_two_tasks_those_whose_handles_are_known_are_collected_and_the_other_is_at_risk(
    lab: Callable[[str], Lab],
) -> None:
    found = lab("bfl").killed(("after", "Persist(Acceptance)", 1), images=2)

    assert (-9, 0, ()) == (found.code, found.resent, found.again)
    assert found.job is not None
    assert ak.JobState.SUCCEEDED is found.job.state
    assert found.stored
    # Both replies may have come by then, and share a commit.
    assert sorted(one.money for one in found.sends) in (["risk", "spent"], ["spent", "spent"])
    assert found.job.result is not None
    assert [one.money for one in found.sends].count("spent") == len(found.job.result["images"])


def test_of_two_attempts_that_were_accepted_both_are_collected(lab: Callable[[str], Lab]) -> None:
    where = lab("bfl")
    where.with_a_second("bfl-eu")
    home = where.home()
    where.emulator.inject("never-ends")
    point = ["after", "Persist(Acceptance)", 2]
    told = where.nursery.run(config=str(where.config), home=str(home), mode="edit", at=point)
    where.emulator.clear()

    with later(MINUTE_S):
        found = where.looked_after(home, told["code"])

    assert (-9, 2, 0, ()) == (found.code, found.accepted, found.resent, found.again)
    assert found.job is not None
    assert (ak.JobState.SUCCEEDED, True, False) == (found.job.state, found.job.surplus, found.job.at_risk)
    assert [("bfl", "spent"), ("bfl-eu", "spent")] == [(one.provider, one.money) for one in found.sends]


def test_the_points_are_those_of_the_effects() -> None:
    life = points(["Admit", "Send(submit)", "Sleep", "Sleep", "Emit(Submitted)"])

    assert [
        "before `Admit`", "after `Admit`", "before `Send(submit)`", "in the body", "in the wait for the reply",
        "in the reply", "after `Send(submit)`", "before `Sleep`", "after `Sleep`", "before `Emit(Submitted)`",
        "after `Emit(Submitted)`",
    ] == [words(one) for one in life]  # fmt: skip
