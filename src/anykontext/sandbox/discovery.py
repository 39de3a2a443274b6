"""Which emulators are installed: beside every registered adapter, a module `emulator` with a class `Emulator`."""

import importlib
import importlib.util
import logging
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

from anykontext.sandbox.emulator import Emulator
from anykontext.sandbox.faults import nearest

GROUP = "anykontext"
log = logging.getLogger("anykontext.sandbox")


class MissingExtra(ImportError):
    """The sandbox needs packages that are not installed."""


def require_extra() -> None:
    """Fail with the remedy when the sandbox's web server is not installed."""
    try:
        importlib.import_module("starlette")
        importlib.import_module("uvicorn")
    except ImportError as error:
        raise MissingExtra(
            f"the sandbox needs {error.name}: pip install 'anykontext[sandbox]'", name=error.name
        ) from error


def find_emulators(providers: Sequence[str] | None = None) -> dict[str, type[Emulator]]:
    """The emulators of these providers, or all that are installed, by the provider's name.

    Raises:
        ValueError: a provider has no emulator.
    """
    require_extra()
    found: dict[str, type[Emulator]] = {}
    for entry in sorted(set(entry_points(group=GROUP)), key=lambda entry: entry.name):
        if providers is None:
            emulator = _load_guarded(entry)
        elif entry.name in providers:
            emulator = _load(entry)
        else:
            continue
        if emulator is not None:
            found[emulator.name] = emulator
    for name in providers or ():
        if name not in found:
            known = set(find_emulators()) - {name}
            raise ValueError(f"no emulator for provider {name!r}: {nearest(name, known)}")
    return found


def _load_guarded(entry: EntryPoint) -> type[Emulator] | None:
    try:
        return _load(entry)
    except Exception:  # a stranger's broken plugin must not take the sandbox down
        log.exception("the emulator of plugin %s (%s) cannot be loaded", entry.name, entry.value)
        return None


def _load(entry: EntryPoint) -> type[Emulator] | None:
    plugin = importlib.import_module(entry.module)
    package = entry.module if hasattr(plugin, "__path__") else plugin.__package__
    name = f"{package}.emulator"
    if not package or importlib.util.find_spec(name) is None:
        return None
    emulator: type[Emulator] = importlib.import_module(name).Emulator
    return emulator
