"""`sandbox`: the emulators in the foreground."""

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from anykontext.cli.options import fault_options, force_option, json_option, said_options, say_of, started
from anykontext.cli.say import Say, on_terminal

if TYPE_CHECKING:
    from anykontext.sandbox import Sandbox


@click.command()
@click.option("--config-out", metavar="FILE", help="Write an anykontext.toml that points at the emulators.")
@force_option
@fault_options
@json_option
@said_options
def sandbox(config_out: str | None, **given: Any) -> None:
    """Run emulators of the providers on free ports of this machine: no key, no network, nothing paid.

    One line `ready` tells that they answer; with --json it is an object of every provider's origins. Ctrl-C and
    SIGTERM end it, with exit code 0, since that is how it is meant to end.
    """
    import json

    from anykontext.cli.logs import logs

    say = say_of(given)
    ended = threading.Event()
    with logs(say):
        _check(config_out, force=given["force"])
        before = _end_on_signals(ended)
        try:
            with started(given["faults"], given["seconds"]) as running:
                if config_out is not None:
                    _write(config_out, running.config_toml(), force=given["force"])
                _explain(running, config_out, say)
                say.result(
                    json.dumps({name: dict(one) for name, one in running.origins.items()}) if say.as_json else "ready"
                )
                ended.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _end_on_signals(ended: threading.Event) -> dict[int, Any]:
    """Let SIGINT and SIGTERM end it; one that the parent process ignores stays ignored, as under nohup."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda *_: ended.set())
    return before


def _check(config_out: str | None, *, force: bool) -> None:
    from pathlib import Path

    from anykontext.model.errors import InvalidRequest

    if config_out is None:
        return
    path = Path(config_out)
    if path.is_dir():
        raise InvalidRequest(f"{config_out} is a folder; name a file")
    if path.exists() and not force:
        raise InvalidRequest(f"{config_out} exists; choose another name, or replace it with --force")
    if not path.parent.is_dir():
        raise InvalidRequest(f"the folder {str(path.parent)!r} does not exist; create it first")


def _write(config_out: str, text: str, *, force: bool) -> None:
    from pathlib import Path

    from anykontext.io.files import write_atomically
    from anykontext.model.errors import InvalidRequest

    try:
        write_atomically(Path(config_out), text.encode(), overwrite=force)
    except OSError as error:
        raise InvalidRequest(f"{config_out} cannot be written: {error.strerror or error}") from None


def _explain(running: "Sandbox", config_out: str | None, say: Say) -> None:
    """Tell a person how to use it."""
    if not (on_terminal(sys.stderr) or say.verbose):
        return
    for name, origins in running.origins.items():
        say.note(f"{name}: {', '.join(f'{origin} {url}' for origin, url in origins.items())}")
    if config_out is None:
        say.note("Put this into an anykontext.toml, or let --config-out FILE write it:\n")
        say.note(running.config_toml().rstrip() + "\n")
    else:
        say.note(f'Use it from another terminal: anykontext edit photo.jpg "make it blue" --config {config_out}')
    say.note("Ctrl-C ends it.")
