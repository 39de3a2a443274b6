"""Where the configuration file is looked for, and files that cannot be read."""

import sys
from pathlib import Path

import pytest

from anykontext.config import Config
from anykontext.model.errors import ConfigurationError
from anykontext.plugins import Registry, default_registry

NOTHING = Registry()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anykontext.toml"


def test_a_file_that_begins_with_a_byte_order_mark_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfpolicy = 'strict'\r\n[providers.bfl]\r\n")

    assert Config.load(file, environ={}).policy == "strict"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no file .*nowhere\.toml$"):
        Config.load(tmp_path / "nowhere.toml", environ={})
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml \(named by \$ANYKONTEXT_CONFIG\)"):
        Config.load(environ={"ANYKONTEXT_CONFIG": str(tmp_path / "nowhere.toml")})


def test_a_folder_and_a_file_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        Config.load(tmp_path, environ={})
    (tmp_path / "latin.toml").write_bytes(b"policy = 'strict'\n# caf\xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin\.toml, line 2: this is not UTF-8"):
        Config.load(tmp_path / "latin.toml", environ={})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Config.load(tmp_path / "latin.toml" / "below", environ={})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Config.load("nul\0.toml", environ={})


def test_the_file_is_searched_in_the_order_of_the_design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("the user's config folder has other variables here")
    for name in ("work", "config/anykontext"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def route_found(path: str | None = None, environ: dict[str, str] | None = None) -> str | None:
        return Config.load(path, environ=environ or {}, registry=NOTHING).route

    def write(path: str) -> None:
        (tmp_path / path).write_text(
            f"route = {Path(path).parts[0]!r}\n[routes.{Path(path).parts[0]}]\ncandidates=['bfl']"
        )

    assert route_found() is None
    write("config/anykontext/anykontext.toml")
    assert route_found() == "config"
    write("work/anykontext.toml")
    assert route_found() == "work"
    (tmp_path / "named").mkdir()
    write("named/by-variable.toml")
    assert route_found(environ={"ANYKONTEXT_CONFIG": str(tmp_path / "named/by-variable.toml")}) == "named"
    assert route_found(environ={"ANYKONTEXT_CONFIG": ""}) == "work"
    assert route_found("anykontext.toml", {"ANYKONTEXT_CONFIG": str(tmp_path / "named/by-variable.toml")}) == "work"


def test_the_path_of_a_file_stays_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "anykontext.toml").write_text("[providers.bfl]")
    monkeypatch.chdir(tmp_path)
    config = Config.load("anykontext.toml", environ={})
    monkeypatch.chdir("/")

    assert config.path == tmp_path / "anykontext.toml"
    assert config.resolve("ca.pem") == tmp_path / "ca.pem"


def test_home_is_where_the_environment_says(tmp_path: Path) -> None:
    assert Config.from_env({"ANYKONTEXT_HOME": str(tmp_path)}).home == tmp_path
    assert Config.from_env({"ANYKONTEXT_HOME": "~/kontext"}).home == Path("~/kontext").expanduser()
    assert Config.from_env({}).home.name == "anykontext"
    assert not (tmp_path / "anykontext").exists()


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 3000, "a = 1979-02-30", "a = 1e999999999999"])
def test_what_the_parser_itself_cannot_bear_is_a_configuration_error(file: Path, text: str) -> None:
    file.write_text(text)

    with pytest.raises(ConfigurationError, match=r"anykontext\.toml"):
        Config.load(file, environ={})


def test_the_installed_adapters_are_asked_when_no_registry_is_given(file: Path) -> None:
    (variable, *_) = default_registry().adapters["bfl"].facts.keys[0]
    file.write_text("policy = 'strict'")

    assert list(Config.load(file, environ={variable: "a-key"}).providers) == ["bfl"]
    assert list(Config.from_env({variable: "a-key"}).providers) == ["bfl"]
