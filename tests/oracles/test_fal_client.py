"""The vendor's own client runs unchanged against the emulator, and sends what the adapter sends.

`pip install fal-client` (Apache-2.0) is a development dependency. Only its constants with URLs are replaced. It has no
close: sockets that it leaves open are the one thing that is overlooked here, and only in these tests (fal-22).
"""

import asyncio
import gc
import io
import json
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from pydantic import SecretStr

from anykontext.adapting import Call, Effective, Fetch, InputImage, Kind, Purpose, Refused, Reply, Running, Task
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import address
from anykontext.model.request import ImageRequest
from anykontext.sandbox.server import ServerThread
from anykontext_fal import Fal
from anykontext_fal.emulator import Emulator
from anykontext_fal.upload import upload

fal_client = pytest.importorskip("fal_client", reason="the vendor's client is not installed: pip install fal-client")
pytestmark = pytest.mark.sandbox

EDIT = "fal-ai/flux-pro/kontext"
MULTI = "fal-ai/flux-pro/kontext/max/multi"
WORDS = "fal-ai/flux-pro/kontext/text-to-image"
KEY = "sandbox:sandbox"


@dataclass(frozen=True)
class Wire:
    """One request as it came."""

    origin: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Recorder(Emulator):
    """The emulator, with every request as it came over the wire."""

    def __init__(self) -> None:
        super().__init__(seconds=0.0)
        self.megapixels = 0.02
        self.wire: list[Wire] = []

    def app(self, origin_name: str) -> Any:
        inner: Any = super().app(origin_name)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
            parts = [await receive()]
            while parts[-1].get("more_body"):
                parts.append(await receive())
            body = b"".join(part.get("body", b"") for part in parts)
            query = scope["query_string"].decode()
            self.wire.append(Wire(origin_name, scope["method"], scope["path"], query, headers, body))
            again = iter([{"type": "http.request", "body": body, "more_body": False}])

            async def heard() -> Any:
                return next(again, None) or await receive()

            await inner(scope, heard, send)

        return app

    def asked(self, purpose: str) -> Wire:
        """The last submit (`POST`), cancel (`PUT`), status or result at the queue's host."""
        return next(
            one
            for one in reversed(self.wire)
            if one.origin == "queue" and (one.method if one.method != "GET" else one.path.rpartition("/")[2]) == purpose
        )


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    server, one = ServerThread(), Recorder()
    one.origins = {name: server.bind(one, name) for name in one.origin_names}
    for constant, value in {
        "QUEUE_URL_FORMAT": one.origins["queue"] + "/",
        "RUN_URL_FORMAT": one.origins["run"] + "/",
        "REST_URL": one.origins["rest"],
        "CDN_URL": one.origins["media"],
        "BASE_DELAY": 0.01,
    }.items():
        monkeypatch.setattr(fal_client.client, constant, value)
    server.start()
    with warnings.catch_warnings():
        # Each upload leaves a client open, deep inside, that nobody can close.
        warnings.filterwarnings("ignore", message="unclosed", category=ResourceWarning)
        yield one
        server.stop()
        gc.collect()


@pytest.fixture
def client(emulator: Recorder) -> Iterator[Any]:
    one = fal_client.SyncClient(key=KEY)
    yield one
    one._client.close()


@pytest.fixture
def in_loop(emulator: Recorder) -> Callable[..., Any]:
    """Runs a coroutine function with an AsyncClient, and closes it."""

    def run(work: Callable[[Any], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            one = fal_client.AsyncClient(key=KEY)
            try:
                return await work(one)
            finally:
                await (await one._client).aclose()

        return asyncio.run(main())

    return run


def photo(width: int = 96, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def uri() -> str:
    return str(fal_client.encode(photo(), "image/jpeg"))


# ----------------------------------------------------------------------------------------- it runs against the emulator


def test_fal_1_it_submits_asks_and_fetches(client: Any, emulator: Recorder) -> None:
    handle = client.submit(EDIT, {"prompt": "make it blue", "image_url": uri()})
    made = handle.get(interval=0.01)

    assert isinstance(handle.status(), fal_client.Completed)
    assert (made["images"][0]["width"], made["has_nsfw_concepts"]) == (176, [False])
    assert emulator.requests[0]["images"][0]["bytes"] == len(photo())
    assert emulator.counters["unsigned"] == 0


def test_fal_2_it_reads_all_three_statuses(client: Any, emulator: Recorder) -> None:
    emulator.seconds = 1000
    handle = client.submit(WORDS, {"prompt": "a cat"})
    seen = []
    for seconds in (0, 1, 1000):
        emulator.advance(seconds)
        seen.append(handle.status(with_logs=True))

    assert seen[0] == fal_client.Queued(position=0)
    assert isinstance(seen[1], fal_client.InProgress)
    assert seen[1].logs[0]["message"] == "Loading model weights..."
    assert (seen[2].logs[1]["message"], seen[2].metrics["inference_time"]) == ("Done.", 999.0)
    assert (seen[2].error, handle.status().logs) == (None, None)


def test_fal_2_it_subscribes_with_logs(client: Any, emulator: Recorder) -> None:
    emulator.seconds = 1.0
    seen: list[Any] = []
    enqueued: list[str] = []
    made = client.subscribe(
        MULTI,
        {"prompt": "side by side", "image_urls": [uri(), uri()], "num_images": 2},
        with_logs=True,
        interval=0.01,
        on_enqueue=enqueued.append,
        on_queue_update=seen.append,
    )

    assert len(made["images"]) == 2
    assert enqueued == [emulator.requests[0]["id"]]
    assert [kind.__name__ for kind in dict.fromkeys(map(type, seen))] == ["Queued", "InProgress", "Completed"]


def test_fal_6_it_finds_a_task_by_its_id(client: Any, emulator: Recorder) -> None:
    name = client.submit("fal-ai/flux-pro/kontext/max/text-to-image", {"prompt": "a cat"}).request_id

    assert client.result("fal-ai/flux-pro/kontext/max/text-to-image", name)["prompt"] == "a cat"
    assert isinstance(client.status(WORDS, name), fal_client.Completed)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.status(WORDS, "nobody")
    assert (caught.value.status_code, caught.value.message) == (404, '{"status":"NOT_FOUND"}')


def test_fal_7_it_cancels_and_meets_499(client: Any, emulator: Recorder) -> None:
    emulator.seconds = 1000
    handle = client.submit(WORDS, {"prompt": "a cat"})
    handle.cancel()
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get()
    with pytest.raises(fal_client.FalClientHTTPError) as late:
        handle.cancel()

    assert (caught.value.status_code, caught.value.error_type) == (499, "client_cancelled")
    assert (late.value.status_code, late.value.message) == (400, '{"status":"ALREADY_COMPLETED"}')


def test_fal_4_it_meets_422_as_a_list_at_the_result(client: Any, emulator: Recorder) -> None:
    handle = client.submit(WORDS, {"prompt": "a cat", "safety_tolerance": 2})
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get()

    assert caught.value.status_code == 422
    assert [one["type"] for one in caught.value.message] == ["enum"]
    assert caught.value.response_headers["x-fal-billable-units"] == "0"


@pytest.mark.parametrize(
    ("fault", "status", "error_type"),
    [
        ("bad-key", 401, None),
        ("out-of-credit", 403, None),
        ("server-error", 500, None),
        ("outage", 503, "runner_scheduling_failure"),
        ("gateway-page", 502, None),
    ],
)
def test_fal_17_18_it_meets_refusals_at_the_submit_and_sends_them_once(
    client: Any, emulator: Recorder, fault: str, status: int, error_type: str | None
) -> None:
    emulator.inject(fault)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.submit(WORDS, {"prompt": "a cat"})

    assert (caught.value.status_code, caught.value.error_type) == (status, error_type)
    assert emulator.counters["submits"] == 1


@pytest.mark.parametrize("fault", ["ingress-page", "rate-limited", "submit-lost"])
def test_fal_18_20_it_sends_a_submit_again_even_one_that_was_accepted(
    client: Any, emulator: Recorder, fault: str
) -> None:
    emulator.inject(fault, times=1)
    client.submit(WORDS, {"prompt": "a cat"})

    assert emulator.counters["submits"] == 2
    assert emulator.counters["accepted"] == (2 if fault == "submit-lost" else 1)


def test_fal_20_it_cannot_read_an_answer_without_urls(client: Any, emulator: Recorder) -> None:
    emulator.inject("no-urls")
    with pytest.raises(KeyError):
        client.submit(WORDS, {"prompt": "a cat"})


def test_fal_15_it_meets_504_when_a_task_is_not_started_in_time(client: Any, emulator: Recorder) -> None:
    emulator.inject("stuck-in-queue")
    handle = client.submit(WORDS, {"prompt": "a cat"}, start_timeout=30)
    emulator.advance(30)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get()

    assert (caught.value.status_code, caught.value.error_type) == (504, "request_timeout")
    assert emulator.counters["fetches"] == 1


def test_it_runs_synchronously(client: Any, emulator: Recorder) -> None:
    made = client.run(WORDS, {"prompt": "a cat", "seed": 7})
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.run(WORDS, {})

    assert (made["seed"], emulator.wire[0].origin) == (7, "run")
    assert (caught.value.status_code, caught.value.message[0]["type"]) == (422, "missing")


def test_fal_21_it_uploads_and_edits_what_it_uploaded(client: Any, emulator: Recorder, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo())
    url = client.upload_file(tmp_path / "photo.jpg", fallback_repository="fal_v3")
    made = client.subscribe(EDIT, {"prompt": "make it blue", "image_url": url}, interval=0.01)

    assert url.startswith(emulator.origins["media"])
    assert httpx.get(url, trust_env=False).content == photo()
    assert (made["images"][0]["width"], made["images"][0]["height"]) == (176, 112)
    assert (emulator.counters["uploads"], emulator.counters["key_leaks"]) == (1, 0)


def test_fal_22_its_fallback_upload_sends_the_key_along(client: Any, emulator: Recorder) -> None:
    url = client.upload(photo(), "image/jpeg", "a.jpg", repository="fal", fallback_repository="fal")

    assert httpx.get(url, trust_env=False).content == photo()
    assert emulator.counters["key_leaks"] == 1


def test_fal_21_22_our_upload_is_its_own_without_the_leak_and_ends_after_a_day(emulator: Recorder) -> None:
    image = InputImage(photo(), None, "image/jpeg", 96, 64)
    url = upload(image, SecretStr(KEY), 10)
    assert isinstance(url, str)
    assert httpx.get(url, trust_env=False).content == photo()
    assert (emulator.counters["uploads"], emulator.counters["key_leaks"]) == (1, 0)
    emulator.advance(86_400)

    assert httpx.get(url, trust_env=False).status_code == 404


def test_fal_17_our_upload_tells_that_the_key_is_refused(emulator: Recorder) -> None:
    refused = upload(InputImage(photo(), None, "image/jpeg", 96, 64), SecretStr("some:one"), 10)

    assert isinstance(refused, Refused)
    assert refused.kind is Kind.AUTHENTICATION_FAILED


def test_the_async_client_does_all_of_it(in_loop: Callable[..., Any], emulator: Recorder) -> None:
    async def work(one: Any) -> Any:
        url = await one.upload(photo(), "image/jpeg", "photo.jpg", fallback_repository="fal_v3")
        handle = await one.submit(EDIT, {"prompt": "make it blue", "image_url": url})
        status = await handle.status(with_logs=True)
        found = await one.result(EDIT, handle.request_id)
        other = await one.subscribe(WORDS, {"prompt": "a cat"}, interval=0.01)
        ran = await one.run(WORDS, {"prompt": "a cat"})
        emulator.seconds = 1000
        await (await one.submit(WORDS, {"prompt": "a cat"})).cancel()
        return status, [len(answer["images"]) for answer in (found, other, ran)]

    status, images = in_loop(work)

    assert isinstance(status, fal_client.Completed)
    assert images == [1, 1, 1]
    assert (emulator.counters["uploads"], emulator.counters["cancels"], emulator.counters["key_leaks"]) == (1, 1, 0)


def test_a_handle_of_the_async_client_works_on_a_client_of_ours(emulator: Recorder) -> None:
    async def main() -> Any:
        headers = {"Authorization": f"Key {KEY}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False) as own:
            reply = await own.post(f"{emulator.origins['queue']}/{WORDS}", json={"prompt": "a cat"})
            handle = fal_client.AsyncRequestHandle.from_request_id(own, WORDS, reply.json()["request_id"])
            return await handle.get(interval=0.01)

    assert len(asyncio.run(main())["images"]) == 1


# ------------------------------------------------------------------------------------------ our calls are what it sends


def our_provider(emulator: Recorder) -> Provider:
    origins = {"api": emulator.origins["queue"], "rest": emulator.origins["rest"]}
    return Provider("fal", Fal(), origins, key=lambda: SecretStr(KEY))


def our_call(provider: Provider, images: int, **fields: Any) -> Call:
    request = ImageRequest("mach es blau, bitte: 青", [photo()] * images, **fields)
    inputs = (InputImage(photo(), None, "image/jpeg", 96, 64),) * images
    candidate = Candidate(provider, request.canonical_model)
    (order,) = negotiate(request, inputs, candidate, Policy()).orders
    return Fal().submit(order)


PROMPT = {"prompt": "mach es blau, bitte: 青"}
KONTEXT = {"num_images": 1, "output_format": "jpeg", "enhance_prompt": False, "safety_tolerance": "2"}
EQUAL = [
    pytest.param(
        1, {"seed": 0, "guidance": 3.5}, EDIT, {"image_url": uri, "seed": 0, "guidance_scale": 3.5}, id="pro_edit"
    ),
    pytest.param(
        2, {"aspect_ratio": "16:9"}, EDIT + "/multi", {"image_urls": [uri, uri], "aspect_ratio": "16:9"}, id="pro_multi"
    ),
    pytest.param(
        0, {"aspect_ratio": "3:4", "num_images": 4}, WORDS, {"aspect_ratio": "3:4", "num_images": 4}, id="pro_generate"
    ),
    pytest.param(
        1,
        {"model": "flux-kontext-max", "output_format": "png", "prompt_upsampling": True},
        EDIT + "/max",
        {"image_url": uri, "output_format": "png", "enhance_prompt": True},
        id="max_edit",
    ),
    pytest.param(
        3,
        {"model": "flux-kontext-max", "safety_tolerance": 6, "seed": 2**60},
        MULTI,
        {"image_urls": [uri, uri, uri], "safety_tolerance": "6", "seed": 2**60},
        id="max_multi",
    ),
    pytest.param(
        0, {"model": "flux-kontext-max"}, EDIT + "/max/text-to-image", {"aspect_ratio": "1:1"}, id="max_generate"
    ),
    pytest.param(
        1,
        {"model": "flux-kontext-dev", "steps": 30, "provider_options": {"fal": {"acceleration": "regular"}}},
        "fal-ai/flux-kontext/dev",
        {
            "image_url": uri,
            "resolution_mode": "match_input",
            "enable_safety_checker": True,
            "num_inference_steps": 30,
            "acceleration": "regular",
            "safety_tolerance": None,
        },
        id="dev_edit",
    ),
]


def _written(value: Any) -> Any:
    """Data URIs are made by the vendor's own function, where they are wanted."""
    return [_written(one) for one in value] if isinstance(value, list) else value() if callable(value) else value


def by_hand(fields: dict[str, Any]) -> dict[str, Any]:
    """The arguments as one would write them for the vendor's client, from its documentation."""
    return {name: _written(value) for name, value in {**PROMPT, **KONTEXT, **fields}.items() if value is not None}


@pytest.mark.parametrize(("images", "ours", "endpoint", "theirs"), EQUAL)
def test_fal_11_12_our_submit_is_what_the_client_sends(
    client: Any, emulator: Recorder, images: int, ours: dict[str, Any], endpoint: str, theirs: dict[str, Any]
) -> None:
    provider = our_provider(emulator)
    call = our_call(provider, images, **ours)
    client.submit(endpoint, by_hand(theirs)).get(interval=0.01)
    sent = emulator.asked("POST")
    assert json.loads(bytes(call.body or b"")) == json.loads(sent.body)

    client.submit(endpoint, json.loads(bytes(call.body or b"")))
    again = emulator.asked("POST")
    name, form = provider.adapter.facts.auth
    assert bytes(call.body or b"") == again.body  # the same order and escapes, too
    assert (call.method, urlsplit(address(call, provider).url).path) == (again.method, again.path)
    assert address(call, provider).url == emulator.origins["queue"] + again.path
    assert again.headers[name.lower()] == form.format(key=KEY)
    assert again.headers["content-type"] == "application/json"
    assert emulator.counters["ignored_fields"] == 0


def test_fal_15_our_start_deadline_is_in_the_clients_header(client: Any, emulator: Recorder) -> None:
    (name,) = {name for name, _ in our_headers(start_within_s=61.5)} - {name for name, _ in our_headers()}
    client.submit(WORDS, {"prompt": "a cat"}, start_timeout=61)

    assert name == fal_client.client.REQUEST_TIMEOUT_HEADER
    assert float(dict(our_headers(start_within_s=61.5))[name]) == float(emulator.asked("POST").headers[name.lower()])
    # It refuses 1 second and less; we never send that.
    assert float(dict(our_headers(start_within_s=0.2))[name]) > fal_client.client.MIN_REQUEST_TIMEOUT_SECONDS


def test_fal_20_our_webhook_is_the_clients(client: Any, emulator: Recorder) -> None:
    hook = "https://example.com/hook?a=b c&d=ü"
    with pytest.raises(KeyError):  # it cannot read the documented answer
        client.submit(WORDS, {"prompt": "a cat"}, webhook_url=hook)
    path = our_order(webhook_url=hook).path
    httpx.post(emulator.origins["queue"] + path, headers={"Authorization": f"Key {KEY}"}, trust_env=False)

    assert [one["webhook"] for one in emulator.requests] == [hook, hook]


def our_headers(**known: Any) -> list[tuple[str, str]]:
    return list(our_order(**known).headers.items())


def our_order(**known: Any) -> Call:
    facts = Fal().facts.models["flux-kontext-pro"]
    return Fal().submit(Effective("flux-kontext-pro", facts, "generate", "a cat", **known))


@pytest.mark.parametrize("urls", ["told", "built"])
def test_fal_1_our_status_result_and_cancel_are_asked_where_the_client_asks(
    client: Any, emulator: Recorder, urls: str
) -> None:
    provider, adapter = our_provider(emulator), Fal()
    call = our_call(provider, 2, model="flux-kontext-max")
    handle = client.submit(call.path.strip("/"), json.loads(bytes(call.body or b"")))
    handle.get(interval=0.01)
    with pytest.raises(fal_client.FalClientHTTPError):
        handle.cancel()
    if urls == "built":  # what the client builds itself has to be the same, and is
        handle = fal_client.SyncRequestHandle.from_request_id(client._client, call.path.strip("/"), handle.request_id)
    answer = {name: getattr(handle, name) for name in ("request_id", "response_url", "status_url", "cancel_url")}
    known = answer if urls == "told" else {"request_id": handle.request_id}

    started = adapter.read(Reply(call, 200, {}, json.dumps({"status": "IN_QUEUE", **known}).encode()), None)
    assert isinstance(started, Running)
    task: Task = started.task
    poll = adapter.poll(task)
    fetch = adapter.read(Reply(poll, 200, {}, b'{"status":"COMPLETED"}'), task)
    assert isinstance(fetch, Fetch)

    for ours, theirs, seen in (
        (poll, handle.status_url, "status"),
        (fetch.call, handle.response_url, handle.request_id),
        (adapter.cancel(task), handle.cancel_url, "PUT"),
    ):
        asked = emulator.asked(seen)
        way = address(ours, provider)
        assert way.url.partition("?")[0] == theirs == emulator.origins["queue"] + asked.path
        assert (ours.method, way.signed) == (asked.method, True)


def test_fal_23_our_check_asks_for_the_token_that_the_client_asks_for(client: Any, emulator: Recorder) -> None:
    client.upload(b"x", "text/plain", fallback_repository="fal_v3")
    provider = our_provider(emulator)
    call, asked = Fal().check(), next(one for one in emulator.wire if one.origin == "rest")

    assert call.purpose is Purpose.CHECK
    assert (call.method, bytes(call.body or b"")) == (asked.method, asked.body)
    assert address(call, provider).url == f"{emulator.origins['rest']}{asked.path}?{asked.query}"
    assert asked.headers["authorization"] == f"Key {KEY}"


@pytest.mark.parametrize("endpoint", [EDIT, MULTI, WORDS, "fal-ai/flux-kontext/dev", "workflows/me/mine/fast"])
def test_fal_1_the_client_splits_endpoints_as_the_urls_do(emulator: Recorder, endpoint: str) -> None:
    found = fal_client.client.AppId.from_endpoint_id(endpoint)
    below = "/".join(filter(None, (found.namespace, found.owner, found.alias)))
    call = our_call(our_provider(emulator), 0)
    task = Fal().read(Reply(replace(call, path=f"/{endpoint}"), 200, {}, b'{"request_id":"one"}'), None)

    assert isinstance(task, Running)
    assert Fal().poll(task.task).path.startswith(f"/{below}/requests/one/status")


def test_fal_22_the_clients_hosts_are_the_adapters() -> None:
    assert fal_client.client.QUEUE_URL_FORMAT.rstrip("/") == Fal().facts.origins["api"]
    assert fal_client.client.REST_URL == Fal().facts.origins["rest"]
    assert set(fal_client.client._BACKUP_DOMAINS.values()) & set(Fal().facts.trusted) == {"queue.falrun.com"}
