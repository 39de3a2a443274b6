"""What is known about kie.ai in words, for people: the matrix shows it, nothing is decided by it."""

from anykontext.adapting import Known

STATUSES = {
    "0": Known("`successFlag`, GENERATING: queued or running", "kie-4 [DOC]"),
    "1": Known("SUCCESS: done; `resultImageUrl` is the link, and may be missing", "kie-12 [DOC, CODE]"),
    "2": Known("CREATE_TASK_FAILED: the upstream did not take the task", "kie-4, kie-18 [DOC, INF]"),
    "3": Known("GENERATE_FAILED: it failed there, or was moderated; may be billed", "kie-4, kie-5, kie-18 [DOC, CODE]"),
}

# Codes of the body, mostly under HTTP 200 (kie-1).
ERRORS = {
    "400": Known("the prompt or the image was flagged; elsewhere a wrong parameter", "kie-4, kie-5 [DOC]"),
    "401": Known("a wrong or missing key", "kie-1 [DOC]"),
    "402": Known("the credit is used up", "sheet 4 [DOC]"),
    "404": Known("an unknown task or path", "kie-2 [DOC]"),
    "408": Known("the upstream gave no answer for ten minutes: the image may be made and billed", "kie-10 [DOC, INF]"),
    "422": Known("a wrong value; at sibling endpoints an unknown task", "kie-2 [DOC, REC]"),
    "429": Known("too many requests: not queued, free", "kie-11 [DOC]"),
    "455": Known("maintenance: not accepted", "kie-17 [DOC]"),
    "500": Known("a safety tolerance out of range, or an unexpected error", "kie-6, kie-10 [DOC]"),
    "501": Known("the generation failed", "kie-4 [DOC]"),
    "505": Known("the feature is switched off: not accepted", "kie-17 [DOC]"),
}

MODERATION = (
    Known("words in `errorMessage` of a failed task, such as `flagged as sensitive`", "kie-5 [CODE]"),
    Known("code 400 in a callback", "kie-5 [DOC]"),
)

LIFETIMES = {
    "link to a result": Known("14 days; 24 hours, says a page of another endpoint", "kie-21 [DOC]"),
    "`originImageUrl`": Known("10 minutes", "kie-12 [DOC]"),
    "uploaded file": Known("3 days, public", "kie-9 [DOC]"),
    "what a task was": Known("2 months", "sheet 6 [DOC]"),
}

LIMITS = {
    "submits": Known("20 in 10 seconds of one account", "kie-11 [DOC]"),
    "running tasks": Known("100 and more of one account", "kie-11 [DOC]"),
    "polls": Known("2 to 3 seconds are advised for the first 30, then fewer", "sheet 7 [DOC]"),
    "input images": Known("1", "kie-23 [DOC]"),
}

WEBHOOK = Known(
    "HMAC-SHA256 over task id and timestamp, not over the body; only once a key for it was set", "kie-24 [DOC]"
)
