"""The emulator as the sandbox knows it: two hosts, their shared state, and Together's own faults."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import ClassVar

from starlette.requests import Request
from starlette.types import ASGIApp

from anykontext import sandbox
from anykontext.sandbox.downloads import DOWNLOAD_FAULTS
from anykontext_together.emulator import api
from anykontext_together.emulator.assets import Assets

OWN_FAULTS = {
    "conflict": "A submit is answered 409; nothing is accepted.",
    "context-length": "A submit is answered 403 as for a prompt that is too long; nothing is accepted.",
    "empty-data": "A submit is accepted, and its reply has no image in it.",
    "fewer-images": "One image fewer than asked for is made.",
    "mixed-data": "Every other image of a reply is a link, the others base64.",
    "torn-base64": "The base64 of an image breaks off in the middle of a letter group.",
    "typeless-data": "The members of data have no type, as in older samples.",
    "upstream-timeout": "A submit is accepted, but answered 504 in the provider's own shape.",
    "url-anyway": "Images are links, whatever response_format says.",
}


class Emulator(sandbox.Emulator):
    """Together AI: the API, and the host that serves results asked for as links.

    A reply comes when its images are made, after `seconds`. Pinned faults that need a task have another meaning or
    none here; the README of the adapter has the table.

    Counters: `submits` (arrived), `accepted`, `images` (made, and paid), `downloads` (asked for), `key_leaks` (to the
    host of results), `blank_agents` (refused for a blank User-Agent), `ignored_fields`. Each accepted submit is in
    `requests` as `id`, `model`, `body` (what was sent of the known fields, without the image), `images` (each `field`
    and either `bytes`, `media_type` and `sha256`, or `url`) and `ignored` (names of fields that had no effect).
    """

    name: ClassVar[str] = "together"
    origin_names: ClassVar[tuple[str, ...]] = ("api", "assets")
    extra_faults: ClassVar[Mapping[str, str]] = MappingProxyType({**OWN_FAULTS, **DOWNLOAD_FAULTS})

    def __init__(self, *, seconds: float = 0.5) -> None:
        super().__init__(seconds=seconds)
        self.credit = Decimal(10)
        """The balance in USD."""
        self.assets = Assets(self)

    def app(self, origin_name: str) -> ASGIApp:
        """The app of one of Together's hosts."""
        return api.app(self) if origin_name == "api" else self.assets.app()

    def is_blank(self, request: Request) -> bool:
        """Whether a request has a blank User-Agent; such a one is counted (together-13)."""
        blank = not request.headers.get("user-agent", "").strip()
        self.counters["blank_agents"] += blank
        return blank
