"""Every fault of the emulators, through `edit --sandbox --fault NAME --json`: its error class and its exit code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anykontext.cli.failures import EXIT_CODES, class_of, exit_code
from anykontext.io.journal import TakenOver
from anykontext.ledger.errors import LedgerError
from anykontext.model import errors
from anykontext.sandbox import FAULTS, Emulator, Sandbox

ENDS = {
    "moderated": ("Moderated", 4),
    "moderated-output": ("Moderated", 4),
    "failed": ("GenerationFailed", 5),
    "outage": ("Unavailable", 5),
    "server-error": ("Unavailable", 5),
    "rate-limited": ("RateLimited", 5),
    "out-of-credit": ("OutOfCredit", 5),
    "bad-key": ("AuthenticationFailed", 3),
    "gateway-page": ("OutcomeUnknown", 6),
    "submit-lost": ("OutcomeUnknown", 6),
    "unknown-status": ("DeadlineExceeded", 7),
    "never-ends": ("DeadlineExceeded", 7),
    "expired-url": ("ResultExpired", 5),
    "truncated-image": ("ProtocolError", 5),
    "not-an-image": ("ProtocolError", 5),
}
GOOD = {"submit-slow", "poll-errors"}
CHARGED = {
    *("gateway-page", "submit-lost", "unknown-status", "never-ends", "expired-url", "truncated-image", "not-an-image"),
}
DEADLINE = {"unknown-status": "1", "never-ends": "1", "outage": "1.5", "server-error": "1.5", "rate-limited": "1.2"}


def test_a_private_kind_of_an_error_is_told_by_its_public_name() -> None:
    names = {cls: class_of(cls("x")) for cls in (LedgerError, TakenOver, errors.InvalidRequest)}

    assert {LedgerError: "ConfigurationError", TakenOver: "AnykontextError"}.items() <= names.items()
    assert "InvalidRequest" == names[errors.InvalidRequest]


def test_when_every_key_was_refused_it_is_the_configuration() -> None:
    refused = errors.AuthenticationFailed("no", provider="bfl")
    other = errors.Unavailable("no", provider="fal")

    assert [3, 5] == [
        exit_code(errors.AllCandidatesFailed("x", errors=found, provider="bfl"))
        for found in ([refused, refused], [refused, other])
    ]


def test_every_fault_that_all_emulators_know_is_in_the_tables() -> None:
    assert set(ENDS) | GOOD == set(FAULTS)


@pytest.mark.sandbox
@pytest.mark.parametrize("fault", ENDS)
def test_a_fault_ends_in_its_error_and_exit_code(
    fault: str, edit: Callable[..., Any], work: Path, sandboxes: list[Sandbox]
) -> None:
    ended = edit("--fault", fault, "--json", "--deadline", DEADLINE.get(fault, "20"), "-o", "out.jpg")
    name, code = ENDS[fault]
    assert (ended.error["class"], ended.code) == (name, code)
    assert set(ended.error) == {
        *("class", "kind", "message", "provider", "maybe_charged", "job", "job_id", "attempts"),
    }
    assert ended.error["kind"] == getattr(errors, name).kind
    assert ended.error["provider"] == "bfl"
    assert ended.error["maybe_charged"] is (fault in CHARGED)
    assert ended.error["job_id"].startswith("job_")
    assert [one["outcome"] for one in ended.error["attempts"]] == [ended.error["kind"]]
    assert "Error: bfl/flux-kontext-pro: " in ended.err
    assert "Traceback" not in ended.err
    assert not (work / "out.jpg").exists()
    if fault in {"gateway-page", "submit-lost"}:
        assert sandboxes[0].emulators["bfl"].counters["submits"] == 1


@pytest.mark.sandbox
def test_an_unknown_status_is_named_and_can_be_resumed(edit: Callable[..., Any]) -> None:
    ended = edit("--fault", "unknown-status", "--json", "--deadline", "0.5")
    word = ended.error["message"].split("the last status was '")[1].split("'")[0]
    assert f"unknown status, {word!r}" in ended.err
    assert "anykontext jobs resume '{" in ended.err
    assert "The sandbox has ended" in ended.err  # it has a ledger of its own, which knows no ids afterwards
    assert ended.error["job"]["tasks"]


@pytest.mark.sandbox
def test_a_slow_submit_ends_well(edit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Emulator, "slow_seconds", 0.5)
    assert edit("--fault", "submit-slow", "-o", "out.jpg").out == "out.jpg\n"


@pytest.mark.sandbox
def test_poll_errors_end_well_after_one_submit(edit: Callable[..., Any], sandboxes: list[Sandbox]) -> None:
    ended = edit("--fault", "poll-errors", "--json")
    assert (ended.code, len(ended.json["images"])) == (0, 1)
    assert sandboxes[0].emulators["bfl"].counters["submits"] == 1


@pytest.mark.parametrize("error", [one for one in vars(errors).values() if isinstance(one, type)])
def test_every_error_of_the_library_has_an_exit_code(error: type) -> None:
    if issubclass(error, errors.AnykontextError) and error is not errors.AnykontextError:
        assert any(cls in EXIT_CODES for cls in error.__mro__ if cls is not errors.AnykontextError)


def test_an_error_that_nobody_expected_is_1() -> None:
    assert exit_code(ZeroDivisionError()) == 1
