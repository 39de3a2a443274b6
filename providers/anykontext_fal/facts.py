"""What is known about fal, as data. Quirk ids and their evidence are told in the README beside this file."""

from anykontext.adapting import Facts, InputLimits, ModelFacts, Rejection, UploadFacts
from anykontext_fal.endpoints import (
    DEV_EDIT,
    DEV_FIELDS,
    KONTEXT_EDIT,
    KONTEXT_FIELDS,
    KONTEXT_GENERATE,
    PRO_11_FIELDS,
    PRO_11_GENERATE,
    ULTRA_FIELDS,
    ULTRA_GENERATE,
)
from anykontext_fal.told import ERRORS, LIFETIMES, LIMITS, MODERATION, STATUSES, WEBHOOK

QUIRKS = {
    "fal-1": "Status, result and cancel lie below owner/alias only; below the full endpoint id they answer 405.",
    "fal-2": "A status is 202 until it is 200 COMPLETED; logs are null, metrics {}, queue_position stuck or missing.",
    "fal-3": "COMPLETED is not success: failed and cancelled tasks are COMPLETED; the result's reply is the truth.",
    "fal-4": "A submit is not validated: a bad body is accepted with 200, and refused with 422 as its result.",
    "fal-5": "A result asked too early answers 400 `Request is still in progress`: the text tells, not the status.",
    "fal-6": "An unknown task is 404 in two shapes; a result is kept for one hour, from 10 KB on for six minutes.",
    "fal-7": "Cancelling is a wish, answered in three dialects; the image may come and be billed all the same.",
    "fal-8": "Errors have five shapes and HTML; `detail` is a list, a text or a mapping; `type` decides, never `msg`.",
    "fal-9": "The `input` of an error echoes the prompt or the data URI of an image.",
    "fal-10": "A flagged image may come as 200 with has_nsfw_concepts true, black, and billed; the lists may differ.",
    "fal-11": 'safety_tolerance is a text from "1" to "6", so 0 has no counterpart; dev has enable_safety_checker.',
    "fal-12": "Each endpoint has a dialect: image_url or image_urls; aspect_ratio, resolution_mode or image_size.",
    "fal-13": 'Results lack documented fields: type and size of an image, seed; the prompt is ""; a url may be data:.',
    "fal-14": "fal repeats a failed task up to ten times, and may serve it from another endpoint, unless told not to.",
    "fal-15": "A task may stay in the queue for ever; a start deadline ends it with 504 as its result, unbilled.",
    "fal-16": "Billed units stand in a header of the result only; missing is not 0; a 422 and a cancel may cost.",
    "fal-17": "Used-up credit is 403 at the submit, with a text, never 402; a wrong key is 401 in several texts.",
    "fal-18": "An nginx page without x-fal-request-id (502, 503) was not accepted; nor was runner_scheduling_failure.",
    "fal-19": "The key belongs to the queue's hosts and rest.fal.ai only; media links need none and must not get it.",
    "fal-20": "There is no idempotency key; a submit's answer may lack the URLs, the status and the position.",
    "fal-21": "Inline data URIs are meant for small images; larger ones go to fal's storage, where they are public.",
    "fal-22": "fal_client's fallback upload sends the key to a third party; it has no close and fixed hosts.",
    "fal-23": "A status needs no key at public models, so only the storage token tells whether a key is valid.",
    "fal-24": "The advice to try again has two headers, X-Fal-Retryable and X-Fal-Needs-Retry: true, false, 1 or 0.",
    "fal-25": "The queue takes everything and lets it wait: few tasks of an account run at once, and 429 is rare.",
    "fal-26": "Seeds go beyond 2^53 and have no documented range.",
    "fal-27": "Prices differ by account; that of dev may be for a megapixel instead of an image.",
}

FACTS = Facts(
    name="fal",
    title="fal",
    origins={"api": "https://queue.fal.run", "rest": "https://rest.fal.ai"},
    base_url_settings={"rest": "rest_url"},
    trusted=("queue.fal.run", "queue.falrun.com"),
    delivery=("fal.media", "*.fal.media"),
    auth=("Authorization", "Key {key}"),
    keys=(("FAL_KEY",), ("FAL_API_KEY",), ("FAL_KEY_ID", "FAL_KEY_SECRET")),
    models={
        "flux-kontext-pro": ModelFacts(
            "fal-ai/flux-pro/kontext",
            {"edit": KONTEXT_EDIT, "generate": KONTEXT_GENERATE},
            "fal sheet 4 [CODE, DOC]",
            passthrough=KONTEXT_FIELDS,
        ),
        "flux-kontext-max": ModelFacts(
            "fal-ai/flux-pro/kontext/max",
            {"edit": KONTEXT_EDIT, "generate": KONTEXT_GENERATE},
            "fal sheet 4 [CODE, DOC]",
            passthrough=KONTEXT_FIELDS,
        ),
        "flux-kontext-dev": ModelFacts(
            "fal-ai/flux-kontext/dev", {"edit": DEV_EDIT}, "fal sheet 4 [CODE, DOC]", passthrough=DEV_FIELDS
        ),
        "flux-1.1-pro": ModelFacts(
            "fal-ai/flux-pro/v1.1", {"generate": PRO_11_GENERATE}, "fal sheet 4 [CODE]", passthrough=PRO_11_FIELDS
        ),
        "flux-1.1-pro-ultra": ModelFacts(
            "fal-ai/flux-pro/v1.1-ultra", {"generate": ULTRA_GENERATE}, "fal sheet 4 [CODE]", passthrough=ULTRA_FIELDS
        ),
    },
    # What fal takes is not established: these are the limits of the models' maker, and its formats [INF].
    inputs=InputLimits(
        forms=("bytes", "url"),
        media_types=("image/jpeg", "image/png", "image/webp"),
        max_bytes=20 * 1024 * 1024 * 3 // 4,
        max_pixels=20_000_000,
        evidence="fal-21",
    ),
    # fal documents "a few KB" and no hard limit for data URIs; 4 MiB is ours: below it the body is not an issue
    # anywhere, and an uploaded picture is public and kept for days.
    uploads=UploadFacts(over=4 * 1024 * 1024, origin="", lifetime_s=None, public=True, evidence="fal-21"),
    rejections=(
        Rejection(502, "ingress", "fal-18", at_home=True),
        Rejection(503, "ingress", "fal-18", at_home=True),
        Rejection(503, "runner_scheduling_failure", "fal-18"),
    ),
    webhooks=True,
    poll_interval_s=0.5,
    not_found_polls=5,
    unreadable_polls=5,
    images_per_task=4,
    retention_s=3600,
    statuses=STATUSES,
    errors=ERRORS,
    moderation=MODERATION,
    lifetimes=LIFETIMES,
    limits=LIMITS,
    webhook=WEBHOOK,
    reserved_options={
        "enable_safety_checker": "the adapter",  # fal-11: it is not turned off by an option that looks like any other
        "image_url": "images",
        "image_urls": "images",
        "num_images": "num_images",
        "prompt": "prompt",
        "sync_mode": "the adapter",  # fal-6, fal-13: it turns the links into data URIs, and an hour into six minutes
    },
    evidence={
        "auth": "fal-17",
        "delivery": "fal-19",
        "images_per_task": "fal-12",
        "max_active": "fal-25",
        "not_found_polls": "fal-6",
        "poll_interval_s": "fal-2",
        "retention_s": "fal-6",
        "trusted": "fal-19",
    },
    quirks=QUIRKS,
)
