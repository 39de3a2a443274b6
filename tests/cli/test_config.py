"""`config show` and `config init`, and configurations that are broken: named with file and line, nothing sent."""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.config.effective import without_password
from anykontext.config.template import WORDS, template
from anykontext.config.unknown import SECTIONS, settings_of
from anykontext.plugins import default_registry
from anykontext.sandbox import Sandbox

KEY = "bfl-0123456789-very-secret"
ENVIRONS: list[dict[str, str]] = [
    {"BFL_API_KEY": KEY},
    {"FLUX_API_KEY": KEY, "FAL_KEY_ID": "id", "FAL_KEY_SECRET": KEY, "KIE_API_KEY": KEY},
    {},
]


@pytest.fixture
def file(work: Path) -> Path:
    return work / "anykontext.toml"


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def test_show_tells_each_value_and_where_it_comes_from(
    cli: Callable[..., Any], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BFL_API_KEY", KEY)
    write(file, 'policy = "strict"\n[providers.bfl]\nmax_in_flight = 3\n[providers.fal]\napi_key = "env:MY_FAL"\n')

    ended = cli("config", "show", "--json")

    told = {one["setting"]: (one["value"], one["note"], one["origin"]) for one in ended.json["settings"]}
    assert ("strict", None, "anykontext.toml, line 1") == told["policy"]
    assert (3, None, "anykontext.toml, line 3") == told["providers.bfl.max_in_flight"]
    assert ("https://api.bfl.ai", None, "the adapter bfl") == told["providers.bfl.base_url"]
    assert ("env:BFL_API_KEY", "set", "the environment") == told["providers.bfl.api_key"]
    assert ("env:MY_FAL", "not set", "anykontext.toml, line 5") == told["providers.fal.api_key"]
    assert (["bfl", "fal"], None, "the providers of anykontext.toml, line 2") == told["routes.default.candidates"]
    assert (90, None, "default") == told["ledger.keep_days"]
    assert str(file) == ended.json["file"]
    assert (0, "") == (ended.code, ended.err)


def test_what_show_prints_is_a_configuration_that_means_the_same(
    cli: Callable[..., Any], file: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    write(
        file,
        '[providers.bfl]\nprices = { "flux-1.1-pro" = "0.05" }\n[routes.r]\nmax_price_usd = "0.1"\nregions = ["eu"]\n'
        'candidates = ["bfl/flux-1.1-pro", { provider = "fal", weight = 2.5 }]\n'
        '[budget.tags.customer]\ndaily_usd = "1"\n',
    )
    shown = cli("config", "show").out

    again = work / "again.toml"
    write(again, shown)

    before, after = ak.Config.load(file), ak.Config.load(again)
    assert before.routes == after.routes
    assert before.budget == after.budget
    assert [one.origins for one in before.provider_list()] == [one.origins for one in after.provider_list()]
    assert [one.listed for one in before.provider_list()] == [one.listed for one in after.provider_list()]


def test_show_prints_no_key_and_no_password(cli: Callable[..., Any], file: Path, work: Path) -> None:
    (work / "key").write_text(KEY)
    (work / "key").chmod(0o600)
    write(
        file,
        f'[providers.bfl]\napi_key = "{KEY}"\n[providers.kie]\napi_key = "file:key"\n[ledger]\n'
        f'url = "postgresql://me:{KEY}@db/kontext?sslpassword={KEY}"\n[network]\nproxy = "http://me:{KEY}@proxy:3128"\n',
    )

    for words in (("config", "show"), ("config", "show", "--json")):
        ended = cli(*words)
        assert KEY not in ended.out + ended.err
        assert "file:key" in ended.out
        assert "readable" in ended.out
        assert "http://**********@proxy:3128" in ended.out
        assert "postgresql://**********@db/kontext?**********" in ended.out


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x?password=SECRET",
        "postgresql://me:pa/SECRET@db/x",
        "postgresql://me:1#SECRET@db/x",
        "postgresql://me:1?SECRET@db/x",
        "postgresql://SECRET@db/x",
        "postgresql://db/x;password=SECRET",
        "postgresql://[me:SECRET@db/x",
    ],
)
def test_a_url_is_shown_without_what_may_be_a_password(url: str) -> None:
    assert "SECRET" not in without_password(url)


def test_a_proxy_that_is_none_is_refused_before_it_is_shown(cli: Callable[..., Any], file: Path) -> None:
    write(file, "[providers.bfl]\n[network]\nproxy = 'http://me:pa/ss@proxy'\n")

    cli("config", "show").refused("anykontext.toml, line 3: network.proxy: the URL of a proxy is needed", code=3)


def test_with_nothing_configured_show_tells_what_holds_and_what_to_do(cli: Callable[..., Any]) -> None:
    ended = cli("config", "show")

    assert 3 == ended.code
    assert 90 == tomllib.loads(ended.out)["ledger"]["keep_days"]
    assert "Set one of BFL_API_KEY" in ended.err
    assert "anykontext config init" in ended.err


@pytest.mark.parametrize("environ", ENVIRONS)
def test_init_writes_a_file_that_means_the_same_as_the_environment(
    cli: Callable[..., Any], file: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    ended = cli("config", "init")

    loaded, found = ak.Config.load(), ak.Config.from_env()
    assert (0, f"{file.name}\n") == (ended.code, ended.out)
    assert KEY not in file.read_text()
    assert list(found.providers) == list(loaded.providers)
    assert (found.policy, found.budget, found.ledger, found.input, found.network) == (
        *(loaded.policy, loaded.budget, loaded.ledger, loaded.input),
        loaded.network,
    )
    if environ:
        assert found.route_named().model_dump() == loaded.route_named().model_dump()
        for before, after in zip(found.provider_list(), loaded.provider_list(), strict=True):
            assert before.key() == after.key()
            assert before.origins == after.origins


@pytest.mark.parametrize("environ", ENVIRONS)
def test_what_init_writes_in_comments_can_be_taken_into_use(environ: dict[str, str], work: Path) -> None:
    lines = template(default_registry(), environ).splitlines()
    settings = [line.removeprefix("# ") for line in lines]
    settings = [line for line in settings if line.startswith(("[", '"')) or line.partition(" = ")[0].isidentifier()]
    write(work / "all.toml", "\n".join(settings))

    config = ak.Config.load(work / "all.toml", environ={})

    assert {"bfl", "fal", "kie"} <= set(config.providers)
    assert config.budget.tags["customer"].daily_usd
    assert (config.network.ca_file, config.route) == ("ca.pem", "default")
    assert config.provider_list()


def test_every_setting_of_every_section_is_in_the_file_that_init_writes() -> None:
    written = template(default_registry(), {"BFL_API_KEY": KEY})
    models = {ak.Config, *SECTIONS.values()} - {SECTIONS["routes", "*", "candidates", "*"]}
    for model in models:
        sections = {"providers", "routes", "budget", "ledger", "input", "network"} if model is ak.Config else set()
        assert settings_of(model) - sections == set(WORDS[model])
        for name in WORDS[model]:
            assert f"{name} = " in written or f".{name}" in written


def test_init_prints_it_where_that_is_asked_and_says_what_comes_next(cli: Callable[..., Any], file: Path) -> None:
    printed = cli("config", "init", "--output", "-")
    assert (0, False) == (printed.code, file.exists())
    written = cli("config", "init")
    assert file.read_text().strip() == printed.out.strip()
    assert "`anykontext check`" in written.err
    cli("config", "init", "--output", "").refused("it is empty")


def test_show_tells_the_prices_that_an_adapter_lists_and_where_they_are_from(
    cli: Callable[..., Any], file: Path
) -> None:
    write(file, '[providers.bfl]\n[providers.bfl.prices]\n"flux-1.1-pro" = "0.01"\n')

    lines = cli("config", "show").out.splitlines()

    (listed,) = [one for one in lines if one.startswith("# flux-kontext-pro: 0.04 USD for one image ")]
    assert ", 20" in listed  # the date on which it was found
    assert "# region: global" in " ".join(lines)
    assert ['"flux-1.1-pro" = "0.01"'] == [one.split("  ")[0] for one in lines if 'flux-1.1-pro"' in one]


def test_init_replaces_a_file_only_when_forced(cli: Callable[..., Any], file: Path) -> None:
    write(file, "mine")

    cli("config", "init").refused("'anykontext.toml' exists", "--force")
    assert "mine" == file.read_text()
    assert 0 == cli("config", "init", "--force").code
    assert "[routes.default]" in file.read_text()
    cli("config", "init", "--output", "no/such/folder.toml").refused("cannot be written")


BROKEN = [
    ("[provider.bfl]", 1, "unknown section 'provider'; did you mean 'providers'"),
    ("[providers.bfl]\napi_kye = 'env:A'", 2, "did you mean 'api_key'"),
    ("[providers.bfl]\n[providers.bfl.prices]\nflux-kontext-pro = '-0.04'", 3, "prices.flux-kontext-pro"),
    ("[providers.bfl]\n[routes.r]\n\nmax_price_usd = '-1'\ncandidates = ['bfl']", 4, "max_price_usd"),
    ("[routes.r]\ncandidates = ['bfl', 'flu']", 2, "no provider 'flu' is configured"),
    ("[routes.r]\ncandidates = [\n 'bfl/flux-kontext-por',\n]", 2, "has no model 'flux-kontext-por'"),
    ("[routes.r]\ncandidates = ['kie/flux-kontext-dev']", 2, "'kie' has no model 'flux-kontext-dev'"),
    ("[providers.bfl]\n[routes.r]\ncandidates = []", 3, "the route is empty"),
    ("[providers.bfl]\napi_key = 'file:none'", 2, "No such file"),
    ("[providers.bfl]\napi_key = 'file:open'", 2, "chmod 600"),
    ("[providers.bfl]\n[providers.fal]\n[providers.bfl]", 3, "Cannot declare"),
    ("[providers.bfl]\n# caf\xe9", 2, "this is not UTF-8"),
    ("\xff\xfe[providers.bfl]", 1, "this is not UTF-8"),
    ("[providers.bfl]\n[network]\nca_file = 'none.pem'", 3, "the certificates cannot be read"),
    ("[providers.bfl]\n[network]\nproxy = 'proxy:3128'", 3, "the URL of a proxy is needed"),
    ("[providers.bfl]\n[routes.r]\ncandidates = ['bfl']\nfailover_on = ['moderated']", 4, 'on_moderated = "continue"'),
]


@pytest.mark.sandbox
@pytest.mark.skipif(os.name != "posix", reason="the modes of files are those of POSIX")
@pytest.mark.parametrize(("text", "line", "told"), BROKEN)
def test_a_broken_configuration_is_named_with_file_and_line_and_nothing_is_sent(
    text: str, line: int, told: str, cli: Callable[..., Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sent(*_: object) -> None:
        raise AssertionError("something was sent")

    monkeypatch.setattr("anykontext.io.drive_sync.SyncDriver.exchange", sent)
    monkeypatch.setenv("BFL_API_KEY", KEY)
    (work / "open").write_text(KEY)
    (work / "open").chmod(0o644)
    (work / "bad.toml").write_bytes(text.encode("latin-1"))

    for words in (("config", "show"), ("generate", "a cat"), ("check",)):
        cli(*words, "--config", "bad.toml").refused(f"bad.toml, line {line}: ", told, code=3)
    with pytest.raises(ak.ConfigurationError, match=rf"bad\.toml, line {line}: "):
        ak.Client("bad.toml")


def test_a_folder_is_no_configuration(cli: Callable[..., Any], work: Path) -> None:
    cli("config", "show", "--config", ".").refused("is a folder", code=3)


def test_a_route_that_lacks_the_model_of_the_request_is_told_before_anything_is_sent(
    cli: Callable[..., Any], file: Path, monkeypatch: pytest.MonkeyPatch, sandboxes: list[Sandbox]
) -> None:
    monkeypatch.setenv("KIE_API_KEY", KEY)
    write(file, "[routes.r]\ncandidates = ['kie/flux-kontext-max']\n")

    cli("generate", "a cat", "--model", "flux-kontext-pro").refused("flux-kontext-pro", "kie/flux-kontext-max")
