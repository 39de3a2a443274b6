"""What a submit says, value by value: the right one, at a place of its own, and not only another one each time."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from _pytest.mark.structures import ParameterSet

from anykontext.adapting import Call, InputImage, Purpose, Ratios, Sizes, Spec, Toggle, Uploads
from anykontext.model.job import Mode
from anykontext.testing.contract.base import Contract, listed
from anykontext.testing.contract.orders import (
    image_for,
    leaves,
    modes,
    order_of,
    places,
    telling,
    token,
    typed_image,
)
from anykontext.testing.recording import SIGNING

LONG_PROMPT = f'  \n Ein "Käse" \\\\ 猫 \U0001f431\n{"long words, " * 300}'[:2990] + " the end\n "
RATIO_TOLERANCE = 0.03  # of a ratio that is sent as a size on a grid
PLAIN_HEADERS = frozenset({"accept", "content-type"})
SECRET_QUERIES = frozenset({*SIGNING, "api_key", "key", "token"})
Path = tuple[Any, ...]


class WrittenContract(Contract):
    """Each value of the order, in the body."""

    def dial_cases(self) -> list[ParameterSet]:
        """Every option of every model and mode, with one input image and with two."""
        found = (
            pytest.param((model, mode, images, option, spec), id=f"{model}-{mode}-{len(images)}-{option}")
            for (model, mode), images in places(self.facts)
            for option, spec in self.facts.models[model].modes[mode].options.items()
        )
        return listed(found, without="it has no options")

    def spot_cases(self) -> list[ParameterSet]:
        """Every model and mode, with one input image and with two."""
        return [
            pytest.param((model, mode, images), id=f"{model}-{mode}-{len(images)}")
            for (model, mode), images in places(self.facts)
        ]

    def edited_cases(self) -> list[ParameterSet]:
        """Every model that edits."""
        found = (pytest.param(model, id=model) for model, mode, _ in modes(self.facts) if mode == "edit")
        return listed(found, without="it does not edit")

    def media_type_cases(self) -> list[ParameterSet]:
        """Every format of input images that the facts list."""
        return [pytest.param(one, id=one) for one in self.facts.inputs.media_types]

    def test_a_value_is_sent_as_it_was_asked(self, dial: Any) -> None:
        """At one place of the body for all values: the number, the word, the ratio or the size itself."""
        model, mode, images, option, spec = dial
        if option in self.reworded:
            pytest.skip(f"capability: {option} has other words there: {self.reworded[option]}")
        found: dict[str, set[Path]] = {}
        for value in telling(option, spec):
            document = _body(self._written(model, mode, images=images, **{option: value}))
            found[repr(value)] = set(self._places(document, option, spec, value))
        nowhere = [value for value, at in found.items() if not at]
        shared = set.intersection(*found.values())

        assert not nowhere, f"{option} = {', '.join(nowhere)} stands nowhere in the body"
        assert shared, f"{option} has no place of its own: {found}"
        assert any(self._is_named(model, option, path) for path in shared), (
            f"{option} is sent as {sorted(map(str, shared))}, which the facts do not name so"
        )

    def _places(self, document: Any, option: str, spec: Spec, value: Any) -> Iterator[Path]:
        """Where a value stands in a body."""
        if isinstance(spec, Sizes):
            yield from _sizes(document, *value)
            return
        if isinstance(spec, Toggle) and option in self.inverted:
            value = not value
        yield from (path for path, found in leaves(document) if _is(found, value))
        if isinstance(spec, Ratios) or option == "aspect_ratio":
            yield from _of_ratio(document, value)

    def _is_named(self, model: str, option: str, path: Path) -> bool:
        """Whether the place of an option has the name that `passthrough` gives it, where it gives it one."""
        own = self.facts.models[model].passthrough
        named = {name for name, canonical in own.items() if canonical == option}
        others = {name for name, canonical in own.items() if canonical not in {"", option}}
        sizes = {name for name, canonical in own.items() if canonical == "size"} if option == "aspect_ratio" else set()
        return bool(set(path) & (named | sizes)) if named else not set(path) & (others - sizes)

    def test_a_prompt_is_sent_whole(self, spot: Any) -> None:
        """Three thousand characters, with the blanks and the line ends around them, in any script."""
        model, mode, images = spot
        document = _body(self._written(model, mode, images=images, prompt=LONG_PROMPT))

        assert LONG_PROMPT in {value for _, value in leaves(document) if isinstance(value, str)}

    def test_images_are_sent_in_their_order(self, edited: str) -> None:
        """As they are, and each behind the one before."""
        most = self.facts.models[edited].modes["edit"].max_images
        for count in range(1, most + 1):
            images = tuple(image_for(self.facts, index) for index in range(count))
            body = bytes(self._written(edited, "edit", images=images).body or b"")
            found = [body.find(token(image)) for image in images]
            assert -1 not in found, f"of {count} images, number {found.index(-1) + 1} is not in the body as it is"
            assert found == sorted(found), f"{count} images are sent in another order"

    def test_an_image_of_each_type_is_sent(self, media_type: str) -> None:
        """What the facts list is taken: as base64 in the body, or as a file where it is uploaded first."""
        image = typed_image(media_type)
        if isinstance(self.adapter, Uploads):
            call = self.adapter.upload(image)
            assert bytes(image.data or b"") in bytes(call.body or b"")
            assert call.purpose is Purpose.UPLOAD
        uploads = self.facts.uploads
        if "bytes" not in self.facts.inputs.forms or (uploads is not None and uploads.over == 0):
            image = InputImage(None, "https://example.com/a.png", None, None, None)
        for model in self._editing():
            body = bytes(self._written(model, "edit", images=(image,)).body or b"")
            assert token(image) in body, f"{model}: a picture of the type {media_type} is not sent"
            said = set(re.findall(rb"data:([a-z/+.-]+);base64,", body))
            assert said <= {media_type.encode()}, f"{model}: a picture of the type {media_type} is sent as {said}"

    def test_an_image_by_its_url_is_sent(self) -> None:
        """Where the provider fetches pictures itself."""
        if "url" not in self.facts.inputs.forms or not self._editing():
            pytest.skip("capability: it takes no URLs of pictures")
        image = InputImage(None, "https://example.com/a%2Fb.png?x=1&y=é", None, None, None)
        for model in self._editing():
            document = _body(self._written(model, "edit", images=(image,)))
            assert image.url in {value for _, value in leaves(document)}

    def test_no_call_has_a_place_for_a_key(self, spot: Any) -> None:
        """Headers are those that are allowed to all, and those that the contract names; no query has a key's name."""
        model, mode, images = spot
        wishes: dict[str, Any] = {"start_within_s": 30.0, "fails_fast": True}
        wishes |= {"webhook_url": "https://a.example/"} if self.facts.webhooks else {}
        calls = [self._written(model, mode, images=images), self._written(model, mode, images=images, **wishes)]
        calls += [call for one in self.purposes() if (call := self.call(one))]
        allowed = PLAIN_HEADERS | {name.lower() for name in self.headers}
        for call in calls:
            odd = {name for name in call.headers if name.lower() not in allowed}
            assert not odd, f"{call.purpose} has the headers {sorted(odd)}, which `headers` does not name"
            asked = parse_qsl(urlsplit(call.path).query, keep_blank_values=True) if call.origin is not None else []
            secret = {name for name, _ in asked if name.lower() in SECRET_QUERIES}
            assert not secret, f"{call.purpose} has the query {sorted(secret)}: the engine signs, by a header"

    def _editing(self) -> list[str]:
        return [model for model, mode, _ in modes(self.facts) if mode == "edit"]

    def _written(self, model: str, mode: Mode, **changes: Any) -> Call:
        return self.adapter.submit(order_of(self.facts, model, mode, **changes))


def _body(call: Call) -> Any:
    return json.loads(bytes(call.body or b"{}"))


def _is(found: object, value: object) -> bool:
    """Whether a leaf is a value: of the same type, or a number as text."""
    if isinstance(value, bool) or isinstance(found, bool):
        return found is value
    if isinstance(value, int | float):
        return found == value or (isinstance(found, str) and found in {str(value), f"{value:g}"})
    return found == value


def _sides(document: Any) -> Iterator[tuple[Path, Any, Any]]:
    """Every pair of a width and a height in a body: in one object, or as a text such as 1024x768."""
    numbers = dict(leaves(document))
    for path, width in numbers.items():
        if isinstance(width, str) and (pair := re.fullmatch(r"(\d+) ?[xX*\u00d7] ?(\d+)", width)):
            yield path, int(pair[1]), int(pair[2])
        elif path and isinstance(path[-1], str) and "width" in path[-1].lower():
            other = (*path[:-1], path[-1].lower().replace("width", "height"))
            heights = [value for at, value in numbers.items() if (*at[:-1], str(at[-1]).lower()) == other]
            yield from ((path, width, height) for height in heights)


def _sizes(document: Any, width: int, height: int) -> Iterator[Path]:
    yield from (path for path, *sides in _sides(document) if sides == [width, height])


def _of_ratio(document: Any, ratio: str) -> Iterator[Path]:
    wide, high = (int(side) for side in ratio.split(":"))
    for path, width, height in _sides(document):
        known = isinstance(width, int) and isinstance(height, int) and height > 0
        if known and abs(width / height * high / wide - 1) <= RATIO_TOLERANCE:
            yield path
