"""Results and errors as the ledger keeps them: what is needed to find and explain them again.

No image bytes, no link, no key: the images lie in the spool under their hash.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from anykontext.engine.redact import without_signatures
from anykontext.model.errors import AnykontextError, ProviderError
from anykontext.model.money import Cost
from anykontext.model.result import ImageResult

MESSAGE = 500  # characters
Told = tuple[str | None, str | None]  # an amount in USD and its basis, as they are written


def told_result(result: ImageResult) -> dict[str, Any]:
    """What `finish` takes for a success."""
    images = [
        {
            "sha256": image.sha256,
            "media_type": image.media_type,
            "width": image.width,
            "height": image.height,
            "expires_at": image.expires_at.isoformat() if image.expires_at else None,
        }
        for image in result.images
    ]
    return {
        "provider": result.provider,
        "adapter": result.adapter,
        "model": result.model,
        "mode": result.mode,
        "images": images,
        "seed": result.seed,
        "prompt": result.prompt,
        "cost": result.cost.to_json(),
        "spent": result.spent.to_json(),
        "adjustments": [one.to_json() for one in result.adjustments],
        "attempts": [one.to_json() for one in result.attempts],
        "errors": [told_error(one) for one in result.errors],
    }


def told_error(error: AnykontextError) -> dict[str, Any]:
    """What `finish` takes for any other end."""
    told: dict[str, Any] = {"class": type(error).__name__, "message": line(str(error))}
    if isinstance(error, ProviderError):
        told |= {
            "kind": error.kind.value,
            "message": line(error.message),
            "provider": error.provider,
            "model": error.model,
            "http_status": error.http_status,
            "maybe_charged": error.maybe_charged,
            "attempts": [one.to_json() for one in error.attempts],
        }
    return told


def line(text: str) -> str:
    """A bounded text without signatures and base64 that any database can hold."""
    kept = str(without_signatures(text)).encode("utf-8", "backslashreplace").decode("utf-8")
    return kept if len(kept) <= MESSAGE else kept[:MESSAGE] + " …"


def packed(told: Mapping[str, Any] | None, *, prompt: bool = True) -> str | None:
    """JSON text, with the last guard against links with signatures and base64; with `prompt=False` without the words.

    Raises:
        TypeError: It holds something that JSON cannot, such as bytes.
    """
    if told is None:
        return None
    kept = {name: value for name, value in told.items() if prompt or name != "prompt"}
    return json.dumps(without_signatures(kept), separators=(",", ":"))


def amount(value: Decimal | None) -> str | None:
    """An amount as the ledger writes it.

    Raises:
        ValueError: It is negative or no number.
    """
    if value is None:
        return None
    if not value.is_finite() or value.is_signed():
        raise ValueError(f"an amount is a number of USD from zero on, not {value}")
    return format(value, "f")


def in_usd(cost: Cost | None) -> Told:
    """The amount and basis of a cost; another currency is an amount that we do not know in USD."""
    if cost is None:
        return None, None
    known = cost.currency == "USD" and cost.amount is not None
    return (amount(cost.amount), cost.basis) if known else (None, "unknown")
