"""Real pictures without a model: words of the prompt choose what happens to the input.

Everything is deterministic: the same inputs, prompt and seed give the same bytes.
"""

import colorsys
import hashlib
import io
import math
import re
from collections.abc import Callable, Sequence

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from anykontext.sandbox.lettering import draw_card, stamp

Colour = tuple[int, int, int]
Size = tuple[int, int]

MEGAPIXEL = 1024 * 1024
STEP = 16
LONGEST_SIDE = 4096
GAP_COLOUR = (24, 24, 27)
COLOURS: dict[str, Colour] = {
    "red": (208, 32, 38),
    "orange": (236, 122, 20),
    "yellow": (238, 196, 24),
    "gold": (206, 160, 44),
    "green": (38, 150, 66),
    "teal": (0, 138, 138),
    "turquoise": (30, 190, 180),
    "cyan": (20, 180, 214),
    "blue": (34, 92, 214),
    "purple": (124, 52, 190),
    "violet": (124, 52, 190),
    "magenta": (206, 34, 150),
    "pink": (240, 110, 166),
    "brown": (122, 78, 44),
    "sepia": (150, 112, 66),
}
GREY = re.compile(r"\b(black[ -](and|&)[ -]white|gr[ae]yscale|monochrome|noir)\b")
MATTE = re.compile(r"\b(matte|black)\b")
DARK = re.compile(r"\b(matte black|black|dark\w*|night\w*)\b")
BRIGHT = re.compile(r"\b(bright\w*|lighter|sunny|white)\b")
BLUR = re.compile(r"\b(blur\w*|dream\w*)\b")


class UnreadableImage(ValueError):
    """An input that cannot be decoded as a picture."""


def edit(
    images: Sequence[bytes],
    prompt: str,
    *,
    seed: int,
    size: Size | None = None,
    aspect_ratio: str | None = None,
    megapixels: float = 1.0,
) -> Image.Image:
    """An edited picture: the words of the prompt decide how; several inputs stand side by side.

    Without `size` or `aspect_ratio` (`"W:H"`) the input's ratio is kept; sides are multiples of 16.

    Raises:
        UnreadableImage: an input is not a picture.
    """
    pictures = [read(data) for data in images]
    width = sum(picture.width / picture.height for picture in pictures)
    target = size or size_for(ratio_of(aspect_ratio) if aspect_ratio else width, megapixels)
    if len(pictures) == 1:
        canvas = ImageOps.fit(pictures[0], target)
    else:
        canvas = ImageOps.pad(_side_by_side(pictures, target), target, color=GAP_COLOUR)
    strength = 0.8 + 0.15 * _dice("strength", seed)
    operations = _operations(prompt.lower()) or [_rotate_colours(_dice("hue", seed))]
    for operation in operations:
        canvas = operation(canvas, strength)
    return stamp(canvas)


def generate(prompt: str, *, seed: int, size: Size | None = None) -> Image.Image:
    """A picture from words: a card with the prompt on a gradient that the seed chooses."""
    size = size or size_for(1.0)
    hue, spread = _dice("hue", seed), 0.08 + 0.14 * _dice("spread", seed)
    deep = _rgb(hue, 0.75, 0.26)
    middle = _rgb(hue + spread, 0.66, 0.62)
    light = _rgb(hue + 2 * spread, 0.62, 0.82)
    gradient = Image.linear_gradient("L").rotate(360 * _dice("angle", seed), resample=Image.Resampling.BICUBIC)
    # Only the middle of a turned square has no corners of another colour.
    gradient = gradient.crop((38, 38, 218, 218)).resize(size, Image.Resampling.BICUBIC)
    canvas = ImageOps.colorize(gradient, black=deep, mid=middle, white=light)
    centre = (_dice("x", seed), _dice("y", seed))
    return stamp(draw_card(canvas, prompt, glow=_rgb(hue - 0.09, 0.45, 1.0), centre=centre))


def encode(image: Image.Image, image_format: str) -> bytes:
    """The picture as a file: `jpeg`, `png` or `webp`."""
    options: dict[str, dict[str, int]] = {
        "jpeg": {"quality": 90},
        "png": {"compress_level": 2},
        "webp": {"quality": 85, "method": 2},
    }
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options[image_format])
    return buffer.getvalue()


def read(data: bytes) -> Image.Image:
    """A picture file of any mode as RGB, transparency on white.

    Raises:
        UnreadableImage: it is not a picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return _rgb_of(opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise UnreadableImage("the image cannot be decoded") from error


def size_for(ratio: float, megapixels: float = 1.0) -> Size:
    """Sides of about this many megapixels in a ratio (width / height), multiples of 16, never zero."""
    height = math.sqrt(megapixels * MEGAPIXEL / ratio)
    return _side(height * ratio), _side(height)


def ratio_of(aspect_ratio: str) -> float:
    """`"16:9"` as width / height.

    Raises:
        ValueError: it is not two positive numbers with a colon between.
    """
    match = re.fullmatch(r"([1-9]\d{0,4}):([1-9]\d{0,4})", aspect_ratio)
    if not match:
        raise ValueError(f"an aspect ratio looks like 16:9, not {aspect_ratio!r}")
    return int(match[1]) / int(match[2])


def _side(length: float) -> int:
    return min(LONGEST_SIDE, max(STEP, round(length / STEP) * STEP))


def _rgb_of(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # more than 8 bits: Pillow would clip, not scale
        wide = image.convert("F")
        _, high = wide.getextrema()
        scale = 255 / 65535 if isinstance(high, float) and high > 255 else 1.0
        return wide.point(lambda value: value * scale + 0).convert("L").convert("RGB")
    if image.mode in {"CMYK", "YCbCr", "HSV"}:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _side_by_side(pictures: Sequence[Image.Image], target: Size) -> Image.Image:
    height = target[1]
    scaled = [picture.resize((max(1, round(picture.width * height / picture.height)), height)) for picture in pictures]
    row = Image.new("RGB", (sum(picture.width for picture in scaled), height))
    left = 0
    for picture in scaled:
        row.paste(picture, (left, 0))
        left += picture.width
    return row


Operation = Callable[[Image.Image, float], Image.Image]


def _operations(prompt: str) -> list[Operation]:
    """What the words ask for; "black and white" is one thing, and no darkness."""
    rest = GREY.sub(" ", prompt)
    words = re.findall(r"\w+", rest)
    asked: list[Operation] = []
    if rest != prompt:
        asked.append(lambda image, _: ImageOps.grayscale(image).convert("RGB"))
    asked += [_tint(COLOURS[word]) for word in dict.fromkeys(words) if word in COLOURS]
    if MATTE.search(rest):
        asked.append(lambda image, _: ImageEnhance.Color(image).enhance(0.25))
    if BLUR.search(rest):
        asked.append(lambda image, strength: image.filter(_blur(image, strength)))
    if BRIGHT.search(rest):
        asked.append(lambda image, strength: _curved(image, 1 - 0.5 * strength))
    if DARK.search(rest):
        asked.append(lambda image, strength: _curved(image, 1 + 1.2 * strength))
    return asked


def _curved(image: Image.Image, gamma: float) -> Image.Image:
    """Lighter (gamma < 1) or darker (> 1), without burning out or drowning."""
    return image.point([round(255 * (step / 255) ** gamma) for step in range(256)] * 3)


def _blur(image: Image.Image, strength: float) -> ImageFilter.GaussianBlur:
    return ImageFilter.GaussianBlur(strength * max(image.size) / 100)


def _tint(colour: Colour) -> Operation:
    def tint(image: Image.Image, strength: float) -> Image.Image:
        grey = ImageOps.autocontrast(ImageOps.grayscale(image), cutoff=1)
        dark = tuple(part // 5 for part in colour)
        light = tuple(255 - (255 - part) // 5 for part in colour)
        tinted = ImageOps.colorize(grey, black=dark, mid=colour, white=light)
        return Image.blend(image, tinted, strength)

    return tint


def _rotate_colours(dice: float) -> Operation:
    turn = round(256 * (0.15 + 0.7 * dice))

    def rotate(image: Image.Image, _: float) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        table = [(step + turn) % 256 for step in range(256)]
        turned = Image.merge("HSV", (hue.point(table), saturation, value)).convert("RGB")
        # Grey pixels have no hue to turn: a veil makes the change visible on them too.
        return Image.blend(turned, Image.new("RGB", image.size, _rgb(dice, 0.7, 0.9)), 0.12)

    return rotate


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _dice(purpose: str, seed: int) -> float:
    """A number from 0 to 1 that looks random, and is the same on every machine."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32
