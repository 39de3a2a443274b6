"""A test of its own: an empty home folder, a configuration, no keys, and shortcuts without a client from before."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anykontext.client import shortcuts
from anykontext.config.files import FILE, HOME_VARIABLE, PATH_VARIABLE
from anykontext.plugins import SUBSET_VARIABLE, default_registry


@contextmanager
def isolated(patch: pytest.MonkeyPatch, folder: Path, config: str) -> Iterator[Path]:
    """Let the default configuration be this text; all of it is as before when the block and then `patch` end.

    Args:
        patch: What is patched through it before the block holds for the registry, too.
        folder: An empty one, for the file and the home folder.
        config: The text of an `anykontext.toml`.
    """
    file = folder / FILE
    file.write_text(config, encoding="utf-8")
    patch.delenv(SUBSET_VARIABLE, raising=False)
    default_registry.cache_clear()  # the test may have another set of plugins than the one before
    try:
        for adapter in default_registry().adapters.values():
            for name in {name for names in adapter.facts.keys for name in names}:
                patch.delenv(name, raising=False)
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        patch.setenv(PATH_VARIABLE, str(file))
        patch.setattr(shortcuts, "_shared", {})
        try:
            yield file
        finally:
            forget_shared()
    finally:
        default_registry.cache_clear()


def forget_shared() -> None:
    """Close the client of the shortcuts; the next shortcut makes a new one, and reads the configuration anew."""
    while shortcuts._shared:
        shortcuts._shared.popitem()[1].close()
