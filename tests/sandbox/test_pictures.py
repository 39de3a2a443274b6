"""The pictures of the sandbox: real edits, the same every time, whatever the input's mode."""

import io

import pytest
from PIL import Image, ImageChops, ImageStat

from anykontext.sandbox.pictures import UnreadableImage, edit, encode, generate, ratio_of, size_for

SMALL = 0.02


def photo(mode: str = "RGB", size: tuple[int, int] = (90, 60), image_format: str = "png") -> bytes:
    """A gradient from brown to pale, so that every operation has something to do."""
    ramp = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (ramp.point(lambda v: 90 + v // 2), ramp.point(lambda v: 40 + v // 2), ramp))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, image_format)
    return buffer.getvalue()


def means(image: Image.Image) -> tuple[float, float, float]:
    red, green, blue = ImageStat.Stat(image).mean
    return red, green, blue


def changed(prompt: str, seed: int = 1) -> Image.Image:
    return edit([photo()], prompt, seed=seed, megapixels=SMALL)


BEFORE = means(Image.open(io.BytesIO(photo())))


@pytest.mark.parametrize("prompt", ["a black and white photo", "Grayscale", "monochrome", "film noir"])
def test_grey_words_take_the_colour_away(prompt: str) -> None:
    red, green, blue = changed(prompt).split()

    assert ImageChops.difference(red, green).getbbox() is None
    assert ImageChops.difference(green, blue).getbbox() is None


@pytest.mark.parametrize(("prompt", "channel"), [("make it red", 0), ("a green door", 1), ("BLUE, please", 2)])
def test_a_colour_word_tints(prompt: str, channel: int) -> None:
    after = means(changed(prompt))

    assert after[channel] == max(after)


@pytest.mark.parametrize("prompt", ["at night", "darker", "make the car matte black"])
def test_dark_words_darken(prompt: str) -> None:
    assert sum(means(changed(prompt))) < sum(BEFORE) * 0.8


@pytest.mark.parametrize("prompt", ["brighter", "a sunny day", "lighter"])
def test_bright_words_brighten(prompt: str) -> None:
    assert sum(means(changed(prompt))) > sum(BEFORE) * 1.1


def test_words_combine() -> None:
    assert sum(means(changed("a blue night"))) < sum(means(changed("blue"))) * 0.8


def test_words_inside_other_words_do_nothing() -> None:
    assert encode(changed("reduced, scored"), "png") == encode(changed("swap it"), "png")


def test_other_words_turn_the_colours_even_of_a_grey_picture() -> None:
    after = means(edit([photo("L")], "swap the cup", seed=1, megapixels=SMALL))

    assert max(after) - min(after) > 5


def test_the_seed_makes_another_picture_and_the_same_seed_the_same() -> None:
    one, same, other = (encode(changed("swap the cup", seed), "jpeg") for seed in (0, 0, 1))

    assert one == same
    assert one != other


@pytest.mark.parametrize("prompt", ["", "a cat", "word " * 2000, "x" * 3000, "猫と灯台", "Köln — „naïve“ €5\n\t"])
def test_any_prompt_becomes_a_card(prompt: str) -> None:
    assert generate(prompt, seed=7, size=(160, 96)).size == (160, 96)


def test_a_card_depends_on_prompt_and_seed() -> None:
    cards = {
        encode(generate(prompt, seed=seed, size=(160, 96)), "png")
        for prompt, seed in [("a cat", 0), ("a cat", 0), ("a dog", 0), ("a cat", 2**64 - 1)]
    }

    assert len(cards) == 3


def test_a_generated_picture_is_a_square_megapixel() -> None:
    assert generate("a cat", seed=1).size == (1024, 1024)


def test_an_edit_keeps_the_inputs_ratio() -> None:
    assert edit([photo(size=(90, 60))], "blue", seed=1).size == (1248, 832)


def test_an_edit_obeys_an_aspect_ratio_and_a_size() -> None:
    assert edit([photo()], "blue", seed=1, aspect_ratio="9:16").size == (768, 1360)
    assert edit([photo()], "blue", seed=1, size=(320, 320)).size == (320, 320)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (7, 3)])
def test_no_side_is_ever_zero(size: tuple[int, int]) -> None:
    width, height = edit([photo(size=size)], "blue", seed=1, megapixels=SMALL).size

    assert width >= 16
    assert height >= 16
    assert width % 16 == height % 16 == 0


def test_several_inputs_stand_side_by_side() -> None:
    red, blue = (encode(Image.new("RGB", (60, 60), colour), "png") for colour in ("red", "blue"))
    image = edit([red, blue], "lighter", seed=1, megapixels=SMALL)
    left, right = (image.resize((2, 1), Image.Resampling.BOX).getpixel((side, 0)) for side in (0, 1))

    assert image.width == pytest.approx(2 * image.height, rel=0.1)
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left[0] > left[2]
    assert right[2] > right[0]


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [
        *((mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("CMYK", "jpeg"),
        ("CMYK", "tiff"),
        ("I;16", "tiff"),
        ("F", "tiff"),
        ("P", "gif"),
        ("RGBA", "webp"),
    ],
)
def test_every_mode_can_be_edited(mode: str, image_format: str) -> None:
    source = "L" if mode in {"I;16", "F"} else mode
    image = Image.open(io.BytesIO(photo())).convert(source)
    if mode == "I;16":
        image = Image.frombytes("I;16", image.size, b"".join(bytes((v, v)) for v in image.tobytes()))
    elif mode == "F":
        image = image.convert("F")
    buffer = io.BytesIO()
    image.save(buffer, image_format)

    after = edit([buffer.getvalue()], "noir", seed=1, megapixels=SMALL)

    assert after.mode == "RGB"
    low, high = after.convert("L").getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    assert high - low > 50


def test_transparency_is_white() -> None:
    clear = encode(Image.new("RGBA", (60, 60), (0, 0, 0, 0)), "png")

    assert edit([clear], "noir", seed=1, megapixels=SMALL).getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("data", [b"", b"<html>", photo()[:60], photo()[: len(photo()) // 2]])
def test_what_is_no_picture_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImage):
        edit([data], "blue", seed=1)


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
def test_every_format_can_be_read_again(image_format: str) -> None:
    data = encode(generate("a cat", seed=1, size=(160, 96)), image_format)

    with Image.open(io.BytesIO(data)) as image:
        assert (image.format or "").lower() == image_format
        assert image.size == (160, 96)


@pytest.mark.parametrize("text", ["16x9", "0:1", "1:0", "-1:1", "1.5:1", "", ":", "1:1:1", "1:999999"])
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="16:9"):
        ratio_of(text)


def test_sizes_are_about_a_megapixel() -> None:
    for ratio in (1.0, 16 / 9, 9 / 16, 21 / 9):
        width, height = size_for(ratio)
        assert width * height == pytest.approx(1024 * 1024, rel=0.04)
        assert width / height == pytest.approx(ratio, rel=0.04)
