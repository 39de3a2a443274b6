"""Candidates with prices of their own, and a moment without anything special."""

from datetime import date
from decimal import Decimal
from typing import Any

from pydantic import SecretStr

from anykontext.engine.provider import Candidate, Provider
from anykontext.model.money import Price
from anykontext.model.request import ImageRequest
from anykontext.routing.situation import Situation
from anykontext_bfl import Bfl

CAT = ImageRequest("a cat")
NOW = Situation(1_763_700_000.0)


def price(amount: str, unit: str = "image", currency: str = "USD", found: date | None = None) -> Price:
    return Price(Decimal(amount), unit, currency, "a test", found, "")


def candidate(
    name: str,
    amount: str | None = "0.04",
    model: str = "flux-kontext-pro",
    base_url: str = "https://api.bfl.ai",
    **more: Any,
) -> Candidate:
    listed = {} if amount is None else {model: price(amount, **more)}
    provider = Provider(name, Bfl(), {"api": base_url}, lambda: SecretStr("bfl_secret_key"), listed=listed)
    return Candidate(provider, model)
