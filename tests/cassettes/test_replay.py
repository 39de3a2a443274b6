"""Every cassette is replayed by both clients: all of it is asked for, and nothing else."""

import asyncio
import base64
import re
import socket
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.testing.recording import ORIGINS, replaying

ROOT = Path(__file__).parents[2]
CASSETTES = ROOT / "cassettes"
# What tests/live records (live-*) is compared with the emulators there.
FILES = sorted(path for path in CASSETTES.glob("*/*.yaml") if not path.stem.startswith("live-"))
PHOTO = ROOT / "tests/data/rocket.jpg"
KEY = "bfl_k3y-of-a-replay-0123456789"
EDIT = {"image": PHOTO, "prompt": "make the rocket green"}
GENERATE = {"prompt": "a rocket at night", "aspect_ratio": "16:9"}

IMAGE = ak.ImageResult
# File -> what is asked, what it ends in, and some of what is told.
SCENES: dict[str, tuple[dict[str, Any], type, dict[str, Any]]] = {
    "bfl/edit": (EDIT, IMAGE, {"seed": 42, "prompt": EDIT["prompt"], "mode": "edit"}),
    "bfl/edit-published": (EDIT, IMAGE, {"seed": 42, "prompt": "...", "mode": "edit"}),
    "bfl/generate": (GENERATE, IMAGE, {"seed": 42, "prompt": GENERATE["prompt"], "mode": "generate"}),
    "bfl/generate-published": (GENERATE, IMAGE, {"seed": 42, "prompt": "...", "mode": "generate"}),
    "bfl/request-moderated": (
        {**EDIT, "model": "flux-kontext-max"},
        ak.Moderated,
        {"stage": "input", "reasons": ("Derivative Works Filter",), "maybe_charged": False},
    ),
    "bfl/content-moderated": (
        EDIT,
        ak.Moderated,
        {"stage": "output", "reasons": ("Sexual Content",), "maybe_charged": False},
    ),
    "bfl/failed": (EDIT, ak.GenerationFailed, {"http_status": 422, "maybe_charged": False}),
    "bfl/rate-limited": (
        {**EDIT, "deadline": 0.9},
        ak.RateLimited,
        {"http_status": 429, "retry_after": 1.0, "maybe_charged": False},
    ),
    "bfl/out-of-credit": (EDIT, ak.OutOfCredit, {"http_status": 402, "maybe_charged": False}),
    "bfl/bad-key": (EDIT, ak.AuthenticationFailed, {"http_status": 403, "maybe_charged": False}),
    "bfl/malformed-key": (EDIT, ak.AuthenticationFailed, {"http_status": 422, "maybe_charged": False}),
    "fal/edit": (EDIT, IMAGE, {"seed": 42, "mode": "edit"}),
    "fal/generate": (GENERATE, IMAGE, {"seed": 42, "mode": "generate"}),
    "fal/moderated": (EDIT, ak.Moderated, {"http_status": 422, "stage": "input"}),
    "fal/flagged": (EDIT, ak.Moderated, {"stage": "output", "maybe_charged": True}),
    "fal/failed": (EDIT, ak.GenerationFailed, {"maybe_charged": False}),
    "fal/rate-limited": ({**EDIT, "deadline": 0.9}, ak.RateLimited, {"http_status": 429, "maybe_charged": False}),
    "fal/out-of-credit": (EDIT, ak.OutOfCredit, {"http_status": 403, "maybe_charged": False}),
    "fal/bad-key": (EDIT, ak.AuthenticationFailed, {"http_status": 401, "maybe_charged": False}),
    "fal/multi-published": (
        {**EDIT, "image": [PHOTO, PHOTO]},
        IMAGE,
        {"seed": 2841475369, "prompt": "Put the little duckling on top of the woman's t-shirt.", "mode": "edit"},
    ),
    "fal/locked-published": (EDIT, ak.OutOfCredit, {"http_status": 403, "maybe_charged": False}),
    "kie/generate-published": (GENERATE, IMAGE, {"seed": None, "prompt": None, "mode": "generate"}),
    "kie/unknown-task-published": (GENERATE, ak.JobNotFound, {"http_status": 200, "maybe_charged": True}),
    "kie/edit": (EDIT, IMAGE, {"seed": None, "mode": "edit"}),
    "kie/generate": (GENERATE, IMAGE, {"seed": None, "mode": "generate"}),
    "kie/moderated": (GENERATE, ak.Moderated, {"http_status": 200}),
    "kie/failed": (GENERATE, ak.GenerationFailed, {"http_status": 200, "maybe_charged": True}),
    "kie/rate-limited": ({**GENERATE, "deadline": 0.5}, ak.RateLimited, {"http_status": 200, "maybe_charged": False}),
    "kie/out-of-credit": (EDIT, ak.OutOfCredit, {"http_status": 200, "maybe_charged": False}),
    "kie/bad-key": (EDIT, ak.AuthenticationFailed, {"http_status": 200, "maybe_charged": False}),
    "together/edit": (EDIT, IMAGE, {"seed": None, "prompt": None, "mode": "edit", "job": None}),
    "together/generate": (GENERATE, IMAGE, {"seed": None, "prompt": None, "mode": "generate", "job": None}),
    "together/moderated": (EDIT, ak.Moderated, {"http_status": 422, "maybe_charged": False}),
    "together/rate-limited": ({**EDIT, "deadline": 0.9}, ak.RateLimited, {"http_status": 429, "maybe_charged": False}),
    "together/out-of-credit": (EDIT, ak.OutOfCredit, {"http_status": 402, "maybe_charged": False}),
    "together/bad-key": (EDIT, ak.AuthenticationFailed, {"http_status": 401, "maybe_charged": False}),
}


API = {"base_url": "api"}
HOSTS = {"fal": {"base_url": "queue", "rest_url": "rest"}, "kie": {**API, "upload_url": "upload"}}


def name_of(path: Path) -> str:
    return path.relative_to(CASSETTES).with_suffix("").as_posix()


def origin_of(path: Path) -> str:
    found = re.match(r"# origin: (\S+)\n", path.read_text(encoding="utf-8"))
    assert found, "the first line says how it was made"
    return found[1]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a name is looked up nor a connection made."""

    def never(*args: object) -> None:
        raise AssertionError(f"a replay went to the network: {args}")

    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket.socket, "connect_ex", never)


def ask(kind: str, path: Path, options: dict[str, Any]) -> Any:
    emulated = origin_of(path) == "recorded-from-emulator"
    name = path.parent.name
    hosts = {key: f"https://{role}.{name}.example" for key, role in HOSTS.get(name, API).items()} if emulated else {}
    config = ak.Config(providers={name: {"api_key": KEY, "poll_interval_s": 0.01, **hosts}})
    request = ak.ImageRequest(options["prompt"], options.get("image", ()), seed=42, **fields(options))
    call = {"deadline": options.get("deadline", 30)}

    async def asynchronous() -> Any:
        async with ak.AsyncClient(config) as client:
            return await client.run(request, **call)

    try:
        if kind == "AsyncClient":
            return asyncio.run(asynchronous())
        with ak.Client(config) as client:
            return client.run(request, **call)
    except ak.ProviderError as error:
        return error


def fields(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in {"model", "aspect_ratio"}}


def picture_in(body: bytes) -> bytes:
    """The picture that a JSON reply holds as base64, if any."""
    found = re.search(rb'"b64_json":"([^"]*)"', body)
    return base64.b64decode(found[1]) if found else b""


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_cassette_is_played_whole_and_ends_as_it_should(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, end, told = SCENES[name_of(path)]
    if end is ak.JobNotFound:  # asked for again and again, and not in real time
        monkeypatch.setattr("anykontext.engine.pace.WAIT_MAX_S", 0.05)

    with replaying(path) as cassette:
        outcome = ask(kind, path, options)

    assert end is type(outcome), repr(outcome)
    assert told == {name: getattr(outcome, name) for name in told}
    assert cassette.all_played
    assert len(cassette) == cassette.play_count
    if end is IMAGE:
        body = cassette.responses[-1]["body"]["string"]
        assert outcome.image.data in {body, picture_in(body)}
        assert (8, 8) == (outcome.image.width, outcome.image.height)


def test_the_settled_price_of_a_replay_is_the_reported_one() -> None:
    found = {}
    for name in ("bfl/edit", "bfl/edit-published"):
        path = CASSETTES / f"{name}.yaml"
        with replaying(path):
            found[name] = ask("Client", path, EDIT).cost

    assert ak.Cost(Decimal("0.04"), "USD", "reported") == found["bfl/edit"]
    assert ak.Cost(Decimal("0.04"), "USD", "listed") == found["bfl/edit-published"]


def test_a_request_that_is_not_in_the_cassette_is_not_answered() -> None:
    path = CASSETTES / "bfl/edit.yaml"

    with (
        pytest.raises(AssertionError, match=r"POST https://api.bfl.example/v1/flux-kontext-pro"),
        replaying(path) as one,
    ):
        outcome = ask("Client", path, {**EDIT, "prompt": "make the rocket red"})

    assert isinstance(outcome, ak.OutcomeUnknown)
    assert 0 == one.play_count


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_cassette_says_how_it_was_made(path: Path) -> None:
    top = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    names = {line[2:].partition(":")[0] for line in top}

    assert origin_of(path) in ORIGINS
    assert {"origin", "date", "filtered"} <= names
    needs = {"recorded-live": set(), "recorded-from-emulator": {"by", "scene"}, "from-published-payloads": {"source"}}
    assert needs[origin_of(path)] <= names
    assert f"`{path.stem}` | {origin_of(path)}" in (CASSETTES / "README.md").read_text(encoding="utf-8")


def test_every_cassette_has_its_scene_and_every_scene_its_cassette() -> None:
    assert set(SCENES) == set(map(name_of, FILES))
