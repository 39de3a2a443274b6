"""The Together adapter against the payloads of its protocol sheet; the quirk ids are those of its README.

No recorded reply was found: payloads are the documentation's, from others' notes of replies, or ours.
"""

import ast
import base64
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

import anykontext_together
from anykontext.adapting import (
    Adapter,
    Base64,
    Call,
    Cancels,
    Checks,
    Choices,
    Effective,
    Failed,
    InputImage,
    Kind,
    Numbers,
    Output,
    Purpose,
    Ratios,
    Refused,
    Reply,
    Sizes,
    State,
    Succeeded,
    Task,
    json_body,
)
from anykontext.engine.ends import ended_by
from anykontext.engine.misfit import Misfit
from anykontext.engine.money_table import Again, Charged, Happened, Row, after_submit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import UntrustedUrl, address
from anykontext.engine.submit import Step
from anykontext.model.errors import UnsupportedOption
from anykontext.model.money import Price
from anykontext.model.request import ImageRequest
from anykontext.plugins import Plugin, Registry
from anykontext_together import Together
from anykontext_together.facts import FACTS

ADAPTER = Together()
PACKAGE = Path(anykontext_together.__file__).parent
PRO, MAX, PRO_11 = "flux-kontext-pro", "flux-kontext-max", "flux-1.1-pro"
SUBMIT = Call(Purpose.SUBMIT, "POST", "/v1/images/generations")
JPEG = InputImage(b"\xff\xd8\xff picture", None, "image/jpeg", 640, 480)
LINK = InputImage(None, "https://cdn.pixabay.com/photo/cat.jpg?a=b", None, None, None)


def provider() -> Provider:
    origins = {"api": "https://api.together.ai"}
    return Provider(
        "together", ADAPTER, origins, key=lambda: SecretStr("k"), listed={PRO: Price.set_by_user(Decimal("0.04"))}
    )


def step(prompt: str = "make it blue", *images: InputImage, strict: bool = False, **fields: Any) -> Step:
    sources = tuple(image.url or b"bytes" for image in images)
    request = ImageRequest(prompt, list(sources) if sources else (), **fields)
    return negotiate(request, images, Candidate(provider(), request.canonical_model), Policy(strict=strict))


def sent(*images: InputImage, **fields: Any) -> dict[str, Any]:
    (order,) = step("make it blue", *images, **fields).orders
    call = ADAPTER.submit(order)
    assert call.body is not None
    assert (call.purpose, call.method, call.origin, call.path) == (Purpose.SUBMIT, "POST", "api", SUBMIT.path)
    found: dict[str, Any] = json.loads(bytes(call.body))
    return found


def read(status: int, body: Any, **headers: str) -> State:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ADAPTER.read(Reply(SUBMIT, status, headers, raw), None)


def row(status: int, body: Any) -> Row | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = Reply(SUBMIT, status, {}, raw)
    return after_submit(reply, ADAPTER.read(reply, None), FACTS)


def error(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """The shape of ErrorData [DOC]."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# ------------------------------------------------------------------------------------------------------- what is sent


def test_together_3_9_an_edit_is_a_generation_with_a_data_uri_answered_as_base64() -> None:
    body = sent(JPEG, seed=0, aspect_ratio="16:9")

    assert body == {
        "model": "black-forest-labs/FLUX.1-kontext-pro",
        "prompt": "make it blue",
        "image_url": "data:image/jpeg;base64," + base64.b64encode(JPEG.data or b"").decode(),
        "aspect_ratio": "16:9",
        "seed": 0,
        "n": 1,
        "output_format": "jpeg",
        "response_format": "base64",
    }


def test_together_9_the_image_is_never_built_as_one_text() -> None:
    image = InputImage(bytes(1_000_000), None, "image/png", 10, 10)
    (order,) = step("make it blue", image, aspect_ratio="1:1").orders
    body = ADAPTER.submit(order).body
    assert body is not None
    pieces = list(body.chunks())

    assert [part.prefix for part in body.parts if isinstance(part, Base64)] == ["data:image/png;base64,"]
    assert max(map(len, pieces)) <= 262_144
    assert len(body) == sum(map(len, pieces))


@given(data=st.binary(max_size=50), word=st.sampled_from(["", "data:image/webp;base64,"]))
def test_base64_with_a_prefix_knows_its_length_and_is_one_json_text(data: bytes, word: str) -> None:
    part = Base64(data, word)
    text = word + base64.b64encode(data).decode()

    assert b"".join(part.chunks()) == text.encode()
    assert len(part) == len(text)
    assert bytes(json_body({"image_url": part})) == orjson.dumps({"image_url": text})


def test_together_9_a_url_is_passed_on_as_it_is() -> None:
    assert sent(LINK, aspect_ratio="1:1")["image_url"] == LINK.url


@pytest.mark.parametrize(
    ("model", "wire"),
    [
        (PRO, "black-forest-labs/FLUX.1-kontext-pro"),
        (MAX, "black-forest-labs/FLUX.1-kontext-max"),
        (PRO_11, "black-forest-labs/FLUX.1.1-pro"),
    ],
)
def test_models_have_the_providers_names(model: str, wire: str) -> None:
    assert sent(model=model)["model"] == wire


@pytest.mark.parametrize(
    ("model", "asked", "shape"),
    [
        (PRO, {}, {"aspect_ratio": "1:1"}),
        (MAX, {"aspect_ratio": "16:9"}, {"aspect_ratio": "16:9"}),
        (PRO, {"size": (1024, 768)}, {"width": 1024, "height": 768}),
        (PRO_11, {}, {"width": 1024, "height": 1024}),
        (PRO_11, {"aspect_ratio": "4:3"}, {"width": 1152, "height": 864}),
        (PRO_11, {"size": (1024, 768)}, {"width": 1024, "height": 768}),
    ],
)
def test_together_7_kontext_gets_a_ratio_or_a_size_and_1_1_pro_a_size(
    model: str, asked: dict[str, Any], shape: dict[str, Any]
) -> None:
    body = sent(model=model, **asked)

    assert {name: body[name] for name in ("aspect_ratio", "width", "height") if name in body} == shape


def test_together_8_an_edit_without_a_ratio_is_sent_the_size_of_its_inputs() -> None:
    body = sent(JPEG)

    assert body["width"] * 3 == body["height"] * 4
    assert 0.8e6 < body["width"] * body["height"] < 1.3e6
    assert "aspect_ratio" not in body


@pytest.mark.parametrize("size", [(1000, 1001), (248, 1024), (1024, 1800)])
def test_together_8_a_size_off_the_grid_is_a_misfit(size: tuple[int, int]) -> None:
    with pytest.raises(Misfit, match="the nearest is"):
        step(size=size)


@pytest.mark.parametrize("ratio", ["9:21", "21:9", "1:1", "3:2"])
def test_together_7_8_every_ratio_fits_at_one_megapixel(ratio: str) -> None:
    width, height = map(int, ratio.split(":"))

    assert sent(aspect_ratio=ratio)["aspect_ratio"] == ratio
    sides = ((1_048_576 * width / height) ** 0.5, (1_048_576 * height / width) ** 0.5)
    assert all(256 <= side <= 1792 for side in sides)


@pytest.mark.parametrize(("count", "tasks"), [(1, [1]), (3, [3]), (4, [4]), (5, [4, 1]), (9, [4, 4, 1])])
def test_together_10_up_to_four_images_are_one_request(count: int, tasks: list[int]) -> None:
    orders = step(num_images=count).orders

    assert [json.loads(bytes(ADAPTER.submit(order).body or b""))["n"] for order in orders] == tasks


def test_together_10_a_seed_that_is_too_large_is_sent_as_its_remainder() -> None:
    made = step(seed=2**32 + 5)

    assert made.orders[0].seed == 5
    assert [one.option for one in made.adjustments] == ["seed"]


def test_together_11_12_dials_that_it_lacks_are_left_out_and_recorded() -> None:
    asked: dict[str, Any] = {
        "safety_tolerance": 0,
        "guidance": 4.0,
        "steps": 30,
        "prompt_upsampling": True,
        "output_format": "webp",
    }
    made = step(**asked)
    body = json.loads(bytes(ADAPTER.submit(made.orders[0]).body or b""))

    assert set(body) == {"model", "prompt", "aspect_ratio", "n", "output_format", "response_format"}
    assert body["output_format"] == "jpeg"
    assert {one.option: (one.sent, one.more_permissive) for one in made.adjustments} == {
        "output_format": ("jpeg", False),
        "safety_tolerance": (None, True),
        "guidance": (None, False),
        "steps": (None, False),
        "prompt_upsampling": (None, False),
    }
    for option, value in asked.items():
        with pytest.raises(Misfit):
            step("make it blue", strict=True, **{option: value})


def test_together_9_one_input_image_and_none_for_1_1_pro() -> None:
    with pytest.raises(Misfit, match="at most 1 input image"):
        step("make it blue", JPEG, JPEG)
    with pytest.raises(Misfit, match="generate only"):
        step("make it blue", JPEG, model=PRO_11)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n": 4}, "num_images"),
        ({"model": "x"}, "model"),
        ({"prompt": "x"}, "prompt"),
        ({"image_url": "https://x"}, "images"),
        ({"disable_safety_checker": True}, "disable_safety_checker"),
        ({"steps": 50}, "steps"),
        ({"image_base64": "x"}, "image_base64"),
        ({"condition_image": "x"}, "condition_image"),
    ],
)
def test_together_12_a_field_that_costs_or_is_not_documented_is_no_provider_option(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedOption, match=named):
        step(provider_options={"together": options})


def test_provider_options_come_last() -> None:
    body = sent(provider_options={"together": {"response_format": "url", "negative_prompt": "fog"}})

    assert list(body)[-1] == "negative_prompt"
    assert body["response_format"] == "url"


def test_together_1_there_is_nothing_to_poll_check_or_cancel() -> None:
    assert not isinstance(ADAPTER, Checks | Cancels)
    with pytest.raises(UntrustedUrl):
        address(ADAPTER.poll(Task("one", "https://api.together.ai/one")), provider())


# ------------------------------------------------------------------------------------------------------- what is read


def image_list(*data: Any) -> dict[str, Any]:
    """The envelope of ImageResponse [DOC]."""
    return {"id": "<string>", "model": "<string>", "object": "list", "data": list(data)}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (image_list({"index": 0, "b64_json": "QUJD", "type": "b64_json"}), (Output(base64="QUJD"),)),
        (
            image_list({"index": 0, "url": "https://api.together.ai/x", "type": "url"}),
            (Output("https://api.together.ai/x"),),
        ),
        (
            image_list({"index": 0, "b64_json": "QUJD", "type": "b64_json"}, {"index": 1, "url": "https://x/y"}),
            (Output(base64="QUJD"), Output("https://x/y")),
        ),
        ({"data": [{"index": 0, "b64_json": "QUJD"}]}, (Output(base64="QUJD"),)),
        (image_list({"index": 0, "b64_json": "QUJD", "url": None}), (Output(base64="QUJD"),)),
        (image_list({"index": 0, "b64_json": None, "url": "https://x/y"}), (Output("https://x/y"),)),
        (image_list({"index": 0, "type": "asset"}, {"index": 1, "b64_json": "QUJD"}), (Output(base64="QUJD"),)),
        ({**image_list({"b64_json": "QUJD"}), **error("a warning")}, (Output(base64="QUJD"),)),
    ],
)
def test_together_1_2_the_reply_to_the_submit_holds_the_images(body: Any, outputs: tuple[Output, ...]) -> None:
    found = read(200, body)

    assert isinstance(found, Succeeded)
    assert found.outputs == outputs
    assert (found.task, found.seed, found.prompt, found.cost_usd) == (
        None,
        None,
        None,
        None,
    )  # together-10, together-16
    assert row(200, body) is None


def test_an_image_is_not_in_the_repr_of_what_was_read() -> None:
    assert "QUJD" not in repr(read(200, image_list({"b64_json": "QUJD"})))


@pytest.mark.parametrize(
    "body",
    [
        image_list(),
        image_list({"index": 0, "type": "asset", "asset": "x"}),
        image_list({"b64_json": "", "url": ""}),
        image_list({"b64_json": 7}),
        image_list("QUJD", None),
        {"data": {"b64_json": "QUJD"}},
        {"status": "queued", "id": "1"},
        error("no"),
        [],
        b"<html>Welcome</html>",
        b"",
    ],
)
def test_together_2_a_reply_without_an_image_may_have_been_paid(body: Any) -> None:
    found = row(200, body)

    assert isinstance(read(200, body), Refused)
    assert found is not None
    assert (found.kind, found.charged, found.again) == (Kind.OUTCOME_UNKNOWN, Charged.MAYBE, Again.NEVER)


REFUSALS = [
    pytest.param(400, error("Misconfigured request"), Kind.REQUEST_REJECTED, id="400"),
    pytest.param(401, error("Invalid API key provided", code="invalid_api_key"), Kind.AUTHENTICATION_FAILED, id="401"),
    pytest.param(402, error("reached its spending limit"), Kind.OUT_OF_CREDIT, id="together_17_402"),
    pytest.param(403, error("context length"), Kind.REQUEST_REJECTED, id="together_4_403"),
    pytest.param(404, error("Unable to access model"), Kind.REQUEST_REJECTED, id="404"),
    pytest.param(409, error("Conflict"), Kind.UNAVAILABLE, id="together_14_409"),
    pytest.param(422, error("width must be a multiple of 8"), Kind.REQUEST_REJECTED, id="422"),
    pytest.param(422, error("image may contain NSFW content"), Kind.MODERATED, id="together_5_422"),
    pytest.param(418, error("I'm a teapot"), Kind.REQUEST_REJECTED, id="418"),
    pytest.param(400, {"error": {}}, Kind.REQUEST_REJECTED, id="without_a_message"),
    pytest.param(400, {"error": {"message": ["no"]}}, Kind.REQUEST_REJECTED, id="with_a_list"),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_a_refusal_is_known_by_status_and_is_not_charged(status: int, body: Any, kind: Kind) -> None:
    found, told = read(status, body), row(status, body)

    assert isinstance(found, Refused)
    assert (found.kind, found.shape) == (kind, "error")
    assert told is not None
    assert (told.happened, told.charged, told.again) == (Happened.REFUSED, Charged.NO, Again.NEVER)


def test_together_5_what_was_flagged_is_told_where_the_reply_tells_it() -> None:
    refused = read(422, error("image may contain NSFW content"))
    assert isinstance(refused, Refused)
    assert (refused.stage, refused.reasons) == ("unknown", ("image may contain NSFW content",))

    words = (
        "Invalid content detected. The generated content was flagged and rejected by Black Forest Labs's content "
        "moderation system"
    )
    failed = read(400, error(words))
    assert failed == Failed(Kind.MODERATED, words, maybe_charged=True, stage="output", reasons=(words,))


def test_together_6_429_is_not_now_and_503_not_accepted() -> None:
    limited = row(429, error("Too many requests in a short window.", "dynamic_request_limited"))
    overloaded = row(503, error("overloaded", "server_error"))

    assert limited is not None
    assert (limited.happened, limited.charged, limited.again) == (Happened.RATE_LIMITED, Charged.NO, Again.SHORTLY)
    assert overloaded is not None
    assert (overloaded.kind, overloaded.charged, overloaded.again) == (Kind.UNAVAILABLE, Charged.NO, Again.SHORTLY)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, error("Internal server error", "server_error")),
        (502, error("no")),
        (504, error("The request timed out")),
        (408, error("The request timed out")),
        (503, b"<html>Service Unavailable</html>"),
        (503, {"message": "no healthy upstream"}),
        (502, b"<html>Bad Gateway</html>"),
        (403, b"error code: 1010"),
        (429, b"error code: 1015"),
        (401, {"error": "a text"}),
        (302, b""),
        (204, b""),
    ],
)
def test_together_13_14_anything_else_may_have_been_accepted(status: int, body: Any) -> None:
    found = row(status, body)

    assert found is not None
    assert (found.kind, found.charged, found.again) == (Kind.OUTCOME_UNKNOWN, Charged.MAYBE, Again.NEVER)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(["image may contain NSFW content", "content moderation", "generated content", "url", ""])
LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT | WORDS
KEYS = st.sampled_from(["data", "b64_json", "url", "type", "index", "error", "message", "code", "param", "id", "model"])
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=6), max_leaves=20
)
STATUS = st.sampled_from([200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504, 0, 999])
DEEP = [b'{"%s":' % key + b"[" * 900 + b"]" * 900 + b"}" for key in (b"data", b"error", b"message")]


def check(purpose: Purpose, status: int, body: bytes) -> None:
    reply = Reply(Call(purpose, "POST", "/"), status, {"retry-after": "1"}, body)
    found = ADAPTER.read(reply, None)

    assert isinstance(found, Succeeded | Failed | Refused)
    if isinstance(found, Succeeded):
        assert all(bool(one.url) is not bool(one.base64) for one in found.outputs)
        assert found.outputs
    told = after_submit(reply, found, FACTS)
    assert (told is None) is isinstance(found, Succeeded)
    if told is not None:
        assert ended_by(told, reply, found).message


@settings(max_examples=300, deadline=None)
@given(purpose=st.sampled_from(list(Purpose)), status=STATUS, body=st.binary(max_size=300))
def test_read_never_raises_on_any_bytes(purpose: Purpose, status: int, body: bytes) -> None:
    check(purpose, status, body)


@settings(max_examples=300, deadline=None)
@example(status=200, body={"data": [{"b64_json": {"b64_json": 1}}]})
@example(status=422, body={"error": {"message": {"nsfw": "NSFW"}}})
@given(status=STATUS, body=JSON)
def test_read_never_raises_on_any_json(status: int, body: Any) -> None:
    check(Purpose.SUBMIT, status, orjson.dumps(body))


@pytest.mark.parametrize("body", DEEP)
def test_read_never_raises_on_deep_json(body: bytes) -> None:
    for status in (200, 400, 503):
        check(Purpose.SUBMIT, status, body)


# ------------------------------------------------------------------------------------------------- the facts themselves


def registry() -> Registry:
    return Registry([Plugin("together", "", "anykontext_together", (ADAPTER,))])


def test_the_hook_brings_the_adapter() -> None:
    found: list[Adapter] = []
    anykontext_together.anykontext_adapters(found.append)

    assert [one.facts.name for one in found] == ["together"]


def test_together_16_prices_are_listed_as_unverified_and_1_1_pro_has_none() -> None:
    prices = registry().prices("together")

    assert {model: price.amount for model, price in prices.items()} == {PRO: Decimal("0.04"), MAX: Decimal("0.08")}
    assert {price.evidence for price in prices.values()} == {"together-16"}
    assert all("unverified" in price.source for price in prices.values())


def test_together_15_the_key_goes_to_both_domains_and_no_other() -> None:
    def signed(url: str) -> bool:
        return address(Call(Purpose.FETCH, "GET", url, origin=None), provider()).signed

    assert signed("https://api.together.xyz/v1/x")
    assert signed("https://api.together.ai/v1/x")
    assert not signed("https://together.ai.example.com/v1/x")
    assert not signed("http://api.together.xyz/v1/x")


def test_every_evidence_is_a_quirk_that_is_told() -> None:
    specs = [
        spec
        for model in FACTS.models.values()
        for mode in model.modes.values()
        for spec in mode.options.values()
        if isinstance(spec, Numbers | Choices | Ratios | Sizes)
    ]
    named = [*FACTS.evidence.values(), FACTS.inputs.evidence, *(one.evidence for one in FACTS.rejections)]

    assert {*named, *(spec.evidence for spec in specs)} <= set(FACTS.quirks)
    assert set(FACTS.evidence) <= set(dir(FACTS))


def test_every_quirk_that_the_code_names_exists_and_the_readme_tells_each() -> None:
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (together-\d+) \|", readme, re.MULTILINE)
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))

    assert told == list(FACTS.quirks)
    assert set(re.findall(r"together-\d+", code)) == set(FACTS.quirks)


def test_every_quirk_has_a_test() -> None:
    tests = [
        *Path(__file__).parent.glob("test_together_*.py"),
        Path(__file__).parents[1] / "oracles/test_together_sdk.py",
    ]
    words = [
        word for path in tests for word in re.findall(r"(?:def test_|id=\")together_([\d_]+)", path.read_text("utf-8"))
    ]
    tested = {f"together-{number}" for word in words for number in word.strip("_").split("_")[:4] if number}

    assert set(FACTS.quirks) <= tested


def test_the_adapter_imports_the_contract_and_pure_parts_of_the_standard_library_only() -> None:
    for name in ("adapter", "facts", "told", "__init__"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

        assert found <= {
            *("anykontext.adapting", "collections.abc", "typing"),
            *("anykontext_together.adapter", "anykontext_together.facts", "anykontext_together.told"),
        }


def test_an_order_that_sets_nothing_sends_only_what_is_needed() -> None:
    order = Effective(PRO, FACTS.models[PRO], "generate", "a cat")
    body: Mapping[str, Any] = json.loads(bytes(ADAPTER.submit(order).body or b""))

    assert list(body) == ["model", "prompt", "n", "response_format"]
