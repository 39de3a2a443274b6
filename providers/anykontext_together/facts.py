"""What is known about Together AI, as data. Quirk ids and their evidence are told in the README beside this file."""

from anykontext.adapting import (
    Choices,
    Facts,
    InputLimits,
    ModeFacts,
    ModelFacts,
    Numbers,
    Ratios,
    Rejection,
    Sizes,
    Spec,
)
from anykontext_together.told import ERRORS, LIMITS, MODERATION

# Multiples of 8 are documented, an upper and a lower end are not: these are ours, wide enough for 9:21 at 1 MP.
KONTEXT_SIZES = Sizes(256, 1792, 8, "together-8")
# The ends of Black Forest Labs' own endpoint, which Together's moderation reply names as the one behind it.
PRO_11_SIZES = Sizes(256, 1440, 32, "together-8")
RATIOS = Ratios((9, 21), (21, 9), "together-7")
COMMON: dict[str, Spec] = {
    "output_format": Choices(("jpeg", "png"), "together-11"),
    "seed": Numbers(0, 2**32 - 1, "together-10", wraps=True),
}
KONTEXT: dict[str, Spec] = {**COMMON, "aspect_ratio": RATIOS, "size": KONTEXT_SIZES}

# The provider's own fields that may be set -> the canonical option that each stands for, if any. Left out:
# disable_safety_checker (together-12), steps and guidance_scale, which mean nothing to these models and may cost.
PRO_11_FIELDS = {
    "height": "size",
    "negative_prompt": "",
    "output_format": "output_format",
    "response_format": "",
    "seed": "seed",
    "width": "size",
}
KONTEXT_FIELDS = {**PRO_11_FIELDS, "aspect_ratio": "aspect_ratio"}

QUIRKS = {
    "together-1": "The reply to the submit is the result: no task id, no poll, no cancel, no webhook.",
    "together-2": "data[] is a union by type: b64_json or url; older replies lack the type.",
    "together-3": "response_format is url unless it is sent, and base64 is the word for what comes back as b64_json.",
    "together-4": "403 means that the prompt is too long; it says nothing about the key.",
    "together-5": "Moderation is an HTTP error: 422 with NSFW in its text, or 400 that names a moderation system.",
    "together-6": "429 tells its wait in x-ratelimit-reset; 503 is documented as unable to serve.",
    "together-7": "Kontext takes aspect_ratio, which the OpenAPI does not have; 1.1 pro takes width and height.",
    "together-8": "width and height are multiples of 8 and default to 1024 x 1024, for edits too.",
    "together-9": "An edit is a generation with image_url, one image: a URL or a data URI.",
    "together-10": "n is 1 to 4; no reply tells the seed that was used.",
    "together-11": "jpeg and png only.",
    "together-12": "No safety dial, no prompt_upsampling; the safety checker of Flux Pro models cannot be turned off.",
    "together-13": "A blank User-Agent is refused with 403, by the API and at a download.",
    "together-14": "500 is not documented as not accepted, nor is 504: the image may be made and billed.",
    "together-15": "Two domains answer: api.together.ai and api.together.xyz.",
    "together-16": "Prices are not established, and no reply tells the cost.",
    "together-17": "402 means that a spending limit is reached or the credit used up.",
}

FACTS = Facts(
    name="together",
    title="Together AI",
    origins={"api": "https://api.together.ai"},
    trusted=("together.ai", "together.xyz"),
    delivery=(),
    auth=("Authorization", "Bearer {key}"),
    keys=(("TOGETHER_API_KEY",),),
    models={
        "flux-kontext-pro": ModelFacts(
            "black-forest-labs/FLUX.1-kontext-pro",
            {"edit": ModeFacts(KONTEXT, max_images=1), "generate": ModeFacts(KONTEXT)},
            "together sheet, 'Base, models, request' [DOC]",
            passthrough=KONTEXT_FIELDS,
        ),
        "flux-kontext-max": ModelFacts(
            "black-forest-labs/FLUX.1-kontext-max",
            {"edit": ModeFacts(KONTEXT, max_images=1), "generate": ModeFacts(KONTEXT)},
            "together sheet, 'Base, models, request' [DOC]",
            passthrough=KONTEXT_FIELDS,
        ),
        "flux-1.1-pro": ModelFacts(
            "black-forest-labs/FLUX.1.1-pro",
            {"generate": ModeFacts({**COMMON, "size": PRO_11_SIZES})},
            "docs images-overview, serverless table [DOC]; together sheet [3P]",
            passthrough=PRO_11_FIELDS,
        ),
    },
    # What Together takes is not established: these are the limits of the models' maker, and its formats [INF].
    inputs=InputLimits(
        forms=("bytes", "url"),
        media_types=("image/jpeg", "image/png", "image/webp"),
        max_bytes=20 * 1024 * 1024 * 3 // 4,
        max_pixels=20_000_000,
        evidence="together-9",
    ),
    rejections=(Rejection(503, "error", "together-6"),),  # and no other 5xx: together-14
    poll_interval_s=1.0,  # nothing is ever polled
    images_per_task=4,
    errors=ERRORS,
    moderation=MODERATION,
    limits=LIMITS,
    reserved_options={"image_url": "images", "model": "model", "n": "num_images", "prompt": "prompt"},
    evidence={
        "auth": "together-4",
        "delivery": "together-3",
        "images_per_task": "together-10",
        "poll_interval_s": "together-1",
        "trusted": "together-15",
    },
    quirks=QUIRKS,
)
