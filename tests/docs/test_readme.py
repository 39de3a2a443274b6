"""The README's examples run as they stand."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import anykontext as ak
from anykontext.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs/images").mkdir(parents=True)
    shutil.copy(ROOT / "docs/images/coffee.png", tmp_path / "docs/images/coffee.png")
    shutil.copy(ROOT / "docs/images/coffee.png", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYKONTEXT_CONFIG", str(tmp_path / "anykontext.toml"))
    return tmp_path


def test_the_first_example_edits_a_photo(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Sandbox(providers=["bfl"], seconds=0.05) as sandbox:
        (user / "anykontext.toml").write_text(sandbox.config_toml())

        exec(blocks("python")[0], {})

    assert (user / "coffee-black.jpg").stat().st_size > 10_000
    assert "bfl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "printed"), [("moderated", "input ('Derivative Works Filter',)"), ("submit-lost", "money may have been")]
)
def test_the_second_example_names_each_end(
    user: Path, capsys: pytest.CaptureFixture[str], fault: str, printed: str
) -> None:
    with Sandbox(providers=["bfl"], seconds=0.05, faults=[fault]) as sandbox:
        (user / "anykontext.toml").write_text(sandbox.config_toml())
        with ak.Client() as client:
            exec(blocks("python")[1], {"ak": ak, "client": client})

    assert printed in capsys.readouterr().out


def test_many_at_once_are_saved_and_their_cost_is_told(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (user / "photos").mkdir()
    for name in ("one", "two"):
        shutil.copy(ROOT / "docs/images/coffee.png", user / f"photos/{name}.png")
    with Sandbox(providers=["bfl"], seconds=0.05) as sandbox:
        (user / "anykontext.toml").write_text(sandbox.config_toml())

        exec(blocks("python")[3], {"ak": ak})

    assert ["one-orange.jpg", "two-orange.jpg"] == sorted(path.name for path in user.glob("*-orange.jpg"))
    assert re.search(r"bfl +acme +0\.08 USD", capsys.readouterr().out)


def test_the_example_config_loads(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(user))
    (user / ".config").mkdir()
    (user / ".config/bfl.key").touch(mode=0o600)
    config = ak.Config(**tomllib.loads(blocks("toml")[0]))

    assert ["bfl", "bfl-eu"] == sorted(config.providers)
    assert "https://api.eu.bfl.ai" == {one.name: one.origins["api"] for one in config.provider_list()}["bfl-eu"]


def test_every_exit_code_of_the_readme_is_one_of_the_command(user: Path) -> None:
    from anykontext.cli.failures import EXIT_CODES

    table = README[README.index("| code | meaning |") : README.index("## Config")]
    told = {int(code) for code in re.findall(r"\| (\d+) \|", table)}

    assert told == {0, 1, 130, *EXIT_CODES.values()}


def test_the_same_edit_at_four_providers_gives_results_that_look_alike(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(blocks("python")[2], {})

    printed = capsys.readouterr().out
    sizes = {}
    for path in user.glob("coffee-*.jpg"):
        with Image.open(path) as picture:
            sizes[path.stem] = picture.size
    assert {f"coffee-{name}" for name in ("bfl", "fal", "kie", "together")} == set(sizes)
    assert 1 == len(set(sizes.values()))
    assert "safety_tolerance: 0 became 1, which is or may be more permissive" in printed
