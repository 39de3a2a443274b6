"""Letters on pictures: the card of a generated picture, and the mark of the sandbox."""

import functools
import math
import unicodedata

from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]

MARK = "SANDBOX"
MARGIN = 0.11
LINE = 1.28
LARGEST, SMALLEST = 0.085, 0.018
EDGE = 180  # what Pillow's radial gradient has in the middle of its sides
SPELT = str.maketrans({"\u2014": "-", "\u2013": "-", "ß": "ss", "æ": "ae", "ø": "o", "€": "EUR"})
QUOTES = "\u201c\u201d\u2018\u2019\u2026"


def stamp(image: Image.Image) -> Image.Image:
    """The picture with a small mark in its lower right corner."""
    height = max(9, round(math.sqrt(image.width * image.height) / 44))
    font = _font(height)
    left, top, right, bottom = font.getbbox(MARK)
    padding = height * 0.6
    box = (right - left + 2 * padding, bottom - top + 2 * padding)
    x, y = image.width - box[0] - height, image.height - box[1] - height
    label = Image.new("RGBA", image.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(label)
    pen.rounded_rectangle((x, y, x + box[0], y + box[1]), height * 0.45, fill=(0, 0, 0, 150))
    pen.text((x + padding - left, y + padding - top), MARK, font=font, fill=(255, 255, 255, 235))
    return Image.alpha_composite(image.convert("RGBA"), label).convert("RGB")


def draw_card(image: Image.Image, text: str, *, glow: Colour, centre: tuple[float, float]) -> Image.Image:
    """The picture with a soft light at `centre` (0..1 each way) and the text in its middle."""
    image = _lit(image, glow, centre)
    width = image.width * (1 - 2 * MARGIN)
    height = image.height * (1 - 2 * MARGIN)
    font, lines = _fitted(text, width, height, min(image.size))
    step = font.size * LINE
    top = (image.height - step * len(lines)) / 2
    shadow = Image.new("L", image.size, 0)
    letters = Image.new("L", image.size, 0)
    for number, line in enumerate(lines):
        place = (image.width / 2, top + step * (number + 0.5))
        ImageDraw.Draw(letters).text(place, line, font=font, fill=255, anchor="mm")
    shadow.paste(letters, (0, max(1, round(font.size * 0.05))))
    shadow = shadow.filter(ImageFilter.GaussianBlur(font.size * 0.12))
    image.paste((0, 0, 0), mask=shadow.point(lambda value: value * 0.6))
    image.paste((255, 255, 255), mask=letters)
    return image


def _lit(image: Image.Image, glow: Colour, centre: tuple[float, float]) -> Image.Image:
    side = round(max(image.size) * 1.1)
    light = Image.radial_gradient("L").resize((side, side))
    mask = Image.new("L", image.size, 0)
    place = (
        round(centre[0] * image.width - side / 2),
        round(centre[1] * image.height - side / 2),
    )
    mask.paste(light.point(lambda value: max(0, EDGE - value) * 0.6), place)
    lit = image.copy()
    lit.paste(glow, mask=mask)
    return lit


def _fitted(text: str, width: float, height: float, side: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """The largest font in which the text fits, and its lines; too long a text is cut."""
    size = max(8, round(side * LARGEST))
    smallest = max(8, round(side * SMALLEST))
    while True:
        font = _font(size)
        lines = _wrapped(text, font, width)
        fitting = max(1, int(height / (size * LINE)))
        if len(lines) <= fitting or size <= smallest:
            break
        size = max(smallest, round(size * 0.88))
    if len(lines) > fitting:
        lines = [*lines[: fitting - 1], lines[fitting - 1] + " …"]
    return font, lines


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in _spelt(text[:4000]).split():
        for piece in _broken(word, font, width):
            longer = f"{lines[-1]} {piece}".strip()
            if font.getlength(longer) <= width or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(piece)
    return lines


def _spelt(text: str) -> str:
    """The text in the letters of Pillow's font, which knows little beyond ASCII."""
    plain = unicodedata.normalize("NFKD", text.translate(SPELT))
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() or letter in QUOTES else "·" for letter in letters)


def _broken(word: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """A word in pieces that fit."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that pictures look the same on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("the sandbox's pictures need a Pillow with FreeType")
    return font
