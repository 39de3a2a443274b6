"""What is missing or wrong, told before anything is sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anykontext.cli.options import edit_words, provider_options
from anykontext.model.errors import InvalidRequest
from anykontext.model.request import ImageRequest
from anykontext.sandbox import Sandbox

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "the IMAGE and the PROMPT are missing"),
        (("photo.jpg",), "the PROMPT is missing: the words that say what to do with photo.jpg"),
        (("no-such.png",), "the PROMPT is missing"),
        (("https://example.org/a",), "the PROMPT is missing"),
        (("-",), "the PROMPT is missing"),
        (("make it blue",), "the IMAGE is missing"),
        (("photo.jpg", "photo.jpg"), "the PROMPT seems to be missing"),
        (("photo.jpg", "other.png"), "the PROMPT seems to be missing"),
        (("photo.jpg", "make", "it", "blue"), "put that in quotes: 'make it blue'"),
    ],
)
def test_what_is_missing_is_named(words: tuple[str, ...], said: str, cli: Callable[..., Any]) -> None:
    cli("edit", *words).refused(said, 'anykontext edit photo.jpg "make it blue"' if "quotes" not in said else "")


def test_a_word_that_is_also_a_file_is_a_prompt_unless_that_is_a_picture(work: Path, png: bytes) -> None:
    (work / "blue").write_text("not a picture")
    assert edit_words(["photo.jpg", "blue"]) == (["photo.jpg"], "blue")
    (work / "blue").write_bytes(png)
    with pytest.raises(InvalidRequest, match="seems to be missing"):
        edit_words(["photo.jpg", "blue"])


@pytest.mark.parametrize("prompt", ["make it blue", "like a.png or b.png", "blue", "-1 is the answer"])
def test_words_are_a_prompt(prompt: str, work: Path) -> None:
    assert edit_words(["photo.jpg", prompt]) == (["photo.jpg"], prompt)


def test_provider_options_are_json_or_text() -> None:
    found = provider_options(["bfl.a=true", "bfl.b=x=y", "fal.c=[1]", "fal.d=NaN", "fal.e="])
    assert found == {"bfl": {"a": True, "b": "x=y"}, "fal": {"c": [1], "d": "NaN", "e": ""}}


def test_a_tag_that_cannot_be_written_down_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"tags: .*lone surrogate"):
        ImageRequest("a cat", tags={"customer": "\udcff"})


BAD = [
    (("edit", "missing.jpg", "x"), 2, "there is no file 'missing.jpg'"),
    (("edit", ".", "x"), 2, "is a folder"),
    (("edit", "empty.jpg", "x"), 2, "'empty.jpg' is empty (0 bytes)"),
    (("edit", "text.jpg", "x"), 2, "'text.jpg': this is text"),
    (("edit", "cut.jpg", "x"), 2, "'cut.jpg': the JPEG is cut off"),
    (("edit", "photo.jpg", ""), 2, "the prompt is empty"),
    (("edit", "photo.jpg", "x", "--model", "flux-kontext-por"), 3, "did you mean 'flux-kontext-pro'"),
    (("edit", "photo.jpg", "x", "--sede", "1"), 2, "--seed"),
    (("edit", "photo.jpg", "x", "--seed", "-1"), 2, "seed: "),
    (("edit", "photo.jpg", "x", "--seed", "one"), 2, "--seed"),
    (("edit", "photo.jpg", "x", "--deadline", "nan"), 2, "deadline"),
    (("edit", "photo.jpg", "x", "--size", "big"), 2, "size: "),
    (("edit", "photo.jpg", "x", "--option", "seed=1"), 2, "provider.key=value"),
    (("edit", "photo.jpg", "x", "--option", "bfl.sede=1"), 2, "did you mean 'seed'"),
    (("edit", "photo.jpg", "x", "--max-price", "cheap"), 2, "max_price"),
    (("edit", "photo.jpg", "x", "--route", "nowhere"), 3, "unknown route 'nowhere'"),
    (("edit", "photo.jpg", "x", "-o", "no/such/x.jpg"), 2, "the output folder 'no/such' does not exist"),
    (("edit", "photo.jpg", "x", "-o", "no/"), 2, "the output folder 'no' does not exist"),
    (("edit", "photo.jpg", "x", "-o", "photo.jpg"), 2, "'photo.jpg' exists"),
    (("edit", "photo.jpg", "x", "-o", "text.jpg/x.jpg"), 2, "is not a folder"),
    (("edit", "photo.jpg", "x", "-o", "x.gif"), 2, "'.gif'"),
    (("edit", "photo.jpg", "x", "-o", "-"), 2, "standard output"),
    (("edit", "photo.jpg", "x", "--fault", "moderatet"), 2, "did you mean 'moderated'"),
    (("edit", "photo.jpg", "x", "--config", "ak.toml"), 2, "--config"),
    (("generate",), 2, "the PROMPT is missing"),
    (("generate", "a", "kite"), 2, "in quotes: 'a kite'"),
]


@pytest.fixture
def bad_files(work: Path) -> None:
    (work / "empty.jpg").touch()
    (work / "text.jpg").write_text("hello there")
    (work / "cut.jpg").write_bytes((work / "photo.jpg").read_bytes()[:-20])


@pytest.mark.parametrize(("words", "code", "said"), BAD)
def test_bad_input_is_refused_before_anything_is_sent(
    words: tuple[str, ...], code: int, said: str, cli: Callable[..., Any], bad_files: None, sandboxes: list[Sandbox]
) -> None:
    cli(*words, "--sandbox").refused(said, code=code)
    assert all(one.emulators["bfl"].counters["submits"] == 0 for one in sandboxes)


def test_bad_input_is_an_object_with_json(cli: Callable[..., Any]) -> None:
    ended = cli("edit", "missing.jpg", "x", "--json")
    assert (ended.code, ended.error["class"], ended.error["attempts"]) == (2, "InvalidRequest", [])
    assert "Error: there is no file" in ended.err


def test_a_usage_error_is_an_object_with_json(cli: Callable[..., Any]) -> None:
    ended = cli("edit", "--json", "--sede", "1")
    assert (ended.code, ended.error["class"]) == (2, "NoSuchOption")
    assert "Did you mean" in ended.err
    assert ended.err.startswith("Usage: anykontext edit")


def test_options_of_the_sandbox_need_it(cli: Callable[..., Any]) -> None:
    cli("edit", "photo.jpg", "x", "--fault", "moderated").refused("add --sandbox")
    cli("edit", "photo.jpg", "x", "--seconds", "1").refused("add --sandbox")


def test_a_missing_key_names_every_variable(cli: Callable[..., Any], work: Path) -> None:
    words = ("BFL_API_KEY", "BLACK_FOREST_LABS_API_KEY", "FLUX_API_KEY")
    cli("edit", "photo.jpg", "x").refused(*words, code=3)
    (work / "anykontext.toml").write_text("[providers.bfl]\n")
    cli("edit", "photo.jpg", "x").refused(*words, code=3)


def test_an_unreadable_configuration_is_3(cli: Callable[..., Any], work: Path) -> None:
    (work / "bad.toml").write_text("[providers\n")
    cli("edit", "photo.jpg", "x", "--config", "bad.toml").refused("bad.toml", "line 1", code=3)
    cli("edit", "photo.jpg", "x", "--config", "none.toml").refused("there is no file none.toml", code=3)


def test_a_folder_that_cannot_be_written_is_refused(
    edit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("anykontext.cli.target.tempfile.TemporaryFile", refuse)
    edit("-o", "x.jpg").refused("cannot be written: permission denied")


def test_an_odd_error_is_called_a_bug_and_has_a_traceback_only_with_v(
    edit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("anykontext.cli.make.Client", broken)
    edit().refused("ZeroDivisionError: by zero", "bug", code=1)
    assert "Traceback" in edit("-v").err
    assert json.loads(edit("--json").out)["error"]["class"] == "ZeroDivisionError"
