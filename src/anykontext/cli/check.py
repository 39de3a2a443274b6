"""`check`: are the keys valid, and what is left, without spending."""

from typing import TYPE_CHECKING, Any

import click

from anykontext.cli.options import (
    check_sandbox_options,
    config_option,
    configured,
    json_option,
    said_options,
    sandbox_options,
    say_of,
)

if TYPE_CHECKING:
    from anykontext.engine.check import ProviderCheck

_KEYS = {"ok": "ok", "missing": "missing", "refused": "refused", "unverified": "not verified"}


@click.command()
@config_option
@sandbox_options
@json_option
@said_options
def check(**given: Any) -> int:
    """Ask every configured provider whether its key is valid and what is left; nothing is spent.

    Ends with 0 when all are, with 3 when a key is missing or refused, and with 5 when one could not be asked.
    """
    import json

    from anykontext.cli.failures import CONFIGURATION, FAILED
    from anykontext.cli.logs import logs
    from anykontext.cli.tables import show

    check_sandbox_options(given)
    say = say_of(given)
    with logs(say):
        checks, trouble = _checks(given)
        if say.as_json:
            say.result(json.dumps([one.to_json() for one in checks], default=str))
        else:
            rows = [(one.provider, one.adapter, _KEYS[one.key], _balance(one), one.message) for one in checks]
            show(say, ("PROVIDER", "ADAPTER", "KEY", "BALANCE", ""), rows)
        code = exit_code(checks)
        if code == CONFIGURATION:
            bad = [one.provider for one in checks if one.key in {"missing", "refused"}]
            say.error(trouble or f"no valid key for {', '.join(bad)}")
        elif code == FAILED:
            say.error("a provider could not be asked; its key is not verified")
        return code


def _checks(given: dict[str, Any]) -> "tuple[list[ProviderCheck], str]":
    """What was found, and what is wrong with the configuration as a whole."""
    from anykontext.client import Client
    from anykontext.model.errors import MissingKey

    with configured(given) as config:
        try:
            client = Client(config)
        except MissingKey as error:
            found = _missing_everywhere()
            if not found:
                raise
            return found, str(error)
        with client:
            return client.check(), ""


def _missing_everywhere() -> "list[ProviderCheck]":
    """What `check` finds when nothing is configured: every adapter lacks its key."""
    from anykontext.engine.check import ProviderCheck
    from anykontext.plugins import default_registry

    return [
        ProviderCheck(
            name, name, "missing", None, None, f"set {' or '.join('+'.join(one) for one in adapter.facts.keys)}"
        )
        for name, adapter in default_registry().adapters.items()
    ]


def exit_code(checks: "list[ProviderCheck]") -> int:
    """3 for a key that is missing or refused, 5 for one that could have been verified and was not, else 0."""
    from anykontext.adapting.adapter import Checks
    from anykontext.cli.failures import CONFIGURATION, DONE, FAILED
    from anykontext.plugins import default_registry

    if any(one.key in {"missing", "refused"} for one in checks):
        return CONFIGURATION
    adapters = default_registry().adapters
    failed = [one for one in checks if one.key == "unverified" and isinstance(adapters.get(one.adapter), Checks)]
    return FAILED if failed else DONE


def _balance(one: "ProviderCheck") -> str:
    return "" if one.amount is None else f"{one.amount} {one.unit or ''}".rstrip()
