"""Together's emulator against the protocol sheet over real sockets, and the clients against the emulator."""

import asyncio
import base64
import inspect
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import anykontext as ak
from anykontext.engine.policy import Policy
from anykontext.plugins import Plugin, Registry
from anykontext.sandbox import FAULTS
from anykontext.sandbox.server import ServerThread
from anykontext_together import Together
from anykontext_together.emulator import Emulator
from anykontext_together.emulator.service import OWN_FAULTS

pytestmark = pytest.mark.sandbox

KONTEXT = "black-forest-labs/FLUX.1-kontext-pro"
REGISTRY = Registry([Plugin("together", "", "anykontext_together", (Together(),))])
SMALL = (256, 256)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    server = ServerThread()
    one = Emulator(seconds=0.0)
    one.megapixels = 0.02
    one.origins = {name: server.bind(one, name) for name in one.origin_names}
    server.start()
    yield one
    server.stop()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10, verify=False) as client:
        yield client


@pytest.fixture
def post(emulator: Emulator, http: httpx.Client) -> Callable[..., httpx.Response]:
    def post(*, key: str | None = "sandbox", agent: str = "test", raw: bytes | None = None, **fields: Any) -> Any:
        headers = {"User-Agent": agent, **({} if key is None else {"Authorization": f"Bearer {key}"})}
        body = {"model": KONTEXT, "prompt": "a cat", "width": 64, "height": 48, **fields}
        content = json.dumps(body).encode() if raw is None else raw
        return http.post(f"{emulator.origins['api']}/v1/images/generations", content=content, headers=headers)

    return post


def photo(width: int = 96, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def data_uri(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def decoded(one: Any) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(one["b64_json"])))
    image.load()
    return image


# ------------------------------------------------------------------------------------------------- the emulator itself


def test_together_1_2_the_reply_is_the_result_in_the_documented_envelope(post: Callable[..., Any]) -> None:
    reply = post(response_format="base64", output_format="png", n=3).json()

    assert list(reply) == ["id", "model", "object", "data"]
    assert (reply["model"], reply["object"]) == (KONTEXT, "list")
    assert [list(one) for one in reply["data"]] == [["index", "b64_json", "type"]] * 3
    assert [(one["index"], one["type"]) for one in reply["data"]] == [(index, "b64_json") for index in range(3)]
    assert {(decoded(one).format, decoded(one).size) for one in reply["data"]} == {("PNG", (64, 48))}
    assert len({one["b64_json"] for one in reply["data"]}) == 3


def test_together_3_a_link_is_the_default_and_jpeg_too(post: Callable[..., Any], http: httpx.Client) -> None:
    (one,) = post().json()["data"]
    picture = http.get(one["url"])

    assert list(one) == ["index", "url", "type"]
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (64, 48)


def test_the_reply_comes_when_the_images_are_made(emulator: Emulator, post: Callable[..., Any]) -> None:
    emulator.seconds = 0.2
    began = time.monotonic()

    assert post(n=4).status_code == 200
    assert 0.2 <= time.monotonic() - began < 2
    assert emulator.counters["images"] == 4
    assert emulator.credit == Decimal("9.84")


def test_the_clock_ends_a_request_that_waits(emulator: Emulator, post: Callable[..., Any]) -> None:
    emulator.seconds = 1000
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(post)
        while not emulator.counters["accepted"]:
            time.sleep(0.005)
        emulator.advance(1000)

        assert reply.result(timeout=5).status_code == 200


def test_an_edit_shows_its_input_and_what_arrived_is_remembered(emulator: Emulator, post: Callable[..., Any]) -> None:
    edited = post(image_url=data_uri(photo()), prompt="make it blue", response_format="base64", seed=7, foo=1).json()
    drawn = post(prompt="make it blue", response_format="base64", seed=7).json()

    assert edited["data"][0]["b64_json"] != drawn["data"][0]["b64_json"]
    first = emulator.requests[0]
    assert first["ignored"] == ["foo"]
    assert first["body"] == {
        "prompt": "make it blue",
        "width": 64,
        "height": 48,
        "response_format": "base64",
        "seed": 7,
    }
    assert (first["images"][0]["media_type"], first["images"][0]["bytes"]) == ("image/jpeg", len(photo()))
    assert emulator.counters["ignored_fields"] == 1


def test_together_8_without_a_shape_everything_is_1024_x_1024(post: Callable[..., Any]) -> None:
    body = {"model": KONTEXT, "prompt": "make it blue", "image_url": data_uri(photo()), "response_format": "base64"}
    (one,) = post(raw=json.dumps(body).encode()).json()["data"]

    assert decoded(one).size == (1024, 1024)


def test_together_7_kontext_obeys_the_ratio_and_1_1_pro_ignores_it(
    emulator: Emulator, post: Callable[..., Any]
) -> None:
    square = post(aspect_ratio="1:1", response_format="base64").json()["data"][0]
    other = post(model="black-forest-labs/FLUX.1.1-pro", aspect_ratio="1:1", response_format="base64").json()["data"][0]

    assert decoded(square).width == decoded(square).height
    assert decoded(other).size == (64, 48)
    assert emulator.requests[1]["ignored"] == ["aspect_ratio"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"prompt": None}, 400),
        ({"model": "black-forest-labs/FLUX.9"}, 404),
        ({"width": 1001}, 400),
        ({"n": 5}, 400),
        ({"n": "1"}, 400),
        ({"seed": True}, 400),
        ({"response_format": "b64_json"}, 400),
        ({"output_format": "webp"}, 400),
        ({"aspect_ratio": "wide"}, 400),
        ({"image_url": "/photo.jpg"}, 400),
        ({"image_url": "data:image/jpeg;base64,!"}, 400),
        ({"image_url": data_uri(b"no picture")}, 400),
        ({"image_url": "https://example.com/never-fetched.jpg"}, 400),
        ({"prompt": "x" * 10_001}, 403),
        ({"raw": b"{"}, 400),
        ({"raw": b"[]"}, 400),
        ({"key": None}, 401),
        ({"key": "wrong"}, 401),
    ],
)
def test_together_4_what_is_refused_has_the_documented_shape_and_costs_nothing(
    emulator: Emulator, post: Callable[..., Any], fields: dict[str, Any], status: int
) -> None:
    reply = post(**fields)

    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert list(reply.json()["error"]) == ["message", "type", "param", "code"]
    assert emulator.credit == 10


def test_another_path_is_not_found(emulator: Emulator, http: httpx.Client) -> None:
    for path in ("/v1/images/edits", "/images/generations"):
        reply = http.post(f"{emulator.origins['api']}{path}")

        assert (reply.status_code, list(reply.json())) == (404, ["error"])


def test_together_13_a_blank_user_agent_is_refused_by_both_hosts(
    emulator: Emulator, post: Callable[..., Any], http: httpx.Client
) -> None:
    url = post().json()["data"][0]["url"]
    refused = post(agent="")

    assert (refused.status_code, refused.text) == (403, "error code: 1010")
    assert http.get(url, headers={"User-Agent": ""}).status_code == 403
    assert http.get(url).status_code == 200
    assert emulator.counters["blank_agents"] == 2


def test_a_key_at_a_download_is_counted(emulator: Emulator, post: Callable[..., Any], http: httpx.Client) -> None:
    url = post().json()["data"][0]["url"]
    http.get(url)
    assert emulator.counters["key_leaks"] == 0
    http.get(url, headers={"Authorization": "Bearer sandbox"})

    assert emulator.counters["key_leaks"] == 1


def test_together_17_an_empty_account_is_refused(emulator: Emulator, post: Callable[..., Any]) -> None:
    emulator.credit = Decimal("0.10")

    assert post(n=3).status_code == 402
    assert post(n=2).status_code == 200
    assert emulator.credit == Decimal("0.02")


def test_a_lost_submit_is_made_and_paid_all_the_same(emulator: Emulator, post: Callable[..., Any]) -> None:
    emulator.inject("submit-lost", times=1)
    with pytest.raises(httpx.ReadError):
        post()
    deadline = time.monotonic() + 5
    while not emulator.counters["images"] and time.monotonic() < deadline:
        time.sleep(0.005)

    assert emulator.credit == Decimal("9.96")


@pytest.mark.parametrize(
    ("fault", "shape"),
    [
        ("mixed-data", [["index", "b64_json", "type"], ["index", "url", "type"]]),
        ("typeless-data", [["index", "b64_json"], ["index", "b64_json"]]),
        ("url-anyway", [["index", "url", "type"]] * 2),
        ("unknown-status", [["index", "asset", "type"]] * 2),
        ("fewer-images", [["index", "b64_json", "type"]]),
        ("empty-data", []),
    ],
)
def test_together_2_the_union_comes_in_every_form(
    emulator: Emulator, post: Callable[..., Any], fault: str, shape: list[list[str]]
) -> None:
    emulator.inject(fault, times=1)

    assert [list(one) for one in post(response_format="base64", n=2).json()["data"]] == shape


def test_an_expired_link_is_refused(emulator: Emulator, post: Callable[..., Any], http: httpx.Client) -> None:
    emulator.inject("expired-url")

    assert http.get(post().json()["data"][0]["url"]).status_code == 403
    assert http.get(f"{emulator.origins['assets']}/imgproxy/other").status_code == 404


# ---------------------------------------------------------------------------------------------- the clients against it


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The patience of the engine, in tenths of a second; what it is patient with stays."""
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("anykontext.client.options.Policy", partial(Policy, submit_grace_s=0.2))
    monkeypatch.setattr("anykontext.engine.submit.FIRST_REPEAT_S", 0.02)
    monkeypatch.setattr("anykontext.engine.submit.PATIENCE_S", 0.1)
    return tmp_path / "home"


class Twin:
    """A client of either kind; each call blocks."""

    def __init__(self, kind: str, emulator: Emulator, **settings: Any) -> None:
        config = ak.Config(providers={"together": {**emulator.config(), **settings}})
        make: Any = {"Client": ak.Client, "AsyncClient": ak.AsyncClient}[kind]
        self.client: Any = make(config, registry=REGISTRY)
        self._runner = asyncio.Runner()

    def wait(self, outcome: Any) -> Any:
        return self._runner.run(outcome) if inspect.iscoroutine(outcome) else outcome

    def edit(self, **options: Any) -> ak.ImageResult:
        return self.wait(self.client.edit(photo(), "make it blue", **options))  # type: ignore[no-any-return]

    def generate(self, **options: Any) -> ak.ImageResult:
        return self.wait(self.client.generate("a cat", **options))  # type: ignore[no-any-return]

    def close(self) -> None:
        self.wait(self.client.close())
        self._runner.close()


@pytest.fixture(params=["Client", "AsyncClient"])
def twin(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[Twin]:
    one = Twin(request.param, emulator)
    yield one
    one.close()


def test_an_edit_is_one_post_whose_base64_goes_into_the_spool(twin: Twin, emulator: Emulator, quick: Path) -> None:
    result = twin.edit(aspect_ratio="2:1", seed=0)
    image = result.image

    assert (image.media_type, image.width, image.height) == ("image/jpeg", 208, 96)
    assert (image.source_url, image.expires_at) == (None, None)
    assert any(path.read_bytes() == image.data for path in (quick / "spool").rglob("*") if path.is_file())
    assert (result.provider, result.model, result.mode) == ("together", "flux-kontext-pro", "edit")
    assert (result.job, result.seed, result.prompt, result.adjustments) == (None, None, None, ())
    assert (result.cost.amount, result.cost.basis) == (Decimal("0.04"), "listed")
    assert len(json.dumps(result.raw[""])) < 1000
    assert (emulator.counters["submits"], emulator.counters["ignored_fields"]) == (1, 0)
    assert emulator.requests[0]["images"][0]["bytes"] == len(photo())


def test_together_8_an_edit_keeps_the_ratio_of_its_input(twin: Twin) -> None:
    image = twin.edit().image

    assert image.width * 2 == image.height * 3


def test_together_10_three_images_take_the_time_of_one(twin: Twin, emulator: Emulator) -> None:
    emulator.seconds = 0.4
    began = time.monotonic()
    result = twin.generate(num_images=3, size=SMALL)

    assert 0.4 <= time.monotonic() - began < 1.1
    assert len({image.sha256 for image in result.images}) == 3
    assert (result.cost.amount, result.job) == (Decimal("0.12"), None)
    assert emulator.counters["submits"] == 1


def test_together_10_six_images_are_two_requests_at_the_same_time(twin: Twin, emulator: Emulator) -> None:
    emulator.seconds = 0.4
    began = time.monotonic()
    result = twin.generate(num_images=6, size=SMALL)

    assert time.monotonic() - began < 0.8 + 0.3
    assert len(result.images) == 6
    assert result.cost.amount == Decimal("0.24")
    assert sorted(one["body"]["n"] for one in emulator.requests) == [2, 4]


def test_together_3_a_link_is_fetched_without_a_key(twin: Twin, emulator: Emulator) -> None:
    result = twin.generate(size=SMALL, provider_options={"together": {"response_format": "url"}})

    assert (result.image.source_url or "").startswith(emulator.origins["assets"])
    assert (emulator.counters["downloads"], emulator.counters["key_leaks"], emulator.counters["blank_agents"]) == (
        *(1, 0, 0),
    )


def test_together_16_a_price_of_the_users_own_wins_and_an_unknown_one_stays_unknown(emulator: Emulator) -> None:
    twin = Twin("Client", emulator, prices={"flux-kontext-pro": "0.03"})

    assert twin.generate(size=SMALL).cost.amount == Decimal("0.03")
    assert twin.generate(size=SMALL, model="flux-1.1-pro").cost.amount is None
    twin.close()


def test_together_1_a_submitted_job_is_done_and_has_no_handle(twin: Twin, emulator: Emulator) -> None:
    job = twin.wait(twin.client.submit(ak.ImageRequest("a cat", size=SMALL)))

    assert (job.done, job.handle, emulator.counters["submits"]) == (True, None, 1)
    assert twin.wait(job.wait()).image.width == 256
    assert emulator.counters["submits"] == 1


def test_together_1_a_submitted_image_is_in_the_spool_whether_or_not_anyone_waits(twin: Twin, quick: Path) -> None:
    twin.wait(twin.client.submit(ak.ImageRequest("a cat", size=SMALL)))

    assert 1 == len([path for path in (quick / "spool").rglob("*") if path.is_file()])


@pytest.mark.parametrize("call", ["submit", "run"])
def test_together_1_a_cancelled_submit_keeps_the_picture_that_came_all_the_same(
    emulator: Emulator, quick: Path, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = ak.Config(providers={"together": emulator.config()})

    async def main() -> BaseException:
        async with ak.AsyncClient(config, registry=REGISTRY) as client:
            task = asyncio.ensure_future(getattr(client, call)(ak.ImageRequest("a cat", size=SMALL)))
            while not emulator.counters["submits"]:  # noqa: ASYNC110 - the emulator counts in another thread
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as stop:
                await task
            return stop.value

    stop = asyncio.run(main())

    (kept,) = [path for path in (quick / "spool").rglob("*") if path.is_file()]
    assert kept.name == stop.anykontext_result.image.sha256  # type: ignore[attr-defined]
    assert any(kept.name in record.getMessage() for record in caplog.records)


def test_together_1_a_handle_from_elsewhere_leads_nowhere(twin: Twin, emulator: Emulator) -> None:
    task = ak.Task("one", f"{emulator.origins['api']}/one")
    handle = ak.JobHandle("job_1", "together", "together", "flux-kontext-pro", "edit", (task,))
    with pytest.raises(ak.ProtocolError, match="URL is refused"):
        twin.wait(twin.wait(twin.client.resume(handle)).wait())


def test_together_1_a_key_cannot_be_checked_free_of_charge(twin: Twin, emulator: Emulator) -> None:
    (found,) = twin.wait(twin.client.check())

    assert (found.key, emulator.counters["submits"]) == ("unverified", 0)


# fault: class, whether it may be charged, how often the submit is sent (None: as often as patience allows)
ENDS: dict[str, tuple[type[ak.ProviderError], bool, int | None]] = {
    "moderated": (ak.Moderated, False, 1),
    "moderated-output": (ak.Moderated, True, 1),
    "failed": (ak.OutcomeUnknown, True, 1),
    "outage": (ak.Unavailable, False, None),
    "server-error": (ak.OutcomeUnknown, True, 1),
    "gateway-page": (ak.OutcomeUnknown, True, 1),
    "rate-limited": (ak.RateLimited, False, None),
    "out-of-credit": (ak.OutOfCredit, False, 1),
    "bad-key": (ak.AuthenticationFailed, False, 1),
    "submit-lost": (ak.OutcomeUnknown, True, 1),
    "unknown-status": (ak.OutcomeUnknown, True, 1),
    "never-ends": (ak.OutcomeUnknown, True, 1),
    "truncated-image": (ak.ProtocolError, True, 1),
    "not-an-image": (ak.ProtocolError, True, 1),
    "conflict": (ak.Unavailable, False, 1),
    "context-length": (ak.RequestRejected, False, 1),
    "empty-data": (ak.OutcomeUnknown, True, 1),
    "torn-base64": (ak.ProtocolError, True, 1),
    "upstream-timeout": (ak.OutcomeUnknown, True, 1),
    "pixel-bomb": (ak.ProtocolError, True, 1),
}
GOOD = {
    *("submit-slow", "poll-errors", "expired-url"),
    *("fewer-images", "mixed-data", "typeless-data", "url-anyway"),
}
OF_DOWNLOADS = {"gzip-bomb", "oversize-image", "slow-drip"}  # of a link; tests/io has them all


def test_every_fault_is_in_the_tables_and_the_readme_tells_the_pinned_ones() -> None:
    readme = (Path(inspect.getfile(Together)).parent / "README.md").read_text(encoding="utf-8")

    assert set(ENDS) | GOOD | OF_DOWNLOADS == set(Emulator.known_faults())
    assert set(FAULTS) | set(OWN_FAULTS) <= set(ENDS) | GOOD
    assert all(f"`{fault}`" in readme for fault in FAULTS)


@pytest.mark.parametrize("fault", ENDS)
def test_together_5_6_14_17_a_fault_ends_in_its_error(twin: Twin, emulator: Emulator, fault: str) -> None:
    error, charged, submits = ENDS[fault]
    emulator.inject(fault)
    with pytest.raises(ak.ProviderError) as caught:
        twin.generate(size=SMALL, deadline=0.3 if fault == "never-ends" else 5)

    assert type(caught.value) is error
    assert caught.value.maybe_charged is charged
    assert caught.value.handle is None
    assert [(one.outcome, one.maybe_charged) for one in caught.value.attempts] == [(caught.value.kind, charged)]
    if submits is not None:
        assert emulator.counters["submits"] == submits


@pytest.mark.parametrize("fault", sorted(GOOD))
def test_a_fault_that_is_none_here_ends_well(twin: Twin, emulator: Emulator, fault: str) -> None:
    emulator.slow_seconds = 0.3
    emulator.inject(fault)
    result = twin.generate(size=SMALL, num_images=2)

    assert len(result.images) == (1 if fault == "fewer-images" else 2)
    assert emulator.counters["submits"] == 1


def test_together_3_an_expired_link_cannot_be_renewed(twin: Twin, emulator: Emulator) -> None:
    emulator.inject("expired-url")
    with pytest.raises(ak.ResultExpired) as caught:
        twin.generate(size=SMALL, provider_options={"together": {"response_format": "url"}})

    assert caught.value.maybe_charged
    assert emulator.counters["submits"] == 1


def test_an_image_that_cannot_be_fetched_is_told_beside_those_that_can(twin: Twin, emulator: Emulator) -> None:
    emulator.inject("torn-base64", times=1)
    result = twin.generate(size=SMALL, num_images=3)

    assert len(result.images) == 2
    assert [type(error) for error in result.errors] == [ak.ProtocolError]


def test_together_5_the_moderated_error_tells_the_providers_words(twin: Twin, emulator: Emulator) -> None:
    emulator.inject("moderated", times=1)
    with pytest.raises(ak.Moderated) as caught:
        twin.edit(aspect_ratio="1:1")

    assert (caught.value.stage, caught.value.reasons) == ("unknown", ("image may contain NSFW content",))


def test_together_6_an_overload_that_ends_soon_is_waited_for(twin: Twin, emulator: Emulator) -> None:
    emulator.inject("outage", times=1)

    assert len(twin.generate(size=SMALL).images) == 1
    assert (emulator.counters["submits"], emulator.counters["accepted"]) == (2, 1)


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_an_image_inside_a_reply_needs_no_delivery_host_whoever_brought_the_http_client(
    emulator: Emulator, kind: str
) -> None:
    async def asynchronous() -> ak.ImageResult:
        async with httpx.AsyncClient(trust_env=False) as own, ak.AsyncClient(config, http_client=own) as client:
            return await client.generate("a cat")

    config = ak.Config(providers={"together": emulator.config()})
    if kind == "AsyncClient":
        result = asyncio.run(asynchronous())
    else:
        with httpx.Client(trust_env=False) as own, ak.Client(config, http_client=own) as client:
            result = client.generate("a cat")

    assert "image/jpeg" == result.image.media_type
