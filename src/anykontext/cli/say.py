"""The two ways out: the result on stdout, and everything said to people on stderr."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Literal, TextIO

import click

Manner = Literal["plain", "warning", "error"]
_COLOUR: dict[Manner, str | None] = {"plain": None, "warning": "yellow", "error": "red"}


def printable(text: object) -> str:
    """A text with every control character made visible: a provider's words cannot drive the terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else f"\\x{ord(one):02x}" for one in str(text))


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at this stream, on a terminal that can draw."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


class Say:
    """What is said, and where.

    Attributes:
        quiet: Only errors go to stderr.
        verbose: 1 adds a summary and log lines, 2 the engine's log.
        as_json: The result is JSON.
        printer: Writes one line to stderr; a progress display takes it over while it is drawn.
    """

    def __init__(self, *, quiet: bool = False, verbose: int = 0, as_json: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.as_json = as_json
        self.printer: Callable[[str, Manner], None] = to_stderr

    def result(self, text: str) -> None:
        """Write lines to stdout at once. Who reads them may have gone; what was done stays done."""
        try:
            print(text, flush=True)  # noqa: T201 - the result of the command
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if not isinstance(error, BrokenPipeError):
                self.error(f"the result could not be written to stdout: {error}")

    def note(self, text: object) -> None:
        """Say something by the way."""
        if not self.quiet:
            self.printer(printable(text), "plain")

    def summary(self, text: object) -> None:
        """Say what a person wants to know, and a script does not."""
        if self.verbose or on_terminal(sys.stderr):
            self.note(text)

    def warning(self, text: object) -> None:
        """Say something that asks for attention."""
        if not self.quiet:
            self.printer(f"Warning: {printable(text)}", "warning")

    def error(self, text: object) -> None:
        """Say why it did not work."""
        self.printer(f"Error: {printable(text)}", "error")

    def more(self, text: object) -> None:
        """Say what belongs to an error."""
        self.printer(printable(text), "plain")


def to_stderr(text: str, manner: Manner) -> None:
    """Write a line; a stderr that is full or gone costs nobody an image."""
    with contextlib.suppress(OSError, ValueError):
        click.secho(text, err=True, fg=_COLOUR[manner])
