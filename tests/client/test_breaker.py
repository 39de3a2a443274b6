"""Outages, drains and full places, seen from a client: over real sockets, at emulators."""

import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.sandbox import Sandbox

from .conftest import KINDS, Twin, picture

SCRIPT = Path(__file__).parents[2] / "scripts/outage_replay.py"


class Pair:
    """A route of bfl, then fal."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.bfl, self.fal = sandbox.emulators["bfl"], sandbox.emulators["fal"]
        for emulator in (self.bfl, self.fal):
            emulator.megapixels = 0.01

    def config(self, route: Any = None, **settings: Any) -> ak.Config:
        providers = {one.name: {**one.config(), "poll_interval_s": 0.02, **settings} for one in (self.bfl, self.fal)}
        rules = {"candidates": ["bfl", "fal"], "strategy": "ordered", **(route or {})}
        return ak.Config(providers=providers, routes={"default": rules})

    @property
    def submits(self) -> tuple[int, int]:
        """How many came to each."""
        return self.bfl.counters["submits"], self.fal.counters["submits"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Sandbox(providers=["bfl", "fal"], seconds=0.02) as sandbox:
        yield Pair(sandbox)


def later(client: Any, seconds: float) -> None:
    """Move the clock of a client's gate on."""
    gate = client._core.store.gate
    clock = gate._clock
    gate._clock = lambda: clock() + seconds


def outcomes(found: Any) -> list[tuple[str, str]]:
    return [(one.provider, one.outcome) for one in found.attempts]


@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_is_out_is_passed_over_until_a_real_request_finds_it_back(pair: Pair, kind: str) -> None:
    pair.bfl.inject("outage")
    with Twin(kind, pair.config()) as twin:
        tried = [outcomes(twin.generate()) for _ in range(5)]
        planned = twin.wait(twin.client.plan(ak.ImageRequest("a cat")))
        pair.bfl.clear()
        later(twin.client, 10.0)
        back = outcomes(twin.generate())

    assert [[("bfl", "unavailable"), ("fal", "succeeded")]] * 3 == tried[:3]
    assert [[("bfl", "skipped"), ("fal", "succeeded")]] * 2 == tried[3:]
    assert [("bfl", "succeeded")] == back
    assert (4, 5) == pair.submits
    assert ["fal"] == [one.provider for one in planned.candidates]
    assert "unavailable for" in planned.excluded[0].reason


def test_when_all_are_out_a_request_is_tried_all_the_same(pair: Pair, quick: None) -> None:
    with ak.Client(pair.config()) as client:
        for emulator in (pair.bfl, pair.fal):
            emulator.inject("outage")
        for _ in range(3):
            with pytest.raises(ak.AllCandidatesFailed):
                client.generate("a cat")
        pair.bfl.clear()

        result = client.generate("a cat")

    assert [("bfl", "skipped"), ("fal", "skipped"), ("bfl", "succeeded")] == outcomes(result)


def test_a_route_may_ignore_the_breaker(pair: Pair) -> None:
    pair.bfl.inject("outage")
    with ak.Client(pair.config({"breaker": False})) as client:
        tried = [outcomes(client.generate("a cat")) for _ in range(5)]

    assert [[("bfl", "unavailable"), ("fal", "succeeded")]] * 5 == tried


def test_a_refused_key_goes_on_being_seen_unless_the_route_goes_on_after_it(pair: Pair) -> None:
    pair.bfl.inject("bad-key")
    with ak.Client(pair.config()) as client:
        for _ in range(2):
            with pytest.raises(ak.AuthenticationFailed):
                client.generate("a cat")
        route = ak.Route(["bfl", "fal"], strategy="ordered", failover_on=["authentication_failed"])
        result = client.generate("a cat", route=route)

    assert [("bfl", "skipped"), ("fal", "succeeded")] == outcomes(result)


def test_the_empty_purse_of_a_view_is_not_that_of_the_client(pair: Pair) -> None:
    with ak.Client(pair.config()) as client:
        pair.bfl.inject("out-of-credit")
        theirs = client.with_options(keys={"bfl": "sandbox"}).generate("a cat")
        pair.bfl.clear()
        ours = client.generate("a cat")

    assert [("bfl", "out_of_credit"), ("fal", "succeeded")] == outcomes(theirs)
    assert [("bfl", "succeeded")] == outcomes(ours)


@pytest.mark.parametrize("kind", KINDS)
def test_a_drained_provider_takes_no_new_jobs_and_ends_those_that_it_has(pair: Pair, kind: str) -> None:
    with Twin(kind, pair.config()) as twin, ak.Client(pair.config()) as other:
        running = twin.submit()
        other._core.ledger.drain("bfl", who="me@here", why="a bad release").result()
        later(twin.client, 1.0)
        result = twin.generate()
        with pytest.raises(ak.Unavailable, match=r"drained by me@here since .*: a bad release; .* undrain bfl"):
            twin.generate(provider="bfl")
        assert (1, 1) == pair.submits
        assert 1 == len(twin.wait(running.wait()).images)
        other._core.ledger.undrain("bfl").result()
        later(twin.client, 1.0)
        again = twin.generate()
        jobs = twin.wait(twin.client.jobs(state="failed"))

    assert [("bfl", "skipped"), ("fal", "succeeded")] == outcomes(result)
    assert [("bfl", "succeeded")] == outcomes(again)
    assert [] == jobs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, ak.NoCandidate),
        ({"route": ["fal"]}, ak.NoCandidate),
        ({"provider": "fal"}, ak.Unavailable),
        ({"model": "fal/flux-kontext-pro"}, ak.Unavailable),
    ],
)
def test_when_every_candidate_is_drained_a_plan_says_what_a_call_does_and_no_job_is_begun(
    pair: Pair, kind: str, options: dict[str, str], error: type[ak.AnykontextError]
) -> None:
    with Twin(kind, pair.config()) as twin:
        for name in ("bfl", "fal"):
            twin.client._core.ledger.drain(name, who="me", why="a bad release").result()
        fields = {name: options[name] for name in {"model"} & options.keys()}
        call = {name: options[name] for name in options.keys() - fields.keys()}
        planned = twin.wait(twin.client.plan(ak.ImageRequest("a cat", **fields), **call))
        with pytest.raises(error, match="a bad release; `anykontext undrain fal`") as refused:
            twin.generate(**options)
        jobs = twin.wait(twin.client.jobs())

    assert (error, str(planned.error)) == (type(planned.error), str(refused.value))
    assert ([], (0, 0)) == (jobs, pair.submits)


def test_a_drain_does_not_stand_before_a_result_that_is_there(pair: Pair) -> None:
    with ak.Client(pair.config()) as client:
        first = client.generate("a cat", idempotency_key="mine")
        for name in ("bfl", "fal"):
            client._core.ledger.drain(name, who="me").result()
        later(client, 1.0)

        assert first.image.sha256 == client.generate("a cat", idempotency_key="mine").image.sha256


def test_an_outage_of_the_only_one_that_can_do_it_is_tried_and_planned(pair: Pair, quick: None) -> None:
    pair.fal.inject("outage")
    dev = ak.ImageRequest("a cat", picture(), model="flux-kontext-dev")
    with ak.Client(pair.config()) as client:
        for _ in range(3):
            with pytest.raises(ak.Unavailable):
                client.run(dev)
        planned = client.plan(dev)

    assert (["fal"], ["bfl"]) == ([one.provider for one in planned.candidates], [o.provider for o in planned.excluded])


def test_a_full_candidate_is_passed_over_or_waited_for_as_the_route_says(pair: Pair) -> None:
    pair.bfl.seconds = pair.fal.seconds = 0.3
    for when_full, providers in (("next", {"bfl", "fal"}), ("wait", {"bfl"})):
        with ak.Client(pair.config({"when_full": when_full}, max_in_flight=1)) as client:
            found: list[str] = []
            threads = [
                threading.Thread(target=lambda c=client, f=found: f.append(c.generate("a cat").provider))
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)

        assert providers == set(found), when_full


def test_more_images_than_places_are_refused_at_once_with_the_reason(pair: Pair) -> None:
    with (
        ak.Client(pair.config(max_in_flight=1)) as client,
        pytest.raises(ak.UnsupportedOption, match="3 tasks at once, and it takes at most 1"),
    ):
        client.generate("a cat", num_images=3, provider="bfl")

    assert (0, 0) == pair.submits


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", ["answers 503", "refuses connections"])
def test_in_an_outage_nothing_is_lost_or_paid_twice_and_less_is_sent_in_vain_with_the_breaker(kind: str) -> None:
    spec = importlib.util.spec_from_file_location("outage_replay", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["outage_replay"] = script  # its dataclasses look there
    spec.loader.exec_module(script)
    conditions = script.Conditions(jobs=18, in_flight=2, task_s=0.0)

    without, with_it = (script.replay(kind, conditions, breaker=breaker) for breaker in (False, True))

    for found in (without, with_it):
        assert (18, 0, 0) == (found.done, found.lost, found.paid_twice)
    assert with_it.in_vain < without.in_vain
