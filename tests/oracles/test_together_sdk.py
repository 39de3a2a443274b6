"""The vendor's own client runs unchanged against the emulator, and sends what the adapter sends.

`pip install together` (Apache-2.0) is a development dependency. The SDK repeats a POST after 5xx, and may pay twice:
its `max_retries` is 0 here, except where that very habit is shown.
"""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from anykontext.adapting import InputImage
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import address
from anykontext.model.request import ImageRequest
from anykontext.sandbox.server import ServerThread
from anykontext_together import Together
from anykontext_together.emulator import Emulator

together = pytest.importorskip("together", reason="the vendor's SDK is not installed: pip install together")
pytestmark = pytest.mark.sandbox

KONTEXT = "black-forest-labs/FLUX.1-kontext-pro"


class Recorder(Emulator):
    """The emulator, with every request as it came over the wire."""

    def __init__(self) -> None:
        super().__init__(seconds=0.0)
        self.wire: list[tuple[str, str, dict[str, str], bytes]] = []

    def app(self, origin_name: str) -> Any:
        inner: Any = super().app(origin_name)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
            parts: list[bytes] = []

            async def heard() -> Any:
                message = await receive()
                parts.append(message.get("body", b""))
                if message["type"] == "http.request" and not message.get("more_body"):
                    self.wire.append((scope["method"], scope["path"], headers, b"".join(parts)))
                return message

            await inner(scope, heard, send)

        return app

    @property
    def sent(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.wire[-1][3])
        return found


@pytest.fixture
def emulator() -> Iterator[Recorder]:
    server, one = ServerThread(), Recorder()
    one.origins = {name: server.bind(one, name) for name in one.origin_names}
    server.start()
    yield one
    server.stop()


@pytest.fixture
def sdk(emulator: Recorder) -> Iterator[Any]:
    with together.Together(api_key="sandbox", base_url=emulator.origins["api"], max_retries=0) as client:
        yield client


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def data_uri() -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo()).decode()


def our_call(*, edit: bool, **fields: Any) -> tuple[dict[str, Any], str, Provider]:
    """The body and URL of our call for a request."""
    provider = Provider("together", Together(), {"api": "https://api.together.ai"}, key=lambda: SecretStr("sandbox"))
    request = ImageRequest("make it blue", photo() if edit else (), **fields)
    images = (InputImage(photo(), None, "image/jpeg", 96, 64),) if edit else ()
    candidate = Candidate(provider, request.canonical_model)
    (order,) = negotiate(request, images, candidate, Policy()).orders
    call = Together().submit(order)
    return json.loads(bytes(call.body or b"")), address(call, provider).url, provider


def test_together_2_3_the_sdk_edits_and_reads_base64(sdk: Any, emulator: Recorder) -> None:
    made = sdk.images.generate(
        model=KONTEXT, prompt="make it blue", image_url=data_uri(), width=96, height=64, response_format="base64", n=2
    )

    assert (made.object, made.model) == ("list", KONTEXT)
    assert [(one.index, one.type) for one in made.data] == [(0, "b64_json"), (1, "b64_json")]
    assert Image.open(io.BytesIO(base64.b64decode(made.data[0].b64_json))).size == (96, 64)
    assert emulator.requests[0]["images"][0]["bytes"] == len(photo())


def test_together_2_3_the_sdk_reads_links(sdk: Any, emulator: Recorder) -> None:
    made = sdk.images.generate(model=KONTEXT, prompt="a cat", width=96, height=64, response_format="url")

    assert (made.data[0].type, made.data[0].index) == ("url", 0)
    assert made.data[0].url.startswith(emulator.origins["assets"])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("moderated", "UnprocessableEntityError"),
        ("bad-key", "AuthenticationError"),
        ("context-length", "PermissionDeniedError"),
        ("rate-limited", "RateLimitError"),
        ("outage", "InternalServerError"),
    ],
)
def test_together_4_5_6_the_sdk_reads_errors_in_its_own_words(
    sdk: Any, emulator: Recorder, fault: str, error: str
) -> None:
    emulator.inject(fault)
    with pytest.raises(getattr(together, error)) as caught:
        sdk.images.generate(model=KONTEXT, prompt="a cat")

    assert set(caught.value.body["error"]) == {"message", "type", "param", "code"}


def test_together_14_the_sdk_sends_a_post_again_after_a_500(emulator: Recorder) -> None:
    emulator.inject("failed", times=1)
    with together.Together(api_key="sandbox", base_url=emulator.origins["api"]) as client:
        client.images.generate(model=KONTEXT, prompt="a cat", width=96, height=64)

    assert emulator.counters["accepted"] == 2


EQUAL = [
    pytest.param(
        {"edit": True, "size": (96 * 8, 64 * 8), "seed": 0, "num_images": 2},
        {"image_url": data_uri(), "width": 768, "height": 512, "seed": 0, "n": 2, "output_format": "jpeg"},
        id="edit_with_a_size",
    ),
    pytest.param(
        {"edit": True, "aspect_ratio": "16:9", "output_format": "png"},
        # together-7: not in the OpenAPI, and so not among the SDK's words
        {"image_url": data_uri(), "n": 1, "output_format": "png", "extra_body": {"aspect_ratio": "16:9"}},
        id="together_7_edit_with_a_ratio",
    ),
    pytest.param(
        {"edit": False, "size": (512, 512), "seed": 7, "model": "flux-kontext-max"},
        {"model": "black-forest-labs/FLUX.1-kontext-max", "width": 512, "height": 512, "seed": 7, "n": 1}
        | {"output_format": "jpeg"},
        id="generate_max",
    ),
    pytest.param(
        {"edit": False, "model": "flux-1.1-pro", "size": (512, 512)},
        {"model": "black-forest-labs/FLUX.1.1-pro", "width": 512, "height": 512, "n": 1, "output_format": "jpeg"},
        id="generate_1_1_pro",
    ),
    pytest.param(
        {
            "edit": False,
            "size": (512, 512),
            "provider_options": {"together": {"negative_prompt": "fog", "response_format": "url"}},
        },
        {"width": 512, "height": 512, "n": 1, "output_format": "jpeg", "negative_prompt": "fog"}
        | {"response_format": "url"},
        id="provider_options",
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), EQUAL)
def test_together_9_our_call_is_what_the_sdk_sends(
    sdk: Any, emulator: Recorder, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    sdk.images.generate(**{"model": KONTEXT, "prompt": "make it blue", "response_format": "base64", **theirs})
    method, path, headers, _ = emulator.wire[-1]
    body, url, provider = our_call(**ours)
    name, form = provider.adapter.facts.auth

    assert body == emulator.sent
    assert (method, url) == ("POST", f"https://api.together.ai{path}")
    assert headers[name.lower()] == form.format(key=provider.key().get_secret_value())
    assert headers["content-type"] == "application/json"
    assert emulator.counters["ignored_fields"] == 0


def test_together_15_the_sdk_has_the_same_default_host() -> None:
    with together.Together(api_key="sandbox") as client:
        assert str(client.base_url).rstrip("/") == Together.facts.origins["api"]
