"""docs/providers.md is what the facts say, and what it says can be believed."""

import importlib.util
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from anykontext.adapting import Adapter, Choices, Facts, Known, ModeFacts, Numbers, Sizes
from anykontext.cli.matrix import has_task_ids
from anykontext.plugins import default_registry

ROOT = Path(__file__).parents[2]
ADAPTERS = default_registry().adapters
LABEL = re.compile(r"\[(?:(?:REC|DOC|CODE|INF|3P|MEM|REC/3P)(?:, )?)+\]")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("matrix_script", ROOT / "scripts/matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(script: ModuleType) -> str:
    built: str = script.build()
    return built


def statements(facts: Facts) -> Iterator[Known]:
    for known in (facts.statuses, facts.errors, facts.lifetimes, facts.limits):
        yield from known.values()
    yield from facts.moderation
    if facts.webhook:
        yield facts.webhook


def summary(page: str) -> list[list[str]]:
    lines = page.partition("## All of them")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_the_page_is_what_the_facts_say(script: ModuleType, page: str) -> None:
    assert [] == script.drift(script.PAGE.read_text(encoding="utf-8"), page)


def test_the_check_fails_with_a_short_diff_where_the_page_lies(
    script: ModuleType, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lie = tmp_path / "providers.md"
    monkeypatch.setattr(script, "PAGE", lie)
    lie.write_text(page.replace("Last verified live: never", "Last verified live: 2026-11-19"), encoding="utf-8")

    assert 1 == script.main(["--check"])
    out = capsys.readouterr().out
    assert "-Last verified live: 2026-11-19" in out
    assert "+Last verified live: never" in out
    assert len(out.splitlines()) <= script.DIFF_LINES + 2


def test_a_page_that_was_just_written_passes_the_check(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "PAGE", tmp_path / "providers.md")

    assert 1 == script.main(["--check"])
    assert 0 == script.main([])
    assert 0 == script.main(["--check"])


def test_the_summary_has_a_row_for_each_provider_and_model(script: ModuleType, page: str) -> None:
    heads, *rows = summary(page)

    assert list(script.COLUMNS) == heads
    assert {(name, model) for name, one in ADAPTERS.items() for model in one.facts.models} == {
        (row[0], row[1]) for row in rows
    }
    assert {len(script.COLUMNS)} == {len(row) for row in rows}


def test_the_summary_warns_of_providers_without_task_ids(script: ModuleType, page: str) -> None:
    column = script.COLUMNS.index("task ids")

    assert {"no task ids: a lost reply cannot be collected"} == {
        row[column] for row in summary(page)[1:] if row[0] == "together"
    }
    assert {"yes"} == {row[column] for row in summary(page)[1:] if row[0] in {"bfl", "fal", "kie"}}


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_section_tells_each_quirk_status_error_and_price(name: str, page: str) -> None:
    section = page.partition(f"\n## {name}: ")[2].partition("\n## ")[0]
    facts = ADAPTERS[name].facts

    assert all(re.search(rf"^\| {quirk} \| .+ \| \S.* \|$", section, re.MULTILINE) for quirk in facts.quirks)
    assert all(f"| `{word}` |" in section for word in [*facts.statuses, *facts.errors])
    assert all(str(price.amount) in section for price in default_registry().prices(name).values())


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_every_statement_names_a_quirk_or_a_section_and_a_label(name: str) -> None:
    facts = ADAPTERS[name].facts
    found = list(statements(facts))

    assert found
    for one in found:
        assert one.words
        assert LABEL.search(one.evidence), one
        assert re.match(rf"(?:{name}-\d+|sheet)\b", one.evidence), one
        assert set(re.findall(rf"{name}-\d+", one.evidence)) <= set(facts.quirks), one


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_a_provider_with_tasks_has_its_statuses_told(adapter: Adapter) -> None:
    assert has_task_ids(adapter) == bool(adapter.facts.statuses)


def test_a_region_is_that_of_the_base_url() -> None:
    assert "eu" == ADAPTERS["bfl"].facts.regions["https://api.eu.bfl.ai"]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([("a", "edit"), ("a", "generate"), ("b", "generate"), ("c", "edit")], "everywhere"),
        ([("a", "edit"), ("c", "edit")], "edit"),
        ([("a", "generate"), ("b", "generate")], "generate"),
        ([("a", "edit"), ("a", "generate"), ("c", "edit")], "a, c"),
        ([("a", "edit"), ("b", "generate")], "a (edit), b"),
    ],
)
def test_where_an_option_holds_is_told_in_the_fewest_words(
    script: ModuleType, places: list[tuple[str, str]], words: str
) -> None:
    everywhere = [("a", "edit"), ("a", "generate"), ("b", "generate"), ("c", "edit")]

    assert words == script.where(places, everywhere)


def test_modes_that_differ_are_told_apart(script: ModuleType) -> None:
    low, high = Numbers(0, 2, "x-1"), Numbers(0, 6, "x-1")
    modes = {"edit": ModeFacts({"safety_tolerance": low}), "generate": ModeFacts({"safety_tolerance": high})}

    assert "edit 0-2, generate 0-6" == script.both(modes, "safety_tolerance")
    assert "0-2" == script.both({"edit": modes["edit"]}, "safety_tolerance")
    assert "no" == script.both(modes, "seed")


def test_a_ratio_may_be_sent_as_a_size(script: ModuleType) -> None:
    modes = {"generate": ModeFacts({"size": Sizes(256, 1440, 32, "x-1")})}

    assert "as a size" == script.both(modes, "aspect_ratio")


def test_a_bar_does_not_end_a_cell(script: ModuleType) -> None:
    assert "| a\\|b |" == script.table(["one"], [["a|b"]])[-1]


def test_the_best_evidence_counts_and_a_report_of_an_answer_is_no_recording(script: ModuleType) -> None:
    facts = ADAPTERS["bfl"].facts
    said = script.sure(facts, {"x-1": "DOC, REC; sheet 1", "x-2": "REC/3P, DOC", "x-3": "INF"})

    assert "3 quirks is recorded traffic for 1, real answers that others report for 1, our inference for 1." in said


def test_an_option_of_any_text_and_a_yes_or_no_have_words(script: ModuleType) -> None:
    assert "jpeg, png" == script.allowed(Choices(("jpeg", "png"), "x-1"))
    assert "any text" == script.allowed(Choices((), "x-1"))


def test_a_date_of_live_verification_has_cassettes_that_were_recorded_live_by_then() -> None:
    for name, adapter in default_registry().adapters.items():
        verified = adapter.facts.verified_live
        tops = [path.read_text(encoding="utf-8")[:200] for path in (ROOT / "cassettes" / name).glob("*.yaml")]
        dates = [
            date.fromisoformat(found[1])
            for top in tops
            if (found := re.search(r"# origin: recorded-live\n# date: (\S+)", top))
        ]

        assert verified is None or verified in dates, name
