"""Where keys come from, what is said when there is none, and that they are never shown."""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from anykontext.config import Config
from anykontext.config.key import REST_S, Key
from anykontext.config.keys import key_source
from anykontext.config.source import Source
from anykontext.engine.provider import Provider
from anykontext.model.errors import ConfigurationError, MissingKey
from anykontext.plugins import Plugin, Registry
from anykontext_bfl.facts import FACTS

KEY = "bfl-0123456789-very-secret"


class Stub:
    def __init__(self, name: str, keys: tuple[tuple[str, ...], ...] = ()) -> None:
        self.facts = replace(FACTS, name=name, keys=keys)

    def submit(self, order: object) -> None: ...
    def poll(self, task: object) -> None: ...
    def read(self, reply: object, task: object) -> None: ...


BFL = Stub("bfl", (("BFL_API_KEY",), ("FLUX_API_KEY",)))
FAL = Stub("fal", (("FAL_KEY",), ("FAL_KEY_ID", "FAL_KEY_SECRET")))
REGISTRY = Registry([Plugin("both", "both 1.0", "", (BFL, FAL, Stub("dumb")))])  # type: ignore[arg-type]


def provider(
    config: Config | None = None, environ: Mapping[str, str] | None = None, name: str = "bfl", **section: object
) -> Provider:
    config = config or Config(providers={name: section})
    return config.provider_list(REGISTRY, {} if environ is None else environ)[0]


def key(environ: Mapping[str, str] | None = None, name: str = "bfl", **section: object) -> str:
    return provider(None, environ, name, **section).key().get_secret_value()


def closed(file: Path, text: str | bytes) -> Path:
    """A file that only its owner can read."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(0o600)
    return file


def refusal(environ: Mapping[str, str] | None = None, name: str = "bfl", **section: object) -> str:
    with pytest.raises(MissingKey) as raised:
        key(environ, name, **section)
    return str(raised.value)


def test_a_key_comes_from_the_variable_that_is_named() -> None:
    assert key({"MINE": f" {KEY}\n", "BFL_API_KEY": "other"}, api_key="env:MINE") == KEY
    assert key({"MINE": KEY}, api_key="env: MINE") == KEY


def test_without_a_setting_the_variables_of_the_adapter_are_tried_in_their_order() -> None:
    assert key({"FLUX_API_KEY": KEY}) == KEY
    assert key({"FLUX_API_KEY": "later", "BFL_API_KEY": KEY}) == KEY
    assert key({"FLUX_API_KEY": KEY, "BFL_API_KEY": " "}) == KEY


def test_a_key_of_two_variables_is_joined_by_a_colon() -> None:
    assert key({"FAL_KEY_ID": "id", "FAL_KEY_SECRET": "secret"}, "fal") == "id:secret"


def test_a_missing_key_names_every_variable_that_was_tried_and_how_to_set_one() -> None:
    said = refusal()

    assert said.startswith("provider 'bfl' has no key: none of BFL_API_KEY, FLUX_API_KEY is set")
    assert "export BFL_API_KEY=..." in said
    assert refusal(api_key="env:MINE").startswith(
        "provider 'bfl' has no key: MINE is not set. For example: export MINE"
    )
    assert "MINE is empty" in refusal({"MINE": ""}, api_key="env:MINE")
    assert "FAL_KEY, FAL_KEY_ID+FAL_KEY_SECRET" in refusal(name="fal")
    assert "FAL_KEY_SECRET alone is not enough" in refusal({"FAL_KEY_SECRET": "x"}, "fal")
    assert "set api_key" in refusal(name="dumb")


def test_nothing_is_looked_up_before_a_key_is_needed() -> None:
    environ: dict[str, str] = {}
    bfl = provider(environ=environ)
    environ["BFL_API_KEY"] = KEY

    assert bfl.key().get_secret_value() == KEY


def test_a_key_file_is_found_from_the_folder_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "key").write_text(f"\n  {KEY}\n")
    (tmp_path / "config" / "key").chmod(0o600)
    file = tmp_path / "config" / "anykontext.toml"
    file.write_text('[providers.bfl]\napi_key = "file:key"\n')

    assert provider(Config.load(file, environ={})).key().get_secret_value() == KEY


def test_a_key_file_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)

    assert key(api_key="file:~/key") == KEY


def test_a_key_file_is_read_once(tmp_path: Path) -> None:
    closed(tmp_path / "key", KEY)
    bfl = provider(api_key=f"file:{tmp_path}/key")
    bfl.key()
    (tmp_path / "key").unlink()

    assert bfl.key().get_secret_value() == KEY


def test_a_key_file_that_gives_no_key_is_named(tmp_path: Path) -> None:
    closed(tmp_path / "empty", " \n")
    closed(tmp_path / "binary", b"\xff\xfe\x00")

    assert refusal(api_key=f"file:{tmp_path}/empty").endswith(f"the key file {tmp_path}/empty is empty")
    assert "not a text" in refusal(api_key=f"file:{tmp_path}/binary")


@pytest.mark.skipif(os.name != "posix", reason="the modes of files are those of POSIX")
@pytest.mark.parametrize(
    ("name", "told"), [("open", "chmod 600 {0}/open"), ("none", "{0}/none: No such file"), (".", "it is a folder")]
)
def test_a_key_file_that_is_a_mistake_is_found_before_the_key_is_needed(tmp_path: Path, name: str, told: str) -> None:
    closed(tmp_path / "open", KEY).chmod(0o604)
    file = tmp_path / "anykontext.toml"
    file.write_text(f"[providers.bfl]\n\napi_key = 'file:{name}'\n")

    with pytest.raises(ConfigurationError) as raised:
        provider(Config.load(file, environ={}))

    assert str(raised.value).startswith(f"{file}, line 3: provider 'bfl': ")
    assert told.format(tmp_path) in str(raised.value)
    assert KEY not in str(raised.value)


@pytest.mark.skipif(os.name != "posix", reason="the modes of files are those of POSIX")
@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 1)])
def test_a_key_file_that_its_group_can_read_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warnings: int
) -> None:
    closed(tmp_path / "key", KEY).chmod(mode)
    bfl = provider(api_key=f"file:{tmp_path}/key")
    bfl.key()
    bfl.key()

    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warnings
    assert KEY not in caplog.text


def test_in_python_a_key_may_be_a_secret_or_a_callable_that_is_called_once() -> None:
    keys = iter([" first\n", "second"])
    bfl = provider(api_key=lambda: next(keys))

    assert [bfl.key().get_secret_value() for _ in range(2)] == ["first", "first"]
    assert key(api_key=SecretStr(KEY)) == key(api_key=lambda: SecretStr(KEY)) == KEY


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def kept(source: object, clock: Clock | None = None, environ: Mapping[str, str] | None = None) -> Key:
    where = key_source(source)
    assert where is not None
    return Key("bfl", where, environ or {}, Source(), clock or Clock())


def test_a_refused_key_is_looked_for_again_where_it_comes_from(tmp_path: Path) -> None:
    environ = {"MINE": "old"}
    file = closed(tmp_path / "key", "old")
    called = iter(["old", "new"])
    keys = [kept("env:MINE", environ=environ), kept(f"file:{file}"), kept(lambda: next(called)), kept("old")]
    olds = [one() for one in keys]
    environ["MINE"] = "new"
    file.write_text("new")

    assert [True, True, True, False] == [one.renew(old) for one, old in zip(keys, olds, strict=True)]
    assert ["new", "new", "new", "old"] == [one().get_secret_value() for one in keys]


@pytest.mark.parametrize("second", ["new", "old"])
def test_many_jobs_that_are_refused_together_ask_a_callable_once(second: str) -> None:
    calls: list[str] = []

    def call() -> str:
        time.sleep(0.01)
        calls.append("old" if not calls else second)
        return calls[-1]

    one = kept(call)
    with ThreadPoolExecutor(20) as pool:
        refused = list(pool.map(lambda _: one(), range(20)))
        renewed = list(pool.map(one.renew, refused))

    assert ["old", second] == calls
    assert [second == "new"] * 20 == renewed


def test_a_callable_that_calls_whoever_asks_it_is_told_so_and_nothing_hangs() -> None:
    def call() -> str:
        return one().get_secret_value()

    one = kept(call)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="has called the client that asks for its key"):
            one()


def test_a_thread_waits_for_a_callable_of_another_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anykontext.config.key.WAIT_S", 0.05)

    def call() -> str:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(one).result().get_secret_value()

    one = kept(call)
    with pytest.raises(ConfigurationError, match="has given no key in"):
        one()


def test_a_key_that_stays_the_same_is_asked_for_again_after_a_rest() -> None:
    calls = Counter[str]()
    clock = Clock()
    one = kept(lambda: calls.update(["asked"]) or "same", clock)
    same = one()

    assert [False, False] == [one.renew(same), one.renew(same)]
    clock.now += REST_S
    assert not one.renew(same)
    assert 3 == calls["asked"]


def test_a_source_that_fails_after_a_refusal_gives_no_new_key_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"MINE": KEY}
    one = kept("env:MINE", environ=environ)
    old = one()
    del environ["MINE"]

    assert not one.renew(old)
    assert "MINE is not set" in caplog.text
    assert KEY not in caplog.text


def test_a_callable_that_gives_no_key_is_told_of() -> None:
    def fails() -> str:
        raise KeyError(KEY)

    async def later() -> str:
        return KEY

    said = refusal(api_key=fails)
    assert said == "provider 'bfl': api_key() raised KeyError"
    assert "returned an empty text" in refusal(api_key=lambda: "")
    assert "returned a value of type NoneType" in refusal(api_key=lambda: None)
    with pytest.raises(ConfigurationError, match="not an async one"):
        Config(providers={"bfl": {"api_key": later}})


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("$BFL_API_KEY", 'write "env:BFL_API_KEY"'),
        ("${BFL_API_KEY}", 'write "env:BFL_API_KEY"'),
        ("env:", "the name of a variable"),
        (f"env:{KEY}", "the name of a variable"),
        ("file:", "the path of a file"),
        (" ", "it is empty"),
        (f"Bearer {KEY}", "cannot be a key"),
        (f"{KEY}\n{KEY}", "cannot be a key"),
        (f"{KEY}\u00e9", "cannot be a key"),
    ],
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(written: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Config(providers={"bfl": {"api_key": written}})

    assert told in str(raised.value)
    assert KEY not in str(raised.value)


def test_a_key_of_the_environment_that_cannot_be_one_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="its key from env:MINE is none") as raised:
        key({"MINE": f"Bearer {KEY}"}, api_key="env:MINE")

    assert KEY not in str(raised.value)


@given(st.text(min_size=8).filter(str.strip))
@example("env:bfl-0123456789-very-secret")
@example("${}bfl-0123456789-very-secret")
def test_a_key_is_in_no_repr_no_message_and_no_dump(secret: str) -> None:
    marked = f"{secret}-very-secret"
    try:
        config = Config(providers={"bfl": {"api_key": marked}})
        bfl = provider(config)
        shown = (
            f"{config!r} {config} {config.model_dump()} {config.model_dump_json()} {bfl!r} {bfl.key!r} {bfl.key()!r}"
        )
    except ConfigurationError as error:
        shown = f"{error} {error!r} {error.__context__!r}"

    if not secret.strip().lower().startswith("file:"):
        assert "-very-secret" not in shown
