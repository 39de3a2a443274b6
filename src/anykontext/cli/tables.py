"""Tables: drawn by rich on a terminal, aligned plain lines elsewhere."""

import shutil
import sys
from collections.abc import Sequence

from anykontext.cli.say import Say, on_terminal
from anykontext.model.words import one_line

GAP = 3  # columns between two of a table that is drawn
LAST = 8  # columns that the last one, which wraps, needs at least


def show(say: Say, heads: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Write a table to stdout."""
    heads, *rows = [[one_line(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[index]) for row in [heads, *rows]) for index in range(len(heads))]
    needed = sum(width + GAP for width in widths[:-1]) + min(widths[-1], LAST)
    if on_terminal(sys.stdout) and needed <= shutil.get_terminal_size().columns:  # rich would cut ids and names
        say.result(_drawn(heads, rows, title))
        return
    if title:
        say.result(title)
    for row in [heads, *rows]:
        say.result("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for index, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=index < len(heads) - 1)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
