"""What is known about kie.ai, as data. Quirk ids and their evidence are told in the README beside this file."""

from anykontext.adapting import (
    Choices,
    Facts,
    InputLimits,
    Kind,
    ModeFacts,
    ModelFacts,
    Numbers,
    Rejection,
    Spec,
    SubmitRate,
    Toggle,
    UploadFacts,
)
from anykontext_kie.told import ERRORS, LIFETIMES, LIMITS, MODERATION, STATUSES, WEBHOOK

DAY_S = 86_400.0
RESULT_DAYS = 14  # kie-21

# Shapes of a refusal: kie's envelope {code, msg, data}, and the one 500 in it that means a bad request.
ENVELOPE, TOLERANCE = "envelope", "tolerance"

# What a code in the body means (kie-1). Any other 4xx is REQUEST_REJECTED, any other 5xx UNAVAILABLE.
KIND_OF_CODE = {
    401: Kind.AUTHENTICATION_FAILED,
    402: Kind.OUT_OF_CREDIT,
    408: Kind.UNAVAILABLE,  # the upstream did not answer: never a rejection of a submit (kie-10)
    429: Kind.RATE_LIMITED,  # kie-11
    455: Kind.UNAVAILABLE,  # kie-17
    505: Kind.REQUEST_REJECTED,  # kie-17
}
# Codes that end the task itself, by what was asked (kie-4). 400 at a submit is a plain refusal.
ENDS_AT_SUBMIT = {501: Kind.GENERATION_FAILED}
ENDS_AT_POLL = {400: Kind.REQUEST_REJECTED, 408: Kind.GENERATION_FAILED, 501: Kind.GENERATION_FAILED}
# Codes of a submit that was refused for its prompt or picture, where the text says so (kie-5); 422 is our guess.
MODERATED_AT_SUBMIT = frozenset({400, 422})
# Words of "there is no such task" in a 422 (kie-2); they are those of sibling endpoints.
NOT_FOUND_WORDS = ("record does not exist", "recordinfo is null")
# Words of the one 500 that is a bad request (kie-6); all must be there.
TOLERANCE_WORDS = ("tolerance", "out of range")

GENERATING, SUCCESS, CREATE_TASK_FAILED, GENERATE_FAILED = 0, 1, 2, 3
WORD_OF_FLAG = {
    GENERATING: "GENERATING",
    SUCCESS: "SUCCESS",
    CREATE_TASK_FAILED: "CREATE_TASK_FAILED",
    GENERATE_FAILED: "GENERATE_FAILED",
}
MAYBE_CHARGED = {CREATE_TASK_FAILED: False, GENERATE_FAILED: True}  # kie-18

OPTIONS: dict[str, Spec] = {
    "aspect_ratio": Choices(("21:9", "16:9", "4:3", "1:1", "3:4", "9:16"), "kie-7"),
    "output_format": Choices(("jpeg", "png"), "kie-23"),
    "prompt_upsampling": Toggle("kie sheet section 2"),
    "translate_prompt": Toggle("kie-8"),
    "watermark": Choices((), "kie-26"),  # any text
}
EDIT = ModeFacts({**OPTIONS, "safety_tolerance": Numbers(0, 2, "kie-6")}, max_images=1)
GENERATE = ModeFacts({**OPTIONS, "safety_tolerance": Numbers(0, 6, "kie-6")})

# The provider's own fields, as its OpenAPI lists them -> the canonical option that each stands for, if any.
FIELDS = {
    "aspectRatio": "aspect_ratio",
    "enableTranslation": "translate_prompt",
    "outputFormat": "output_format",
    "promptUpsampling": "prompt_upsampling",
    "safetyTolerance": "safety_tolerance",
    "uploadCn": "",
    "watermark": "watermark",
}

QUIRKS = {
    "kie-1": "An error is mostly HTTP 200 with a code in the body; real 4xx and 5xx, and HTML, come too.",
    "kie-2": "A task that is not known (yet) is code 200 with data null, or 404, or 422.",
    "kie-3": "A submit is accepted with an input URL that cannot be fetched; that shows at the poll.",
    "kie-4": "A task's failure is a successFlag of 2 or 3, or a code 501, 408 or 400 at the poll.",
    "kie-5": "Moderation at the poll has no mark but the words of its text.",
    "kie-6": "Safety is a whole number, 0 to 6, with an input image 0 to 2; beyond that the answer is code 500.",
    "kie-7": "Six aspect ratios only; an edit without one keeps the input's, says one place, is 16:9, says another.",
    "kie-8": "Prompts are translated unless enableTranslation is false.",
    "kie-9": "Pictures are taken as URLs only; files go to another host first, are public there, and live three days.",
    "kie-10": "No idempotency key and no cancel: a 500 or 408 at a submit may be an accepted task.",
    "kie-11": "20 submits in 10 s and about 100 running tasks of one account; a 429 is not queued.",
    "kie-12": "A success may lack resultImageUrl; what originImageUrl shows is not known, and ends soon.",
    "kie-13": "Times come as ISO with Z, as naive UTC+8, or as milliseconds.",
    "kie-14": "errorCode may be null, 0, a number or a text without a failure; a number or null may come as a text.",
    "kie-15": "msg may be message; taskId may be task_id, or stand at the top.",
    "kie-16": "paramJson is a JSON text that repeats the request; unknown further keys appear.",
    "kie-17": "455 is maintenance, 505 a feature that is switched off: nothing was accepted.",
    "kie-18": "successFlag 2 failed before the upstream took it, 3 after; a failed task may be billed all the same.",
    "kie-19": "GET /api/v1/chat/credit tells the balance as a bare number of credits; no reply tells a cost.",
    "kie-20": "fluxapi.ai speaks the same protocol with keys and prices of its own, and without an upload host.",
    "kie-21": "Results lie 14 days on another company's host, which gets no key; each API reply sets a cookie.",
    "kie-22": "Unknown fields are ignored: a misnamed one gives a paid wrong picture.",
    "kie-23": "No seed, steps, guidance or second input image; one image for each task; jpeg and png.",
    "kie-24": "A callback has data.info where a poll has data.response, and its signature leaves out the body.",
    "kie-25": "An upload is answered with downloadUrl, where the documentation says fileUrl; the same name overwrites.",
    "kie-26": "watermark is a text, documented in two words; one client calls it a boolean.",
}

FACTS = Facts(
    name="kie",
    title="kie.ai",
    origins={"api": "https://api.kie.ai", "upload": "https://kieai.redpandaai.co"},
    base_url_settings={"upload": "upload_url"},
    trusted=("kie.ai",),
    siblings=("https://api.fluxapi.ai",),
    delivery=("*.aiquickdraw.com", "*.redpandaai.co"),
    auth=("Authorization", "Bearer {key}"),
    keys=(("KIE_API_KEY",),),
    models={
        name: ModelFacts(name, {"edit": EDIT, "generate": GENERATE}, "kie sheet section 2 [DOC]", passthrough=FIELDS)
        for name in ("flux-kontext-pro", "flux-kontext-max")
    },
    # Nothing is documented for Kontext: 10 MB and the formats are those of FLUX.2 there, 20 MP its maker's [INF].
    inputs=InputLimits(
        forms=("url", "bytes"),
        media_types=("image/jpeg", "image/png", "image/webp"),
        max_bytes=10_000_000,
        max_pixels=20_000_000,
        evidence="kie-9",
    ),
    uploads=UploadFacts(over=0, origin="upload", lifetime_s=3 * DAY_S, public=True, evidence="kie-9"),
    rejections=(
        Rejection(455, ENVELOPE, "kie-17"),
        Rejection(505, ENVELOPE, "kie-17"),
        Rejection(500, TOLERANCE, "kie-6"),
    ),
    webhooks=True,
    poll_interval_s=2.0,
    not_found_polls=15,
    max_active=100,
    submit_rate=SubmitRate(20, 10.0, "kie-11"),
    retention_s=RESULT_DAYS * DAY_S,
    statuses=STATUSES,
    errors=ERRORS,
    moderation=MODERATION,
    lifetimes=LIFETIMES,
    limits=LIMITS,
    webhook=WEBHOOK,
    reserved_options={
        "callBackUrl": "webhook_url",
        "imageUrl": "images",
        "inputImage": "images",
        "model": "model",
        "prompt": "prompt",
    },
    evidence={
        "auth": "kie-1",
        "base_url_settings": "kie-9",
        "delivery": "kie-21",
        "max_active": "kie-11",
        "not_found_polls": "kie-2",
        "poll_interval_s": "kie-11",
        "retention_s": "kie-21",
        "siblings": "kie-20",
        "trusted": "kie-20",
    },
    quirks=QUIRKS,
)
