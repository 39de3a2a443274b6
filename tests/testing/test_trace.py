"""A job of a real client leaves a trace, and the trace drives the same flow again without a network."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import anykontext as ak
from anykontext.engine.job import run_job
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.io.trace import Tracer
from anykontext.sandbox import Sandbox
from anykontext.testing.trace import Differs, read, replay, watch

pytestmark = pytest.mark.sandbox
SECRET_WORDS = "a very private prompt"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(providers=["bfl", "fal"], seconds=0.05) as one:
        for emulator in one.emulators.values():
            emulator.megapixels = 0.02
        yield one


def picture() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(out, "PNG")
    return out.getvalue()


def made(sandbox: Sandbox, provider: str, **options: Any) -> tuple[Path, Any, ak.Config]:
    """A job, the file of its trace, and the configuration."""
    config = ak.Config(
        providers={name: {**one.config(), "poll_interval_s": 0.02} for name, one in sandbox.emulators.items()}
    )
    with ak.Client(config) as client:
        try:
            outcome: Any = client.edit(picture(), SECRET_WORDS, provider=provider, **options)
        except ak.ProviderError as error:
            outcome = error
        return client._core.journal.tracer.file(outcome.job_id), outcome, config  # type: ignore[union-attr]


def again(file: Path, config: ak.Config, provider: str, **fields: Any) -> Any:
    """The same flow, driven by the trace alone."""
    lines = read(file)
    (one,) = [each for each in config.provider_list() if each.name == provider]
    request = ak.ImageRequest(SECRET_WORDS, picture(), **fields)
    image = ak.Client(config)._core.planner.load(request.images)
    step = negotiate(request, image, Candidate(one, "flux-kontext-pro"), Policy())
    return replay(lines, run_job(watch(lines), [step], Policy()))


@pytest.mark.parametrize("provider", ["bfl", "fal"])
def test_a_job_is_replayed_to_the_same_image_without_a_network(sandbox: Sandbox, provider: str) -> None:
    file, result, config = made(sandbox, provider, seed=7)
    sandbox.stop()

    replayed = again(file, config, provider, seed=7)

    assert isinstance(replayed, ak.ImageResult)
    assert (result.image.sha256, result.seed, result.cost) == (replayed.image.sha256, replayed.seed, replayed.cost)


@pytest.mark.parametrize("fault", ["moderated", "submit-lost", "failed"])
def test_an_end_that_is_none_is_replayed_to_the_same_error(sandbox: Sandbox, fault: str) -> None:
    sandbox.emulators["bfl"].inject(fault)
    file, error, config = made(sandbox, "bfl")

    replayed = again(file, config, "bfl")

    assert type(error) is type(replayed)
    assert (error.maybe_charged, error.message) == (replayed.maybe_charged, replayed.message)


def test_several_tasks_are_replayed_side_by_side(sandbox: Sandbox) -> None:
    file, result, config = made(sandbox, "bfl", num_images=2)

    replayed = again(file, config, "bfl", num_images=2)

    assert [one.sha256 for one in result.images] == [one.sha256 for one in replayed.images]


def test_a_trace_holds_no_key_no_image_no_prompt_and_no_signature(sandbox: Sandbox, home: Path) -> None:
    file, _, _ = made(sandbox, "bfl")
    text = file.read_text(encoding="utf-8")

    kinds = [line["effect"]["kind"] for line in read(file)]
    assert {"Send", "Persist", "Download", "Sleep", "Emit", "Admit", "Release"} <= set(kinds)
    assert "sandbox" not in text.replace("SANDBOX", "")
    assert "sig=" not in text
    assert max(len(json.dumps(line)) for line in read(file)) < 5_000
    assert file.stat().st_mode & 0o077 == 0


def test_a_flow_that_asks_for_something_else_is_told_apart(sandbox: Sandbox) -> None:
    file, _, config = made(sandbox, "bfl")

    with pytest.raises(Differs, match="asks for"):
        again(file, config, "bfl", num_images=2)


def test_a_ledger_that_keeps_no_prompts_keeps_no_traces(sandbox: Sandbox, home: Path) -> None:
    config = sandbox.config(ledger={"prompts": "digest"})
    with ak.Client(config) as client:
        client.edit(picture(), SECRET_WORDS, provider="bfl")

    assert not (home / "traces").exists()
    assert not [path for path in home.rglob("*") if path.is_file() and SECRET_WORDS.encode() in path.read_bytes()]


def test_a_ledger_in_memory_keeps_no_traces(sandbox: Sandbox, home: Path) -> None:
    with ak.Client(sandbox.config(ledger={"url": "memory"})) as client:
        client.edit(picture(), SECRET_WORDS, provider="bfl")

    assert not (home / "traces").exists()


def test_traces_end_with_their_time_and_beyond_their_size(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path)
    files = [tmp_path / f"job_{letter * 32}.jsonl" for letter in "abc"]
    for age, file in enumerate(files):
        file.write_text("x" * 10)
        os.utime(file, (1000 + age, 1000 + age))

    tracer.sweep(1001.0)
    assert [False, True, True] == [file.exists() for file in files]
    tracer.sweep(0.0, max_bytes=15)
    assert [False, False, True] == [file.exists() for file in files]


def test_a_torn_line_spoils_only_itself(sandbox: Sandbox) -> None:
    file, result, config = made(sandbox, "bfl")
    lines = len(read(file))
    with file.open("a") as torn:
        torn.write('\n{"half')
    with ak.Client(config) as client:
        tracer = client._core.journal.tracer
        assert tracer is not None
        assert lines == len(tracer.lines(result.job_id))
