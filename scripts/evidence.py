"""Every quirk of an adapter is told, handled and tested; run by scripts/check.

For each package `providers/anykontext_<name>` a quirk id `<name>-<n>` of its mapping `QUIRKS` must stand

- in the README's table, with one of the labels as its evidence,
- in the package's code outside `QUIRKS`, its emulator, or its price list; `told.py` does not count: it handles nothing,
- in a test: its name (`test_bfl_3_…`), a comment, a docstring, or the `id=` of a parameter;

and every id that one of these names must be in `QUIRKS`.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LABELS = ("REC", "DOC", "CODE", "INF", "3P", "MEM")
LABEL = re.compile(rf"\b(?:{'|'.join(LABELS)})\b")
TOLD = "told.py"


@dataclass(frozen=True)
class Source:
    """A Python file, read once.

    Attributes:
        name: The file, relative to the project.
        quirks: The keys of its `QUIRKS`, if it has one.
        code: Its text without `QUIRKS`.
        words: Names of tests, comments, docstrings and parameters' ids: what a test says of itself.
    """

    name: str
    quirks: tuple[str, ...]
    code: str
    words: str


def problems(root: Path) -> Iterator[str]:
    """What is missing where, in words."""
    tests = [read(root, path) for path in sorted((root / "tests").rglob("*.py"))]
    for package in sorted((root / "providers").glob("anykontext_*")):
        yield from of_adapter(root, package, tests)


def of_adapter(root: Path, package: Path, tests: list[Source]) -> Iterator[str]:
    """What is missing of one adapter."""
    name = package.name.removeprefix("anykontext_")
    sources = [read(root, path) for path in sorted(package.rglob("*.py"))]
    quirks = [quirk for one in sources for quirk in one.quirks]
    readme = package / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    rows = table(text, name)
    where = package.relative_to(root)
    if not quirks:
        yield f"{where}: no QUIRKS"
    handled = {quirk for one in sources if not one.name.endswith(TOLD) for quirk in ids(one.code, name)}
    prices = package / "prices.toml"
    handled |= ids(prices.read_text(encoding="utf-8"), name) if prices.is_file() else set()
    tested = {quirk for one in tests for quirk in ids(one.words, name)}
    for quirk in quirks:
        if quirk not in rows:
            yield f"{where}/README.md: no row {quirk}"
        elif not LABEL.search(rows[quirk]):
            yield f"{where}/README.md: {quirk} has none of {', '.join(LABELS)} as its evidence, but {rows[quirk]!r}"
        if quirk not in handled:
            yield f"{where}: the code does not name {quirk} where it is handled"
        if quirk not in tested:
            yield f"tests: none names {quirk}"
    named = {str(where / "README.md"): ids(text, name)}
    named |= {one.name: ids(one.code, name) for one in sources} | {one.name: ids(one.words, name) for one in tests}
    for file, found in named.items():
        for quirk in sorted(found - set(quirks)):
            yield f"{file}: {quirk} is not in QUIRKS"


def table(readme: str, name: str) -> Mapping[str, str]:
    """The rows of the quirks' table: id -> its last cell, the evidence."""
    rows = re.findall(rf"^\|\s*({name}-\d+)\s*\|(.*)\|\s*$", readme, re.MULTILINE)
    return {quirk: rest.rpartition("|")[2].strip() for quirk, rest in rows}


def ids(text: str, name: str) -> set[str]:
    """The quirk ids in a text: `bfl-3`, and as a part of a test's name `bfl_3` or `bfl_3_4` (`_402` is a status)."""
    plain = re.findall(rf"(?<![\w-]){name}-(\d+)(?![\w-])", text)
    names = re.findall(rf"(?<![^\W_]){name}((?:_\d{{1,2}})+)(?![^\W_])", text)
    return {f"{name}-{number}" for number in plain + [one for many in names for one in many.split("_")[1:]]}


def read(root: Path, path: Path) -> Source:
    """Read a file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    lines = text.splitlines()
    quirks: tuple[str, ...] = ()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict) and named_quirks(node):
            quirks = tuple(str(ast.literal_eval(key)) for key in node.value.keys if key is not None)
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    comments = [
        one.string for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type == tokenize.COMMENT
    ]
    return Source(
        str(path.relative_to(root)), quirks, "\n".join(lines), "\n".join([*comments, *(said for said in sayings(tree))])
    )


def named_quirks(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether this assigns `QUIRKS`."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(one, ast.Name) and one.id == "QUIRKS" for one in targets)


def sayings(tree: ast.Module) -> Iterator[str]:
    """Names of functions and classes, docstrings, and the ids of parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            yield ast.get_docstring(node) or ""
        if isinstance(node, ast.keyword) and node.arg in {"id", "ids"}:
            yield from (one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant) and is_text(one))


def is_text(constant: ast.Constant) -> bool:
    """Whether a constant is a text."""
    return isinstance(constant.value, str)


def main() -> int:
    """Print each problem; 1 when there is any."""
    found = list(problems(ROOT))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
