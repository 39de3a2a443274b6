"""`edit` and `generate`: what they print, where they write, what they refuse before anything is sent."""

import hashlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anykontext.cli.target import Target
from anykontext.sandbox import Sandbox

pytestmark = pytest.mark.sandbox


class Stdin:
    """Standard input that is redirected."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


def format_of(path: Path) -> str | None:
    with Image.open(path) as image:
        return image.format


def test_stdout_is_the_path_and_nothing_else(edit: Callable[..., Any], work: Path) -> None:
    ended = edit("-o", "blue.png", "-q")
    assert (ended.code, ended.out, ended.err) == (0, "blue.png\n", "")
    assert format_of(work / "blue.png") == "PNG"


def test_progress_is_one_line_for_each_change(edit: Callable[..., Any]) -> None:
    lines = edit("-o", "blue.png").err.splitlines()
    assert [line.split("] ")[1].split(":")[0] for line in lines] == [
        "sending to bfl/flux-kontext-pro",
        "accepted by bfl/flux-kontext-pro",
        "bfl/flux-kontext-pro",
        "fetching the image",
    ]


def test_json_holds_what_was_pinned(edit: Callable[..., Any], work: Path) -> None:
    found = edit("--json", "-o", "blue", "--seed", "0").json
    assert set(found) == {
        *("images", "provider", "adapter", "model", "seed", "cost", "adjustments", "attempts", "job", "job_id"),
    }
    (image,) = found["images"]
    data = (work / "blue.jpg").read_bytes()
    assert image["path"] == "blue.jpg"
    assert image["sha256"] == hashlib.sha256(data).hexdigest()
    assert (image["width"], image["height"]) == Image.open(io.BytesIO(data)).size
    assert (found["provider"], found["model"], found["seed"]) == ("bfl", "flux-kontext-pro", 0)
    assert found["cost"] == {"amount": "0.04", "currency": "USD", "basis": "reported"}
    assert [set(one) for one in found["attempts"]] == [{"provider", "model", "outcome", "maybe_charged", "seconds"}]
    assert found["job"]["job_id"] == found["job_id"]


def test_json_describes_a_converted_file_as_it_is(edit: Callable[..., Any], work: Path) -> None:
    ended = edit("--json", "-o", "blue.png", "--output-format", "jpeg")
    (image,) = ended.json["images"]
    assert image["media_type"] == "image/png"
    assert image["sha256"] == hashlib.sha256((work / "blue.png").read_bytes()).hexdigest()
    assert "Warning: blue.png: the provider's JPEG was converted to PNG" in ended.err


def test_without_o_the_name_is_new_each_time(edit: Callable[..., Any], cli: Callable[..., Any]) -> None:
    assert edit().out == "photo-flux-kontext-pro-1.jpg\n"
    assert edit("--output-format", "webp").out == "photo-flux-kontext-pro-2.webp\n"
    generated = cli(
        "generate", "a kite", "--sandbox", "--seconds", "0", "--provider", "bfl", "--model", "bfl/flux-1.1-pro"
    )
    assert generated.out == "image-flux-1.1-pro-1.jpg\n"


def test_a_folder_gets_a_new_file(edit: Callable[..., Any], work: Path) -> None:
    (work / "out").mkdir()
    assert edit("-o", "out").out == f"{Path('out', 'photo-flux-kontext-pro-1.jpg')}\n"


def test_several_images_are_numbered(edit: Callable[..., Any]) -> None:
    assert edit("-o", "x.png", "--num-images", "2").out == "x-1.png\nx-2.png\n"


def test_nothing_is_overwritten_and_nothing_is_paid(
    edit: Callable[..., Any], work: Path, sandboxes: list[Sandbox]
) -> None:
    (work / "x-2.jpg").write_text("mine")
    edit("-o", "x.jpg", "--num-images", "2").refused("x-2.jpg' exists", "--force")
    assert sandboxes == []
    assert (work / "x-2.jpg").read_text() == "mine"


def test_force_replaces(edit: Callable[..., Any], work: Path) -> None:
    (work / "x.jpg").write_text("mine")
    assert edit("-o", "x.jpg", "--force").code == 0
    assert format_of(work / "x.jpg") == "JPEG"


def test_a_file_that_appears_meanwhile_is_kept_and_the_result_is_saved_beside(
    edit: Callable[..., Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(self: Target, images: int, output_format: str | None) -> list[Path]:
        (work / "x.jpg").write_text("mine")
        return [Path("x.jpg")]

    monkeypatch.setattr(Target, "check", check)
    ended = edit("-o", "x.jpg")
    assert (ended.code, ended.out) == (0, "x-1.jpg\n")
    assert "'x.jpg' appeared meanwhile; the image was saved as 'x-1.jpg'" in ended.err
    assert (work / "x.jpg").read_text() == "mine"


def test_an_image_that_cannot_be_written_is_said_to_be_in_the_spool(
    edit: Callable[..., Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "check", lambda *_: [Path("gone/x.jpg")])
    ended = edit("-o", "gone/x.jpg", "--json")
    assert (ended.code, ended.error["class"]) == (1, "NotSaved")
    kept = Path(ended.error["message"].split("It is kept as ")[1].split(": copy")[0])
    assert format_of(kept) == "JPEG"


def test_adjustments_are_told_unless_quiet(edit: Callable[..., Any]) -> None:
    assert "Adjusted safety_tolerance: 5 became 2 (it takes 0 to 2)" in edit("--safety-tolerance", "5").err
    assert edit("--safety-tolerance", "5", "-q").err == ""
    looser = edit("--option", "bfl.safety_tolerance=2", "--safety-tolerance", "0").err
    assert "Warning: more permissive than asked: safety_tolerance" in looser


def test_strict_refuses_what_would_be_adjusted(edit: Callable[..., Any]) -> None:
    ended = edit("--safety-tolerance", "5", "--strict", "--json")
    assert (ended.code, ended.error["class"], ended.error["provider"]) == (2, "UnsupportedOption", "bfl")


def test_a_price_cap_is_8(edit: Callable[..., Any]) -> None:
    ended = edit("--max-price", "0.01", "--json")
    assert (ended.code, ended.error["class"]) == (8, "BudgetExceeded")


def test_v_sums_up_and_vv_shows_the_log(edit: Callable[..., Any]) -> None:
    assert "Made by bfl/flux-kontext-pro, " in edit("-v").err
    assert "debug: ledger job=" in edit("-vv").err


def test_an_image_comes_from_standard_input(
    cli: Callable[..., Any], png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("edit", "-", "make it red", "--sandbox", "--seconds", "0", "--provider", "bfl")
    monkeypatch.setattr(sys, "stdin", Stdin(png))
    assert cli(*words).out == "image-flux-kontext-pro-1.jpg\n"
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    cli(*words).refused("no image on standard input")


def test_several_images_go_before_the_prompt(cli: Callable[..., Any], png: bytes, work: Path) -> None:
    (work / "b.png").write_bytes(png)
    ended = cli("edit", "photo.jpg", "b.png", "put b into a", "--sandbox", "--seconds", "0", "--provider", "bfl")
    assert ended.out == "photo-flux-kontext-pro-1.jpg\n"


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("a/b/photo.final.png", "photo.final"),
        ("https://example.org/x/cat%20one.jpg?sig=1", "cat_one"),
        ("https://example.org", "image"),
        ("data:image/png;base64,AAAA", "image"),
        ("-", "image"),
        ("..", "image"),
        ("x" * 300 + ".png", "x" * 80),
    ],
)
def test_a_name_is_made_from_the_input(source: str, stem: str) -> None:
    assert Target.of(None, source, "bfl/m", force=False).stem == f"{stem}-m"
