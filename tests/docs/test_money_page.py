"""The money page: its table is the engine's, and each of its examples is what a run in the sandbox gives."""

import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

import anykontext as ak
from anykontext.cli import main
from anykontext.cli.app import app
from anykontext.engine.money_table import TABLE
from anykontext.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/money.md").read_text(encoding="utf-8")
MADE_BY = re.compile(r"(?P<provider>\w+) `(?P<fault>[\w-]+)`(?:, (?P<within>[\d.]+) s)?")
DISK = "disk-full"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("money_script", ROOT / "scripts/money.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = load()


def rows(begin: str, end: str) -> list[dict[str, str]]:
    """The lines of the table between two markers, by the names of its columns."""
    text = PAGE.partition(begin)[2].partition(end)[0]
    head, _, *lines = [
        [re.sub(r"^`([^`]*)`$", r"\1", cell.strip().strip("*")) for cell in re.sub(r"^\||\|$", "", line).split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(head, line, strict=True)) for line in lines]


EXAMPLES = rows("<!-- examples: begin -->", "<!-- examples: end -->")


def test_the_table_is_the_engines() -> None:
    assert SCRIPT.page_with(SCRIPT.table(), PAGE) == PAGE, "make it anew: scripts/money.py"


def test_the_table_has_every_row_with_its_own_words() -> None:
    shown = rows(SCRIPT.BEGIN, SCRIPT.END)

    assert [(row.purpose, row.happened, row.again, row.charged, row.because) for row in TABLE] == [
        (row["of"], row["what happened"], row["again here"], row["may be charged"], row["because"]) for row in shown
    ]


def test_a_page_with_another_table_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "scripts" / "money.py"
    copy.parent.mkdir()
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "scripts/money.py", copy)
    (tmp_path / "docs/money.md").write_text(PAGE.replace("it never got a connection", "it got one"), encoding="utf-8")

    checked = subprocess.run([sys.executable, copy, "--check"], capture_output=True, text=True, check=False)

    assert 1 == checked.returncode
    assert "it got one" in checked.stdout


def test_the_examples_are_of_every_outcome() -> None:
    wanted = {
        *("submit refused", "rate limited", "listed 5xx", "gateway page", "lost reply", "unreadable reply"),
        *("task failed", "poll troubles", "deadline", "link expired", "bad image", "disk full", "upload failed"),
    }

    assert wanted <= {one["example"] for one in EXAMPLES}


def test_the_page_says_what_to_do_about_every_example() -> None:
    told = {name for line in re.findall(r"^- \*\*(.+?)\*\*:", PAGE, re.MULTILINE) for name in line.split(", ")}

    assert {one["example"].partition(",")[0] for one in EXAMPLES} == told


@dataclass
class Home:
    """The client's folder, whose spool can be made unwritable and mended."""

    root: Path

    def fill(self, event: ak.Event) -> None:
        """The spool cannot take an image any more when one is about to be fetched."""
        if isinstance(event, ak.Downloading):
            shutil.rmtree(self.root / "spool/incoming")
            (self.root / "spool/incoming").write_text("no room")

    def make_room(self) -> None:
        (self.root / "spool/incoming").unlink()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(providers=("bfl", "kie", "together"), seconds=0.05) as one:
        for emulator in one.emulators.values():
            emulator.megapixels = 0.02
        yield one


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "orange").save(out, "PNG")
    return out.getvalue()


def asked(call: Callable[[], ak.ImageResult]) -> ak.ImageResult | ak.ProviderError:
    try:
        return call()
    except ak.ProviderError as error:
        return error


def money(record: ak.JobRecord) -> str:
    return "at risk" if record.at_risk else "spent" if record.charged else "nothing"


@dataclass
class Played:
    """An example that was run: what the program saw, and what the ledger says; the fault is over."""

    found: ak.ImageResult | ak.ProviderError
    record: ak.JobRecord
    config: Mapping[str, Any]

    @property
    def handle(self) -> ak.JobHandle | None:
        return self.found.job if isinstance(self.found, ak.ImageResult) else self.found.handle

    def open(self) -> ak.Client:
        return ak.Client(ak.Config(providers=self.config))

    def now(self) -> ak.JobRecord:
        with self.open() as client:
            return client.jobs()[0]

    def command(self, folder: Path, *words: str) -> int:
        """Run `anykontext jobs …`."""
        lines = [
            f"[providers.{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
            for name, settings in self.config.items()
        ]
        (folder / "anykontext.toml").write_text("\n".join(lines), encoding="utf-8")
        return main(["jobs", *words, "--config", str(folder / "anykontext.toml")])


Play = Callable[[dict[str, str]], Played]


@pytest.fixture
def play(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run an example in a home of its own."""
    home = Home(tmp_path / "home")
    monkeypatch.setenv("ANYKONTEXT_HOME", str(home.root))

    def run(example: dict[str, str]) -> Played:
        made = MADE_BY.fullmatch(example["made by"])
        assert made is not None, example["made by"]
        provider, is_full = made["provider"], made["fault"] == DISK
        emulator = sandbox.emulators[provider]
        if not is_full:
            emulator.inject(made["fault"])
        config = {provider: {**emulator.config(), "poll_interval_s": 0.05}}
        options = {"deadline": float(made["within"] or 20), "on_event": home.fill if is_full else None}
        with ak.Client(ak.Config(providers=config)) as client:
            try:
                found = asked(lambda: client.edit(picture(), "make it blue", provider=provider, **options))
            finally:
                emulator.clear()
            (record,) = client.jobs()
        if is_full:
            home.make_room()
        return Played(found, record, config)

    return run


def those(**cells: str) -> Any:
    """The examples with these cells, as parameters."""
    found = [one for one in EXAMPLES if cells.items() <= one.items()]
    return pytest.mark.parametrize("example", found, ids=[one["example"] for one in found])


@pytest.mark.sandbox
@those()
def test_an_example_is_what_a_run_gives(example: dict[str, str], play: Play) -> None:
    played = play(example)
    found, record = played.found, played.record

    ended = ["none", "none", "False"]
    if isinstance(found, ak.ProviderError):
        ended = [type(found).__name__, found.kind.value, str(found.maybe_charged)]
    assert [example["error"], example["kind"], example["maybe_charged"]] == ended
    assert [example["job state"], example["money"]] == [record.state.value, money(record)]
    assert (example["later"] == "no handle") is (played.handle is None)


@pytest.mark.sandbox
@those(later="image")
def test_the_handle_brings_the_image_later_and_the_money_is_spent(example: dict[str, str], play: Play) -> None:
    played = play(example)
    assert played.handle is not None
    with played.open() as client:
        assert client.resume(played.handle).wait().images

    assert "spent" == money(played.now())
    had_ended = example["job state"] in {"failed", "expired"}
    assert had_ended is played.now().surplus
    assert (example["job state"] if had_ended else "succeeded") == played.now().state


@pytest.mark.sandbox
@those(later="image")
def test_the_command_brings_it_later_by_the_handle(example: dict[str, str], play: Play, tmp_path: Path) -> None:
    played = play(example)
    assert played.handle is not None

    assert 0 == played.command(tmp_path, "resume", played.handle.to_json(), "-o", str(tmp_path / "out.jpg"))
    assert (tmp_path / "out.jpg").exists()


@pytest.mark.sandbox
@those(example="deadline")
def test_the_command_brings_what_still_runs_by_the_jobs_id(example: dict[str, str], play: Play, tmp_path: Path) -> None:
    played = play(example)

    assert 0 == played.command(tmp_path, "resume", played.record.job_id, "-o", str(tmp_path / "out.jpg"))
    assert ("succeeded", "spent") == (played.now().state.value, money(played.now()))


@pytest.mark.sandbox
@pytest.mark.parametrize("name", ["moderated", "task failed"])
def test_a_task_that_has_ended_ends_so_again(name: str, play: Play) -> None:
    (example,) = [one for one in EXAMPLES if one["example"] == name]
    played = play(example)
    assert played.handle is not None
    with played.open() as client:
        again = asked(lambda: client.resume(played.handle).wait())

    assert example["later"] == type(again).__name__


@pytest.mark.sandbox
@pytest.mark.parametrize(("word", "left"), [("--charged", "spent"), ("--not-charged", "nothing")])
@those(money="at risk", later="no handle")
def test_a_persons_word_settles_what_nobody_knows(
    example: dict[str, str], word: str, left: str, play: Play, tmp_path: Path
) -> None:
    played = play(example)

    assert 0 == played.command(tmp_path, "resolve", played.record.job_id, word)
    assert ("failed", left) == (played.now().state.value, money(played.now()))


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`anykontext (jobs \w+|check)", PAGE))))
def test_the_commands_of_the_page_exist(command: str) -> None:
    group, _, name = command.partition(" ")
    found = app.commands[group]

    assert not name or name in found.commands  # type: ignore[attr-defined]  # a group
