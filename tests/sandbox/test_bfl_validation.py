"""The validator of BFL's emulator, against pydantic itself and BFL's OpenAPI."""

import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import pytest

from anykontext_bfl.emulator.models import KONTEXT, MODELS, REQUIRED
from anykontext_bfl.emulator.validation import validate

OPENAPI = Path(__file__).parents[3] / "shared/protocols/bfl-openapi.json"

KINDS: Mapping[str, Any] = {
    "str": str,
    "ratio": str,
    "int": int,
    "float": float,
    "bool": bool,
    "url": pydantic.HttpUrl,
}
VALUES = ["", "x", "5", "0.5", "yes", "jpeg", "gif", "https://example.com/", "ftp://x/", True, 0, 1, 7, -1]
VALUES += [1.0, 1.5, 256, 1000, 1472, None, [], {}]


def pydantic_model(name: str) -> type[pydantic.BaseModel]:
    formats = enum.Enum("formats", {word: word for word in ("jpeg", "png", "webp")})
    definitions: dict[str, Any] = {}
    for field_name, field in MODELS[name].fields.items():
        kind = formats if field.kind == "format" else KINDS[field.kind]
        limits = pydantic.Field(
            default=... if field.default is REQUIRED else field.default,
            ge=field.ge,
            le=field.le,
            multiple_of=field.multiple_of,
        )
        definitions[field_name] = (kind | None if field.nullable else kind, limits)
    return pydantic.create_model(name, **definitions)


@pytest.mark.parametrize("name", MODELS)
def test_validation_errors_are_pydantics_own(name: str) -> None:
    oracle = pydantic_model(name)
    for field_name, field in MODELS[name].fields.items():
        for value in VALUES:
            if field.kind == "ratio" and isinstance(value, str):
                continue  # our own rule
            body = {"prompt": "x", field_name: value}
            try:
                oracle(**body)
                expected = []
            except pydantic.ValidationError as error:
                expected = error.errors(include_url=False)
            problems = validate(MODELS[name], body)[1]

            assert [{**problem, "loc": tuple(problem["loc"][1:])} for problem in problems] == expected, body


@pytest.mark.skipif(not OPENAPI.exists(), reason="BFL's OpenAPI is the vendor's text and not part of the project")
@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("flux-kontext-pro", "FluxKontextProInputs"),
        ("flux-pro-1.1", "FluxPro11Inputs"),
        ("flux-pro-1.1-ultra", "FluxUltraInput"),
    ],
)
def test_the_tables_are_those_of_the_official_openapi(name: str, schema: str) -> None:
    official = json.loads(OPENAPI.read_text(encoding="utf-8"))["components"]["schemas"][schema]
    fields = MODELS[name].fields

    assert set(fields) == set(official["properties"])
    for field_name, known in official["properties"].items():
        field = fields[field_name]
        assert (field.default is REQUIRED) == (field_name in official.get("required", ()))
        assert field.default in {REQUIRED, known.get("default")}, field_name
        assert field.nullable == any(option.get("type") == "null" for option in known.get("anyOf", ()))
        limits = (known.get("minimum"), known.get("maximum"), known.get("multipleOf"))
        assert (field.ge, field.le, field.multiple_of) == limits


def test_kontext_has_no_field_that_bfl_does_not_document() -> None:
    assert not {"width", "height", "steps", "guidance", "image", "num_images"} & KONTEXT.keys()
