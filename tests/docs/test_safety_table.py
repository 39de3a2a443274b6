"""The table of `docs/safety.md` is what a run in the sandbox gives now, and says what it must."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/safety.md").read_text(encoding="utf-8")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("safety_table", ROOT / "scripts/safety_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = load()


def rows(page: str) -> dict[str, dict[str, str]]:
    """What was asked for -> provider -> the cell, as the page has it."""
    table = page.partition(SCRIPT.BEGIN)[2].partition(SCRIPT.END)[0]
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines}


@pytest.mark.sandbox
def test_the_table_is_that_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path))

    assert SCRIPT.page_with(SCRIPT.table(), PAGE) == PAGE, "make it anew: scripts/safety_table.py --write"


def test_the_table_has_every_safety_of_both_modes_at_every_provider() -> None:
    asked = [f"{level}, {mode}" for mode in ("edit", "generate") for level in range(7)]

    assert asked == list(rows(PAGE))
    assert all({"bfl", "fal", "kie", "together"} == cells.keys() for cells in rows(PAGE).values())


def test_no_cell_is_looser_than_asked_without_saying_so() -> None:
    for asked, cells in rows(PAGE).items():
        for provider, cell in cells.items():
            sent = re.match(r'`"?(\d)"?`', cell)
            looser = int(sent[1]) > int(asked[0]) if sent else asked[0] != "6"

            assert looser is ("more permissive" in cell), (asked, provider)
            assert (sent is None or sent[1] != asked[0]) is ("adjusted" in cell), (asked, provider)


@pytest.mark.parametrize("quirk", sorted(set(re.findall(r"\b[a-z]+-\d+\b", PAGE))))
def test_the_evidence_stands_in_the_readme_of_its_adapter(quirk: str) -> None:
    readme = ROOT / f"providers/anykontext_{quirk.partition('-')[0]}/README.md"

    assert f"| {quirk} |" in readme.read_text(encoding="utf-8")
