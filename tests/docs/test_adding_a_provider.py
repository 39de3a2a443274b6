"""The page on adding a provider: its blocks are the files of the example, all of them, and its commands exist."""

import re
import shlex
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from anykontext.cli.app import app
from anykontext.sandbox import FAULTS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/anykontext-echo"
PAGE = (ROOT / "docs/adding-a-provider.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
BLOCKS = [(path, text) for _, path, text in FENCES if path]
COMMANDS = [shlex.split(line) for language, _, text in FENCES if language == "sh" for line in text.splitlines()]
FILES = sorted(
    str(path.relative_to(EXAMPLE))
    for path in EXAMPLE.rglob("*")
    if path.is_file() and not {part for part in path.relative_to(EXAMPLE).parts if part.startswith((".", "__pyc"))}
)
BUILT_IN = {"cd", "mkdir", "python3"}


def test_every_block_is_a_file_or_commands() -> None:
    assert [] == [(language, text[:40]) for language, path, text in FENCES if not path and language != "sh"]


def test_every_file_of_the_example_is_on_the_page() -> None:
    assert FILES == sorted({path for path, _ in BLOCKS})


@pytest.mark.parametrize("path", FILES)
def test_the_blocks_of_a_file_are_the_file(path: str) -> None:
    parts = [text for named, text in BLOCKS if named == path]

    assert (EXAMPLE / path).read_text(encoding="utf-8") == "\n\n".join(parts)


@pytest.mark.parametrize(("path", "text"), BLOCKS, ids=[path for path, _ in BLOCKS])
def test_a_block_is_a_part_of_its_file(path: str, text: str) -> None:
    assert text in (EXAMPLE / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_exists(words: list[str]) -> None:
    program = Path(words[0]).name

    assert words[0] in BUILT_IN or (
        words[0] == f".venv/bin/{program}" and program in entry_points(group="console_scripts").names
    )


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0].endswith("/anykontext")], ids=" ".join)
def test_a_command_of_ours_has_these_options(words: list[str]) -> None:
    command = app.get_command(click.Context(app), words[1])
    assert command is not None
    known = {name for one in command.params for name in one.opts}

    assert [] == [word for word in words[2:] if word.startswith("-") and word not in known]


def test_every_pinned_fault_is_told() -> None:
    assert [] == [name for name in FAULTS if f"`{name}`" not in PAGE]


def test_what_the_page_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE)

    assert links
    assert [] == [link for link in links if not (ROOT / "docs" / link).exists()]


def test_the_script_that_runs_the_example_is_a_shell_script() -> None:
    script = ROOT / "scripts/test-example"

    assert "`scripts/test-example`" in PAGE
    assert script.stat().st_mode & 0o111
    assert 0 == subprocess.run(["/bin/sh", "-n", script], check=False).returncode
