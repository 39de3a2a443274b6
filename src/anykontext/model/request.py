"""The canonical request: one meaning at every provider."""

import base64
import json
import operator
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from anykontext.model.errors import InvalidRequest
from anykontext.model.frozen import Frozen, freeze, thaw
from anykontext.model.image import ImageSource, sources
from anykontext.model.words import near

OutputFormat = Literal["jpeg", "png", "webp"]
MODELS = ("flux-kontext-pro", "flux-kontext-max", "flux-kontext-dev", "flux-1.1-pro", "flux-1.1-pro-ultra")
FLOAT_MAX = sys.float_info.max
SEED_MAX = 2**64 - 1
SIDE_MAX = 99_999  # pixels; no model comes near it

# What people write out of habit from other libraries, and our word for it.
OTHER_WORDS = {
    "cfg": "guidance",
    "count": "num_images",
    "format": "output_format",
    "guidance_scale": "guidance",
    "height": "size=(width, height)",
    "image": "images",
    "image_url": "images",
    "input_image": "images",
    "metadata": "tags",
    "n": "num_images",
    "num_inference_steps": "steps",
    "safety": "safety_tolerance",
    "timeout": "deadline (an option of the call, in seconds)",
    "width": "size=(width, height)",
}
_RATIO = re.compile(r"^\s*([1-9]\d{0,4})\s*:\s*([1-9]\d{0,4})\s*$")
_SIZE = re.compile(r"^\s*([1-9]\d{0,4})\s*[x\u00d7]\s*([1-9]\d{0,4})\s*$")


def _whole(value: Any) -> Any:
    """Whole numbers of any library, but no booleans: `True` is not a seed."""
    if isinstance(value, bool):
        raise ValueError("a whole number is needed, not a boolean")
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"a whole number is needed, not {value!r}") from None


def _seed(value: Any) -> Any:
    seed = _whole(value)
    if not 0 <= seed <= SEED_MAX:
        raise ValueError("a seed is a whole number from 0 to 2^64 - 1")
    return seed


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -FLOAT_MAX <= value <= FLOAT_MAX:
        raise ValueError("a number is needed")
    return value


def _ratio(value: Any) -> Any:
    found = _RATIO.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'a ratio is written as "16:9", not {value!r}')
    return f"{int(found[1])}:{int(found[2])}"


def _size(value: Any) -> Any:
    if isinstance(value, str) and (found := _SIZE.match(value)):
        return (int(found[1]), int(found[2]))
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        sides = tuple(_whole(side) for side in value)
        if all(1 <= side <= SIDE_MAX for side in sides):
            return sides
    raise ValueError(f'a size is (width, height) in pixels, or "1024x768", not {value!r}')


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("the prompt is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the prompt holds half a character (a lone surrogate) that no provider can read") from None
    return value


def _tags(value: Mapping[str, str]) -> Mapping[str, str]:
    if "" in value:
        raise ValueError("one has an empty name; a tag is NAME=VALUE")
    try:
        "".join(one for tag in value.items() for one in tag).encode()
    except UnicodeEncodeError:
        raise ValueError("one holds half a character (a lone surrogate) that cannot be written down") from None
    return value


def _format(value: Any) -> Any:
    return "jpeg" if value == "jpg" else value


class ImageRequest(BaseModel):
    """One request for images, with the same meaning at every provider.

    With input images its mode is `edit`, else `generate`.

    Attributes:
        prompt: What to do, or what to show.
        images: Input images: paths, bytes, URLs, data URIs, binary files or PIL images.
        model: A canonical model, or `provider/model` to pin a provider.
        aspect_ratio: `"W:H"`. None keeps the input's ratio when editing, and is 1:1 when generating.
        size: (width, height) in pixels, for the models that take one.
        output_format: `jpeg`, `png` or `webp`; always sent, since providers differ in their default.
        seed: 0 … 2^64-1, or None for a random one. 0 is a seed.
        safety_tolerance: 0 (strictest) … 6 (most permissive) at every provider.
        guidance: How closely the prompt is followed, for the models that take it.
        steps: Denoising steps, for the models that take them.
        prompt_upsampling: Let the provider rewrite the prompt.
        translate_prompt: Let the provider translate the prompt into English.
        num_images: How many images to make, each paid for.
        watermark: A text to be put on the image, for the providers that do that.
        webhook_url: Where the provider is to send the result.
        idempotency_key: The same key and request never pays twice.
        tags: Words of yours, kept in the ledger, for `spend` and budgets.
        provider_options: Fields in a provider's own words, by provider, merged last.

    Raises:
        InvalidRequest: A field is unknown, missing or out of its range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    prompt: Annotated[str, Field(strict=True), AfterValidator(_said)]
    images: Annotated[tuple[ImageSource, ...], BeforeValidator(sources)] = ()
    model: Annotated[str, Field(strict=True, min_length=1)] = "flux-kontext-pro"
    aspect_ratio: Annotated[str, BeforeValidator(_ratio)] | None = None
    size: Annotated[tuple[int, int], BeforeValidator(_size)] | None = None
    output_format: Annotated[OutputFormat, BeforeValidator(_format)] = "jpeg"
    seed: Annotated[int, BeforeValidator(_seed)] | None = None
    safety_tolerance: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=6)] = 2
    guidance: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    steps: Annotated[int, BeforeValidator(_whole), Field(ge=1)] | None = None
    prompt_upsampling: Annotated[bool, Field(strict=True)] = False
    translate_prompt: Annotated[bool, Field(strict=True)] = False
    num_images: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=1000)] = 1
    watermark: Annotated[str, Field(strict=True, min_length=1)] | None = None
    webhook_url: Annotated[str, Field(strict=True, pattern=r"^https?://\S+$", max_length=2083)] | None = None
    idempotency_key: Annotated[str, Field(strict=True, min_length=1, max_length=255)] | None = None
    tags: Annotated[Mapping[str, str], AfterValidator(_tags), AfterValidator(freeze)] = Frozen()
    provider_options: Annotated[Mapping[str, Mapping[str, Any]], AfterValidator(freeze)] = Frozen()

    def __init__(self, /, prompt: Any = ..., images: Any = (), **fields: Any) -> None:
        given = {"images": images} if not isinstance(images, tuple) or images else {}
        if prompt is ...:
            raise InvalidRequest("a prompt is needed: the words that say what to do")
        for name in fields.keys() - type(self).model_fields.keys():
            ours = OTHER_WORDS.get(name)
            hint = f"here it is called {ours}" if ours else near(name, type(self).model_fields)
            raise InvalidRequest(f"unknown option {name!r}; {hint}")
        try:
            super().__init__(prompt=prompt, **given, **fields)
        except RecursionError:
            raise InvalidRequest("provider_options hold themselves") from None
        except ValidationError as error:
            raise InvalidRequest("; ".join(_sentence(one) for one in error.errors())) from None

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.size is not None and self.aspect_ratio is not None:
            raise ValueError("give aspect_ratio or size, not both: a size has a ratio of its own")
        return self

    @property
    def mode(self) -> Literal["edit", "generate"]:
        """`edit` when the request has input images, else `generate`."""
        return "edit" if self.images else "generate"

    @property
    def pinned_provider(self) -> str | None:
        """The provider of a `provider/model` name; None when any may serve it."""
        return self.model.split("/", 1)[0] if "/" in self.model else None

    @property
    def canonical_model(self) -> str:
        """The model without its provider."""
        return self.model.split("/", 1)[-1]

    def to_json(self, *, allow_paths: bool = False) -> str:
        """JSON with only the fields that the caller set; images as base64 or URL.

        Raises:
            InvalidRequest: An image is a path and `allow_paths` is not set, or a file or PIL image.
        """
        fields = {name: thaw(getattr(self, name)) for name in sorted(self.model_fields_set - {"images"})}
        if "images" in self.model_fields_set:
            fields["images"] = [_image_to_json(image, allow_paths=allow_paths) for image in self.images]
        try:
            return json.dumps(fields, ensure_ascii=False)
        except TypeError as error:
            raise InvalidRequest(f"provider_options hold something that JSON cannot: {error}") from None

    @classmethod
    def from_json(cls, text: str | bytes, *, allow_paths: bool = False) -> Self:
        """Read what `to_json` wrote. Paths in a text from elsewhere are refused unless `allow_paths` is set.

        Raises:
            InvalidRequest: It is not the JSON of a request.
        """
        try:
            fields = json.loads(text)
            images = [_image_from_json(one, allow_paths=allow_paths) for one in fields.pop("images", ())]
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            if isinstance(error, InvalidRequest):
                raise
            raise InvalidRequest(f"this is not the JSON of a request: {error}") from error
        return cls(fields.pop("prompt", ...), tuple(images), **fields)


def _sentence(error: Any) -> str:
    """One of pydantic's findings as a sentence; the input is shown only when it is short."""
    field = ".".join(str(part) for part in error["loc"] if isinstance(part, str)) or "request"
    field = field.split(".function-")[0].split(".constrained-")[0]
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    try:
        shown = repr(error["input"])
    except (ValueError, RecursionError):  # a number of thousands of digits, a list that holds itself
        shown = type(error["input"]).__name__
    told = not error["loc"] or field in {"images", "prompt"} or len(shown) > 60 or shown in message
    return f"{field}: {message}" + ("" if told else f", not {shown}")


def _image_to_json(image: ImageSource, *, allow_paths: bool) -> dict[str, str]:
    if image.form == "url":
        return {"url": image.value}
    if image.form == "bytes":
        return {"base64": base64.b64encode(image.value).decode("ascii")}
    if image.form == "data":
        return {"data": image.value}
    if image.form == "path" and allow_paths:
        return {"path": str(image.value)}
    raise InvalidRequest(
        f"{image.name} cannot be written as JSON: give its bytes"
        + (", or set allow_paths=True" if image.form == "path" else "")
    )


def _image_from_json(found: Mapping[str, str], *, allow_paths: bool) -> ImageSource:
    ((form, value),) = found.items()
    if not isinstance(value, str):
        raise InvalidRequest(f"images: a text is needed, not {type(value).__name__}")
    if form == "base64":
        return ImageSource("bytes", base64.b64decode(value, validate=True))
    if form == "path" and not allow_paths:
        raise InvalidRequest("images: a path in JSON is refused unless allow_paths=True")
    if form not in {"url", "data", "path"}:
        raise InvalidRequest(f"images: unknown form {form!r}; {near(form, ['base64', 'url', 'data', 'path'])}")
    source = ImageSource.of(value) if form != "path" else ImageSource("path", value)
    if source.form != form:
        raise InvalidRequest(f"images: {form} does not hold a {form}")
    return source
