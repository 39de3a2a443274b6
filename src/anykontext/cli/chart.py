"""A small bar chart for a terminal: blocks, or plain characters where the terminal has none."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TextIO

SOLID, LIGHT = "\u2588", "\u2591"
WIDEST, LEAST = 40, 8  # characters of the longest bar
Bar = tuple[str, Decimal, Decimal]


def bars(rows: Sequence[Bar], columns: int, stream: TextIO | None) -> list[str]:
    """A line for each row: its label, what was spent, what is at risk, and both as a number.

    Args:
        rows: The label, and the two amounts.
        columns: The width of the terminal.
        stream: Where it is written: its encoding says whether it can show blocks.
    """
    solid, light = marks(stream)
    labels = max(len(label) for label, *_ in rows)
    numbers = [f"{spent + risk:f}" for _, spent, risk in rows]
    widest = min(max(columns - labels - max(map(len, numbers)) - 4, LEAST), WIDEST)
    most = max(spent + risk for _, spent, risk in rows) or Decimal(1)
    found = []
    for (label, spent, risk), number in zip(rows, numbers, strict=True):
        whole = _length(spent + risk, most, widest)
        first = min(_length(spent, most, widest), whole - (risk > 0)) if spent else 0
        found.append(f"{label.ljust(labels)}  {solid * first}{light * (whole - first)}  {number}".rstrip())
    return found


def marks(stream: TextIO | None) -> tuple[str, str]:
    """The characters for what was spent and what is at risk."""
    try:
        (SOLID + LIGHT).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#", "."
    return SOLID, LIGHT


def _length(amount: Decimal, most: Decimal, widest: int) -> int:
    """How long a bar is: at least one character for any amount."""
    return max(round(amount / most * widest), 1 if amount else 0)
