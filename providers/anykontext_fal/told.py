"""What is known about fal in words, for people: the matrix shows it, nothing is decided by it."""

from anykontext.adapting import Known

STATUSES = {
    "IN_QUEUE": Known("waiting for a place to run; HTTP 202", "fal-2 [DOC, CODE]"),
    "IN_PROGRESS": Known("running; HTTP 202", "fal-2 [DOC, CODE]"),
    "COMPLETED": Known("ended, well or not or cancelled: the result's own reply tells", "fal-3 [DOC, REC/3P]"),
}

ERRORS = {
    "400": Known(
        "asked too early, already ended, or an upstream's error, told by the text", "fal-5, fal-7 [CODE, DOC]"
    ),
    "401": Known("a wrong key, in several texts", "fal-17 [REC/3P]"),
    "403": Known("the credit is used up (`Exhausted balance`)", "fal-17 [REC/3P]"),
    "404": Known("an unknown task or an expired result, in two shapes; an unknown path", "fal-6 [REC/3P, CODE]"),
    "405": Known("asked below the full endpoint id", "fal-1 [REC/3P]"),
    "422": Known(
        "a wrong value or an image of no use; comes as the result, not at the submit", "fal-4, fal-8 [DOC, REC/3P]"
    ),
    "429": Known("too many at once; the queue itself never says so unless a queue length was given", "fal-25 [DOC]"),
    "499": Known("cancelled, as the result", "fal-7 [DOC, CODE]"),
    "500": Known("an error of the model or of an upstream; not billed", "fal-8, fal-16 [DOC]"),
    "502, 503": Known("nginx's page, `runner_…` errors; at a submit the page was not accepted", "fal-18 [DOC, CODE]"),
    "504": Known(
        "took too long, or was not started in time (`X-Fal-Request-Timeout-Type: user`)", "fal-15 [DOC, CODE]"
    ),
}

MODERATION = (
    Known("422 of the type `content_policy_violation`, as the result", "fal-8 [DOC]"),
    Known("200 with `has_nsfw_concepts` true for an image, which is often black, and is billed", "fal-10 [CODE]"),
)

LIFETIMES = {
    "result": Known("1 hour after the end, 6 minutes from 10 KB on; longer where fal stores payloads", "fal-6 [DOC]"),
    "image": Known('"at least 7 days", says one page; for ever unless set otherwise, says another', "sheet 7 [DOC]"),
    "uploaded file": Known("as long as an image; public", "sheet 6 [DOC]"),
}

LIMITS = {
    "running tasks": Known("2 of a new account, up to 40; the others wait in the queue", "fal-25 [DOC]"),
    "waiting": Known("without an end, unless a start deadline is sent", "fal-15 [REC/3P]"),
    "input image as a data URI": Known('"a few KB" are meant; no hard limit is documented', "fal-21 [DOC]"),
    "images of one task": Known("1 to 4", "fal-12 [DOC]"),
}

WEBHOOK = Known(
    "ED25519 over request id, user id, timestamp and the body's SHA-256, with fal's public keys (JWKS)", "sheet 8 [DOC]"
)
