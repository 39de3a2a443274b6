"""The command in this process or in one of its own, with a home, a folder and an environment of the test's own."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import anykontext.sandbox
from anykontext.cli import main
from anykontext.sandbox import Emulator, Sandbox

ROOT = Path(__file__).parents[2]
KEYS = ("BFL", "BLACK_FOREST", "FLUX", "FAL", "KIE", "REPLICATE", "TOGETHER", "ATLASCLOUD", "ANYKONTEXT")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Mapping[str, Any]:
        error: Mapping[str, Any] = self.json["error"]
        return error

    def refused(self, *words: str, code: int = 2) -> None:
        """It ended with this code, said these words on stderr, and nothing else happened."""
        assert (self.code, self.out) == (code, ""), self
        for word in words:
            assert word in self.err
        assert "Traceback" not in self.err


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the command, empty but for a photo."""
    for name in list(os.environ):
        if name.startswith(KEYS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.new("RGB", (64, 48), "orange").save(folder / "photo.jpg")
    monkeypatch.setattr(Emulator, "megapixels", 0.02)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process."""

    def run(*words: str) -> Ended:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


@pytest.fixture
def edit(cli: Callable[..., Ended]) -> Callable[..., Ended]:
    """Edit the photo in a quick sandbox."""
    return lambda *words: cli(
        "edit", "photo.jpg", "make it blue", "--sandbox", "--seconds", "0.05", "--provider", "bfl", *words
    )


@pytest.fixture(autouse=True)
def sandboxes(monkeypatch: pytest.MonkeyPatch) -> list[Sandbox]:
    """Every sandbox that the command starts; its client polls quickly."""
    made: list[Sandbox] = []

    class Recorded(Sandbox):
        def start(self) -> Any:
            made.append(self)
            return super().start()

        def config_toml(self) -> str:
            return super().config_toml().replace("[providers.bfl]", "[providers.bfl]\npoll_interval_s = 0.05")

    monkeypatch.setattr(anykontext.sandbox, "Sandbox", Recorded)
    return made


@pytest.fixture
def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "blue").save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Running:
    """The command in a process of its own."""

    process: "subprocess.Popen[str]"
    errors: Path

    def said(self, word: str, within_s: float = 15.0) -> str:
        """Wait until stderr holds a word; returns all of it."""
        until = time.monotonic() + within_s
        while word not in (text := self.errors.read_text()):
            assert time.monotonic() < until, f"{word!r} never came: {text}"
            assert self.process.poll() is None, f"it ended before {word!r} came: {text}"
            time.sleep(0.02)
        return text

    def send(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def end(self, within_s: float = 15.0) -> Ended:
        out, _ = self.process.communicate(timeout=within_s)
        return Ended(self.process.returncode, out, self.errors.read_text())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start the command in a process of its own."""
    begun: list[Running] = []

    def run(*words: str, **options: Any) -> Running:
        errors = tmp_path / f"stderr-{len(begun)}"
        with errors.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "anykontext", *words],
                stderr=file,
                text=True,
                **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options},
            )
        begun.append(Running(process, errors))
        return begun[-1]

    yield run
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def rocket(work: Path) -> str:
    shutil.copy(ROOT / "tests" / "data" / "rocket.jpg", work)
    return "rocket.jpg"
