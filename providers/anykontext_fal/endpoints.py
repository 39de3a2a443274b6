"""fal's endpoints and their dialects (fal-12), as data: what goes where, by model and number of input images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anykontext.adapting import Choices, ModeFacts, Numbers, Ratios, Sizes, Spec, Toggle

SEVERAL = 2  # two images or more are one dialect


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of fal.

    Attributes:
        path: Its id, as a path below the queue's host.
        names: Canonical option -> its field.
        images: The field of the input images; empty where it takes none.
        always: Fields that are always sent, unless an option sets them.
    """

    path: str
    names: Mapping[str, str]
    images: str = ""
    always: Mapping[str, Any] = field(default_factory=dict)


_COMMON = {
    "num_images": "num_images",
    "output_format": "output_format",
    "prompt_upsampling": "enhance_prompt",
    "seed": "seed",
}
_PRO = {**_COMMON, "safety_tolerance": "safety_tolerance"}
_KONTEXT = {**_PRO, "aspect_ratio": "aspect_ratio", "guidance": "guidance_scale"}
_DEV = {
    **_COMMON,
    "aspect_ratio": "resolution_mode",
    "guidance": "guidance_scale",
    "steps": "num_inference_steps",
}

ENDPOINTS: Mapping[tuple[str, int], Endpoint] = {
    ("flux-kontext-pro", 0): Endpoint("/fal-ai/flux-pro/kontext/text-to-image", _KONTEXT),
    ("flux-kontext-pro", 1): Endpoint("/fal-ai/flux-pro/kontext", _KONTEXT, "image_url"),
    ("flux-kontext-pro", SEVERAL): Endpoint("/fal-ai/flux-pro/kontext/multi", _KONTEXT, "image_urls"),
    ("flux-kontext-max", 0): Endpoint("/fal-ai/flux-pro/kontext/max/text-to-image", _KONTEXT),
    ("flux-kontext-max", 1): Endpoint("/fal-ai/flux-pro/kontext/max", _KONTEXT, "image_url"),
    ("flux-kontext-max", SEVERAL): Endpoint("/fal-ai/flux-pro/kontext/max/multi", _KONTEXT, "image_urls"),
    ("flux-kontext-dev", 1): Endpoint(
        "/fal-ai/flux-kontext/dev",
        _DEV,
        "image_url",
        {"resolution_mode": "match_input", "enable_safety_checker": True},  # fal-11
    ),
    ("flux-1.1-pro", 0): Endpoint("/fal-ai/flux-pro/v1.1", {**_PRO, "size": "image_size"}),
    ("flux-1.1-pro-ultra", 0): Endpoint("/fal-ai/flux-pro/v1.1-ultra", {**_PRO, "aspect_ratio": "aspect_ratio"}),
}

KONTEXT_RATIOS = Choices(("21:9", "16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "9:21"), "fal-12")
DEV_RATIOS = Choices(
    ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"), "fal-12"
)  # besides auto and match_input
GUIDANCE = Numbers(1, 20, "fal-12", fractions=True)
COMMON_OPTIONS: dict[str, Spec] = {
    "output_format": Choices(("jpeg", "png"), "fal-12"),
    "prompt_upsampling": Toggle("fal-12"),
    "seed": Numbers(0, 2**64 - 1, "fal-26", wraps=True),
}
PRO_OPTIONS: dict[str, Spec] = {**COMMON_OPTIONS, "safety_tolerance": Numbers(1, 6, "fal-11")}
KONTEXT_OPTIONS: dict[str, Spec] = {**PRO_OPTIONS, "aspect_ratio": KONTEXT_RATIOS, "guidance": GUIDANCE}

# How many images image_urls takes is not established: four is what the model's maker takes [INF].
KONTEXT_EDIT = ModeFacts(KONTEXT_OPTIONS, max_images=4)
KONTEXT_GENERATE = ModeFacts(KONTEXT_OPTIONS)
DEV_EDIT = ModeFacts(
    # 10 to 50 steps are from memory of the vendor's page, and written down nowhere that we have [MEM].
    {**COMMON_OPTIONS, "aspect_ratio": DEV_RATIOS, "guidance": GUIDANCE, "steps": Numbers(10, 50, "fal-12")},
    max_images=1,
)
# image_size takes any width and height; the ends and the grid are those of the model's maker [INF].
PRO_11_GENERATE = ModeFacts({**PRO_OPTIONS, "size": Sizes(256, 1440, 32, "fal-12")})
# Free-form ratios are documented without ends; these are the ends of the model's maker [INF].
ULTRA_GENERATE = ModeFacts({**PRO_OPTIONS, "aspect_ratio": Ratios((9, 21), (21, 9), "fal-12")})

# The provider's own fields that may be set -> the canonical option that each stands for, if any.
_FIELDS = {"enhance_prompt": "prompt_upsampling", "output_format": "output_format", "seed": "seed"}
_PRO_FIELDS = {**_FIELDS, "safety_tolerance": "safety_tolerance"}
KONTEXT_FIELDS = {**_PRO_FIELDS, "aspect_ratio": "aspect_ratio", "guidance_scale": "guidance"}
DEV_FIELDS = {
    **_FIELDS,
    "acceleration": "",
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
    "resolution_mode": "aspect_ratio",
}
PRO_11_FIELDS = {**_PRO_FIELDS, "image_size": "size"}
# image_prompt_strength is left out: it means nothing without image_url, which is reserved.
ULTRA_FIELDS = {**_PRO_FIELDS, "aspect_ratio": "aspect_ratio", "raw": ""}
