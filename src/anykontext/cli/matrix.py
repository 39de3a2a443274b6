"""What every provider can do, from its facts: plain rows for a table and plain data for JSON (pure)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anykontext.adapting import (
    Adapter,
    Cancels,
    Checks,
    Choices,
    Facts,
    Known,
    ModeFacts,
    ModelFacts,
    Numbers,
    Ratios,
    Sizes,
    Spec,
    SubmitRate,
    Task,
    Toggle,
)
from anykontext.model.money import Price

HEADS = ("MODEL", "MODE", "PRICE", "IMAGES", "OPTIONS")
NO_TASK_IDS = "No task ids: a lost reply cannot be collected"
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WebP"}


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one provider in one mode.

    Attributes:
        model: The canonical name.
        mode: `edit` or `generate`.
        price: Of one image, in words.
        images: How many input images it takes.
        options: Canonical option -> what is allowed, in words.
    """

    model: str
    mode: str
    price: str
    images: str
    options: Mapping[str, str]

    @property
    def cells(self) -> tuple[str, ...]:
        """The row under `HEADS`."""
        return (
            *(self.model, self.mode, self.price, self.images),
            ", ".join(f"{name} {allowed}".rstrip() for name, allowed in self.options.items()),
        )


def rows(facts: Facts, prices: Mapping[str, Price]) -> Iterator[Row]:
    """A row for each model and mode of a provider."""
    for model, hosted in facts.models.items():
        for mode, able in hosted.modes.items():
            price = price_of(prices, model, mode)
            yield Row(
                model,
                mode,
                price_words(price),
                "none" if able.max_images == 0 else f"1-{able.max_images}" if able.max_images > 1 else "1",
                {name: words(spec) for name, spec in sorted(able.options.items())},
            )


def heading(facts: Facts, configured: Sequence[str]) -> str:
    """A provider in one line."""
    used = f"configured as {', '.join(configured)}" if configured else "not configured"
    return f"{facts.name}: {facts.title} ({used})"


def title(adapter: Adapter, configured: Sequence[str]) -> str:
    """What stands above a provider's table."""
    facts = adapter.facts
    last = [
        uploads(facts),
        f"Regions: {regions(facts)}",
        f"Results can be fetched for: {kept(facts)}",
        *([] if has_task_ids(adapter) else [NO_TASK_IDS]),
        f"Last verified live: {verified(facts)}",
    ]
    return f"{heading(facts, configured)}\n{inputs(facts)}\n{'. '.join(last)}"


def inputs(facts: Facts) -> str:
    """What a provider takes as input images, in one line."""
    limits = facts.inputs
    forms = " or ".join({"bytes": "files", "url": "URLs"}.get(form, form) for form in limits.forms)
    formats = ", ".join(_FORMATS.get(one, one) for one in limits.media_types)
    return (
        f"Input images: {forms}; {formats}; up to {limits.max_bytes / 1e6:.1f} MB "
        f"and {limits.max_pixels / 1e6:.1f} megapixels"
    )


def uploads(facts: Facts) -> str:
    """Where input images are put so that the provider can fetch them, in one line."""
    place = facts.uploads
    if place is None:
        return "Uploads: none"
    which = f"files above {place.over / 1e6:.1f} MB" if place.over else "all files"
    lifetime = "not known how long" if place.lifetime_s is None else f"kept {duration(place.lifetime_s)}"
    return f"Uploads: {which}; {'anyone with the URL can see them' if place.public else 'private'}; {lifetime}"


def verified(facts: Facts) -> str:
    """When the adapter was last checked against the real service."""
    return facts.verified_live.isoformat() if facts.verified_live else "never"


def has_task_ids(adapter: Adapter) -> bool:
    """Whether a task can be asked for later; without that, a reply that is lost cannot be collected.

    An adapter of a provider without task ids has a poll that goes nowhere.
    """
    try:
        call = adapter.poll(Task("task", "https://provider.invalid/task"))
    # A stranger's adapter may want more of a task than this one has: then there is something to ask.
    except Exception:  # noqa: BLE001
        return True
    return call.origin is not None or bool(call.path)


def duration(seconds: float) -> str:
    """A time in the largest whole unit."""
    for unit, long in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= long and seconds % long == 0:
            count = int(seconds // long)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:g} seconds"


def price_of(prices: Mapping[str, Price], model: str, mode: str) -> Price | None:
    """The listed price of one image."""
    return prices.get(f"{model}/{mode}", prices.get(model))


def price_words(price: Price | None) -> str:
    """A listed price, in words; that of an image unless another unit is named."""
    if price is None:
        return "unknown"
    return f"{price.amount} {price.currency}{'' if price.unit == 'image' else f' for a {price.unit}'}"


def regions(facts: Facts) -> str:
    """Where the work is done, by base URL; what the provider does not state is not known."""
    return "; ".join(f"{url}: {region}" for url, region in facts.regions.items()) or "not known"


def exposure(facts: Facts) -> str:
    """Which input images are put where anyone who knows the URL can see them, and for how long."""
    place = facts.uploads
    if place is None or not place.public:
        return "none"
    which = f"files above {place.over / 1e6:.1f} MB" if place.over else "all files"
    kept = "not known how long" if place.lifetime_s is None else f"kept {duration(place.lifetime_s)}"
    return f"{which}; {kept}"


def kept(facts: Facts) -> str:
    """How long a result can be fetched."""
    return "not known" if facts.retention_s is None else duration(facts.retention_s)


def words(spec: Spec) -> str:
    """What an option allows, in words; empty for a plain yes or no."""
    match spec:
        case Numbers(low=low, high=high):
            return f"{low:g}-{high:g}" if abs(high) < 10**6 else f"{low:g}-{int(high)}"
        case Choices(values=values):
            return "|".join(values) or "any text"
        case Ratios(narrowest=narrow, widest=wide):
            return f"{narrow[0]}:{narrow[1]}-{wide[0]}:{wide[1]}"
        case Sizes(low=lowest, high=highest, step=step):
            return f"{lowest}-{highest} in steps of {step}"
        case Toggle():
            return ""


def as_json(adapter: Adapter, prices: Mapping[str, Price], configured: Sequence[str]) -> dict[str, Any]:
    """A provider as data."""
    facts = adapter.facts
    limits = facts.inputs
    return {
        "provider": facts.name,
        "title": facts.title,
        "configured_as": list(configured),
        "keys": ["+".join(names) for names in facts.keys],
        "images": {
            "forms": list(limits.forms),
            "media_types": list(limits.media_types),
            "max_bytes": limits.max_bytes,
            "max_pixels": limits.max_pixels,
        },
        "models": [_model(name, hosted, prices) for name, hosted in facts.models.items()],
        "uploads": _uploads(facts),
        "task_ids": has_task_ids(adapter),
        "cancel": isinstance(adapter, Cancels),
        "check": isinstance(adapter, Checks),
        "images_per_task": facts.images_per_task,
        "max_active": facts.max_active,
        "submit_rate": _rate(facts.submit_rate),
        "poll_interval_s": facts.poll_interval_s,
        "retention_s": facts.retention_s,
        "regions": dict(facts.regions),
        "residency": _residency(facts),
        "statuses": _known(facts.statuses),
        "errors": _known(facts.errors),
        "moderation": [_said(one) for one in facts.moderation],
        "lifetimes": _known(facts.lifetimes),
        "limits": _known(facts.limits),
        "webhook": None if facts.webhook is None else _said(facts.webhook),
        "verified_live": facts.verified_live.isoformat() if facts.verified_live else None,
    }


def _said(known: Known) -> dict[str, str]:
    return {"words": known.words, "evidence": known.evidence}


def _known(table: Mapping[str, Known]) -> dict[str, dict[str, str]]:
    return {name: _said(known) for name, known in table.items()}


def _rate(rate: SubmitRate | None) -> dict[str, Any] | None:
    return None if rate is None else {"submits": rate.submits, "seconds": rate.seconds, "evidence": rate.evidence}


def _uploads(facts: Facts) -> dict[str, Any] | None:
    place = facts.uploads
    if place is None:
        return None
    return {
        "over_bytes": place.over,
        "public": place.public,
        "lifetime_s": place.lifetime_s,
        "evidence": place.evidence,
    }


def _residency(facts: Facts) -> dict[str, dict[str, Any]]:
    """Where data goes and how long it stays; None is not known."""
    place = facts.uploads
    evidence = {"regions": facts.evidence.get("regions"), "retention_s": facts.evidence.get("retention_s")}
    public = None if place is None else {"over_bytes": place.over, "lifetime_s": place.lifetime_s}
    found = {
        "regions": dict(facts.regions) or None,
        "public_uploads": public if place is not None and place.public else False,
        "retention_s": facts.retention_s,
    }
    evidence["public_uploads"] = facts.inputs.evidence if place is None else place.evidence
    return {name: {"value": value, "evidence": evidence[name]} for name, value in found.items()}


def _model(name: str, hosted: ModelFacts, prices: Mapping[str, Price]) -> dict[str, Any]:
    return {
        "model": name,
        "wire_name": hosted.wire_name,
        "evidence": hosted.evidence,
        "max_active": hosted.max_active,
        "modes": {mode: _mode(able, price_of(prices, name, mode)) for mode, able in hosted.modes.items()},
    }


def _mode(able: ModeFacts, price: Price | None) -> dict[str, Any]:
    return {
        "max_images": able.max_images,
        "price": None
        if price is None
        else {
            "amount": str(price.amount),
            "currency": price.currency,
            "basis": "listed",
            "unit": price.unit,
            "source": price.source,
            "date": price.date.isoformat() if price.date else None,
            "evidence": price.evidence,
        },
        "options": {name: _spec(spec) for name, spec in able.options.items()},
    }


def _spec(spec: Spec) -> dict[str, Any]:
    match spec:
        case Numbers():
            kind = float if spec.fractions else int
            found: dict[str, Any] = {"type": "number" if spec.fractions else "integer"}
            found |= {"min": kind(spec.low), "max": kind(spec.high), "wraps": spec.wraps}
        case Choices():
            found = {"type": "choice", "values": list(spec.values)}
        case Ratios():
            narrow, wide = (":".join(map(str, end)) for end in (spec.narrowest, spec.widest))
            found = {"type": "ratio", "min": narrow, "max": wide}
        case Sizes():
            found = {"type": "size", "min": spec.low, "max": spec.high, "step": spec.step}
        case Toggle():
            found = {"type": "boolean"}
    return {**found, "evidence": spec.evidence}
