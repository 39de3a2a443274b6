"""The endpoints: their fields and prices (fal sheet §4, §9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

Kind = Literal["text", "texts", "integer", "number", "truth", "choice", "size", "ratio"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request body."""

    kind: Kind
    default: Any = None
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint; `image_file` is the form of its images: with a file's name and size, or without (fal sheet §4)."""

    name: str
    usd: Decimal
    fields: Mapping[str, Field]
    image_file: bool = False

    @property
    def app(self) -> str:
        """Owner and alias: what status, result and cancel are asked under."""
        return "/".join(self.name.split("/")[:2])


RATIOS = ("21:9", "16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "9:21")
MODES = ("auto", "match_input", *RATIOS, "4:5", "5:4")
SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
COMMON = {
    "prompt": Field("text", required=True),
    "seed": Field("integer"),
    "sync_mode": Field("truth", default=False),
    "num_images": Field("integer", 1, low=1, high=4),
    "output_format": Field("choice", "jpeg", choices=("jpeg", "png")),
    "enhance_prompt": Field("truth", default=False),
}
SAFETY = {"safety_tolerance": Field("choice", "2", choices=("1", "2", "3", "4", "5", "6"))}
GUIDANCE = {"guidance_scale": Field("number", 3.5, low=1, high=20)}
IMAGE = {"image_url": Field("text", required=True)}
IMAGES = {"image_urls": Field("texts", required=True)}
RATIO = {"aspect_ratio": Field("choice", choices=RATIOS)}
KONTEXT = {**COMMON, **SAFETY, **GUIDANCE, **RATIO}
WORDS_ONLY = {**KONTEXT, "aspect_ratio": Field("choice", "1:1", choices=RATIOS)}
DEV = {
    **COMMON,
    **IMAGE,
    "guidance_scale": Field("number", 2.5, low=1, high=20),
    "num_inference_steps": Field("integer", 28, low=10, high=50),  # the range is [MEM]
    "enable_safety_checker": Field("truth", default=True),
    "acceleration": Field("choice", "none", choices=("none", "regular", "high")),
    "resolution_mode": Field("choice", "match_input", choices=MODES),
}
PRO_1_1 = {**COMMON, **SAFETY, "image_size": Field("size", "landscape_4_3")}
ULTRA = {
    **COMMON,
    **SAFETY,
    "image_url": Field("text"),
    "image_prompt_strength": Field("number", 0.1, low=0, high=1),
    "raw": Field("truth", default=False),
    "aspect_ratio": Field("ratio", "16:9"),
}


def _kontext(name: str, usd: str) -> tuple[Endpoint, ...]:
    price = Decimal(usd)
    return (
        Endpoint(name, price, KONTEXT | IMAGE, image_file=True),
        Endpoint(f"{name}/multi", price, KONTEXT | IMAGES),
        Endpoint(f"{name}/text-to-image", price, WORDS_ONLY),
    )


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        *_kontext("fal-ai/flux-pro/kontext", "0.04"),
        *_kontext("fal-ai/flux-pro/kontext/max", "0.08"),
        # By the megapixel or by the image: not established (fal sheet §9); by the image here.
        Endpoint("fal-ai/flux-kontext/dev", Decimal("0.025"), DEV),
        Endpoint("fal-ai/flux-pro/v1.1", Decimal("0.04"), PRO_1_1),
        Endpoint("fal-ai/flux-pro/v1.1-ultra", Decimal("0.06"), ULTRA),
    )
}
