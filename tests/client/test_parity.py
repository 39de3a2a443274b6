"""`Client` and `AsyncClient` are twins: the same methods, and the same end of the same request."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.sandbox import FAULTS, Emulator, Sandbox

from .conftest import Twin, configured


def public(cls: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(cls) if not name.startswith("_")}


NOT_AWAITED = {"run_many", "with_options"}  # the one is gone over with `async for`, the other sends nothing


def shape(member: Any) -> list[tuple[str, Any, Any]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(member).parameters.values()]


def test_every_method_of_a_client_has_its_twin_with_the_same_signature() -> None:
    ours, theirs = public(ak.Client), public(ak.AsyncClient)

    assert {"aclose"} == theirs.keys() - ours.keys()
    assert set() == ours.keys() - theirs.keys()
    for name, member in ours.items():
        assert shape(member) == shape(theirs[name]), name
        assert inspect.iscoroutinefunction(theirs[name]) is (name not in NOT_AWAITED), name
        assert not inspect.iscoroutinefunction(member), name


def test_every_member_of_a_job_has_its_twin() -> None:
    ours, theirs = public(ak.Job), public(ak.AsyncJob)

    assert ours.keys() == theirs.keys()
    for name in ("wait", "refresh", "cancel"):
        assert inspect.signature(ours[name]).parameters == inspect.signature(theirs[name]).parameters, name
        assert inspect.iscoroutinefunction(theirs[name]), name
    assert {"at_risk", "done", "handle", "handles", "state"} == ours.keys() - {"wait", "refresh", "cancel"}


def test_clients_are_made_with_the_same_arguments() -> None:
    assert list(inspect.signature(ak.Client).parameters) == list(inspect.signature(ak.AsyncClient).parameters)


# Fault -> the error, and whether it may be charged; None: the image arrives all the same.
ENDS: dict[str, tuple[type[ak.ProviderError], bool] | None] = {
    "moderated": (ak.Moderated, False),
    "moderated-output": (ak.Moderated, False),
    "failed": (ak.GenerationFailed, False),
    "outage": (ak.Unavailable, False),
    "server-error": (ak.Unavailable, False),
    "gateway-page": (ak.OutcomeUnknown, True),
    "rate-limited": (ak.RateLimited, False),
    "out-of-credit": (ak.OutOfCredit, False),
    "bad-key": (ak.AuthenticationFailed, False),
    "submit-lost": (ak.OutcomeUnknown, True),
    "submit-slow": None,
    "poll-errors": None,
    "unknown-status": (ak.DeadlineExceeded, True),
    "never-ends": (ak.DeadlineExceeded, True),
    "expired-url": (ak.ResultExpired, True),
    "truncated-image": (ak.ProtocolError, True),
    "not-an-image": (ak.ProtocolError, True),
    # of BFL's own
    "busy-402": (ak.RateLimited, False),
    "expired-once": None,
    "foreign-poll-host": None,
    "not-found-always": (ak.JobNotFound, True),
    "not-found-first": None,
    "pixel-bomb": (ak.ProtocolError, True),
    "ready-without-url": (ak.ProtocolError, True),
    "reasoning": None,
    "resultless-error": (ak.GenerationFailed, False),
    "slow-drip": (ak.DeadlineExceeded, True),
}
SHORT = {"unknown-status", "never-ends", "slow-drip"}


def test_the_table_names_every_fault_of_the_sandbox() -> None:
    assert FAULTS.keys() <= ENDS.keys()


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Sandbox(providers=["bfl"], seconds=0.05) as sandbox:
        emulator = sandbox.emulators["bfl"]
        emulator.megapixels = 0.02
        emulator.slow_seconds = 0.1
        yield emulator


def seen(outcome: Any) -> dict[str, Any]:
    """What must be the same for both: all that does not depend on the clock, on chance or on a port."""
    if isinstance(outcome, ak.ImageResult):
        keep = ("provider", "adapter", "model", "mode", "seed", "prompt", "cost", "spent", "adjustments")
        found = {name: getattr(outcome, name) for name in keep}
        found |= {"sha256": [image.sha256 for image in outcome.images], "errors": list(map(seen, outcome.errors))}
        return found | {"attempts": [(one.outcome, one.maybe_charged) for one in outcome.attempts]}
    assert isinstance(outcome, ak.AnykontextError), outcome
    if not isinstance(outcome, ak.ProviderError):
        return {"class": type(outcome), "message": str(outcome)}
    keep = ("kind", "http_status", "retry_after", "maybe_charged", "retryable", "provider", "model", "advice")
    found = {name: getattr(outcome, name) for name in keep}
    found |= {"class": type(outcome), "resumable": outcome.handle is not None}
    return found | {"attempts": [(one.outcome, one.maybe_charged) for one in outcome.attempts]}


def ask(kind: str, emulator: Emulator, image: Any = None, prompt: str = "make it blue", **options: Any) -> Any:
    with Twin(kind, configured(emulator)) as twin:
        try:
            return twin.edit(image, prompt, **{"seed": 7, "deadline": 20, **options})
        except ak.AnykontextError as error:
            return error


@pytest.mark.parametrize("fault", ENDS)
@pytest.mark.usefixtures("quick")
def test_a_fault_ends_alike_in_both_and_as_the_table_says(shared: Emulator, fault: str) -> None:
    found = []
    for kind in ("Client", "AsyncClient"):
        shared.clear()
        shared.inject(fault)
        before = shared.counters["accepted"]
        outcome = ask(kind, shared, safety_tolerance=5, deadline=0.25 if fault in SHORT else 20)
        found.append(seen(outcome) | {"accepted": shared.counters["accepted"] - before})
    shared.clear()

    assert found[0] == found[1]
    assert found[0]["accepted"] <= 1
    if (end := ENDS[fault]) is None:
        assert ["safety_tolerance"] == [one.option for one in found[0]["adjustments"]]
        assert [("succeeded", True)] == found[0]["attempts"]
    else:
        assert end == (found[0]["class"], found[0]["maybe_charged"])
        assert [(found[0]["kind"], end[1])] == found[0]["attempts"]


BAD: dict[str, dict[str, Any]] = {
    "a file that is not there": {"image": "no/such/file.png"},
    "bytes that are no image": {"image": b"hello"},
    "no image": {"image": []},
    "a folder": {"image": Path()},
    "an empty prompt": {"prompt": " "},
    "a word of another library": {"guidance_scale": 3},
    "a time-out by its other name": {"timeout": 3},
    "a word that is none": {"sede": 3},
    "a negative seed": {"seed": -1},
    "a boolean seed": {"seed": True},
    "an aspect ratio that is none": {"aspect_ratio": "wide"},
    "a model that is none": {"model": "flux-kontext-prom"},
    "a provider that is none": {"provider": "bfll"},
    "a route that is none": {"route": "nowhere"},
    "a deadline of 0": {"deadline": 0},
    "a deadline that is a text": {"deadline": "soon"},
    "a price that is a text": {"max_price": "cheap"},
    "a price that is too low": {"max_price": "0.01"},
    "a policy that is none": {"policy": "lax"},
    "an on_event that is no function": {"on_event": 3},
    "what strict refuses": {"policy": "strict", "safety_tolerance": 6},
    "a webhook without submit": {"webhook_url": "https://example.com/hook"},
    "more images at once than the provider runs": {"num_images": 25},
}


async def asynchronous(_: ak.Event) -> None:
    """An `on_event` that would never be awaited."""


BAD["an on_event that is async"] = {"on_event": asynchronous}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_refused_alike_in_both_and_sends_nothing(shared: Emulator, name: str) -> None:
    before = dict(shared.counters)

    sync, twin = (ask(kind, shared, **BAD[name]) for kind in ("Client", "AsyncClient"))

    assert isinstance(sync, ak.InvalidRequest | ak.ConfigurationError | ak.BudgetExceeded)
    assert seen(sync) == seen(twin)
    assert before == dict(shared.counters)


def test_a_success_is_the_same_picture_with_the_same_report(shared: Emulator) -> None:
    sync, twin = (
        ask(kind, shared, safety_tolerance=6, output_format="png", num_images=2, aspect_ratio="16:9")
        for kind in ("Client", "AsyncClient")
    )

    assert seen(sync) == seen(twin)
    assert 2 == len(sync.images)
    assert ["safety_tolerance"] == [one.option for one in sync.adjustments]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "ok"),
        ({"api_key": "bfl_wrong-key"}, "refused"),
        ({"api_key": lambda: ""}, "missing"),
        ({"api_key": lambda: "no key"}, "missing"),
        ({"base_url": "http://127.0.0.1:1"}, "unverified"),
    ],
)
def test_check_says_the_same_in_both(shared: Emulator, settings: dict[str, Any], key: str) -> None:
    def checked(kind: str) -> list[dict[str, object]]:
        with Twin(kind, configured(shared, **settings)) as twin:
            return [one.to_json() for one in twin.wait(twin.client.check())]

    (ours,), (theirs,) = checked("Client"), checked("AsyncClient")

    assert key == ours["key"]
    assert ours.pop("message")
    assert theirs.pop("message")  # of a lost connection, the HTTP libraries speak in words of their own
    assert ours == theirs
