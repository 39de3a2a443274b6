"""`spend` and `spend reconcile`, over emulators that outlive the commands."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import httpx
import pytest

from anykontext.cli import chart
from anykontext.sandbox import Sandbox

pytestmark = pytest.mark.sandbox
Cli = Callable[..., Any]
BUDGET = '[budget]\ndaily_usd = "1"\nmax_at_risk_usd = "0.5"\n[budget.tags.customer]\nmonthly_usd = "0.05"\n'


@pytest.fixture
def sandbox(work: Path) -> Iterator[Sandbox]:
    with Sandbox(providers=["bfl", "fal", "kie"], seconds=0.05) as sandbox:
        text = re.sub(r"(\[providers\.\w+\])", r"\1\npoll_interval_s = 0.05", sandbox.config_toml())
        (work / "anykontext.toml").write_text(text + BUDGET)
        (work / "out").mkdir()
        yield sandbox


def edit(cli: Cli, provider: str = "bfl") -> Any:
    ended = cli("edit", "photo.jpg", "make it blue", "--provider", provider, "-o", "out/", "--json")
    assert 0 == ended.code, ended
    return ended.json


class TestSpend:
    def test_nothing_spent_is_said_with_what_is_left(self, cli: Cli, sandbox: Sandbox) -> None:
        ended = cli("spend")

        assert (0, "") == (ended.code, ended.err)
        assert ended.out.startswith("Nothing was spent.\n\nBudget daily: 1 of 1 USD are left; it begins anew at ")
        assert "UTC\nBudget at-risk: 0.5 of 0.5 USD are left for going on after something" in ended.out

    def test_the_table_the_json_and_the_csv_say_the_same(self, cli: Cli, sandbox: Sandbox) -> None:
        edit(cli)
        edit(cli, "kie")

        table = [line.split() for line in cli("spend").out.splitlines()]
        told = cli("spend", "--json").json
        rows = list(csv.DictReader(io.StringIO(cli("spend", "--csv").out)))

        assert ["bfl", "0.04", "USD", "0", "USD", "0", "1"] in table
        assert {"amount": "0.065", "currency": "USD"} == told["total"]
        assert [("bfl", "0.04"), ("kie", "0.025")] == [(one["provider"], one["amount"]) for one in told["by_provider"]]
        assert [("bfl", "0.04", "0", "USD"), ("kie", "0.025", "0", "USD")] == [
            (row["provider"], row["amount"], row["at_risk"], row["currency"]) for row in rows
        ]
        assert "0.935" == told["budgets"][0]["left"]

    def test_a_terminal_gets_a_chart_with_the_dearest_first(
        self, cli: Cli, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        edit(cli, "kie")
        edit(cli)
        assert "█" not in cli("spend").out
        monkeypatch.setattr("anykontext.cli.say.on_terminal", lambda _: True)

        drawn = [line.split() for line in cli("spend").out.splitlines() if "█" in line]

        assert [("bfl", "0.04"), ("kie", "0.025")] == [(line[0], line[-1]) for line in drawn]

    def test_it_is_grouped_by_several_words_and_narrowed_in_time(self, cli: Cli, sandbox: Sandbox) -> None:
        edit(cli)

        told = cli("spend", "--by", "model,tag:customer", "--since", "1h", "--json").json
        assert [("flux-kontext-pro", None)] == [
            (one["model"], one["tag:customer"]) for one in told["by_model_tag:customer"]
        ]
        assert [] == cli("spend", "--until", "1h", "--json").json["by_provider"]
        assert cli("spend", "--by", "day").out.splitlines()[1].startswith("DAY (UTC)")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--by", "vendor"), "cannot be grouped by 'vendor'"),
            (("--since", "yesterday"), "is no time"),
            (("--tag", "=x"), "NAME or NAME=VALUE"),
            (("--csv", "--json"), "exclude each other"),
            (("--json", "reconcile"), "options go behind the word"),
        ],
    )
    def test_a_wrong_option_is_2(self, cli: Cli, sandbox: Sandbox, words: tuple[str, ...], said: str) -> None:
        ended = cli("spend", *words)

        assert 2 == ended.code
        assert said in ended.err

    def test_what_is_over_the_budget_is_8(self, cli: Cli, sandbox: Sandbox, work: Path) -> None:
        config = work / "anykontext.toml"
        config.write_text(config.read_text().replace('daily_usd = "1"', 'daily_usd = "0.03"'))

        ended = cli("edit", "photo.jpg", "make it blue", "--provider", "bfl", "--json")

        assert (8, "BudgetExceeded") == (ended.code, ended.error["class"])
        assert "daily budget of 0.03 USD" in ended.err
        assert 0 == sandbox.emulators["bfl"].counters["submits"]

    def test_no_tag_becomes_a_formula(self, work: Path, cli: Cli, sandbox: Sandbox) -> None:
        import anykontext as ak

        for customer in ("=1+1", "+1", '-1,"x"', "@x", " \n=1", "\uff1d1", "plain\r\ntext"):
            with ak.Client(work / "anykontext.toml") as client:
                client.edit("photo.jpg", "make it blue", provider="bfl", tags={"customer": customer})

        out = cli("spend", "--by", "tag:customer", "--csv").out
        found = [row["tag:customer"] for row in csv.DictReader(io.StringIO(out, newline=""))]

        assert {"'=1+1", "'+1", '\'-1,"x"', "'@x", "' \n=1", "'\uff1d1", "plain\r\ntext"} == set(found)


class TestReconcile:
    def found(self, cli: Cli) -> dict[str, Any]:
        ended = cli("spend", "reconcile", "--json")
        assert 0 == ended.code, ended
        return {one["provider"]: one for one in ended.json}

    def test_the_balances_agree_until_somebody_else_spends(self, cli: Cli, sandbox: Sandbox) -> None:
        cli("check")
        edit(cli)
        edit(cli)
        edit(cli, "kie")
        found = self.found(cli)

        assert {"bfl": "0.08", "kie": "0.025"} == {
            name: one["ledger"]["amount"] for name, one in found.items() if one["balance_change"]
        }
        assert [Decimal(0), Decimal(0)] == [Decimal(found[name]["difference"]) for name in ("bfl", "kie")]
        assert "they agree" in found["bfl"]["message"]

        bfl = sandbox.emulators["bfl"].config()
        elsewhere = httpx.post(
            f"{bfl['base_url']}/v1/flux-kontext-max", headers={"x-key": "sandbox"}, json={"prompt": "a cat"}, timeout=5
        )
        assert 200 == elsewhere.status_code
        poll(elsewhere.json()["polling_url"])

        table = cli("spend", "reconcile")
        (line,) = [line for line in table.out.splitlines() if line.startswith("bfl")]
        assert "0.08 USD more left the balance: jobs of other machines" in re.sub(r"0\.080+", "0.08", line)

    def test_a_top_up_shows_as_less(self, cli: Cli, sandbox: Sandbox) -> None:
        cli("check")
        sandbox.emulators["bfl"].credits += 500  # type: ignore[attr-defined]

        found = self.found(cli)["bfl"]

        assert Decimal(-5) == Decimal(found["difference"])
        assert "a top-up" in found["message"]

    def test_what_cannot_be_compared_is_said(self, cli: Cli, sandbox: Sandbox) -> None:
        found = self.found(cli)

        assert "it tells no balance" in found["fal"]["message"]
        assert "first reading" in found["bfl"]["message"]
        assert (None, None) == (found["bfl"]["difference"], found["fal"]["after"])


def poll(url: str) -> None:
    for _ in range(100):
        if httpx.get(url, headers={"x-key": "sandbox"}).json()["status"] == "Ready":
            return


ROWS = [
    ("mon", Decimal("0.4"), Decimal(0)),
    ("tuesday", Decimal("0.1"), Decimal("0.1")),
    ("wed", Decimal(0), Decimal(0)),
]


class Terminal(io.StringIO):
    def __init__(self, encoding: str | None) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> Any:
        return self._encoding


@pytest.mark.parametrize(
    ("stream", "solid", "light"),
    [(Terminal("utf-8"), "█", "░"), (Terminal("ascii"), "#", "."), (Terminal("nonsense"), "#", "."), (None, "#", ".")],
)
def test_a_bar_is_as_long_as_its_amount_in_what_the_terminal_can_draw(
    stream: TextIO | None, solid: str, light: str
) -> None:
    assert [
        f"mon      {solid * 8}  0.4",
        f"tuesday  {solid * 2}{light * 2}  0.2",
        "wed        0",
    ] == chart.bars(ROWS, 20, stream)


def test_the_smallest_amounts_are_seen() -> None:
    rows = [("a", Decimal(100), Decimal(0)), ("b", Decimal("0.01"), Decimal(0)), ("c", Decimal(0), Decimal("0.01"))]

    assert ["#", "."] == [line.split()[1] for line in chart.bars(rows, 80, None)[1:]]
