"""Views of a client: defaults, tags and keys of their own, on the connections, places and ledger of the client."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr

import anykontext as ak
from anykontext.sandbox import Emulator

from .conftest import KINDS, Twin, configured, picture

OTHER = "sandbox:sandbox"  # the emulators take this key, too


@pytest.fixture
def keys(bfl: Emulator) -> list[str]:
    """The key of each task that the emulator has accepted."""
    seen: list[str] = []
    accept = bfl.tasks.accept  # type: ignore[attr-defined]
    bfl.tasks.accept = lambda key, *args: (seen.append(key), accept(key, *args))[1]  # type: ignore[attr-defined]
    return seen


def made(twin: Twin, client: Any, **fields: Any) -> ak.ImageResult:
    return twin.wait(client.generate("a cat", **fields))  # type: ignore[no-any-return]


def tags_of(twin: Twin, job_id: str | None) -> dict[str, str]:
    return {record.job_id: dict(record.tags) for record in twin.wait(twin.client.jobs())}[job_id or ""]


def test_tags_are_added_to_every_request_and_its_own_win(twin: Twin) -> None:
    view = twin.client.with_options(tags={"customer": "acme", "team": "a"})
    nested = view.with_options(tags={"team": "b"})

    plain, one, two = made(twin, view), made(twin, view, tags={"team": "c"}), made(twin, nested)

    assert {"customer": "acme", "team": "a"} == tags_of(twin, plain.job_id)
    assert {"customer": "acme", "team": "c"} == tags_of(twin, one.job_id)
    assert {"customer": "acme", "team": "b"} == tags_of(twin, two.job_id)
    assert {} == tags_of(twin, made(twin, twin.client).job_id)


def test_an_idempotency_key_is_the_tenant_s_of_the_view(twin: Twin, bfl: Emulator) -> None:
    acme, other = (twin.client.with_options(tags={"tenant": name}) for name in ("acme", "other"))

    first, again, theirs = (made(twin, one, idempotency_key="k") for one in (acme, acme, other))

    assert first.job_id == again.job_id != theirs.job_id
    assert 2 == bfl.counters["submits"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_options_hold_where_a_call_gives_none(kind: str, bfl: Emulator) -> None:
    route = ak.Route(["bfl"], strategy="ordered", deadline_s=30)
    with Twin(kind, configured(bfl)) as twin:
        plain = twin.client
        view = plain.with_options(route=route, policy="strict", deadline=20)
        nested = view.with_options(deadline=10)

        def seconds(client: Any, **given: Any) -> float:
            return float(client._core.options(given).deadline_s)

        assert [180, 30] == [seconds(plain), seconds(plain, route=route)]
        assert [20, 5, 20] == [seconds(view), seconds(view, deadline=5), seconds(view, route=["bfl"])]
        assert [10, 20] == [seconds(nested), seconds(view)]
        assert ["ordered", "cheapest"] == [client._core.options({}).route.strategy for client in (view, plain)]
        with pytest.raises(ak.UnsupportedOption):
            twin.wait(view.edit(picture(), "make it blue", safety_tolerance=6))
        assert twin.wait(view.edit(picture(), "make it blue", safety_tolerance=6, policy="adjust")).adjustments


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"tags": {"customer": 3}}, ak.InvalidRequest, "tags"),
        ({"tags": ["customer"]}, ak.InvalidRequest, "tags"),
        ({"deadline": 0}, ak.InvalidRequest, "deadline"),
        ({"route": ""}, ak.ConfigurationError, "unknown route ''"),
        ({"keys": {5: "x"}}, ak.UnknownProvider, "not int"),
        ({"keys": {"two words": "x"}}, ak.UnknownProvider, "known are: bfl"),
        ({"policy": "lax"}, ak.InvalidRequest, "policy"),
        ({"route": "nowhere"}, ak.ConfigurationError, "unknown route"),
        ({"route": ["bffl"]}, ak.UnknownProvider, "did you mean 'bfl'"),
        ({"keys": {"bffl": "x"}}, ak.UnknownProvider, "did you mean 'bfl'"),
        ({"keys": {"bfl": None}}, ak.ConfigurationError, "leave it out"),
        ({"keys": {"bfl": "env:"}}, ak.ConfigurationError, "name of a variable"),
        ({"keys": {"bfl": "two words"}}, ak.ConfigurationError, "cannot be a key"),
        ({"keys": "sandbox"}, ak.ConfigurationError, "a table"),
    ],
)
def test_what_is_none_is_refused_at_once(
    twin: Twin, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        twin.client.with_options(**options)

    assert "two words" not in str(caught.value)


def test_a_view_of_tags_alone_needs_no_default_route(bfl: Emulator) -> None:
    routes = {"x": {"candidates": ["bfl"]}, "y": {"candidates": ["bfl"]}}
    config = ak.Config(providers={"bfl": {**bfl.config(), "poll_interval_s": 0.01}}, routes=routes)
    with ak.Client(config) as client:
        assert "bfl" == client.with_options(tags={"a": "b"}).generate("a cat", route="x").provider


@pytest.mark.parametrize("given", [OTHER, SecretStr(OTHER), "env:KEY_OF_ACME", lambda: OTHER, lambda: SecretStr(OTHER)])
def test_a_key_is_the_view_s_alone(
    twin: Twin, keys: list[str], given: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("KEY_OF_ACME", OTHER)
    view = twin.client.with_options(keys={"bfl": given})
    nested = view.with_options(tags={"a": "b"})

    for client in (view, twin.client, nested):
        made(twin, client)

    assert [OTHER, "sandbox", OTHER] == keys
    assert OTHER not in repr((view, vars(view), vars(view._core), view._core.providers, view._core.planner.providers))
    assert OTHER not in caplog.text


def test_a_key_s_file_lies_beside_the_file_of_the_configuration(bfl: Emulator, tmp_path: Any, keys: list[str]) -> None:
    (tmp_path / "acme.key").write_text(OTHER)
    (tmp_path / "acme.key").chmod(0o600)
    toml = tmp_path / "anykontext.toml"
    toml.write_text(
        f'[providers.bfl]\napi_key = "sandbox"\nbase_url = "{bfl.origins["api"]}"\npoll_interval_s = 0.02\n'
    )
    with ak.Client(toml) as client:
        client.with_options(keys={"bfl": "file:acme.key"}).generate("a cat")

    assert [OTHER] == keys


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_without_a_key_serves_by_those_of_its_views(
    kind: str, bfl: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with Twin(kind, configured(bfl, api_key="env:NO_SUCH_KEY")) as twin:
        view = twin.client.with_options(keys={"bfl": "sandbox"})

        assert "bfl" == made(twin, view).provider
        assert ["ok"] == [one.key for one in twin.wait(view.check())]
        with pytest.raises(ak.MissingKey):
            made(twin, twin.client)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_asked_for_with_the_keys_of_who_asks(kind: str, bfl: Emulator) -> None:
    asked: list[str] = []

    def key_of(who: str) -> Callable[[], str]:
        return lambda: (asked.append(who), "sandbox")[1]

    with Twin(kind, configured(bfl, api_key=key_of("client"))) as twin:
        job = twin.wait(twin.client.with_options(keys={"bfl": key_of("view")}).submit(ak.ImageRequest("a cat", seed=7)))
        assert 7 == twin.wait(job.wait()).seed
        assert {"view"} == set(asked)

        asked.clear()
        assert 7 == twin.wait(twin.wait(twin.client.resume(job.handle)).wait()).seed
        assert {"client"} == set(asked)
    assert 1 == bfl.counters["submits"]


def test_a_view_closes_nothing_and_ends_with_its_client(twin: Twin) -> None:
    view = twin.client.with_options(tags={"a": "b"})
    if twin.is_sync:
        with view as same:
            assert same is view
    else:

        async def use() -> None:
            async with view as same:
                assert same is view
            await view.aclose()

        twin.wait(use())
    twin.wait(view.close())

    assert {"a": "b"} == tags_of(twin, made(twin, view).job_id)
    twin.wait(twin.client.close())
    with pytest.raises(ak.AnykontextError, match="closed"):
        made(twin, view)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_view_has_submitted_is_followed_until_its_client_is_closed(kind: str, bfl: Emulator) -> None:
    bfl.inject("never-ends")
    with Twin(kind, configured(bfl)) as twin:
        job = twin.wait(twin.client.with_options(tags={"a": "b"}).submit(ak.ImageRequest("a cat")))
        assert 1 == len(twin.client._shared.driver.flows._running)
    bfl.clear()

    with Twin(kind, configured(bfl)) as other:
        assert [job.id] == [outcome.job_id for outcome in other.wait(other.client.recover())]


@pytest.fixture
def client(bfl: Emulator) -> Iterator[ak.Client]:
    bfl.seconds = 0.1
    with ak.Client(configured(bfl, max_in_flight=1)) as one:
        yield one


def test_the_places_of_a_provider_are_common_to_all_views(client: ak.Client, bfl: Emulator) -> None:
    most: list[int] = []
    accept, lock = bfl.tasks.accept, threading.Lock()  # type: ignore[attr-defined]

    def counted(*args: Any) -> Any:
        task = accept(*args)
        with lock:
            most.append(sum(bfl.tasks.active(key) for key in ("sandbox", OTHER)))  # type: ignore[attr-defined]
        return task

    bfl.tasks.accept = counted  # type: ignore[attr-defined]
    views = [client, client.with_options(keys={"bfl": OTHER}), client.with_options(tags={"a": "b"})]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda view: view.generate("a cat"), views))

    assert [1, 1, 1] == most
