"""`check`, `providers`, `sandbox`, `jobs resume`, and the command as a whole."""

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anykontext.cli import matrix
from anykontext.cli.check import exit_code
from anykontext.engine.check import ProviderCheck
from anykontext.plugins import Broken, Registry, default_registry
from anykontext.sandbox import MissingExtra, Sandbox

VARIABLES = ("BFL_API_KEY", "BLACK_FOREST_LABS_API_KEY", "FLUX_API_KEY")
HEAVY = (
    "httpx",
    "pydantic",
    "rich",
    "PIL",
    "sqlite3",
    "starlette",
    "anykontext.client",
    "anykontext.config",
    "logging",
)


@pytest.fixture
def bfl(work: Path) -> Iterator[Sandbox]:
    """A sandbox and an anykontext.toml that points at its bfl."""
    with Sandbox(providers=["bfl"], seconds=0.05) as sandbox:
        (work / "anykontext.toml").write_text(sandbox.config_toml())
        yield sandbox


class TestCheck:
    @pytest.mark.sandbox
    def test_a_valid_key_is_0(self, cli: Callable[..., Any], bfl: Sandbox) -> None:
        ended = cli("check")
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.splitlines()[1].split()[:5] == ["bfl", "bfl", "ok", "1000.0", "credits"]
        (found,) = cli("check", "--json").json
        assert set(found) == {"provider", "adapter", "key", "balance", "message"}
        assert (found["key"], found["balance"]) == ("ok", {"amount": "1000.0", "unit": "credits"})

    @pytest.mark.sandbox
    def test_a_refused_key_is_3(self, cli: Callable[..., Any], bfl: Sandbox) -> None:
        bfl.emulators["bfl"].inject("bad-key")
        ended = cli("check", "--json")
        assert (ended.code, ended.json[0]["key"]) == (3, "refused")
        assert "Error: no valid key for bfl" in ended.err

    def test_a_missing_key_is_3(self, cli: Callable[..., Any], work: Path) -> None:
        (work / "anykontext.toml").write_text("[providers.bfl]\n")
        ended = cli("check", "--json")
        assert (ended.code, ended.json[0]["key"]) == (3, "missing")
        assert all(name in ended.json[0]["message"] for name in VARIABLES)

    def test_with_nothing_configured_every_variable_is_named(self, cli: Callable[..., Any]) -> None:
        ended = cli("check")
        assert ended.code == 3
        assert all(name in ended.err and name in ended.out for name in VARIABLES)
        assert {one["key"] for one in cli("check", "--json").json} == {"missing"}

    def test_a_provider_that_cannot_be_reached_is_5(self, cli: Callable[..., Any], work: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        section = f'[providers.bfl]\napi_key = "sandbox"\nbase_url = "http://127.0.0.1:{port}"\n'
        (work / "anykontext.toml").write_text(section)
        ended = cli("check", "--json")
        assert (ended.code, ended.json[0]["key"]) == (5, "unverified")

    def test_a_provider_without_a_free_check_is_no_failure(self) -> None:
        assert exit_code([ProviderCheck("x", "no-such-adapter", "unverified", None, None, "")]) == 0


class TestProviders:
    def test_every_adapter_is_shown_without_key_and_configuration(self, cli: Callable[..., Any]) -> None:
        ended = cli("providers")
        assert (ended.code, ended.err) == (0, "")
        for name, adapter in default_registry().adapters.items():
            assert f"{name}: {adapter.facts.title} (not configured)" in ended.out
        assert "safety_tolerance 0-2" in ended.out

    def test_json_has_modes_ranges_prices_and_image_forms(self, cli: Callable[..., Any], work: Path) -> None:
        (work / "anykontext.toml").write_text('[providers.bfl]\n[providers.eu]\nadapter = "bfl"\n')
        found = {one["provider"]: one for one in cli("providers", "--json").json["providers"]}
        assert set(found) == set(default_registry().adapters)
        assert found["bfl"]["configured_as"] == ["bfl", "eu"]
        assert found["bfl"]["images"]["forms"] == ["bytes", "url"]
        model = next(one for one in found["bfl"]["models"] if one["model"] == "flux-kontext-pro")
        edit = model["modes"]["edit"]
        assert edit["price"]["amount"] == "0.04"
        assert edit["options"]["safety_tolerance"] == {
            "type": "integer",
            "min": 0,
            "max": 2,
            "wraps": False,
            "evidence": "bfl-17",
        }

    def test_every_model_and_mode_has_a_row(self) -> None:
        for name, adapter in default_registry().adapters.items():
            rows = list(matrix.rows(adapter.facts, default_registry().prices(name)))
            assert len(rows) == sum(len(one.modes) for one in adapter.facts.models.values())
            assert all(len(row.cells) == len(matrix.HEADS) for row in rows)

    def test_a_broken_plugin_is_told(self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        registry = Registry(default_registry().plugins, [Broken("odd", "odd 1.0", ImportError("no module"))])
        monkeypatch.setattr("anykontext.plugins.default_registry", lambda: registry)
        ended = cli("providers", "--json")
        assert "odd" in ended.err
        assert [one["plugin"] for one in ended.json["broken"]] == ["odd"]

    def test_a_broken_configuration_matters_only_when_it_is_asked_for(
        self, cli: Callable[..., Any], work: Path
    ) -> None:
        (work / "anykontext.toml").write_text("[")
        ended = cli("providers")
        assert ended.code == 0
        assert "anykontext.toml" in ended.err
        assert cli("providers", "--config", "anykontext.toml").code == 3


@pytest.mark.sandbox
class TestSandbox:
    def test_it_is_ready_when_it_answers_and_ends_cleanly(self, start: Callable[..., Any], work: Path) -> None:
        running = start("sandbox", "--json", "--config-out", "ak.toml", "--fault", "bfl:failed")
        origins = json.loads(running.process.stdout.readline())
        written = tomllib.loads((work / "ak.toml").read_text())
        assert origins["bfl"]["api"] == written["providers"]["bfl"]["base_url"]
        socket.create_connection(("127.0.0.1", int(origins["bfl"]["api"].rsplit(":", 1)[1]))).close()
        running.send(signal.SIGINT)
        ended = running.end()
        assert (ended.code, ended.err) == (0, "")

    def test_a_file_is_not_overwritten_unless_forced(self, cli: Callable[..., Any], work: Path) -> None:
        (work / "ak.toml").write_text("mine")
        cli("sandbox", "--config-out", "ak.toml").refused("ak.toml exists", "--force")
        cli("sandbox", "--config-out", "no/ak.toml").refused("the folder 'no' does not exist")
        cli("sandbox", "--config-out", ".").refused("is a folder")

    def test_an_unknown_fault_is_2_with_the_nearest_word(self, cli: Callable[..., Any]) -> None:
        cli("sandbox", "--fault", "moderatet").refused("did you mean 'moderated'")
        cli("sandbox", "--fault", "bfk:moderated").refused("did you mean 'bfl'")

    def test_without_the_extra_the_remedy_is_told(
        self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(**_: object) -> None:
            raise MissingExtra("the sandbox needs uvicorn: pip install 'anykontext[sandbox]'")

        monkeypatch.setattr("anykontext.sandbox.Sandbox", missing)
        cli("sandbox").refused("pip install 'anykontext[sandbox]'", code=3)
        cli("edit", "photo.jpg", "x", "--sandbox").refused("pip install 'anykontext[sandbox]'", code=3)


@pytest.mark.sandbox
class TestResume:
    @pytest.fixture
    def late(self, cli: Callable[..., Any], bfl: Sandbox) -> Any:
        """What --json printed for a job whose deadline has passed, and that has ended since."""
        bfl.emulators["bfl"].inject("never-ends")
        ended = cli("edit", "photo.jpg", "x", "--json", "--deadline", "0.3", "--config", "anykontext.toml")
        assert ended.code == 7
        assert "-o photo-flux-kontext-pro-1.jpg --config anykontext.toml" in ended.err
        bfl.emulators["bfl"].clear()
        return ended

    def test_by_the_handle(self, cli: Callable[..., Any], late: Any) -> None:
        ended = cli("jobs", "resume", json.dumps(late.error["job"]), "-o", "late.jpg", "--json")
        assert (ended.code, ended.json["job_id"]) == (0, late.error["job_id"])
        assert ended.json["images"][0]["path"] == "late.jpg"

    def test_by_a_file_that_holds_what_json_printed(self, cli: Callable[..., Any], late: Any, work: Path) -> None:
        (work / "late.json").write_text(late.out)
        assert cli("jobs", "resume", "@late.json").out == "image-flux-kontext-pro-1.jpg\n"

    def test_what_is_no_handle_is_refused(self, cli: Callable[..., Any], late: Any, work: Path) -> None:
        cli("jobs", "resume", "job_123").refused("knows no job 'job_123'", "anykontext jobs list")
        cli("jobs", "resume", "{}").refused("not a job handle")
        cli("jobs", "resume", '{"error": {"job": null}}').refused("no provider had accepted")
        cli("jobs", "resume", "[1]").refused("no job handle")
        cli("jobs", "resume", "@none.json").refused("none.json: no such file")
        cli("jobs", "resume", "@photo.jpg").refused("not a text")
        cli("jobs", "resume", json.dumps(late.error["job"]), "-o", "photo.jpg").refused("exists")


class TestWhole:
    @pytest.mark.parametrize("command", [["edit"], ["jobs"], ["jobs", "list"], ["jobs", "collect"]])
    def test_help_loads_nothing_heavy(self, command: list[str]) -> None:
        code = (
            f"import sys, anykontext.cli; anykontext.cli.main([*{command!r}, '--help']); "
            f"sys.exit(' '.join(sorted(set(sys.modules) & set({HEAVY!r}))) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_the_version_is_told(self, cli: Callable[..., Any]) -> None:
        assert cli("--version").out.startswith("anykontext, version 0.")

    def test_without_a_command_the_help_is_shown(self, cli: Callable[..., Any]) -> None:
        ended = cli()
        assert ended.code == 2
        assert "generate" in ended.err

    def test_an_unknown_command_names_the_nearest(self, cli: Callable[..., Any]) -> None:
        cli("edti").refused("edit")

    @pytest.mark.parametrize("words", [("--help",), ("providers",), ("providers", "--json")])
    def test_a_reader_that_has_gone_is_no_trouble(self, words: tuple[str, ...], start: Callable[..., Any]) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        running = start(*words, stdout=writer)
        os.close(writer)
        running.process.wait(15)
        assert running.errors.read_text() == ""
        assert running.process.returncode in {0, 1}
