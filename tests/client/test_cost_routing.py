"""What the library is for, whole: the cheapest of three, and another one when it is down; money and ledger are true."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

import anykontext as ak
from anykontext.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    with Sandbox(providers=["bfl", "fal", "kie"], seconds=0.05) as running:
        yield running


def test_the_cheapest_is_taken_whatever_stands_first(sandbox: Sandbox) -> None:
    with ak.Client(sandbox.config()) as client:
        result = client.edit("photo.jpg", "make it blue", route=["bfl", "fal", "kie"])

        assert ("kie", Decimal("0.025"), "listed") == (result.provider, result.cost.amount, result.cost.basis)
        assert Decimal("0.025") == client.spend().total.amount


def test_kie_17_when_the_cheapest_is_in_maintenance_the_next_one_serves_and_only_that_is_paid(sandbox: Sandbox) -> None:
    sandbox.emulators["kie"].inject("outage")  # its 455
    with ak.Client(sandbox.config()) as client:
        result = client.edit("photo.jpg", "make it blue", route=["fal", "bfl", "kie"])
        (job,) = client.jobs()
        sends = client._core.ledger.sends(job.job_id)
        spent = client.spend()

    assert [("kie", "unavailable", False), ("fal", "succeeded", True)] == [
        (one.provider, one.outcome, one.maybe_charged) for one in result.attempts
    ]
    assert Decimal("0.04") == result.cost.amount == result.spent.amount == spent.total.amount
    assert ("fal", False) == (job.provider, job.at_risk)
    assert [("kie", "refused", "free"), ("fal", "accepted", "spent")] == [
        (one.provider, one.outcome, one.money) for one in sends if one.attempt in {0, 1} and one.send == 0
    ]
    assert 1 == sandbox.emulators["fal"].counters["submits"]
