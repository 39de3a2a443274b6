"""Writes docs/providers.md: what every provider can do and what is known of it, from the adapters' facts and prices.

.venv/bin/python scripts/matrix.py            # writes it
.venv/bin/python scripts/matrix.py --check    # fails, with a short diff, where the page is not what would be written
"""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from anykontext.adapting import Adapter, Cancels, Checks, Choices, Facts, Known, ModeFacts, Spec, Uploads
from anykontext.cli import matrix
from anykontext.model.money import Price
from anykontext.plugins import Registry

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/providers.md"
DIFF_LINES = 30
LABELS = {
    r"REC(?!/3P)": "recorded traffic",
    "REC/3P": "real answers that others report",
    "DOC": "the vendor's documentation",
    "CODE": "code of clients",
    "3P": "somebody else's notes",
    "INF": "our inference",
    "MEM": "from memory",
}
HEAD = """\
# Providers: what each can do, and how we know

This page is written by `scripts/matrix.py` from the facts and the price lists of the adapters; `scripts/check` fails
where it differs from them. The engine decides by the same facts. `anykontext providers --json` has them as data.

Nothing here was checked against a live service unless "last verified live" has a date. Every statement names its
evidence: a quirk of the adapter (`bfl-9`, told further down, and at length in the README beside the adapter) or a
section of the notes on the protocol ("sheet 5"), and how it is known: REC recorded traffic, DOC the vendor's
documentation, CODE clients and servers, 3P somebody else's notes, REC/3P a real answer that somebody else noted down,
INF our inference, MEM from memory. What is not known is left out, or called not known; it is never a default.

## All of them
"""
FOOT = """
"no" in a column of options means that the provider has no such option: a dial is left out, and that is recorded; for a
ratio or a size that was asked for, the provider is passed over. A ratio "as a size" is sent as the size of about one
megapixel that has it. Safety is the range of `safety_tolerance`, 0 strictest and 6 most permissive. A task without an
id cannot be asked for again: a reply that is lost is `OutcomeUnknown`, and its image cannot be collected. A cancel that
is "a wish" may come too late: then the image is made, and billed."""
COLUMNS = (
    *("provider", "model", "edit", "generate", "input images", "safety", "ratios", "sizes", "seeds", "formats"),
    *("images per task", "price of an image", "cancel", "task ids", "last verified live"),
)
RESIDENCY = """
## Where data goes

A route with `regions` takes only what is known to be done there, by the base URL in use: one of your own, such as a
proxy, is in no known region. A route with `public_uploads = false` takes no candidate that would put an image of the
request on a public URL; an image that you give as a URL yourself lies where you have put it.
"""
RESIDENCY_COLUMNS = (
    *("provider", "region of each base URL", "evidence", "input images on a public URL", "evidence"),
    *("a result can be fetched for", "evidence"),
)


def page(adapters: Mapping[str, Adapter], prices: Mapping[str, Mapping[str, Price]], readmes: Mapping[str, str]) -> str:
    """The whole page, in Markdown.

    Args:
        adapters: By name.
        prices: The price lists, by name.
        readmes: The READMEs beside the adapters, by name: they hold the evidence of each quirk.
    """
    summary = [row for name, adapter in adapters.items() for row in summary_of(adapter, prices[name])]
    where_to = [residency_of(adapter.facts) for adapter in adapters.values()]
    parts = [HEAD, *table(COLUMNS, summary), FOOT, RESIDENCY, *table(RESIDENCY_COLUMNS, where_to)]
    for name, adapter in adapters.items():
        parts += ["", *provider(adapter, prices[name], readmes[name])]
    return "\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; a bar in a cell is escaped."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {line} |" for line in lines)]


def summary_of(adapter: Adapter, prices: Mapping[str, Price]) -> Iterator[tuple[str, ...]]:
    """A row for each model of a provider."""
    facts = adapter.facts
    for model, hosted in facts.models.items():
        modes = hosted.modes
        most = max(able.max_images for able in modes.values())
        yield (
            *(facts.name, model),
            *("yes" if mode in modes else "no" for mode in ("edit", "generate")),
            "none" if not most else "1" if most == 1 else f"1-{most}",
            *(both(modes, name) for name in ("safety_tolerance", "aspect_ratio", "size", "seed", "output_format")),
            "1" if facts.images_per_task == 1 else f"1-{facts.images_per_task}",
            price_words(prices, model, modes),
            "a wish" if isinstance(adapter, Cancels) else "no",
            "yes" if matrix.has_task_ids(adapter) else "no task ids: a lost reply cannot be collected",
            matrix.verified(facts),
        )


def residency_of(facts: Facts) -> tuple[str, ...]:
    """Where data goes and how long it stays, with the evidence of each."""
    of, place = facts.evidence.get, facts.uploads
    return (
        *(facts.name, matrix.regions(facts), of("regions", "")),
        *(matrix.exposure(facts), facts.inputs.evidence if place is None else place.evidence),
        *(matrix.kept(facts), of("retention_s", "")),
    )


def both(modes: Mapping[str, ModeFacts], option: str) -> str:
    """What a model allows of an option; by mode where they differ."""
    said = {mode: one_of(able, option) for mode, able in modes.items()}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{mode} {words}" for mode, words in said.items())


def one_of(able: ModeFacts, option: str) -> str:
    """What a mode allows of an option; a ratio can be sent as a size."""
    if option in able.options:
        return allowed(able.options[option])
    return "as a size" if option == "aspect_ratio" and "size" in able.options else "no"


def allowed(spec: Spec) -> str:
    """What an option allows, as a page says it."""
    if isinstance(spec, Choices) and spec.values:
        return ", ".join(spec.values)
    return matrix.words(spec) or "true or false"


def price_words(prices: Mapping[str, Price], model: str, modes: Iterable[str]) -> str:
    """The listed prices of an image; by mode where they differ."""
    said = {mode: matrix.price_of(prices, model, mode) for mode in modes}
    words = {mode: matrix.price_words(one) for mode, one in said.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{mode} {one}" for mode, one in words.items())


def provider(adapter: Adapter, prices: Mapping[str, Price], readme: str) -> Iterator[str]:
    """The section of one provider."""
    facts, evidence = adapter.facts, evidence_of(readme, adapter.facts.name)
    link = f"[the README beside the adapter](../providers/anykontext_{facts.name}/README.md)"
    yield from (f"## {facts.name}: {facts.title}", "", opening(readme), "", f"{sure(facts, evidence)} See {link}.", "")
    yield from table(("what", "how", "evidence"), basics(adapter))
    yield from ("", "### Models and options", "")
    models = [
        (model, f"`{one.wire_name}`", *(mode_words(one.modes.get(mode)) for mode in ("edit", "generate")), one.evidence)
        for model, one in facts.models.items()
    ]
    yield from table(("model", "its name there", "edit", "generate", "evidence"), models)
    yield ""
    yield from table(("option", "allowed", "where", "evidence"), options(facts))
    if any(one.passthrough for one in facts.models.values()):
        yield from ("", "Own fields that `provider_options` may set:", "")
        yield from table(("model", "fields"), passed(facts))
    yield from ("", "### Prices", "", *price_table(prices))
    for title, heads, known in (
        ("Statuses", ("status", "means", "evidence"), facts.statuses),
        ("Errors", ("code", "means", "evidence"), facts.errors),
        ("Lifetimes", ("what", "how long", "evidence"), facts.lifetimes),
        ("Limits", ("what", "how", "evidence"), facts.limits),
    ):
        yield from section(title, heads, known)
    yield from ("", "### Moderation", "")
    yield from [f"- {one.words} ({one.evidence})" for one in facts.moderation] or ["None known."]
    yield from ("", "### Quirks", "")
    yield from table(
        ("id", "quirk", "evidence"), [(one, said, evidence.get(one, "")) for one, said in facts.quirks.items()]
    )


def section(title: str, heads: Sequence[str], known: Mapping[str, Known]) -> Iterator[str]:
    """A table of statements; a line where nothing is known."""
    yield from ("", f"### {title}", "")
    rows = [
        (f"`{name}`" if title in {"Statuses", "Errors"} else name, one.words, one.evidence)
        for name, one in known.items()
    ]
    yield from table(heads, rows) if rows else ["None known."]


def opening(readme: str) -> str:
    """The first paragraph of a README: what the service is, and what of it was ever seen."""
    return next((part for part in readme.split("\n\n") if part.strip() and not part.startswith("#")), "").strip()


def sure(facts: Facts, evidence: Mapping[str, str]) -> str:
    """How sure all this is, by the best evidence of each quirk."""
    best = [next((one for one in LABELS if re.search(rf"\b{one}\b", said)), "") for said in evidence.values()]
    counts = ", ".join(f"{words} for {best.count(label)}" for label, words in LABELS.items() if label in best)
    return f"Last verified live: {matrix.verified(facts)}. The best evidence of its {len(best)} quirks is {counts}."


def basics(adapter: Adapter) -> Iterator[tuple[str, str, str]]:
    """What holds for a provider as a whole: what, how, evidence."""
    facts, of = adapter.facts, adapter.facts.evidence.get
    for name, url in facts.origins.items():
        setting = "base_url" if name == "api" else facts.base_url_settings.get(name, "")
        yield f"host: {name}", f"{url}{f' (`{setting}`)' if setting else ''}", of("base_url_settings", "")
    if facts.siblings:
        yield "same protocol at", f"{', '.join(facts.siblings)}; our prices do not hold there", of("siblings", "")
    yield "key", " or ".join(" with ".join(f"`{one}`" for one in names) for names in facts.keys), ""
    yield "sent as", f"`{facts.auth[0]}: {facts.auth[1].format(key='…')}`", of("auth", "")
    yield "the key may go to", f"the hosts above; over https to {', '.join(facts.trusted)} and below", of("trusted", "")
    if facts.delivery:
        yield "results lie at", ", ".join(f"`{host}`" for host in facts.delivery), of("delivery", "")
    yield "regions", matrix.regions(facts), of("regions", "")
    yield "input images", matrix.inputs(facts).removeprefix("Input images: "), facts.inputs.evidence
    place = facts.uploads
    yield "uploads", upload_words(adapter), place.evidence if place else ""
    yield "a result can be fetched for", matrix.kept(facts), of("retention_s", "")
    yield from follow(adapter)
    yield from (
        ("webhook", facts.webhook.words, facts.webhook.evidence) if facts.webhook else ("webhook", "none known", ""),
    )


def follow(adapter: Adapter) -> Iterator[tuple[str, str, str]]:
    """How tasks of a provider are followed: what, how, evidence."""
    facts, of = adapter.facts, adapter.facts.evidence.get
    ids = matrix.has_task_ids(adapter)
    yield (
        "task ids",
        "yes" if ids else "none: a lost reply cannot be collected",
        "" if ids else of("poll_interval_s", ""),
    )
    if ids:
        yield "a poll every", matrix.duration(facts.poll_interval_s), of("poll_interval_s", "")
        found = f"{facts.not_found_polls} in a row" if facts.not_found_polls else "not tolerated"
        yield '"task not found"', found, of("not_found_polls", "")
    most = "no limit of its own" if facts.max_active is None else str(facts.max_active)
    fewer = [f"{one.max_active} of {name}" for name, one in facts.models.items() if one.max_active is not None]
    yield "tasks at once that the client keeps to", ", ".join([most, *fewer]), of("max_active", "")
    rate = facts.submit_rate
    if rate is not None:
        yield "submits that the client keeps to", f"{rate.submits} in {rate.seconds:g} seconds", rate.evidence
    yield "images of one task, at most", str(facts.images_per_task), of("images_per_task", "")
    wish = "a wish: the image may come, and be billed, all the same"
    yield "cancel", wish if isinstance(adapter, Cancels) else "no", ""
    yield "free check of a key", "yes" if isinstance(adapter, Checks) else "no", ""
    refused = [f"{one.status} ({one.shape})" for one in facts.rejections]
    evidence = ", ".join(dict.fromkeys(one.evidence for one in facts.rejections))
    yield "5xx that were surely not accepted", ", ".join(refused) or "none", evidence


def upload_words(adapter: Adapter) -> str:
    """Where input images are put, and by what."""
    said = matrix.uploads(adapter.facts).removeprefix("Uploads: ")
    if adapter.facts.uploads is None:
        return said
    return f"{said}; by {'a call of the adapter' if isinstance(adapter, Uploads) else 'the client of the vendor'}"


def mode_words(able: ModeFacts | None) -> str:
    """What a mode takes, in a cell."""
    if able is None:
        return "no"
    return "yes" if not able.max_images else "1 image" if able.max_images == 1 else f"1-{able.max_images} images"


def options(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    """Each option with what is allowed, and where: option, allowed, where, evidence."""
    everywhere = [(model, mode) for model, one in facts.models.items() for mode in one.modes]
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for model, mode in everywhere:
        for name, spec in facts.models[model].modes[mode].options.items():
            found.setdefault((name, allowed(spec), spec.evidence), []).append((model, mode))
    for (name, words, evidence), places in sorted(found.items(), key=lambda item: item[0][0]):
        yield f"`{name}`", words, where(places, everywhere), evidence


def where(places: Sequence[tuple[str, str]], everywhere: Sequence[tuple[str, str]]) -> str:
    """These models and modes, in the fewest words."""
    if set(places) == set(everywhere):
        return "everywhere"
    for wanted in ("edit", "generate"):
        if set(places) == {(model, mode) for model, mode in everywhere if mode == wanted}:
            return wanted
    modes: dict[str, list[str]] = {}
    for model, mode in places:
        modes.setdefault(model, []).append(mode)
    full = {model: [mode for one, mode in everywhere if one == model] for model in modes}
    return ", ".join(model if modes[model] == full[model] else f"{model} ({modes[model][0]})" for model in modes)


def passed(facts: Facts) -> Iterator[tuple[str, str]]:
    """The provider's own fields that may be set: models, fields."""
    found: dict[str, list[str]] = {}
    for model, one in facts.models.items():
        fields = ", ".join(f"`{name}`" for name in sorted(one.passthrough))
        found.setdefault(fields, []).append(model)
    yield from ((", ".join(models), fields) for fields, models in found.items() if fields)


def price_table(prices: Mapping[str, Price]) -> list[str]:
    """The listed prices, with where they are from."""
    if not prices:
        return ["None known."]
    rows = [
        (
            name,
            f"{one.amount} {one.currency}",
            one.unit,
            one.date.isoformat() if one.date else "",
            one.source,
            one.evidence,
        )
        for name, one in prices.items()
    ]
    return table(("model", "price", "of one", "date", "source", "evidence"), rows)


def evidence_of(readme: str, name: str) -> dict[str, str]:
    """The evidence of each quirk, from the table of a README: its last cell."""
    rows = re.findall(rf"^\|\s*({name}-\d+)\s*\|.*\|([^|]*)\|\s*$", readme, re.MULTILINE)
    return {quirk: evidence.strip() for quirk, evidence in rows}


def build(root: Path = ROOT) -> str:
    """The page of the adapters in a project's `providers/`."""
    registry = Registry.load()
    names = sorted(path.name.removeprefix("anykontext_") for path in (root / "providers").glob("anykontext_*"))
    readmes = {name: (root / f"providers/anykontext_{name}/README.md").read_text(encoding="utf-8") for name in names}
    return page(
        {name: registry.adapter(name) for name in names}, {name: registry.prices(name) for name in names}, readmes
    )


def drift(written: str, wanted: str) -> list[str]:
    """A short diff; empty where the page is what it should be."""
    lines = difflib.unified_diff(
        *(text.splitlines() for text in (written, wanted)), "docs/providers.md", "the facts", lineterm="", n=0
    )
    found = [line if len(line) < 300 else f"{line[:300]}…" for line in lines]
    rest = len(found) - DIFF_LINES
    return [*found[:DIFF_LINES], f"… and {rest} lines more"] if rest > 0 else found


def main(words: Sequence[str] | None = None) -> int:
    """Write the page, or compare it; 1 when it differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    wanted = build()
    if not parser.parse_args(words).check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    found = drift(PAGE.read_text(encoding="utf-8") if PAGE.is_file() else "", wanted)
    if found:
        print(
            "\n".join([*found, "docs/providers.md is not what the facts say: run .venv/bin/python scripts/matrix.py"])
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
