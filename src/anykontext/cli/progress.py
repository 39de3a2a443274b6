"""What is shown on stderr while a job runs: a bar on a terminal, lines elsewhere."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from anykontext.cli.interrupt import WAITING
from anykontext.cli.say import Manner, Say, on_terminal, printable
from anykontext.model import events
from anykontext.model.result import Adjustment

if TYPE_CHECKING:
    from rich.progress import Progress


class Lines:
    """One line for each change; a provider that tells every percent is told by quarters."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said: set[object] = set()
        self._lock = threading.Lock()

    def event(self, event: events.Event) -> None:
        """Show one event; called from any thread."""
        line = news(event)
        with self._lock:
            if isinstance(event, events.Progress):
                key = (event.status, event.queue_position, int(4 * (event.fraction or 0)))
                if key in self._said:
                    return
                self._said.add(key)
            if line is not None:
                self._say.note(f"[{event.seconds:5.1f} s] {line}")
        told(self._say, event)

    def waiting(self) -> None:
        """Say that a submit in flight is waited for; called by a signal, so it goes around every buffer."""
        with contextlib.suppress(OSError):
            os.write(2, f"\n{WAITING}\n".encode())


class Bar:
    """A line that is drawn again and again, and lines above it for what stays worth knowing."""

    def __init__(self, say: Say, progress: "Progress") -> None:
        self._say = say
        self._progress = progress
        self._task = progress.add_task("starting", total=None)

    def event(self, event: events.Event) -> None:
        """Show one event; called from any thread."""
        line = news(event)
        if isinstance(event, events.Progress) and event.fraction is not None:
            self._progress.update(self._task, total=1.0, completed=event.fraction)
        if line is not None:
            self._progress.update(self._task, description=printable(line))
        told(self._say, event)

    def waiting(self) -> None:
        """Say that a submit in flight is waited for; called by a signal."""
        self._progress.update(self._task, description=WAITING)

    def print(self, text: str, manner: Manner) -> None:
        """Write a line above the bar."""
        style = {"plain": "", "warning": "yellow", "error": "red"}[manner]
        self._progress.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class Silence:
    """Shows nothing."""

    def event(self, event: events.Event) -> None:
        """Pass over an event."""

    def waiting(self) -> None:
        """Say even so that a submit in flight is waited for: whoever pressed Ctrl-C wonders."""
        Lines.waiting(Lines(Say()))


@contextlib.contextmanager
def display(say: Say) -> Iterator[Lines | Bar | Silence]:
    """What suits this stderr."""
    if say.quiet:
        yield Silence()
    elif not on_terminal(sys.stderr):
        yield Lines(say)
    else:
        with _bar(say) as bar:
            yield bar


@contextlib.contextmanager
def _bar(say: Say) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    before = say.printer
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        bar = Bar(say, progress)
        say.printer = bar.print
        try:
            yield bar
        finally:
            say.printer = before


def news(event: events.Event) -> str | None:
    """An event as a line; None for one that has none, or that `told` tells."""
    who = f"{event.provider}/{event.model}"
    match event:
        case events.Submitting(tasks=tasks):
            return f"sending to {who}" + (f", {tasks} tasks" if tasks > 1 else "")
        case events.Submitted(handle=handle):
            return f"accepted by {who}: job {handle.job_id}, task {', '.join(task.id for task in handle.tasks)}"
        case events.Progress(status=status, fraction=fraction, queue_position=place):
            share = "" if fraction is None else f", {fraction:.0%}"
            return f"{who}: {status}{share}" + ("" if place is None else f", place {place} in the queue")
        case events.Retrying(purpose=purpose, reason=reason, wait_s=wait_s):
            return f"{purpose} again in {wait_s:.1f} s: {reason}"
        case events.Downloading(count=count):
            return "fetching the image" if count == 1 else f"fetching {count} images"
    return None


def told(say: Say, event: events.Event) -> None:
    """Tell of what matters after the job, too: changes of the request and of the provider."""
    match event:
        case events.Adjusted(adjustment=adjustment):
            tell_adjustment(say, adjustment)
        case events.Drift(what=what, word=word):
            say.warning(f"{event.provider} said an unknown {what}, {word[:200]!r}: the provider may have changed")
        case events.FailingOver(kind=kind, reason=reason, maybe_charged=maybe_charged):
            money = ", and may be charged" if maybe_charged else ""
            say.warning(f"{event.provider}/{event.model} failed ({kind}: {reason}){money}; the next one is tried")


def tell_adjustment(say: Say, adjustment: Adjustment) -> None:
    """Tell of a difference between what was asked and what is sent; as a warning where it is looser than asked."""
    if adjustment.more_permissive:
        say.warning(f"more permissive than asked: {adjustment}")
    else:
        say.note(f"Adjusted {adjustment}")
