"""The check that every quirk is told, handled and tested: what is missing is found, on small trees."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from anykontext.plugins import default_registry

ROOT = Path(__file__).parents[1]
PACKAGE = "providers/anykontext_x"
FACTS = 'QUIRKS = {\n    "x-1": "One.",\n    "x-2": "Two.",\n}\n'
ADAPTER = '"""Two ways (x-1)."""\n\nLIMIT = 3  # x-2\n'
README = (
    "| id | quirk | what we do | evidence |\n|---|---|---|---|\n| x-1 | a | b | DOC |\n| x-2 | a | b | REC; sheet 2 |\n"
)
TESTS = "def test_x_1_one() -> None:\n    pass\n\n\ndef test_two() -> None:\n    pass  # x-2\n"
FILES = {
    f"{PACKAGE}/facts.py": FACTS,
    f"{PACKAGE}/adapter.py": ADAPTER,
    f"{PACKAGE}/README.md": README,
    "tests/providers/test_x.py": TESTS,
}


@pytest.fixture
def evidence() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "scripts/evidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tree(root: Path, **changes: str) -> Path:
    """The whole tree, with these files changed: their stems, and what they hold."""
    for file, text in FILES.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(changes.get(Path(file).stem, text), encoding="utf-8")
    return root


def test_a_whole_tree_has_no_problem(tmp_path: Path, evidence: ModuleType) -> None:
    assert [] == list(evidence.problems(tree(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"README": README.replace("| x-2 |", "| see |")}, f"{PACKAGE}/README.md: no row x-2", id="no row"),
        pytest.param(
            {"README": README.replace("| DOC |", "|  |")},
            f"{PACKAGE}/README.md: x-1 has none of REC, DOC, CODE, INF, 3P, MEM as its evidence, but ''",
            id="no evidence",
        ),
        pytest.param(
            {"README": README.replace("| DOC |", "| DOCUMENTED |")},
            f"{PACKAGE}/README.md: x-1 has none of REC, DOC, CODE, INF, 3P, MEM as its evidence, but 'DOCUMENTED'",
            id="no label",
        ),
        pytest.param(
            {"adapter": ADAPTER.replace("  # x-2", "")},
            f"{PACKAGE}: the code does not name x-2 where it is handled",
            id="not handled",
        ),
        pytest.param({"test_x": TESTS.replace("  # x-2", "")}, "tests: none names x-2", id="no test"),
        pytest.param({"test_x": TESTS.replace("x_1", "y_1")}, "tests: none names x-1", id="no test by name"),
        pytest.param({"adapter": ADAPTER + "# x-3\n"}, f"{PACKAGE}/adapter.py: x-3 is not in QUIRKS", id="unknown"),
        pytest.param({"README": README + "x-12\n"}, f"{PACKAGE}/README.md: x-12 is not in QUIRKS", id="unknown, told"),
        pytest.param(
            {"test_x": TESTS.replace("x_1", "x_1_9")},
            "tests/providers/test_x.py: x-9 is not in QUIRKS",
            id="unknown, tested",
        ),
    ],
)
def test_what_is_missing_is_found(tmp_path: Path, evidence: ModuleType, changes: dict[str, str], found: str) -> None:
    assert [found] == list(evidence.problems(tree(tmp_path, **changes)))


def test_a_package_without_quirks_is_found(tmp_path: Path, evidence: ModuleType) -> None:
    assert f"{PACKAGE}: no QUIRKS" in list(evidence.problems(tree(tmp_path, facts="")))


def test_the_tables_for_people_handle_nothing(tmp_path: Path, evidence: ModuleType) -> None:
    root = tree(tmp_path, adapter=ADAPTER.replace("  # x-2", ""))
    (root / PACKAGE / "told.py").write_text('STATUSES = {"x": "x-2"}\n', encoding="utf-8")

    assert [f"{PACKAGE}: the code does not name x-2 where it is handled"] == list(evidence.problems(root))


def test_the_emulator_may_be_the_one_that_names_a_quirk(tmp_path: Path, evidence: ModuleType) -> None:
    root = tree(tmp_path, adapter=ADAPTER.replace("  # x-2", ""))
    (root / PACKAGE / "emulator").mkdir()
    (root / PACKAGE / "emulator/api.py").write_text("# x-2\n", encoding="utf-8")

    assert [] == list(evidence.problems(root))


def test_a_price_list_may_be_what_names_a_quirk(tmp_path: Path, evidence: ModuleType) -> None:
    root = tree(tmp_path, adapter=ADAPTER.replace("  # x-2", ""))
    (root / PACKAGE / "prices.toml").write_text('evidence = "x-2"\n', encoding="utf-8")

    assert [] == list(evidence.problems(root))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x-1, x-2: both", {"x-1", "x-2"}),
        ("def test_x_1_x_2_both", {"x-1", "x-2"}),
        ("test_x_1_2_both", {"x-1", "x-2"}),
        ("x_2_402", {"x-2"}),
        ("ax-1 x-1a x-1-2 fix_1", set()),
    ],
)
def test_ids_are_found_in_words_and_in_names_of_tests(evidence: ModuleType, text: str, found: set[str]) -> None:
    assert found == evidence.ids(text, "x")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ('"""x-1."""\n', True),
        ("value = 1  # x-1\n", True),
        ('one = pytest.param(1, id="x-1 lost")\n', True),
        ('key = "x-1"\n', False),
    ],
)
def test_a_text_in_a_test_is_no_mention(tmp_path: Path, evidence: ModuleType, text: str, *, counts: bool) -> None:
    file = tmp_path / "test_x.py"
    file.write_text(text, encoding="utf-8")

    assert counts == ("x-1" in evidence.ids(evidence.read(tmp_path, file).words, "x"))


def test_the_quirks_that_are_read_are_those_of_the_facts(evidence: ModuleType) -> None:
    for name, adapter in default_registry().adapters.items():
        sources = [evidence.read(ROOT, path) for path in (ROOT / f"providers/anykontext_{name}").rglob("*.py")]

        assert list(adapter.facts.quirks) == [quirk for one in sources for quirk in one.quirks]
