"""The kit: starting, stopping, several at once, and what it tells about itself."""

import asyncio
import subprocess
import sys
import threading
import tomllib
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from anykontext.sandbox import FAULTS, KEYS, Emulator, MissingExtra, Sandbox

pytestmark = pytest.mark.sandbox


def answers(origin: str) -> bool:
    with httpx.Client(trust_env=False) as client:
        return client.get(f"{origin}/v1/get_result").status_code == 422


def sandbox_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("anykontext-sandbox")]


def test_every_origin_is_a_port_of_its_own_on_loopback() -> None:
    with Sandbox() as sandbox:
        origins = [urlsplit(origin) for hosts in sandbox.origins.values() for origin in hosts.values()]

        assert {origin.hostname for origin in origins} == {"127.0.0.1"}
        assert len({origin.port for origin in origins}) == len(origins)
        assert set(sandbox.origins["bfl"]) == {"api", "region", "delivery"}


def test_several_sandboxes_run_at_once_with_state_of_their_own() -> None:
    with Sandbox() as one, Sandbox() as other:
        one.emulators["bfl"].inject("outage")

        assert answers(one.origins["bfl"]["region"])
        assert answers(other.origins["bfl"]["region"])
        assert other.emulators["bfl"].faults == {}


def test_a_stopped_sandbox_leaves_no_thread_and_no_open_port() -> None:
    sandbox = Sandbox()
    sandbox.start()
    origin = sandbox.origins["bfl"]["region"]
    assert answers(origin)

    sandbox.stop()
    sandbox.stop()

    assert sandbox_threads() == []
    with pytest.raises(httpx.ConnectError):
        answers(origin)


def test_a_client_that_waits_is_cut_off_when_the_sandbox_stops(stopwatch: Any) -> None:
    sandbox = Sandbox(faults=["submit-slow"])
    sandbox.start()
    emulator = sandbox.emulators["bfl"]
    emulator.slow_seconds = 30
    lost: list[Exception] = []

    def submit() -> None:
        try:
            with httpx.Client(trust_env=False) as client:
                client.post(
                    f"{sandbox.origins['bfl']['api']}/v1/flux-kontext-pro",
                    json={"prompt": "x"},
                    headers={"x-key": "sandbox"},
                )
        except httpx.TransportError as error:
            lost.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    while not emulator.counters["accepted"]:
        thread.join(0.01)
    sandbox.stop()
    thread.join()

    assert len(lost) == 1
    assert stopwatch() < 5


def test_it_starts_inside_a_running_event_loop() -> None:
    async def main() -> bool:
        with Sandbox() as sandbox:
            async with httpx.AsyncClient(trust_env=False) as client:
                reply = await client.get(f"{sandbox.origins['bfl']['region']}/v1/get_result")
                return reply.status_code == 422

    assert asyncio.run(main())


def test_it_starts_in_a_thread() -> None:
    answered: list[bool] = []

    def run() -> None:
        with Sandbox() as sandbox:
            answered.append(answers(sandbox.origins["bfl"]["region"]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert answered == [True]


def test_it_starts_in_well_under_a_second(stopwatch: Any) -> None:
    with Sandbox() as sandbox:
        assert answers(sandbox.origins["bfl"]["region"])
    assert stopwatch() < 1


def test_a_sandbox_starts_once() -> None:
    with Sandbox() as sandbox, pytest.raises(RuntimeError, match="new one"):
        sandbox.start()


def test_the_config_points_at_the_emulators() -> None:
    with Sandbox() as sandbox:
        config = tomllib.loads(sandbox.config_toml())

        assert config["providers"]["bfl"]["base_url"] == sandbox.origins["bfl"]["api"]
        assert config["providers"]["bfl"]["api_key"] in KEYS


def test_the_config_is_unknown_before_the_ports_are() -> None:
    with pytest.raises(RuntimeError, match="started"):
        Sandbox().config_toml()


def test_faults_of_the_constructor_reach_the_named_provider() -> None:
    sandbox = Sandbox(faults=["bfl:submit-lost", "never-ends", "expired-once"])

    assert sandbox.emulators["bfl"].faults == {"submit-lost": None, "never-ends": None, "expired-once": None}


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ({"faults": ["moderate"]}, "did you mean 'moderated'"),
        ({"faults": ["bfl:not-found-frist"]}, "did you mean 'not-found-first'"),
        ({"faults": ["bfll:moderated"]}, "did you mean 'bfl'"),
        ({"providers": ["bfl2"]}, "did you mean 'bfl'"),
        ({"providers": ["zzz"]}, "known are: .*bfl"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(arguments: dict[str, Any], nearest: str) -> None:
    with pytest.raises(ValueError, match=nearest):
        Sandbox(**arguments)


def test_an_unknown_fault_is_refused_by_the_emulator_too() -> None:
    with pytest.raises(ValueError, match="did you mean 'failed'"):
        Sandbox().emulators["bfl"].inject("fialed")


def test_every_emulator_knows_every_pinned_fault_and_explains_it() -> None:
    for emulator in Sandbox().emulators.values():
        known = emulator.known_faults()
        assert known.keys() >= FAULTS.keys()
        assert all(sentence.endswith(".") for sentence in known.values())


def test_a_fault_for_two_requests_ends_after_two() -> None:
    emulator = Sandbox().emulators["bfl"]
    emulator.inject("outage", times=2)

    assert [emulator.take("outage") for _ in range(3)] == [True, True, False]
    assert emulator.faults == {}


def test_clearing_ends_one_fault_or_all() -> None:
    emulator = Sandbox().emulators["bfl"]
    for name in ("outage", "failed", "never-ends"):
        emulator.inject(name)

    emulator.clear("outage")
    assert set(emulator.faults) == {"failed", "never-ends"}
    emulator.clear()
    assert not emulator.armed(*FAULTS)


def test_importing_the_sandbox_is_cheap() -> None:
    code = "import sys, anykontext.sandbox; print({'starlette', 'uvicorn', 'PIL'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert output.strip() == "set()"


def test_without_the_extra_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    with pytest.raises(MissingExtra, match=r"pip install 'anykontext\[sandbox\]'"):
        Sandbox()


def test_the_class_of_every_emulator_is_found_through_the_entry_points() -> None:
    assert all(isinstance(emulator, Emulator) for emulator in Sandbox().emulators.values())


def test_a_client_of_the_sandboxs_own_configuration_reaches_every_emulator() -> None:
    with Sandbox(providers=["bfl", "together"]) as sandbox:
        config = sandbox.config(policy="strict")

        assert {"bfl", "together"} == set(config.providers)
        assert sandbox.origins["bfl"]["api"] == config.providers["bfl"].base_url
    assert "strict" == config.policy
    with pytest.raises(RuntimeError, match="when the sandbox has started"):
        Sandbox().config()
