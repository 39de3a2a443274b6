"""What is known about BFL in words, for people: the matrix shows it, nothing is decided by it."""

from anykontext.adapting import Known

# Only what BFL itself says of a host; the work of the global one is done in any region.
REGIONS = {
    "https://api.bfl.ai": "global",
    "https://api.eu.bfl.ai": "eu",
    "https://api.us.bfl.ai": "us",
}

STATUSES = {
    "Pending": Known("queued or running; it may stay so at a progress of 1.0", "sheet 5 [REC]"),
    "Reasoning": Known("running", "bfl-5 [DOC, CODE]"),
    "Generating": Known("running", "bfl-5 [DOC, CODE]"),
    "Ready": Known("done; `result.sample` is the link", "sheet 5 [REC]"),
    "Request Moderated": Known("the prompt or the input image was refused, before any work; free", "bfl-9 [DOC, REC]"),
    "Content Moderated": Known("the finished image was refused; free", "bfl-9 [DOC, REC]"),
    "Error": Known("failed; `details.error` says why; free", "sheet 5, 7 [REC, DOC]"),
    "Task not found": Known("unknown, expired or asked at a wrong region; with HTTP 404", "bfl-6 [REC, CODE]"),
}

ERRORS = {
    "400": Known("a refused request, such as a finetune that is not ready", "sheet 7 [REC]"),
    "402": Known("the credit is used up, or BFL is busy", "bfl-10 [REC]"),
    "403": Known("a wrong key", "bfl-14 [REC]"),
    "404": Known("an unknown path or model; at a poll, a task that is not found (yet)", "sheet 7 [REC]"),
    "422": Known("a malformed key or a value out of range; at a poll, a failed task", "bfl-7, bfl-14 [REC]"),
    "429": Known("too many tasks at once; its body is not known", "bfl-11 [DOC]"),
    "500, 503": Known("to be sent again later [DOC]; that nothing was accepted is inferred", "bfl-16 [INF]"),
}

MODERATION = (
    Known("the status `Request Moderated`: the prompt or an input image", "bfl-9 [DOC, REC]"),
    Known("the status `Content Moderated`: the finished image", "bfl-9 [DOC, REC]"),
    Known('`details` gives the reasons as `{"Moderation Reasons": […]}`, as a text, or is null', "bfl-9 [REC, CODE]"),
)

LIFETIMES = {
    "link to a result": Known("10 minutes (`se`); a new poll gives a new link", "bfl-13 [REC]"),
}

LIMITS = {
    "running tasks": Known("24 of one account, 6 of flux-kontext-max", "bfl-11 [DOC]"),
    "polls": Known("1200 in about one second, by a header of every reply", "sheet 5 [REC]"),
    "input image": Known("20 MB of base64 and 20 MP by the SDK, for other endpoints than Kontext", "sheet 3.1 [CODE]"),
    "input images": Known("4; the second to fourth are called experimental", "sheet 3.1 [DOC]"),
}

# The one text that tells how contradicts recorded traffic elsewhere, and is not repeated here.
WEBHOOK = Known("signed when `webhook_secret` is given; how is not established", "sheet 8 [DOC]")
