"""What is known about BFL, as data. Quirk ids and their evidence are told in the README beside this file."""

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
    Toggle,
)
from anykontext_bfl.told import ERRORS, LIFETIMES, LIMITS, MODERATION, REGIONS, STATUSES, WEBHOOK

FORMATS = Choices(("jpeg", "png", "webp"), "bfl-15")
SAFETY = Numbers(0, 6, "bfl-17")
SAFETY_WITH_IMAGE = Numbers(0, 2, "bfl-17")
RATIOS = Ratios((9, 21), (21, 9), "bfl-20")
COMMON: dict[str, Spec] = {
    "output_format": FORMATS,
    "seed": Numbers(0, 2**32 - 1, "bfl-18", wraps=True),
    "prompt_upsampling": Toggle("bfl-21"),
}
GENERATE = ModeFacts({**COMMON, "safety_tolerance": SAFETY, "aspect_ratio": RATIOS})
EDIT = ModeFacts({**COMMON, "safety_tolerance": SAFETY_WITH_IMAGE, "aspect_ratio": RATIOS}, max_images=4)

# The provider's own fields, as its OpenAPI lists them -> the canonical option that each stands for, if any.
# No other may be set: it would be ignored (bfl-3).
FIELDS = {
    "aspect_ratio": "aspect_ratio",
    "output_format": "output_format",
    "prompt_upsampling": "prompt_upsampling",
    "safety_tolerance": "safety_tolerance",
    "seed": "seed",
    "webhook_secret": "",
}
ULTRA_FIELDS = {**FIELDS, "image_prompt": "", "image_prompt_strength": "", "raw": ""}
PRO_11_FIELDS = {**FIELDS, "image_prompt": "", "width": "size", "height": "size"}
del PRO_11_FIELDS["aspect_ratio"]

QUIRKS = {
    "bfl-1": "A task is polled at the returned polling_url, verbatim: another host answers 404.",
    "bfl-2": "A submit with webhook_url returns no polling_url.",
    "bfl-3": "Unknown fields are ignored: a misnamed one gives a paid wrong picture.",
    "bfl-4": "Every 200 of a poll carries Retry-After, which means nothing there.",
    "bfl-5": "Reasoning and Generating are in-flight statuses too, and new words may come.",
    "bfl-6": "A poll just after the submit may answer 404 Task not found.",
    "bfl-7": "A poll may answer 404, 422 or 503 with a status in its body: the body is the truth.",
    "bfl-8": "The settled cost stands at the top level of the Ready reply, in credits of USD 0.01, with float noise.",
    "bfl-9": "Moderation has two statuses; its details may be a mapping, a text, or missing; it is free.",
    "bfl-10": "402 may also mean: busy.",
    "bfl-11": "24 tasks may run at once, 6 of flux-kontext-max.",
    "bfl-12": "A 422 echoes the whole body with its base64 image.",
    "bfl-13": "The image's link ends after ten minutes (se), lies on changing hosts, and a new poll renews it.",
    "bfl-14": "A wrong key is answered with 403, a malformed one with 422 and a text.",
    "bfl-15": "The default format differs by model (png for Kontext, jpeg elsewhere): it is always sent.",
    "bfl-16": "500 and 503 are documented as: send again later; that nothing was accepted is inferred from it.",
    "bfl-17": "Safety is 0 to 6, and effectively 0 to 2 with an input image.",
    "bfl-18": "Seeds are unsigned 32-bit numbers, beyond 2^31 too; 0 is one.",
    "bfl-19": "Images are raw base64 without a data: prefix, or a URL that BFL fetches while the task runs.",
    "bfl-20": "Ratios go from 9:21 to 21:9; without one, an edit keeps the input's, ultra takes 16:9, 1.1 1024x768.",
    "bfl-21": "The prompt in the result may be a rewritten one.",
    "bfl-22": "GET /v1/credits tells the balance and checks the key, free of charge.",
}

FACTS = Facts(
    name="bfl",
    title="Black Forest Labs",
    origins={"api": "https://api.bfl.ai"},
    trusted=("bfl.ai",),
    delivery=("*.bfl.ai", "bfldelivery*.blob.core.windows.net"),
    auth=("x-key", "{key}"),
    keys=(("BFL_API_KEY",), ("BLACK_FOREST_LABS_API_KEY",), ("FLUX_API_KEY",)),
    models={
        "flux-kontext-pro": ModelFacts(
            "flux-kontext-pro", {"edit": EDIT, "generate": GENERATE}, "bfl sheet 3.1", passthrough=FIELDS
        ),
        "flux-kontext-max": ModelFacts(
            "flux-kontext-max", {"edit": EDIT, "generate": GENERATE}, "bfl sheet 3.1", passthrough=FIELDS, max_active=6
        ),
        "flux-1.1-pro": ModelFacts(
            "flux-pro-1.1",
            {"generate": ModeFacts({**COMMON, "safety_tolerance": SAFETY, "size": Sizes(256, 1440, 32, "bfl-20")})},
            "bfl sheet 3.2",
            passthrough=PRO_11_FIELDS,
        ),
        "flux-1.1-pro-ultra": ModelFacts(
            "flux-pro-1.1-ultra", {"generate": GENERATE}, "bfl sheet 3.2", passthrough=ULTRA_FIELDS
        ),
    },
    # 20 MB and 20 MP are the official SDK's limits for other endpoints, not validated for Kontext [INF].
    inputs=InputLimits(
        forms=("bytes", "url"),
        media_types=("image/jpeg", "image/png", "image/webp"),
        max_bytes=20 * 1024 * 1024 * 3 // 4,
        max_pixels=20_000_000,
        evidence="bfl-19",
    ),
    rejections=(Rejection(500, "detail", "bfl-16"), Rejection(503, "detail", "bfl-16")),
    webhooks=True,
    poll_interval_s=0.5,
    not_found_polls=5,
    unreadable_polls=4,
    max_active=24,
    busy_as_out_of_credit=True,
    webhook_hides_polling=True,
    retention_s=None,
    regions=REGIONS,
    statuses=STATUSES,
    errors=ERRORS,
    moderation=MODERATION,
    lifetimes=LIFETIMES,
    limits=LIMITS,
    webhook=WEBHOOK,
    reserved_options={
        "prompt": "prompt",
        "webhook_url": "webhook_url",
        **{f"input_image{suffix}": "images" for suffix in ("", "_2", "_3", "_4")},
    },
    evidence={
        "auth": "bfl-14",
        "busy_as_out_of_credit": "bfl-10",
        "delivery": "bfl-13",
        "max_active": "bfl-11",
        "not_found_polls": "bfl-6",
        "poll_interval_s": "bfl-4",
        "regions": "bfl-1",
        "trusted": "bfl-1",
        "webhook_hides_polling": "bfl-2",
    },
    quirks=QUIRKS,
)
