"""The emulator as the sandbox knows it: three hosts, their shared state, and BFL's own faults."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from anykontext import sandbox
from anykontext.sandbox.downloads import DOWNLOAD_FAULTS
from anykontext_bfl.emulator import api
from anykontext_bfl.emulator.delivery import Blobs, count_leaks
from anykontext_bfl.emulator.results import Results
from anykontext_bfl.emulator.tasks import Tasks

OWN_FAULTS = {
    "busy-402": "A submit is answered 402 although there are credits.",
    "details-as-string": "With a moderation fault: the details are a string.",
    "expired-once": "The first result URL of each task has expired already; a new poll gives a good one.",
    "foreign-poll-host": "The polling_url is on a host that is not BFL's API.",
    "no-details": "With a moderation fault: the details are null.",
    "not-found-always": "Every poll is answered 404 Task not found.",
    "not-found-first": "The first two polls of each task are answered 404 Task not found.",
    "ready-without-url": "A finished task has no result.",
    "reasoning": "The first two polls of each task say Reasoning and Generating.",
    "resultless-error": "The task ends in Error with neither result nor details, under HTTP 200.",
}


class Emulator(sandbox.Emulator):
    """Black Forest Labs: the global host, a regional one for polls, and one for results.

    Counters: `submits` (arrived), `accepted`, `polls`, `downloads` (asked for), `key_leaks`,
    `ignored_fields` (unknown to the schema), `safety_above_edit_limit`. Each accepted submit is in
    `requests` as `id`, `model`, `body` (what was sent of the schema's fields, without images), `images`
    (each `field` and either `bytes` and `sha256` or `url`) and `ignored` (names of unknown fields).
    """

    name: ClassVar[str] = "bfl"
    origin_names: ClassVar[tuple[str, ...]] = ("api", "region", "delivery")
    extra_faults: ClassVar[Mapping[str, str]] = MappingProxyType({**OWN_FAULTS, **DOWNLOAD_FAULTS})

    def __init__(self, *, seconds: float = 0.5) -> None:
        super().__init__(seconds=seconds)
        self.credits = 1000.0
        """The balance; a credit is USD 0.01."""
        self.tasks = Tasks(self)
        self.blobs = Blobs(self)
        self._results = Results(self)

    def app(self, origin_name: str) -> ASGIApp:
        """The app of one of BFL's hosts."""
        if origin_name == "api":
            return api.app(self)
        if origin_name == "region":
            return Starlette(
                routes=[Route("/v1/get_result", self._results.get, methods=["GET"])],
                exception_handlers=api.ERRORS,
            )
        return Starlette(
            routes=[
                Route("/v1/get_result", self._foreign_poll, methods=["GET"]),
                Route("/{path:path}", self.blobs.get, methods=["GET"]),
            ]
        )

    async def _foreign_poll(self, request: Request) -> Response:
        count_leaks(self, request)
        return await self._results.get(request)
