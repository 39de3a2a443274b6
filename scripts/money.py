"""Writes the money table into docs/money.md, from the one that the engine decides by.

.venv/bin/python scripts/money.py            # writes it
.venv/bin/python scripts/money.py --check    # fails, with a short diff, where the page has another one
"""

import argparse
import difflib
import sys
from collections.abc import Iterable
from pathlib import Path

from anykontext.engine.money_table import TABLE, Charged, Row
from anykontext.model.errors import ERROR_OF_KIND

PAGE = Path(__file__).resolve().parents[1] / "docs/money.md"
BEGIN, END = "<!-- money table: begin -->", "<!-- money table: end -->"
DIFF_LINES = 30
HEAD = ("of", "what happened", "again here", "may be charged", "ends in", "because", "faults")


def table(rows: Iterable[Row] = TABLE) -> str:
    """The table, in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table; what may have been charged stands out."""
    charged = f"**{row.charged}**" if row.charged is Charged.MAYBE else str(row.charged)
    ends = f"`{ERROR_OF_KIND[row.kind].__name__}`" if row.kind else "as the provider says"
    return row.purpose, row.happened, row.again, charged, ends, row.because, row.faults


def page_with(found: str, page: str) -> str:
    """The page with this table between its markers.

    Raises:
        ValueError: It has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{found}\n\n{END}{after}"


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page has another table")
    asked = parser.parse_args()
    old = PAGE.read_text(encoding="utf-8")
    new = page_with(table(), old)
    if not asked.check:
        PAGE.write_text(new, encoding="utf-8")
        return 0
    diff = [*difflib.unified_diff(old.splitlines(), new.splitlines(), "docs/money.md", "the engine", lineterm="", n=0)]
    print("\n".join(diff[:DIFF_LINES]) or "docs/money.md: the table is the engine's")
    return 1 if diff else 0


if __name__ == "__main__":
    sys.exit(main())
