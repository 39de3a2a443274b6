"""What is known about Together AI in words, for people: the matrix shows it, nothing is decided by it.

There are no statuses: the reply to the submit is the result (together-1). How long a link lives is not known.
"""

from anykontext.adapting import Known

ERRORS = {
    "400": Known("a bad request, or a finished image that was flagged", "together-5 [DOC, REC/3P]"),
    "401": Known("a wrong key", "sheet, errors [DOC]"),
    "402": Known("the spending limit is reached or the credit used up", "together-17 [DOC]"),
    "403": Known("the prompt is too long; without JSON, a blank User-Agent", "together-4, together-13 [DOC, 3P]"),
    "404": Known("an unknown model or path", "sheet, errors [DOC]"),
    "409": Known("the vendor's SDK sends such a request again; no more is known", "sheet, errors [CODE]"),
    "422": Known("a wrong value, or a prompt or image that may be NSFW", "together-5 [DOC, 3P]"),
    "429": Known("too many requests; `x-ratelimit-reset` tells the wait", "together-6 [DOC]"),
    "500": Known("an unknown server error: the image may be made and billed", "together-14 [DOC]"),
    "503": Known("unable to serve: not accepted", "together-6 [DOC]"),
    "504": Known("an upstream did not answer: the image may be made and billed", "together-14 [DOC, CODE]"),
}

MODERATION = (
    Known("HTTP 422 with `NSFW` in its text (FLUX 1.1 pro; for Kontext inferred)", "together-5 [3P, INF]"),
    Known("HTTP 400 that names the maker's content moderation: the image was made", "together-5 [REC/3P]"),
)

LIMITS = {
    "submits": Known("limits move with the load and are not published", "together-6 [DOC]"),
    "images of one request": Known("1 to 4", "together-10 [DOC]"),
    "input images": Known("1", "together-9 [DOC]"),
}
