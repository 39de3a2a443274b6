"""What becomes of a job whose process is killed, from a run in the sandbox: the table of `docs/crashes.md`.

    .venv/bin/python scripts/crash_table.py            # prints it
    .venv/bin/python scripts/crash_table.py --write    # puts it into docs/crashes.md

Every cell is a process of its own, killed with SIGKILL, and a recovery by another one a minute later.
"""

import argparse
import importlib.util
import logging
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import httpx

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/crashes.md"
BEGIN, END = "<!-- crash table: begin -->", "<!-- crash table: end -->"
NOT_IN_LIFE = "-"


def load() -> ModuleType:
    """The module of the tests that kills processes."""
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "tests/crash/matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["matrix"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def merged(lives: Sequence[Sequence[str]]) -> list[str]:
    """The points of several lives in one order: each stands where it does in every life."""
    order: list[str] = []
    for life in lives:
        place = 0
        for point in life:
            if point in order:
                place = order.index(point) + 1
            else:
                order.insert(place, point)
                place += 1
    return order


def table(providers: Sequence[str], folder: Path) -> str:
    """The table, in Markdown."""
    matrix = load()
    columns: dict[str, dict[str, str]] = {}
    for provider in providers:
        with matrix.Lab(provider, folder) as lab:
            columns[provider] = {matrix.words(point): lab.killed(point).cell for point in lab.life("edit")}
    rows = merged([list(column) for column in columns.values()])
    lines = [f"| killed | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    lines += [f"| {row} | {' | '.join(one.get(row, NOT_IN_LIFE) for one in columns.values())} |" for row in rows]
    return "\n".join(lines)


def page_with(found: str, page: str) -> str:
    """The page with this table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{found}\n\n{END}{after}"


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put it into docs/crashes.md")
    asked = parser.parse_args()
    logging.disable(logging.ERROR)  # the emulators complain of requests that are torn, which is meant here
    tls = httpx.create_ssl_context(trust_env=False)  # the certificates of the world are read once
    httpx.create_ssl_context = lambda *_, **__: tls
    with tempfile.TemporaryDirectory() as folder:
        found = table(sorted(entry.name for entry in entry_points(group="anykontext")), Path(folder))
    if asked.write:
        PAGE.write_text(page_with(found, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(found)


if __name__ == "__main__":
    main()
