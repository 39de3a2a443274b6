"""What we send to BFL, and what its emulator answers, against BFL's own OpenAPI.

The document is not ours to copy: it is read where the protocol sheets lie, in `shared/protocols` beside the project
folder, and without it these tests are skipped.
"""

import base64
import functools
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import SecretStr

from anykontext.adapting import InputImage, Refused, Reply, Running, Task
from anykontext.engine.misfit import Misfit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.model.request import ImageRequest
from anykontext.sandbox import Emulator, Sandbox
from anykontext_bfl import Bfl
from anykontext_bfl.adapter import IN_FLIGHT, MODERATED, NOT_FOUND

SHEET = Path(__file__).parents[3] / "shared/protocols/bfl-openapi.json"
pytestmark = pytest.mark.skipif(
    not SHEET.is_file(), reason="BFL's OpenAPI (shared/protocols/bfl-openapi.json) does not lie beside the project"
)

FACTS = Bfl.facts
BYTES = InputImage(b"\xff\xd8\xff", None, "image/jpeg", 640, 480)
LINK = InputImage(None, "https://example.com/a.png", None, None, None)
MODES = [(model, mode) for model, facts in FACTS.models.items() for mode in facts.modes]

# Fields that an endpoint documents, and that we neither send nor allow in provider_options: none. A new one fails.
NEITHER: Mapping[str, set[str]] = {
    "/v1/flux-kontext-pro": set(),
    "/v1/flux-kontext-max": set(),
    "/v1/flux-pro-1.1": set(),
    "/v1/flux-pro-1.1-ultra": set(),
}
# Words that BFL's later documents have and this one (2026-04) has not yet: bfl-5.
LATER = {"Reasoning", "Generating"}


@functools.cache
def document() -> Any:
    return json.loads(SHEET.read_text(encoding="utf-8"))


def schema(path: str, method: str = "post") -> Mapping[str, Any]:
    """The schema of a request, with its `$ref` followed."""
    ref = document()["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    found: Mapping[str, Any] = document()["components"]["schemas"][ref.rpartition("/")[2]]
    return found


def check(value: Any, wanted: Mapping[str, Any]) -> None:
    """Raise when a value does not fit; the rest of the document goes along for the `$ref`s."""
    jsonschema.Draft202012Validator({"components": document()["components"], **wanted}).validate(value)


def answer(path: str, method: str, status: str = "200") -> Mapping[str, Any]:
    """The schema of a reply."""
    found: Mapping[str, Any] = document()["paths"][path][method]["responses"][status]["content"]["application/json"]
    return found["schema"]  # type: ignore[no-any-return]


def candidate(model: str) -> Candidate:
    return Candidate(Provider("bfl", Bfl(), {"api": "https://api.bfl.ai"}, key=lambda: SecretStr("k")), model)


def calls(model: str, request: ImageRequest, images: list[InputImage]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The path and body of every submit; none where the model cannot do the request."""
    try:
        step = negotiate(request, images, candidate(model), Policy(), waits=False)
    except Misfit:
        return
    for order in step.orders:
        call = Bfl().submit(order)
        assert call.body is not None
        yield call.path, json.loads(bytes(call.body))


def ratio(limit: int) -> st.SearchStrategy[str]:
    return st.builds("{}:{}".format, st.integers(1, limit), st.integers(1, limit))


# A caller's own fields, where given, within what BFL documents: they are passed on as they are.
OWN = {
    "aspect_ratio": st.just("4:3"),
    "height": st.just(512),
    "image_prompt": st.just("QUJD"),
    "image_prompt_strength": st.floats(0, 1),
    "output_format": st.sampled_from(["jpeg", "png", "webp"]),
    "prompt_upsampling": st.booleans(),
    "raw": st.booleans(),
    "safety_tolerance": st.integers(0, 6),
    "seed": st.integers(0, 2**32 - 1),
    "webhook_secret": st.text(st.characters(codec="utf-8"), max_size=8),
    "width": st.just(256),
}
ASKED = st.fixed_dictionaries(
    {"prompt": st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)},
    optional={
        "seed": st.one_of(st.just(0), st.integers(0, 2**64 - 1)),
        "safety_tolerance": st.integers(0, 6),
        "guidance": st.floats(0.01, 100),
        "steps": st.integers(1, 100),
        "prompt_upsampling": st.booleans(),
        "output_format": st.sampled_from(["jpeg", "png", "webp"]),
        "num_images": st.integers(1, 3),
        "webhook_url": st.just("https://example.com/hook"),
    },
)
SHAPES = st.one_of(
    st.just({}),
    st.builds(lambda value: {"aspect_ratio": value}, ratio(30)),
    st.builds(
        lambda width, height: {"size": (width * 32, height * 32)}, width=st.integers(1, 50), height=st.integers(1, 50)
    ),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize(("model", "mode"), MODES)
def test_every_body_that_we_make_fits_bfls_own_schema(model: str, mode: str, data: st.DataObject) -> None:
    images = data.draw(st.lists(st.sampled_from([BYTES, LINK]), min_size=1, max_size=5)) if mode == "edit" else []
    own = {name: value for name, value in OWN.items() if name in FACTS.models[model].passthrough}
    options = data.draw(st.fixed_dictionaries({}, optional=own))
    asked = data.draw(ASKED) | data.draw(SHAPES)
    sources = [image.data or image.url for image in images]
    request = ImageRequest(images=sources, provider_options={"bfl": options}, **asked)

    for path, body in calls(model, request, images):
        assert set() == body.keys() - schema(path)["properties"].keys()
        check(body, schema(path))


@pytest.mark.parametrize(("model", "mode"), MODES)
def test_each_model_has_an_endpoint_of_its_own_that_is_posted_to(model: str, mode: str) -> None:
    images = [BYTES] if mode == "edit" else []

    ((path, body),) = calls(model, ImageRequest("a cat", [b"x"] if images else ()), images)

    assert f"/v1/{FACTS.models[model].wire_name}" == path
    assert "post" in document()["paths"][path]
    assert ("input_image" in body) is (mode == "edit")


def sent(model: str) -> dict[str, set[str]]:
    """Every field that we can send of our own, by path: all options are set, as many images as go."""
    found: dict[str, set[str]] = {}
    for mode, facts in FACTS.models[model].modes.items():
        for shape in ({"aspect_ratio": "1:1"}, {"size": (512, 512)}):
            images = [BYTES] * facts.max_images if mode == "edit" else []
            dials = {"seed": 1, "prompt_upsampling": True, "webhook_url": "https://example.com/hook"}
            request = ImageRequest("a cat", [b"x"] * len(images), **dials, **shape)
            for path, body in calls(model, request, images):
                found.setdefault(path, set()).update(body)
    return found


@pytest.mark.parametrize("model", FACTS.models)
def test_a_documented_field_is_sent_or_may_be_set_by_the_caller_or_is_listed_here(model: str) -> None:
    ((path, ours),) = sent(model).items()

    assert NEITHER[path] == schema(path)["properties"].keys() - ours - FACTS.models[model].passthrough.keys()


@pytest.mark.parametrize("model", FACTS.models)
def test_a_caller_may_set_only_what_the_endpoint_documents(model: str) -> None:
    assert FACTS.models[model].passthrough.keys() <= schema(f"/v1/{FACTS.models[model].wire_name}")["properties"].keys()


def test_the_fields_that_are_ours_alone_are_words_of_bfls() -> None:
    words = {name for path in NEITHER for name in schema(path)["properties"]}

    assert FACTS.reserved_options.keys() <= words


def test_a_field_that_a_model_does_not_have_would_be_found() -> None:
    assert {"image"} == {"prompt", "image"} - schema("/v1/flux-kontext-pro")["properties"].keys()
    with pytest.raises(jsonschema.ValidationError):
        check({"prompt": "a cat", "safety_tolerance": "2"}, schema("/v1/flux-kontext-pro"))


def test_the_key_goes_into_the_header_that_is_documented() -> None:
    scheme = document()["components"]["securitySchemes"]["APIKeyHeader"]

    assert ("header", scheme["name"]) == (scheme["in"], FACTS.auth[0])


# ---------------------------------------------------------------------------------------------------------- replies


def test_every_documented_status_is_known_and_what_we_know_besides_is_listed_here() -> None:
    documented = set(document()["components"]["schemas"]["StatusResponse"]["enum"])

    assert documented | LATER == {*IN_FLIGHT, *MODERATED, NOT_FOUND, "Ready", "Error"}
    assert LATER == LATER - documented


def test_no_documented_status_is_read_as_a_stranger() -> None:
    task = Task("one", "https://api.bfl.ai/v1/get_result?id=one")
    for status in document()["components"]["schemas"]["StatusResponse"]["enum"]:
        body = json.dumps({"id": "one", "status": status, "result": {"sample": "https://example.com/a.jpeg"}})
        state = Bfl().read(Reply(Bfl().poll(task), 200, {}, body.encode()), task)

        assert not isinstance(state, Running) or state.known, status
        assert not isinstance(state, Refused) or status == NOT_FOUND


def test_the_calls_beside_the_submit_are_documented_too() -> None:
    poll, credit = Bfl().poll(Task("one")), Bfl().check()
    path, _, query = poll.path.partition("?")

    assert ("GET", "GET") == (poll.method, credit.method)
    assert ["id"] == [one["name"] for one in document()["paths"][path]["get"]["parameters"]]
    assert "id=one" == query
    assert {"get"} == document()["paths"][credit.path].keys()
    assert ["credits"] == document()["components"]["schemas"]["CreditsResponse"]["required"]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Sandbox(providers=["bfl"], seconds=1000) as sandbox:
        found = sandbox.emulators["bfl"]
        found.megapixels = 0.02
        yield found


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10, verify=False, headers={"x-key": "sandbox"}) as one:
        yield one


def photo() -> str:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "orange").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


Post = Callable[..., httpx.Response]


@pytest.fixture
def post(emulator: Emulator, client: httpx.Client) -> Post:
    def send(model: str = "flux-kontext-pro", **fields: Any) -> httpx.Response:
        return client.post(f"{emulator.origins['api']}/v1/{model}", json={"prompt": "make it blue", **fields})

    return send


@pytest.mark.sandbox
@pytest.mark.parametrize("more", [{}, {"webhook_url": "https://example.com/hook"}], ids=["plain", "webhook"])
@pytest.mark.parametrize("model", FACTS.models)
def test_the_emulator_answers_a_submit_as_documented(post: Post, model: str, more: dict[str, str]) -> None:
    wire_name = FACTS.models[model].wire_name

    reply = post(wire_name, **more)

    check(reply.json(), answer(f"/v1/{wire_name}", "post"))
    shape = "AsyncWebhookResponse" if more else "AsyncResponse"
    assert document()["components"]["schemas"][shape]["properties"].keys() == reply.json().keys()


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (None, "Ready"),
        ("moderated", "Request Moderated"),
        ("moderated-output", "Content Moderated"),
        ("failed", "Error"),
        ("not-found-always", "Task not found"),
        ("never-ends", "Pending"),
    ],
)
def test_the_emulator_answers_a_poll_as_documented(
    emulator: Emulator, client: httpx.Client, post: Post, fault: str | None, status: str
) -> None:
    if fault:
        emulator.inject(fault)
    url = post(input_image=photo()).json()["polling_url"]
    emulator.advance(emulator.seconds)

    reply = client.get(url).json()

    check(reply, answer("/v1/get_result", "get"))
    assert status == reply["status"]
    # The settled cost came after this document (bfl-8).
    assert reply.keys() - {"cost"} == document()["components"]["schemas"]["ResultResponse"]["properties"].keys() - {
        "cost"
    }


@pytest.mark.sandbox
def test_the_emulator_answers_a_wrong_field_and_a_question_for_the_balance_as_documented(
    emulator: Emulator, client: httpx.Client, post: Post
) -> None:
    wrong = post(safety_tolerance=7)
    credit = client.get(f"{emulator.origins['api']}/v1/credits")

    assert 422 == wrong.status_code
    check(wrong.json(), answer("/v1/flux-kontext-pro", "post", "422"))
    check(credit.json(), answer("/v1/credits", "get"))
