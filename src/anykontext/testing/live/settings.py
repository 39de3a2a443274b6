"""What the environment says about a live run: whether it is wanted, with which keys, and how much it may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self
from urllib.parse import urlsplit

from anykontext.adapting import Facts
from anykontext.engine.signing import is_loopback
from anykontext.model.money import usd

SWITCH = "ANYKONTEXT_LIVE"
MAX_USD = "ANYKONTEXT_LIVE_MAX_USD"
UNKNOWN_USD = "ANYKONTEXT_LIVE_UNKNOWN_PRICE_USD"
RECORD = "ANYKONTEXT_LIVE_RECORD"
WORKER = "PYTEST_XDIST_WORKER"
DEFAULT_MAX_USD = "0.50"


def variable(provider: str, setting: str = "key") -> str:
    """The variable that holds a setting of a provider, such as `ANYKONTEXT_LIVE_FAL_KEY`."""
    return f"{SWITCH}_{provider}_{setting}".replace("-", "_").upper()


@dataclass(frozen=True)
class Settings:
    """What a live run was told.

    Attributes:
        environ: The environment that it was read from.
        max_usd: What the whole run may cost.
        unknown_usd: What is counted for an image whose price nobody knows; None: such a scene is refused.
        record: Whether cassettes are kept.
    """

    environ: Mapping[str, str] = field(repr=False)
    max_usd: Decimal
    unknown_usd: Decimal | None
    record: bool

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read it.

        Raises:
            ValueError: An amount is none; the message names its variable.
        """
        unknown = _amount(environ, UNKNOWN_USD, "")
        if unknown == 0:
            raise ValueError(f"{UNKNOWN_USD}: must be more than 0, or the cap holds nothing")
        cap = _amount(environ, MAX_USD, DEFAULT_MAX_USD)
        return cls(environ, Decimal(0) if cap is None else cap, unknown, environ.get(RECORD) == "1")

    def why_not(self, provider: str) -> str:
        """Why nothing is sent to a provider; empty where it may be."""
        if not self.environ.get(variable(provider)):
            return f"a live run needs a key in {variable(provider)}, and {SWITCH}=1"
        if self.environ.get(SWITCH) != "1":
            return f"there is a key in {variable(provider)}, and a live run also needs {SWITCH}=1"
        if self.environ.get(WORKER):
            return "a live run has one purse: run it without pytest-xdist (-n 0)"
        return ""

    def section(self, facts: Facts) -> dict[str, Any]:
        """The settings of `[providers.NAME]`: the key, and the addresses where some are given."""
        settings = ("base_url", *facts.base_url_settings.values())
        given = {one: self.environ[name] for one in settings if self.environ.get(name := variable(facts.name, one))}
        return {"api_key": self.environ[variable(facts.name)], **given}


def addresses(section: Mapping[str, Any]) -> dict[str, str]:
    """The addresses that a section names, by setting."""
    return {name: str(value).rstrip("/") for name, value in section.items() if name.endswith("_url")}


def is_local(section: Mapping[str, Any]) -> bool:
    """Whether any address is on this machine: then what answers is an emulator, and is never called live."""
    return any(is_loopback(urlsplit(url).hostname or "") for url in addresses(section).values())


def _amount(environ: Mapping[str, str], name: str, default: str) -> Decimal | None:
    text = environ.get(name) or default
    try:
        return usd(text) if text else None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
