import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anykontext.model.errors import InvalidRequest
from anykontext.model.image import ImageSource
from anykontext.model.request import OTHER_WORDS, SEED_MAX, ImageRequest

WRONG = [
    ({"prompt": ""}, "the prompt is empty"),
    ({"prompt": " \n\t"}, "the prompt is empty"),
    ({"prompt": None}, "prompt"),
    ({"prompt": b"bytes"}, "prompt"),
    ({"prompt": "half \ud800"}, "half a character"),
    ({"images": None}, "not NoneType"),
    ({"images": 7}, "not int"),
    ({"images": [b"x", 7]}, "not int"),
    ({"images": [[b"x"]]}, "not list"),
    ({"images": ""}, "the path given is empty"),
    ({"images": "ftp://x.example/a.png"}, "http or https, not 'ftp'"),
    ({"model": ""}, "model"),
    ({"model": None}, "model"),
    ({"aspect_ratio": "16/9"}, 'written as "16:9"'),
    ({"aspect_ratio": "0:1"}, 'written as "16:9"'),
    ({"aspect_ratio": "-1:1"}, 'written as "16:9"'),
    ({"aspect_ratio": "16:9:4"}, 'written as "16:9"'),
    ({"aspect_ratio": 1.5}, 'written as "16:9"'),
    ({"aspect_ratio": "123456:1"}, 'written as "16:9"'),
    ({"size": (0, 0)}, "(width, height)"),
    ({"size": (0, 512)}, "(width, height)"),
    ({"size": (-512, 512)}, "(width, height)"),
    ({"size": (100_000, 512)}, "(width, height)"),
    ({"size": (512,)}, "(width, height)"),
    ({"size": (1, 2, 3)}, "(width, height)"),
    ({"size": (512.5, 512)}, "a whole number"),
    ({"size": (True, 512)}, "not a boolean"),
    ({"size": "512"}, "(width, height)"),
    ({"size": 512}, "(width, height)"),
    ({"size": "0x512"}, "(width, height)"),
    ({"size": (512, 512), "aspect_ratio": "1:1"}, "not both"),
    ({"output_format": "gif"}, "'jpeg', 'png' or 'webp'"),
    ({"output_format": "JPEG"}, "'jpeg', 'png' or 'webp'"),
    ({"output_format": None}, "'jpeg', 'png' or 'webp'"),
    ({"seed": -1}, "0 to 2^64 - 1, not -1"),
    ({"seed": 2**64}, "0 to 2^64 - 1, not 18446744073709551616"),
    ({"seed": 10**5000}, "0 to 2^64 - 1"),
    ({"seed": True}, "not a boolean"),
    ({"seed": 1.0}, "a whole number is needed, not 1.0"),
    ({"seed": "7"}, "a whole number is needed, not '7'"),
    ({"safety_tolerance": -1}, "0"),
    ({"safety_tolerance": 7}, "6, not 7"),
    ({"safety_tolerance": "2"}, "a whole number is needed"),
    ({"safety_tolerance": None}, "a whole number is needed"),
    ({"guidance": 0}, "greater than 0"),
    ({"guidance": -1.0}, "greater than 0"),
    ({"guidance": float("nan")}, "a number is needed, not nan"),
    ({"guidance": float("inf")}, "a number is needed, not inf"),
    ({"guidance": 10**400}, "a number is needed"),
    ({"guidance": "3"}, "a number is needed, not '3'"),
    ({"guidance": True}, "a number is needed"),
    ({"steps": 0}, "1"),
    ({"steps": 2.5}, "a whole number is needed"),
    ({"prompt_upsampling": 1}, "boolean"),
    ({"prompt_upsampling": "yes"}, "boolean"),
    ({"translate_prompt": None}, "boolean"),
    ({"num_images": 0}, "1"),
    ({"num_images": True}, "not a boolean"),
    ({"watermark": ""}, "watermark"),
    ({"watermark": 7}, "watermark"),
    ({"webhook_url": "me.example/hook"}, "webhook_url"),
    ({"webhook_url": "https://me.example/a b"}, "webhook_url"),
    ({"webhook_url": "https://me.example/" + "a" * 2083}, "webhook_url"),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"idempotency_key": "k" * 256}, "idempotency_key"),
    ({"tags": {"customer": 7}}, "tags.customer"),
    ({"tags": "customer"}, "tags"),
    ({"tags": {"": "x"}}, "tags: one has an empty name"),
    ({"provider_options": {"bfl": 7}}, "provider_options.bfl"),
    ({"provider_options": []}, "provider_options"),
    ({"promt": "x"}, "did you mean 'prompt'"),
    ({"aspectratio": "1:1"}, "did you mean 'aspect_ratio'"),
    ({"zzz": 1}, "known are: aspect_ratio"),
    ({"self": 1}, "unknown option 'self'"),
]


@pytest.mark.parametrize(("fields", "words"), WRONG, ids=lambda one: "+".join(one) if isinstance(one, dict) else "")
def test_a_bad_field_is_an_invalid_request_that_helps(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ImageRequest(**{"prompt": "a cat", **fields})

    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "a cat" not in str(caught.value)


@pytest.mark.parametrize("word", OTHER_WORDS)
def test_a_habit_from_another_library_is_answered_with_our_word(word: str) -> None:
    with pytest.raises(InvalidRequest, match=f"unknown option '{word}'; here it is called"):
        ImageRequest("a cat", **{word: 1})


@pytest.mark.parametrize(
    ("word", "ours"), [("timeout", "deadline"), ("guidance_scale", "guidance"), ("n", "num_images"), ("width", "size")]
)
def test_the_design_names_these_habits(word: str, ours: str) -> None:
    assert OTHER_WORDS[word].startswith(ours)


def test_a_prompt_is_needed() -> None:
    with pytest.raises(InvalidRequest, match="a prompt is needed"):
        ImageRequest()


def test_several_bad_fields_are_told_together() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ImageRequest("a cat", seed=-1, steps=0)

    assert "seed:" in str(caught.value)
    assert "steps:" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("aspect_ratio", " 16 : 9 ", "16:9"),
        ("aspect_ratio", "32:18", "32:18"),
        ("size", "1024x768", (1024, 768)),
        ("size", "1024 \u00d7 768", (1024, 768)),
        ("size", [1024, 768], (1024, 768)),
        ("output_format", "jpg", "jpeg"),
        ("seed", 0, 0),
        ("seed", SEED_MAX, SEED_MAX),
        ("safety_tolerance", 0, 0),
        ("safety_tolerance", 6, 6),
        ("guidance", 3, 3.0),
        ("prompt_upsampling", False, False),
    ],
)
def test_good_values_are_kept(field: str, given: Any, kept: Any) -> None:
    assert kept == getattr(ImageRequest("a cat", **{field: given}), field)


def test_defaults() -> None:
    request = ImageRequest("a cat")

    assert ("flux-kontext-pro", "jpeg", 2, 1) == (
        *(request.model, request.output_format),
        *(request.safety_tolerance, request.num_images),
    )
    assert (None, None, None, False) == (
        *(request.aspect_ratio, request.size),
        *(request.seed, request.prompt_upsampling),
    )
    assert {"prompt"} == request.model_fields_set


def test_the_mode_follows_the_images() -> None:
    assert "generate" == ImageRequest("a cat").mode
    assert "generate" == ImageRequest("a cat", []).mode
    assert "edit" == ImageRequest("a cat", b"x").mode
    assert "edit" == ImageRequest("a cat", images=[b"x", "https://x.example/a.png"]).mode


def test_a_provider_can_be_pinned_in_the_model() -> None:
    pinned, free = ImageRequest("a cat", model="bfl-eu/flux-kontext-max"), ImageRequest("a cat")

    assert ("bfl-eu", "flux-kontext-max") == (pinned.pinned_provider, pinned.canonical_model)
    assert (None, "flux-kontext-pro") == (free.pinned_provider, free.canonical_model)


def test_a_request_is_frozen_and_its_mappings_are_read_only() -> None:
    request = ImageRequest("a cat", tags={"a": "b"}, provider_options={"bfl": {"x": [1, {"y": 2}]}})

    with pytest.raises(ValueError, match="frozen"):
        request.seed = 1  # type: ignore[misc]
    for mapping in (request.tags, request.provider_options, request.provider_options["bfl"]):
        with pytest.raises(TypeError):
            mapping["z"] = "z"  # type: ignore[index]
    with pytest.raises(TypeError):
        request.provider_options["bfl"]["x"][0] = 2
    with pytest.raises(TypeError):
        request.provider_options["bfl"]["x"][1]["y"] = 3


def test_the_callers_own_mapping_may_change_later() -> None:
    tags = {"a": "b"}
    request = ImageRequest("a cat", tags=tags)

    tags["a"] = "c"

    assert {"a": "b"} == request.tags


def test_equal_requests_are_equal_and_have_one_hash() -> None:
    first, second = (ImageRequest("a cat", b"x", tags={"a": "b"}, provider_options={"p": {"k": [1]}}) for _ in "12")

    assert first == second
    assert hash(first) == hash(second)
    assert first != ImageRequest("a dog", b"x")
    assert 1 == len({first, second})


def test_a_request_can_be_pickled_and_copied() -> None:
    request = ImageRequest("a cat", b"x", tags={"a": "b"}, provider_options={"p": {"k": [1]}}, seed=0)

    for again in (pickle.loads(pickle.dumps(request)), copy.copy(request), copy.deepcopy(request)):
        assert request == again
        assert request.model_fields_set == again.model_fields_set
        assert hash(request) == hash(again)


def test_neither_bytes_nor_links_are_in_a_repr() -> None:
    request = ImageRequest("a cat", [b"SECRETBYTES", "https://x.example/a?sig=hush"])

    assert "SECRETBYTES" not in repr(request)
    assert "hush" not in repr(request)


# ------------------------------------------------------------------------------------------------------------- JSON


def test_json_holds_only_what_the_caller_set() -> None:
    assert '{"prompt": "a cat", "seed": 0}' == ImageRequest("a cat", seed=0).to_json()


FIELDS = st.fixed_dictionaries(
    {"prompt": st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)},
    optional={
        "images": st.lists(st.binary(max_size=20) | st.just("https://x.example/a.png"), max_size=3),
        "model": st.sampled_from(["flux-kontext-pro", "bfl/flux-1.1-pro"]),
        "aspect_ratio": st.sampled_from(["1:1", "16:9"]),
        "output_format": st.sampled_from(["jpeg", "png", "webp"]),
        "seed": st.integers(0, SEED_MAX),
        "safety_tolerance": st.integers(0, 6),
        "guidance": st.floats(0.01, 100),
        "steps": st.integers(1, 10**20),
        "prompt_upsampling": st.booleans(),
        "num_images": st.integers(1, 10),
        "tags": st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=3),
        "provider_options": st.dictionaries(
            st.text(max_size=5),
            st.dictionaries(st.text(max_size=5), st.none() | st.lists(st.integers()) | st.text(), max_size=3),
            max_size=2,
        ),
    },
)


@settings(max_examples=200, deadline=None)
@given(fields=FIELDS)
def test_a_request_survives_json(fields: dict[str, Any]) -> None:
    request = ImageRequest(**fields)

    again = ImageRequest.from_json(request.to_json())

    assert request == again
    assert request.model_fields_set - {"images"} == again.model_fields_set - {"images"}


def test_a_size_survives_json() -> None:
    assert (512, 768) == ImageRequest.from_json(ImageRequest("a cat", size=(512, 768)).to_json()).size


def test_paths_are_written_and_read_only_where_they_are_allowed(tmp_path: Path) -> None:
    request = ImageRequest("a cat", tmp_path / "a.png")
    text = request.to_json(allow_paths=True)

    with pytest.raises(InvalidRequest, match="allow_paths=True"):
        request.to_json()
    with pytest.raises(InvalidRequest, match="allow_paths=True"):
        ImageRequest.from_json(text)
    assert request == ImageRequest.from_json(text, allow_paths=True)


@pytest.mark.parametrize("image", [io.BytesIO(b"x"), Image.new("RGB", (1, 1))], ids=["file", "pil"])
def test_a_file_or_pil_image_cannot_be_written_as_json(image: Any) -> None:
    with pytest.raises(InvalidRequest, match="give its bytes"):
        ImageRequest("a cat", image).to_json()


def test_what_json_cannot_hold_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest, match="JSON cannot"):
        ImageRequest("a cat", provider_options={"bfl": {"x": object()}}).to_json()


HOSTILE = [
    *(
        '{"prompt": "a cat", "images": ["x"]}',
        '{"prompt": "a cat", "images": [{}]}',
        '{"prompt": "a cat", "images": 7}',
    ),
    *('{"prompt": "a cat", "images": [{"base64": 7}]}', '{"prompt": "a cat", "images": [{"base64": "!"}]}'),
    *('{"prompt": "a cat", "images": [{"path": "/etc/passwd"}]}', '{"prompt": "a cat", "images": null}'),
    *('{"prompt": "a cat", "images": [{"url": "/etc/passwd"}]}', '{"prompt": "a cat", "images": [{"data": "/etc"}]}'),
    *('{"prompt": "a cat", "images": [{"file": "x"}]}', '{"prompt": "a cat", "images": [{"url": "", "data": ""}]}'),
    *('{"prompt": "a cat", "images": [{"url": "ftp://x.example/"}]}', '{"prompt": "a cat", "self": 1}'),
    *('{"prompt": "a cat", "cls": 1}', '{"prompt": "a cat", "model_config": {}}', '{"prompt": null}', "{}", "[]"),
    *("null", "7", '"x"', "", "{", "[" * 100_000, '{"prompt": "a cat", "seed": ' + "9" * 5000 + "}"),
    *('{"prompt": "a cat", "guidance": NaN}', '{"prompt": "\\ud800"}', '{"prompt": "a cat", "provider_options": 7}'),
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:40])
def test_hostile_json_is_an_invalid_request(text: str) -> None:
    with pytest.raises(InvalidRequest):
        ImageRequest.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(fields=st.dictionaries(st.sampled_from([*ImageRequest.model_fields, "self", "cls", "kwargs"]), JSON, max_size=4))
def test_any_json_is_a_request_or_an_invalid_one(fields: dict[str, Any]) -> None:
    import json

    try:
        request = ImageRequest.from_json(json.dumps(fields))
    except InvalidRequest:
        return

    assert request.prompt


def test_a_source_of_images_is_kept_in_order() -> None:
    request = ImageRequest("a cat", [b"1", "two.png", "https://x.example/3.png"])

    assert ["bytes", "path", "url"] == [one.form for one in request.images]
    assert all(isinstance(one, ImageSource) for one in request.images)


def test_a_data_uri_survives_json() -> None:
    request = ImageRequest("a cat", "data:image/png;base64,eA==")

    assert request == ImageRequest.from_json(request.to_json())
