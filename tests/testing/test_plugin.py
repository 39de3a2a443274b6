"""The pytest plugin: what its fixtures give, what they keep in, and that nothing of them is left behind."""

import asyncio
import builtins
import importlib.util
import io
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from PIL import Image

import anykontext as ak
from anykontext.adapting import Refused, Reply
from anykontext.client import shortcuts
from anykontext.io.drive_sync import SyncDriver
from anykontext.model.errors import ERROR_OF_KIND
from anykontext.model.request import MODELS
from anykontext.plugins import default_registry
from anykontext.sandbox import discovery
from anykontext.testing import sandboxed
from anykontext.testing.fake import Fake, faking
from anykontext.testing.fake.adapter import FakeAdapter
from anykontext.testing.fake.service import RESUMABLE, USUALLY
from anykontext.testing.sandboxed import TestSandbox

pytest_plugins = ["pytester"]
CHARGED = [kind for kind, (_, maybe_charged, _) in USUALLY.items() if maybe_charged]


def png(width: int = 40, height: int = 30) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "png")
    return file.getvalue()


def spooled(home: Path) -> list[Path]:
    return [path for path in (home / "spool").rglob("*") if path.is_file()]


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a socket was to be used")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture
def bystander() -> Iterator[ak.Client]:
    """A client from before, configured for a real provider."""
    with ak.Client(ak.Config(providers={"bfl": {"api_key": "a-real-key-of-someone"}})) as client:
        yield client


# The fake.


def test_the_shortcuts_reach_the_fake_without_a_socket(no_sockets: None, anykontext_fake: Fake) -> None:
    result = ak.edit(png(), "make it blue", seed=7, output_format="png")

    assert ("fake", "flux-kontext-pro", "edit", 7) == (result.provider, result.model, result.mode, result.seed)
    assert ("image/png", (64, 48)) == (result.image.media_type, result.image.pil().size)
    assert () == result.adjustments


def test_clients_of_both_kinds_reach_the_fake_without_a_socket(no_sockets: None, anykontext_fake: Fake) -> None:
    async def generate() -> ak.ImageResult:
        async with ak.AsyncClient() as client:
            return await client.generate("a lighthouse", seed=1)

    # The event loop wakes itself up through a socket pair, which is made without connecting.
    asynchronous = asyncio.run(generate())
    with ak.Client() as client:
        synchronous = client.generate("a lighthouse", seed=1)

    assert synchronous.image.sha256 == asynchronous.image.sha256
    assert 2 == anykontext_fake.calls


def test_a_request_is_seen_as_the_provider_got_it(anykontext_fake: Fake) -> None:
    given = png()
    ak.edit([given, "https://example.org/other.jpg"], "as in the other", safety_tolerance=0, aspect_ratio="16:9")

    (request,) = anykontext_fake.requests
    assert ("fake", "flux-kontext-pro", "edit") == (request.provider, request.model, request.mode)
    assert "as in the other" == request.prompt
    assert (given, "https://example.org/other.jpg") == request.images
    assert {"safety_tolerance": 0, "aspect_ratio": "16:9"}.items() <= request.options.items()
    assert "seed" not in request.options


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["edit", "generate"])
def test_every_canonical_model_is_hosted_in_both_modes(anykontext_fake: Fake, model: str, mode: str) -> None:
    images = {"images": [png()]} if mode == "edit" else {}

    with ak.Client() as client:
        result = client.run(ak.ImageRequest("a cat", model=model, **images))

    assert (model, mode) == (result.model, result.mode)


def test_a_picture_depends_on_the_prompt_and_the_seed_alone(anykontext_fake: Fake) -> None:
    one, again, other_seed, other_prompt = (
        ak.generate(prompt, seed=seed).image.sha256 for prompt, seed in [("a", 1), ("a", 1), ("a", 2), ("b", 1)]
    )

    assert one == again
    assert 3 == len({one, other_seed, other_prompt})


def test_a_seed_that_was_not_asked_for_is_told_and_always_the_same(anykontext_fake: Fake) -> None:
    assert ak.generate("a cat").seed == ak.generate("a cat").seed is not None


@pytest.mark.parametrize("output_format", ["jpeg", "png", "webp"])
def test_a_picture_has_the_format_that_was_asked_for(anykontext_fake: Fake, output_format: str) -> None:
    assert f"image/{output_format}" == ak.generate("a cat", output_format=output_format).image.media_type


@pytest.mark.parametrize(
    ("shape", "size"),
    [({"size": (300, 200)}, (300, 200)), ({"aspect_ratio": "1:2"}, (32, 64)), ({}, (64, 64))],
)
def test_a_picture_has_the_shape_that_was_asked_for(
    anykontext_fake: Fake, shape: dict[str, Any], size: tuple[int, int]
) -> None:
    image = ak.generate("a cat", **shape).image

    assert size == (image.width, image.height)


def test_several_images_come_from_one_call_and_differ(anykontext_fake: Fake) -> None:
    result = ak.generate("a cat", num_images=3)

    assert 3 == len({image.sha256 for image in result.images})
    assert [3] == [request.num_images for request in anykontext_fake.requests]


def test_an_answer_of_the_test_s_own_comes_back_untouched(anykontext_fake: Fake) -> None:
    anykontext_fake.answer_with(png(5, 4))
    assert png(5, 4) == ak.generate("a cat").image.data

    anykontext_fake.answer_with(None)
    assert png(5, 4) != ak.generate("a cat").image.data


def test_an_answer_that_is_no_picture_is_the_library_s_own_error(anykontext_fake: Fake) -> None:
    anykontext_fake.answer_with(b"<html>")

    with pytest.raises(ak.ProtocolError) as caught:
        ak.generate("a cat")

    assert caught.value.maybe_charged


@pytest.mark.parametrize("kind", list(ak.Kind))
def test_every_kind_of_error_can_be_had_once(anykontext_fake: Fake, kind: ak.Kind) -> None:
    anykontext_fake.fail_next(kind, message="so it was said")

    with pytest.raises(ERROR_OF_KIND[kind]) as caught:
        ak.generate("a cat")

    assert (kind, kind in CHARGED) == (caught.value.kind, caught.value.maybe_charged)
    assert "so it was said" == caught.value.message
    assert ak.generate("a cat").image.data


@pytest.mark.parametrize("kind", list(ak.Kind))
@pytest.mark.parametrize("maybe_charged", [True, False])
def test_whether_it_may_be_charged_is_the_test_s_to_say(
    anykontext_fake: Fake, kind: ak.Kind, maybe_charged: bool
) -> None:
    anykontext_fake.fail_next(kind, maybe_charged=maybe_charged)

    with pytest.raises(ERROR_OF_KIND[kind]) as caught:
        ak.generate("a cat")

    assert maybe_charged is caught.value.maybe_charged


def test_a_failure_can_be_named_by_its_word_and_by_its_class(anykontext_fake: Fake) -> None:
    anykontext_fake.fail_next("out_of_credit")
    anykontext_fake.fail_next(ak.RateLimited, retry_after=7, times=2)

    with pytest.raises(ak.OutOfCredit):
        ak.generate("a cat")
    for _ in range(2):
        with pytest.raises(ak.RateLimited) as caught:
            ak.generate("a cat")

    assert (7.0, 429) == (caught.value.retry_after, caught.value.http_status)
    assert ak.generate("a cat").image.data
    assert 4 == anykontext_fake.calls


def test_a_kind_that_is_none_is_refused_with_the_nearest_word(anykontext_fake: Fake) -> None:
    with pytest.raises(ValueError, match="out_of_credit"):
        anykontext_fake.fail_next("out_of_credits")


def test_moderation_tells_its_stage_and_reasons(anykontext_fake: Fake) -> None:
    anykontext_fake.fail_next("moderated", stage="output", reasons=("violence",))

    with pytest.raises(ak.Moderated) as caught:
        ak.generate("a cat")

    assert ("output", ("violence",)) == (caught.value.stage, caught.value.reasons)


@pytest.mark.parametrize("kind", sorted(RESUMABLE))
def test_what_runs_on_at_the_provider_can_be_resumed(anykontext_fake: Fake, kind: ak.Kind) -> None:
    anykontext_fake.fail_next(kind)

    with ak.Client() as client:
        with pytest.raises(ERROR_OF_KIND[kind]) as caught:
            client.generate("a cat", seed=3)
        assert caught.value.handle is not None
        resumed = client.resume(caught.value.handle.to_json()).wait()

    assert (3, 1) == (resumed.seed, anykontext_fake.calls)


def test_a_job_can_be_submitted_and_cancelled(anykontext_fake: Fake) -> None:
    with ak.Client() as client:
        anykontext_fake.fail_next("deadline_exceeded")
        job = client.submit(ak.ImageRequest("a cat"))
        job.cancel()

        with pytest.raises(ak.Cancelled):
            job.wait()


def test_a_handle_of_another_test_is_not_found(anykontext_fake: Fake) -> None:
    with ak.Client() as client:
        job = client.submit(ak.ImageRequest("a cat"))
        assert job.handle is not None
        handle = job.handle.to_json().replace("fake-1", "fake-99")

        with pytest.raises(ak.JobNotFound):
            client.resume(handle).wait()


def test_the_check_finds_the_key_valid(anykontext_fake: Fake) -> None:
    with ak.Client() as client:
        assert [("fake", "ok")] == [(one.provider, one.key) for one in client.check()]


def test_the_price_is_reported_and_heeded(anykontext_fake: Fake) -> None:
    anykontext_fake.price = "0.25"

    assert Decimal("0.25") == anykontext_fake.price
    assert Decimal("0.5") == ak.generate("a cat", num_images=2).cost.amount
    with pytest.raises((ak.BudgetExceeded, ak.NoCandidate)):
        ak.generate("a cat", max_price="0.20")


def test_a_price_can_be_unknown(anykontext_fake: Fake) -> None:
    anykontext_fake.price = None

    assert (None, "unknown") == (ak.generate("a cat").cost.amount, ak.generate("a cat").cost.basis)


@pytest.mark.anykontext(providers=["bfl", "eu_mirror"])
def test_the_fake_stands_in_for_providers_by_name(anykontext_fake: Fake) -> None:
    anykontext_fake.fail_next("out_of_credit", provider="nobody")
    anykontext_fake.fail_next("unavailable", provider="bfl")

    result = ak.generate("a cat", provider_options={"bfl": {"raw": True}})

    assert "eu_mirror" == result.provider
    assert ["bfl", "eu_mirror"] == [request.provider for request in anykontext_fake.requests]
    assert True is anykontext_fake.requests[0].options["raw"]


@pytest.mark.anykontext(providers=["bfl", "fal"])
def test_when_every_provider_fails_each_error_is_told(anykontext_fake: Fake) -> None:
    anykontext_fake.fail_next("out_of_credit", times=2)

    with pytest.raises(ak.AllCandidatesFailed) as caught:
        ak.generate("a cat")

    assert ["bfl", "fal"] == [error.provider for error in caught.value.errors]


@pytest.mark.anykontext(config='[routes.careful]\ncandidates = ["fake"]\nmax_price_usd = "0.01"')
def test_the_marker_adds_to_the_configuration(anykontext_fake: Fake) -> None:
    with pytest.raises((ak.BudgetExceeded, ak.NoCandidate)):
        ak.generate("a cat", route="careful")


def test_a_client_from_before_is_cut_off_from_the_network(
    no_sockets: None, bystander: ak.Client, anykontext_fake: Fake
) -> None:
    with pytest.raises(ak.Unavailable, match="lets nothing out") as caught:
        bystander.generate("a cat")

    assert not caught.value.maybe_charged


def test_a_client_from_before_fetches_no_picture(no_sockets: None, bystander: ak.Client, anykontext_fake: Fake) -> None:
    with pytest.raises((ak.Unavailable, ak.InvalidRequest), match="lets nothing out"):
        bystander.edit("https://example.org/photo.jpg", "make it blue")


def test_a_vendor_s_sdk_uploads_nothing(no_sockets: None, anykontext_fake: Fake) -> None:
    noise = Image.frombytes("RGB", (1300, 1300), random.Random(0).randbytes(3 * 1300 * 1300))
    config = ak.Config(providers={"fal": {"api_key": "a-real-key-of-someone"}})

    with ak.Client(config) as client, pytest.raises(ak.Unavailable, match="lets nothing out"):
        client.edit([noise], "make it blue", deadline=2)


def test_an_async_client_from_before_is_cut_off_too(no_sockets: None, tmp_path: Path) -> None:
    async def ask() -> None:
        config = ak.Config(providers={"bfl": {"api_key": "a-real-key-of-someone"}})
        async with ak.AsyncClient(config) as client:
            with faking(tmp_path), pytest.raises(ak.Unavailable, match="lets nothing out"):
                await client.generate("a cat")

    asyncio.run(ask())


def test_a_client_from_before_has_its_own_connections_back(tmp_path: Path, bystander: ak.Client) -> None:
    before = bystander._driver._http

    with faking(tmp_path):
        assert before is not bystander._driver._http

    assert before is bystander._driver._http


def test_a_client_made_meanwhile_gets_connections_of_its_own_afterwards(tmp_path: Path) -> None:
    with faking(tmp_path):
        client = ak.Client()

    assert isinstance(client._driver._http._transport, httpx.HTTPTransport)
    client.close()


def test_an_http_client_of_the_code_s_own_is_not_used(no_sockets: None, anykontext_fake: Fake) -> None:
    with httpx.Client() as own, ak.Client(http_client=own) as client:
        assert "fake" == client.generate("a cat").provider


def test_everything_is_as_before_when_the_test_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BFL_API_KEY", "the-user-s-own-key")
    monkeypatch.setenv("ANYKONTEXT_PLUGINS", "bfl")
    environ, shared, driver = dict(os.environ), shortcuts._shared, dict(vars(SyncDriver))
    default_registry.cache_clear()

    with faking(tmp_path) as fake:
        ak.generate("a cat")
        assert "BFL_API_KEY" not in os.environ
        assert "fake" in default_registry().adapters
        assert 1 == fake.calls

    assert environ == dict(os.environ)
    assert shared is shortcuts._shared
    assert driver == dict(vars(SyncDriver))
    assert {"bfl"} == set(default_registry().adapters)
    monkeypatch.undo()
    default_registry.cache_clear()


def test_the_fake_s_adapter_reads_a_stranger_s_reply() -> None:
    adapter = FakeAdapter()

    state = adapter.read(Reply(adapter.check(), 200, {}, b"<html>"), None)

    assert isinstance(state, Refused)
    assert ak.Kind.PROTOCOL_ERROR is state.kind


# The sandbox.


@pytest.mark.sandbox
@pytest.mark.anykontext(providers=["bfl"])
def test_the_shortcuts_reach_the_emulator(anykontext_sandbox: TestSandbox) -> None:
    result = ak.edit(png(), "make it black and white")

    assert "bfl" == result.provider
    assert ["make it black and white"] == [one["body"]["prompt"] for one in anykontext_sandbox.requests("bfl")]
    assert 1 == anykontext_sandbox.counters("bfl")["accepted"]


@pytest.mark.sandbox
@pytest.mark.anykontext(providers=["bfl"])
@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_emulator_of_its_own(anykontext_sandbox: TestSandbox, turn: int) -> None:
    anykontext_sandbox.advance(3600)
    anykontext_sandbox.client().generate("a cat")

    assert 1 == len(anykontext_sandbox.requests("bfl"))
    assert 1 == len(spooled(Path(os.environ["ANYKONTEXT_HOME"])))


@pytest.mark.sandbox
def test_without_a_marker_every_installed_emulator_is_there(anykontext_sandbox: TestSandbox) -> None:
    assert {"bfl", "together"} <= set(anykontext_sandbox.emulators)
    assert set(anykontext_sandbox.emulators) == set(anykontext_sandbox.config.providers)
    assert set(anykontext_sandbox.emulators) == set(anykontext_sandbox.origins)


@pytest.mark.sandbox
@pytest.mark.anykontext(
    providers=["bfl", "together"], config='[routes.both]\ncandidates = ["bfl", "together"]\nstrategy = "ordered"'
)
def test_a_fault_sends_the_request_to_the_next_provider(anykontext_sandbox: TestSandbox) -> None:
    anykontext_sandbox.inject("bfl", "out-of-credit")
    assert "together" == anykontext_sandbox.client().generate("a cat").provider

    anykontext_sandbox.clear("bfl", "out-of-credit")
    assert "bfl" == anykontext_sandbox.client().generate("a cat").provider


@pytest.mark.sandbox
@pytest.mark.anykontext(providers=["bfl"])
def test_a_provider_that_is_not_there_is_named(anykontext_sandbox: TestSandbox) -> None:
    with pytest.raises(ValueError, match=r"'together'.*there are: bfl"):
        anykontext_sandbox.inject("together", "outage")


@pytest.mark.sandbox
def test_the_sandbox_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BFL_API_KEY", "the-user-s-own-key")
    environ, shared = dict(os.environ), shortcuts._shared

    with sandboxed.quick(["bfl"]) as sandbox, sandboxed.sandboxed(sandbox, tmp_path) as found:
        client = found.client()
        ak.generate("a cat")
        assert "BFL_API_KEY" not in os.environ

    assert environ == dict(os.environ)
    assert shared is shortcuts._shared
    with pytest.raises(ak.AnykontextError, match="closed"):
        client.generate("a cat")


def test_without_the_extra_the_fake_works_and_the_sandbox_tells_the_remedy(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys; sys.modules.update(starlette=None, uvicorn=None)")
    pytester.makepyfile(
        """
        import anykontext as ak

        def test_fake(anykontext_fake):
            assert ak.generate("a cat").image.data

        def test_sandbox(anykontext_sandbox): ...
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["anykontext_sandbox: the sandbox needs *: pip install 'anykontext[[]sandbox[]]'"])


# The plugin in a run of a user's.


@pytest.mark.parametrize(
    ("marker", "fixture", "told"),
    [
        ("providers=['bfl'], speed=3", "anykontext_sandbox", "takes providers, seconds, config by name"),
        ("['bfl']", "anykontext_fake", "takes providers, config by name"),
        ("seconds=3", "anykontext_fake", "takes providers, config by name"),
        ("providers=['bfi']", "anykontext_sandbox", "no emulator for provider 'bfi': did you mean 'bfl'"),
    ],
)
def test_a_wrong_marker_is_told(pytester: pytest.Pytester, marker: str, fixture: str, told: str) -> None:
    discovery.find_emulators()  # before pytester, which takes away what it imports first
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.anykontext({marker})\ndef test_it({fixture}): ...",
    )

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{told}*"])


def test_the_nearest_marker_counts_and_the_others_add_to_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import anykontext as ak, pytest
        pytestmark = pytest.mark.anykontext(providers=["one"], config='policy = "strict"')

        @pytest.mark.anykontext(providers=["two"])
        def test_it(anykontext_fake):
            assert ak.generate("a cat").provider == "two"
            assert ak.Config.load().policy == "strict"
        """
    )

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_many_tests_run_beside_each_other_under_xdist(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import anykontext as ak, pytest

        @pytest.mark.parametrize("turn", range(6))
        def test_fake(anykontext_fake, turn):
            ak.generate("a cat")
            assert anykontext_fake.calls == 1

        @pytest.mark.anykontext(providers=["bfl"])
        @pytest.mark.parametrize("turn", range(4))
        def test_sandbox(anykontext_sandbox, turn):
            ak.generate("a cat")
            assert anykontext_sandbox.counters("bfl")["accepted"] == 1
        """
    )

    pytester.runpytest_subprocess("-n", "2", "-W", "error").assert_outcomes(passed=10)


def test_a_run_that_asks_for_nothing_loads_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("anykontext")
            ours = {name for name in sys.modules if name.split(".")[0] == "anykontext"}
            assert ours == {"anykontext", "anykontext.testing", "anykontext.testing.plugin"}
            assert not {"httpx", "PIL", "pydantic", "starlette"} & set(sys.modules)
        """
    )

    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["anykontext", "anykontext.testing", "anykontext.testing.plugin"])
def test_what_every_run_loads_runs_with_light_imports_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    imported = []
    original = builtins.__import__

    def note(what: str, *args: Any) -> Any:
        if args and args[0].get("__name__") == name:  # and not what another thread or a library's hook imports
            imported.append(what)
        return original(what, *args)

    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(builtins, "__import__", note)
    spec.loader.exec_module(module)
    monkeypatch.undo()

    rewriting = {"builtins", "_pytest.assertion.rewrite"}  # pytest puts them into the modules of a plugin
    assert set(imported) - rewriting <= {"collections.abc", "importlib", "pytest", "sys", "typing"}


def test_the_plugin_imports_nothing_else() -> None:
    code = (
        "import sys, pytest, _pytest.config; before = set(sys.modules)\n"
        "import anykontext.testing.plugin; print(*sorted(set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert ["anykontext", "anykontext.testing", "anykontext.testing.plugin"] == found
