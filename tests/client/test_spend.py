"""What was spent, as the ledger of a client knows it."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

import anykontext as ak
from anykontext.model.spend import Sum
from anykontext.sandbox import Emulator

from .conftest import Twin

pytestmark = pytest.mark.sandbox


@pytest.fixture
def spent(twin: Twin, bfl: Emulator) -> Twin:
    """Two images that were paid, one request that may have been, and one that surely was not."""
    twin.edit(tags={"customer": "acme"})
    twin.edit(model="flux-kontext-max", tags={"customer": "other"})
    for fault, error in (("submit-lost", ak.OutcomeUnknown), ("moderated", ak.Moderated)):
        bfl.inject(fault)
        with pytest.raises(error):
            twin.edit(tags={"customer": "acme"})
        bfl.clear()
    return twin


def of(twin: Twin, **asked: Any) -> ak.Spend:
    found: ak.Spend = twin.wait(twin.client.spend(**asked))
    return found


def test_sums_are_by_provider_and_what_is_at_risk_stands_apart(spent: Twin) -> None:
    spend = of(spent)

    assert (Sum(Decimal("0.12")), Sum(Decimal("0.04"))) == (spend.total, spend.at_risk)
    assert {
        "total": {"amount": "0.12", "currency": "USD"},
        "at_risk": {"amount": "0.04", "currency": "USD"},
        "unknown": 0,
        "submits": 3,
        "by_provider": [
            {
                "provider": "bfl",
                "amount": "0.12",
                "currency": "USD",
                "at_risk": {"amount": "0.04", "currency": "USD"},
                "unknown": 0,
                "submits": 3,
            }
        ],
        "budgets": [],
    } == json.loads(json.dumps(spend.to_json()))


def test_sums_are_grouped_and_narrowed(spent: Twin) -> None:
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    by_model = {row.group["model"]: row.total.amount for row in of(spent, by=("model",)).rows}
    assert {"flux-kontext-pro": Decimal("0.04"), "flux-kontext-max": Decimal("0.08")} == by_model
    assert [(today, "acme"), (today, "other")] == [
        tuple(row.group.values()) for row in of(spent, by=("day", "tag:customer")).rows
    ]
    assert [None] == [row.group["tag:team"] for row in of(spent, by="tag:team").rows]
    assert "0.04" == of(spent, tag="customer=acme", by=()).to_json()["total"]["amount"]
    assert Decimal(0) == of(spent, since=datetime.now(UTC) + timedelta(hours=1)).total.amount
    assert Decimal("0.12") == of(spent, until=datetime.now(UTC).timestamp() + 3600).total.amount


def test_the_table_has_a_line_for_each_group_and_the_total(spent: Twin) -> None:
    head, *rows = (line.split() for line in str(of(spent, by=("model",))).splitlines())

    assert ["model", "spent", "at", "risk", "unknown", "submits"] == head
    assert [
        ["flux-kontext-max", "0.08", "USD", "0", "USD", "0", "1"],
        ["flux-kontext-pro", "0.04", "USD", "0.04", "USD", "0", "2"],
        ["total", "0.12", "USD", "0.04", "USD", "0", "3"],
    ] == rows


def test_what_settles_a_job_moves_it_out_of_what_is_at_risk(spent: Twin) -> None:
    (unknown,) = spent.wait(spent.client.jobs(state="unknown"))

    spent.wait(spent.client.resolve(unknown.job_id, charged=True))

    assert (Decimal("0.16"), Decimal(0)) == (of(spent).total.amount, of(spent).at_risk.amount)


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"by": ("providers",)}, "did you mean 'provider'"),
        ({"by": ("day", "day")}, "once"),
        ({"by": ("tag:",)}, "tag:NAME"),
        ({"since": "yesterday"}, "since is a datetime"),
        *(({"until": one}, "until is a datetime") for one in (float("nan"), 10**30, 10**400, True)),
        *(({"by": one}, "by is a list of words") for one in (None, 5, [5])),
        *(({"tag": one}, "NAME or NAME=VALUE") for one in (5, b"x")),
        ({"tag": "=acme"}, "NAME or NAME=VALUE"),
    ],
)
def test_a_question_that_is_none_is_refused(twin: Twin, asked: dict[str, Any], word: str) -> None:
    with pytest.raises(ak.InvalidRequest, match=word):
        of(twin, **asked)


def test_check_keeps_the_balances_that_it_reads(twin: Twin, bfl: Emulator) -> None:
    twin.wait(twin.client.check())
    twin.edit()
    twin.wait(twin.client.check())

    core = twin.client._core
    found = core.ledger.balances("bfl", core.providers["bfl"].origins["api"])
    assert [(Decimal(1000), Decimal(10)), (Decimal(996), Decimal("9.96"))] == [(one.amount, one.usd) for one in found]
