"""Record `cassettes/*/*.yaml` anew from the emulators, where their origin is `recorded-from-emulator`.

It may be run again at any time: ids, seeds of the provider's own and dates change, the meaning does not. The cassettes
whose origin is `from-published-payloads` are written by hand, and are left alone.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import anykontext as ak
from anykontext.sandbox import Sandbox
from anykontext.testing.recording import recording

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "tests/data/rocket.jpg"
PROMPT = "make the rocket green"


def edit(client: ak.Client) -> object:
    """An edit of a photo."""
    return client.edit(PHOTO, PROMPT, seed=42)


def generate(client: ak.Client) -> object:
    """An image from words alone."""
    return client.generate("a rocket at night", seed=42, aspect_ratio="16:9")


def edit_at_once(client: ak.Client) -> object:
    """An edit without patience for a second submit."""
    return client.edit(PHOTO, PROMPT, seed=42, deadline=0.9)


def generate_at_once(client: ak.Client) -> object:
    """An image from words, without patience for a second submit: without Retry-After that comes after half a second."""
    return client.generate("a rocket at night", seed=42, aspect_ratio="16:9", deadline=0.5)


# Cassette -> what is asked, and the fault that is injected.
SCENES: dict[str, tuple[Callable[[ak.Client], object], str | None]] = {
    "bfl/edit": (edit, None),
    "bfl/generate": (generate, None),
    "bfl/content-moderated": (edit, "moderated-output"),
    "bfl/failed": (edit, "failed"),
    "bfl/rate-limited": (edit_at_once, "rate-limited"),
    "fal/edit": (edit, None),
    "fal/generate": (generate, None),
    "fal/moderated": (edit, "moderated"),
    "fal/flagged": (edit, "moderated-output"),
    "fal/failed": (edit, "failed"),
    "fal/rate-limited": (edit_at_once, "rate-limited"),
    "fal/out-of-credit": (edit, "out-of-credit"),
    "fal/bad-key": (edit, "bad-key"),
    "kie/edit": (edit, None),
    "kie/generate": (generate, None),
    "kie/moderated": (generate, "moderated"),
    "kie/failed": (generate, "failed"),
    "kie/rate-limited": (generate_at_once, "rate-limited"),
    "kie/out-of-credit": (edit, "out-of-credit"),
    "kie/bad-key": (edit, "bad-key"),
    "together/edit": (edit, None),
    "together/generate": (generate, None),
    "together/moderated": (edit, "moderated"),
    "together/rate-limited": (edit_at_once, "rate-limited"),
    "together/out-of-credit": (edit, "out-of-credit"),
    "together/bad-key": (edit, "bad-key"),
}


def record(name: str, folder: Path = ROOT / "cassettes") -> None:
    """Record one scene."""
    ask, fault = SCENES[name]
    provider = name.partition("/")[0]
    with Sandbox(providers=[provider], seconds=0.3, faults=[fault] if fault else []) as sandbox:
        emulator = sandbox.emulators[provider]
        emulator.megapixels = 0.02
        config = ak.Config(providers={provider: {**emulator.config(), "poll_interval_s": 0.2}})
        # Names that nobody can mistake for the provider's own: none of these replies came from there.
        hosts = {origin: f"https://{role}.{provider}.example" for role, origin in emulator.origins.items()}
        told = f"scene: {ask.__doc__}" + (f" The fault {fault!r} was injected." if fault else "")
        notes = [f"by: scripts/record_cassettes.py, from the emulator of providers/anykontext_{provider}", told]
        path = folder / f"{name}.yaml"
        with ak.Client(config) as client, recording(path, origin="recorded-from-emulator", hosts=hosts, notes=notes):
            try:
                ask(client)
            except ak.ProviderError as error:
                print(f"{name}: {error.kind}")
            else:
                print(f"{name}: succeeded")


def main() -> None:
    """Record all of them."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["ANYKONTEXT_HOME"] = home
        for name in SCENES:
            record(name)


if __name__ == "__main__":
    main()
