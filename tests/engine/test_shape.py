from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anykontext.adapting import Choices, InputImage, ModeFacts, Ratios, Sizes
from anykontext.engine.misfit import Misfit
from anykontext.engine.shape import needs_pixels, shape_of
from anykontext.model.request import ImageRequest

GRID = Sizes(256, 1792, 8, "x-1")
SIZED = ModeFacts({"size": GRID}, max_images=1)
RATIOED = ModeFacts({"aspect_ratio": Ratios((9, 21), (21, 9), "x-2")}, max_images=1)


def image(width: int | None, height: int | None) -> InputImage:
    return InputImage(b"x", None, "image/jpeg", width, height)


def like(width: int | None, height: int | None, mode: ModeFacts = SIZED, **asked: Any) -> Any:
    return shape_of(ImageRequest("make it blue", b"x", **asked), [image(width, height)], mode)


@given(st.integers(100, 9000), st.integers(100, 9000))
def test_an_edit_without_a_ratio_keeps_that_of_its_input_on_the_grid(width: int, height: int) -> None:
    assume(256 / 1792 <= width / height <= 1792 / 256)

    shape, adjustments = like(width, height)

    found_width, found_height = shape["size"]
    assert all(side % 8 == 0 and 256 <= side <= 1792 for side in shape["size"])
    assert found_width / found_height == pytest.approx(width / height, rel=0.021)
    exact = found_width * height == found_height * width
    assert exact is not bool(adjustments)


def test_a_photo_of_3_to_2_becomes_a_megapixel_of_3_to_2() -> None:
    assert ({"size": (1248, 832)}, []) == like(6000, 4000)


def test_a_strip_that_no_size_is_like_is_refused_with_the_nearest() -> None:
    with pytest.raises(Misfit, match="nearest is 1792x256"):
        like(4000, 100)


def test_where_the_provider_keeps_the_ratio_nothing_is_sent() -> None:
    assert ({}, []) == like(640, 427, RATIOED)


def test_a_size_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(Misfit, match="give aspect_ratio or size"):
        like(None, None)


@pytest.mark.parametrize(
    ("asked", "mode", "needed"),
    [
        ({}, SIZED, True),
        ({"aspect_ratio": "1:1"}, SIZED, False),
        ({"size": "512x512"}, SIZED, False),
        ({}, RATIOED, False),
        ({}, None, False),
    ],
)
def test_the_pixels_of_a_url_are_needed_only_to_keep_its_ratio(
    asked: dict[str, Any], mode: ModeFacts | None, needed: bool
) -> None:
    assert needed is needs_pixels(ImageRequest("make it blue", "https://a.example/x.jpg", **asked), mode)
    assert not needs_pixels(ImageRequest("a cat", **asked), mode)


OFFERED = ModeFacts({"aspect_ratio": Choices(("21:9", "16:9", "4:3", "1:1", "3:4", "9:16"), "x-3")}, max_images=1)


@pytest.mark.parametrize(
    ("asked", "sent"), [("16:9", "16:9"), ("32:18", "16:9"), ("7:3", "21:9"), ("5:5", "1:1"), (None, "1:1")]
)
def test_a_ratio_among_the_offered_ones_is_sent_in_the_providers_spelling(asked: str | None, sent: str) -> None:
    assert ({"aspect_ratio": sent}, []) == shape_of(ImageRequest("a cat", aspect_ratio=asked), [], OFFERED)


@pytest.mark.parametrize(("asked", "nearest"), [("3:2", "4:3"), ("9:21", "9:16"), ("2:3", "3:4"), ("1000:1", "21:9")])
def test_a_ratio_that_is_not_offered_names_the_nearest(asked: str, nearest: str) -> None:
    with pytest.raises(Misfit, match=f"the nearest to {asked} is {nearest}") as raised:
        shape_of(ImageRequest("a cat", aspect_ratio=asked), [], OFFERED)

    assert nearest == raised.value.allowed


def test_an_edit_without_a_ratio_says_nothing_where_ratios_are_offered() -> None:
    assert ({}, []) == like(640, 427, OFFERED)
