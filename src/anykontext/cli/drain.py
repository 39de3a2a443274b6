"""`drain` and `undrain`: let a provider take no new jobs, in every process that shares the ledger."""

from typing import TYPE_CHECKING, Any

import click

from anykontext.cli.options import config_option, json_option, said_options, say_of

if TYPE_CHECKING:
    from anykontext.client.store import Store


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--why", metavar="TEXT", default="", help="For those who will wonder; `plan` and errors show it.")
@config_option
@json_option
@said_options
def drain(name: str | None, *, why: str, **given: Any) -> None:
    """Let a provider take no new jobs; without a NAME, list those that are drained.

    Every process that shares the ledger heeds it within a second or two. Jobs that run there are polled and collected
    as before. Routes go on to their next candidate; a request that has no other is refused, with nothing sent.
    """
    import json

    from anykontext.cli.jobs.words import looked_up
    from anykontext.cli.logs import logs
    from anykontext.model.words import one_line

    if why and name is None:
        raise click.UsageError("--why is for the provider that is drained: name it")
    say = say_of(given)
    with logs(say), looked_up(given["config"]) as store:
        new = True
        if name is not None:
            _check(store, name)
            new = store.ledger.drain(name, who=_who(), why=why).result()
        drained = [one for one in store.ledger.drains() if name in {None, one.provider}]
    if say.as_json:
        say.result(json.dumps([one.to_json() for one in drained]))
    elif not drained:
        say.result("No provider is drained.")
    else:
        again = "" if new else "already "
        say.result("\n".join(one_line(f"{one.provider} is {again}{one}") for one in drained))


@click.command()
@click.argument("name", metavar="NAME")
@config_option
@json_option
@said_options
def undrain(name: str, **given: Any) -> None:
    """Let a drained provider take jobs again."""
    import json

    from anykontext.cli.jobs.words import looked_up
    from anykontext.cli.logs import logs

    say = say_of(given)
    with logs(say), looked_up(given["config"]) as store:
        # One that is drained and not configured any more can be let go, too.
        if name not in {one.provider for one in store.ledger.drains()}:
            _check(store, name)
        was = store.ledger.undrain(name).result()
    words = f"{name} takes jobs again." if was else f"{name} was not drained."
    say.result(json.dumps({"provider": name, "was_drained": was}) if say.as_json else words)


def _check(store: "Store", name: str) -> None:
    """Refuse what would do nothing.

    Raises:
        UnknownProvider: No such provider is configured.
        ConfigurationError: The ledger is shared with nobody.
    """
    from anykontext.cli.jobs.words import in_memory
    from anykontext.model.errors import ConfigurationError, UnknownProvider
    from anykontext.model.words import near

    names = [one.name for one in store.config.provider_list()]
    if name not in names:
        raise UnknownProvider(f"no provider {name!r} is configured; {near(name, names)}")
    if in_memory(store):
        raise ConfigurationError(
            "a drain is of no use here: with [ledger] url = 'memory' every process has a ledger of its own, which ends "
            "with it. Take the provider out of the routes, or give the processes one ledger"
        )


def _who() -> str:
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
