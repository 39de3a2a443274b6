"""The emulator as the sandbox knows it: the hosts, their shared state, and kie's own faults."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from starlette.requests import Request
from starlette.types import ASGIApp

from anykontext import sandbox
from anykontext.sandbox.downloads import DOWNLOAD_FAULTS
from anykontext_kie.emulator import api, uploads
from anykontext_kie.emulator.envelope import Refused
from anykontext_kie.emulator.media import Media
from anykontext_kie.emulator.tasks import Tasks

OWN_FAULTS = {
    "create-failed": "The task ends in successFlag 2 without a reason.",
    "envelope-408": "Polls of an ended task are answered with the code 408 instead of a record.",
    "envelope-501": "Polls of an ended task are answered with the code 501 instead of a record.",
    "epoch-times": "The times of a record are milliseconds since the epoch.",
    "error-code-zero": "The errorCode of a task that ended well is 0.",
    "flag-as-string": "The successFlag is a string.",
    "http-429": "A submit is answered with a real 429 and Retry-After; nothing is accepted.",
    "moderated-400": "A submit is answered with the code 400 of moderation; nothing is accepted.",
    "moderated-400-poll": "Polls of an ended task are answered with the code 400 of moderation.",
    "naive-times": "The times of a record are those of UTC+8, and do not say so.",
    "no-origin-url": "The record of a task that ended well has no originImageUrl.",
    "no-result-url": "The record of a task that ended well has no resultImageUrl.",
    "not-visible-yet": "The first two polls of each task find no record.",
    "null-texts": 'The record of a task that ended well says "null" instead of null.',
    "upload-down": "An upload is answered 503 with an HTML page; nothing is kept.",
    "upload-lost": "An upload is kept, then the connection is reset without a reply.",
    "upload-refused": "An upload is answered with the code 400; nothing is kept.",
}


class Emulator(sandbox.Emulator):
    """kie.ai: the API, the upload host, and both hosts of files as one.

    `outage` is the code 455 under HTTP 200, as the provider documents it, and `rate-limited` the code 429 without
    Retry-After, which it does not send (kie-11). No one is called back
    at callBackUrl (kie-24).

    Counters: `submits` (arrived), `accepted`, `polls`, `uploads` (arrived), `overwrites` (of an uploaded file by
    another of the same name), `downloads` (asked for), `key_leaks` (to the hosts of files), `ignored_fields`,
    `safety_above_limit` (submits refused for it). Each accepted submit is in `requests` as `id`, `model`, `body` (what
    was sent of the known fields, without the image), `prompt` (as it was used: marked when it was translated),
    `images` (each `field`, `url` and, once it was fetched, `sha256`) and `ignored` (names of fields that had no
    effect).
    """

    name: ClassVar[str] = "kie"
    origin_names: ClassVar[tuple[str, ...]] = ("api", "upload", "media")
    extra_faults: ClassVar[Mapping[str, str]] = MappingProxyType({**OWN_FAULTS, **DOWNLOAD_FAULTS})

    def __init__(self, *, seconds: float = 0.5) -> None:
        super().__init__(seconds=seconds)
        self.credits = 5916.25
        """The balance; a credit is USD 0.005."""
        self.media = Media(self)
        self.tasks = Tasks(self)

    def app(self, origin_name: str) -> ASGIApp:
        """The app of one of the hosts."""
        if origin_name == "media":
            return self.media.app()
        return api.app(self) if origin_name == "api" else uploads.app(self)

    def config(self) -> Mapping[str, str | int | float | bool]:
        """The settings that lead to the API and to the upload host."""
        return {**super().config(), "upload_url": self.origins["upload"]}

    def key_of(self, request: Request) -> str:
        """The key of a request, which is the account too.

        Raises:
            Refused: there is none, or no one knows it.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or key not in sandbox.KEYS or self.take("bad-key"):
            raise Refused(401, "You do not have access permissions")
        return key
