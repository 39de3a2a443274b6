"""The routing page: its recipes load and do what they say, and what it shows is what the commands print."""

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.cli.chart import bars
from anykontext.config.sections import Strategy
from anykontext.engine.policy import Policy
from anykontext.model.errors import Kind

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/routing.md").read_text(encoding="utf-8")
RECIPES = {
    title: tomllib.loads(block)
    for title, block in re.findall(r"\*\*([^*]+)\.\*\*[^`]*?(?:`[^`]+`[^`]*?)*\n```toml\n(.*?)```", PAGE, re.DOTALL)
}
KEYS = ("BFL_API_KEY", "FAL_KEY", "KIE_API_KEY", "FAL_KEY_A", "FAL_KEY_B")
PHOTO = str(ROOT / "docs/images/coffee.png")
REQUEST = ak.ImageRequest("make the cup matte black", PHOTO, safety_tolerance=4)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path))
    for name in KEYS:
        monkeypatch.setenv(name, "of-no-one")


def planned(title: str, request: ak.ImageRequest = REQUEST, **more: Any) -> ak.Plan:
    with ak.Client(ak.Config(**RECIPES[title] | more)) as client:
        return client.plan(request)


def shown(command: str) -> str:
    """What the page shows of a command, without the command."""
    found = re.search(rf"```text\n\$ anykontext {command}[^\n]*\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1].rstrip("\n")


def test_there_are_all_the_recipes() -> None:
    assert 7 == len(RECIPES)
    assert 7 == PAGE.count("```toml")


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_loads_and_has_a_candidate(title: str) -> None:
    assert planned(title).candidates


def test_the_plan_that_is_shown_is_that_of_the_recipe() -> None:
    assert shown("plan") == str(planned("In the EU only"))


def test_the_cheapest_comes_first_and_equal_prices_keep_the_order() -> None:
    assert ["kie", "fal", "bfl"] == [one.provider for one in planned("The cheapest, with a fallback").candidates]


def test_a_canary_is_first_in_one_of_twenty_plans() -> None:
    fractions = [step / 400 for step in range(400)]
    with ak.Client(ak.Config(**RECIPES["A canary by weight"])) as client:
        turns = client._core.planner.turns
        first = []
        for turns._fraction in fractions:
            first.append(client.plan(ak.ImageRequest("a cat")).candidates[0].provider)

    assert (380, 20) == (first.count("bfl"), first.count("kie"))


def test_every_strategy_is_told() -> None:
    table = PAGE[PAGE.index("## The order") : PAGE.index("## Who is left out")]

    assert set(Strategy.__args__) == set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE))


def test_the_table_of_what_comes_next_is_true() -> None:
    table = PAGE[PAGE.index("## When the next") : PAGE.index("## Outages")]
    told = {
        Kind(kind): "the next" in by_default
        for kinds, paid, by_default in re.findall(r"^\| ([^|]*) \| ([^|]*) \| ([^|]*) \|", table, re.MULTILINE)
        for kind in re.findall(r"`([a-z_]+)`", kinds.partition(":")[0])
        if "yes" not in paid and kind in set(Kind)
    }

    assert {Kind.MODERATED: False, Kind.UNAVAILABLE: True}.items() <= told.items()
    for kind, goes_on in told.items():
        charged = kind is Kind.OUTCOME_UNKNOWN
        assert goes_on is Policy().goes_on_after(kind, maybe_charged=charged), kind
    assert not Policy().goes_on_after(Kind.GENERATION_FAILED, maybe_charged=True)


def test_the_chart_is_that_of_its_table() -> None:
    rows = re.findall(r"^(\d{4}-\d\d-\d\d) +([\d.]+) USD +([\d.]+) USD +\d+ +(\d+)$", shown("spend"), re.MULTILINE)
    total = re.search(r"^total +([\d.]+) USD +([\d.]+) USD +0 +(\d+)$", shown("spend"), re.MULTILINE)
    drawn = bars([(day, Decimal(spent), Decimal(risk)) for day, spent, risk, _ in rows], 80, None)

    assert total is not None
    assert [sum(Decimal(row[place]) for row in rows) for place in (1, 2, 3)] == [*map(Decimal, total.groups())]
    for line in drawn:
        assert line.replace("#", "█").replace(".", "░") in shown("spend").replace(".", "░")
