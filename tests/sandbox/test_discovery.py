"""Plugins with, without and with a broken emulator."""

import logging
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from anykontext.sandbox import Sandbox, discovery

EMULATOR = """
from anykontext import sandbox

class Emulator(sandbox.Emulator):
    name = "{name}"
    origin_names = ("api",)

    def app(self, origin_name):
        async def app(scope, receive, send): ...
        return app
"""


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of plugin packages that count as installed: `stranger_*`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        discovery,
        "entry_points",
        lambda group: [
            EntryPoint(path.name.removeprefix("stranger_"), path.name, group) for path in tmp_path.glob("stranger_*")
        ],
    )
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[name]


def plugin(folder: Path, name: str, emulator: str | None) -> None:
    package = folder / f"stranger_{name}"
    package.mkdir()
    (package / "__init__.py").touch()
    if emulator is not None:
        (package / "emulator.py").write_text(emulator.replace("{name}", name))


def test_a_strangers_emulator_is_started_like_ours(plugins: Path) -> None:
    plugin(plugins, "acme", EMULATOR)

    with Sandbox() as sandbox:
        assert set(sandbox.origins) == {"acme"}
        assert sandbox.origins["acme"]["api"] in sandbox.config_toml()


def test_a_plugin_without_an_emulator_is_skipped(plugins: Path) -> None:
    plugin(plugins, "acme", EMULATOR)
    plugin(plugins, "bare", None)

    assert set(Sandbox().emulators) == {"acme"}


def test_a_broken_plugin_takes_nothing_else_down(plugins: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin(plugins, "acme", EMULATOR)
    plugin(plugins, "broken", "import a_module_that_is_not_there")

    with caplog.at_level(logging.ERROR):
        assert set(Sandbox().emulators) == {"acme"}
    assert "broken" in caplog.text


def test_a_broken_plugin_that_was_asked_for_says_why(plugins: Path) -> None:
    plugin(plugins, "broken", "import a_module_that_is_not_there")

    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        Sandbox(providers=["broken"])
