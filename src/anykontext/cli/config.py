"""`config`: what holds and where it comes from, and a first file."""

from typing import TYPE_CHECKING, Any

import click

from anykontext.cli.options import config_option, force_option, json_option, said_options, say_of

if TYPE_CHECKING:
    from anykontext.config.effective import Setting

FILE = "anykontext.toml"


@click.group()
def config() -> None:
    """Show the configuration, or write a first one."""


@config.command()
@config_option
@json_option
@said_options
def show(**given: Any) -> int:
    """Print what holds, as TOML: each value with the file and line, the variable or the default that it comes from.

    No key and no password is printed: of a key, where it is and whether it is there.

    Ends with 3 when the configuration cannot be used, or when no provider is configured.
    """
    import json
    import os

    from anykontext.cli.failures import CONFIGURATION, DONE
    from anykontext.cli.logs import logs
    from anykontext.config import Config
    from anykontext.config.effective import effective
    from anykontext.plugins import default_registry

    say = say_of(given)
    with logs(say):
        found = Config.load(given["config"])
        settings, missing = effective(found, default_registry(), os.environ)
        if say.as_json:
            file = str(found.path) if found.path else None
            told = {"file": file, "home": str(found.home), "settings": [one.to_json() for one in settings]}
            say.result(json.dumps({**told, "missing": str(missing) if missing else None}))
        else:
            head = [f"# {found.path or 'There is no configuration file: this is what holds without one.'}"]
            say.result("\n".join([*head, f"# The ledger and the images lie in {found.home}.", *_lines(settings)]))
        if missing is None:
            return DONE
        say.error(f"{missing}. `anykontext config init` writes a file to begin with")
        return CONFIGURATION


def _lines(settings: "list[Setting]") -> list[str]:
    """The settings as TOML, a section each, with their origins as comments."""
    from itertools import groupby

    from anykontext.config.toml import beside, header

    lines: list[str] = []
    for section, group in groupby(settings, key=lambda one: one.keys[:-1]):
        lines += ["", *([header(section)] if section else []), *beside(map(_line, group))]
    return lines


def _line(one: "Setting") -> tuple[str, str]:
    from anykontext.config.toml import key, toml

    name = key(one.keys[-1])
    line = f"# {name}: {one.note or 'none'}" if one.value is None else f"{name} = {toml(one.value)}"
    return line, f"{one.note}; {one.origin}" if one.note and one.value is not None else one.origin


@config.command()
@click.option("--output", metavar="FILE", default=FILE, show_default=True, help="The file to write; - prints it.")
@force_option
@said_options
def init(**given: Any) -> None:
    """Write a first configuration, with comments, from the keys that are found in the environment.

    It holds the names of the variables, and no key. A file that exists is not replaced without --force.
    """
    import os
    from pathlib import Path

    from anykontext.cli.say import Say
    from anykontext.config.files import discover
    from anykontext.config.template import template
    from anykontext.io.files import write_atomically
    from anykontext.model.errors import InvalidRequest
    from anykontext.plugins import default_registry

    say = Say(quiet=given["quiet"], verbose=given["verbose"])
    registry = default_registry()
    text = template(registry, os.environ)
    if given["output"] == "-":
        say.result(text.removesuffix("\n"))
        return
    if not given["output"].strip():
        raise click.BadParameter("it is empty; leave it out for anykontext.toml", param_hint="'--output'")
    try:
        file = Path(given["output"])
        write_atomically(file, text.encode(), overwrite=given["force"])
    except FileExistsError:
        told = f"{str(file)!r} exists; add --force to replace it, or name another with --output"
        raise InvalidRequest(told) from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{given['output']!r} cannot be written: {error}") from None
    say.result(str(file))
    found = list(discover(registry.adapters, os.environ))
    say.note(f"Providers with a key: {', '.join(found) or 'none yet; the file names the variables to set'}")
    say.note("Next: `anykontext check` asks whether the keys are valid, `anykontext config show` tells what holds.")
