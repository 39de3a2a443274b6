"""The emulator as the sandbox knows it: four hosts, their shared state, and fal's own faults."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import ClassVar

from starlette.types import ASGIApp

from anykontext import sandbox
from anykontext.sandbox.downloads import DOWNLOAD_FAULTS
from anykontext_fal.emulator.media import Media
from anykontext_fal.emulator.queue import Queue
from anykontext_fal.emulator.run import Run
from anykontext_fal.emulator.storage import Storage
from anykontext_fal.emulator.tasks import Tasks

OWN_FAULTS = {
    "cancel-ignored": "A wish to cancel is taken with 202, and the task goes on.",
    "data-uri": "The images of a result are data URIs, as with sync_mode.",
    "early-result": "The first question for each result is answered 400 Request is still in progress.",
    "foreign-urls": "The URLs of a submit's answer are on a host that is not the queue's.",
    "infra-error": "The task ends in an error of fal's infrastructure: in its status, and 503 as its result.",
    "ingress-page": "A submit is answered by nginx's 502 page without x-fal-request-id; nothing is accepted.",
    "no-units": "The result's header of billed units is missing.",
    "no-urls": "The answer to a submit has ids, and no URLs.",
    "nsfw-length": "has_nsfw_concepts has one entry fewer than there are images.",
    "one-flagged": "The first image of a task is flagged, and black.",
    "resource-exhausted": "The task's result is 429 with the error of an upstream quota, in a shape of its own.",
    "result-gone": "Every question for a result is answered 404.",
    "result-page": "The first question for each result is answered by nginx's 502 page without x-fal-request-id.",
    "stuck-in-queue": "Tasks stay at the head of the queue; only their start deadline ends them.",
}


class Emulator(sandbox.Emulator):
    """fal: the queue, the run host, the REST host for storage, and the media host.

    A task is in the queue for a fifth of `seconds`, at most for one, then in progress.

    Counters: `submits` (arrived, run host too), `accepted`, `images` (made, and billed), `polls` (of a status),
    `fetches` (of a result), `cancels`, `unsigned` (of these three without a key), `tokens`, `uploads` (files that came
    whole), `downloads` (asked for), `key_leaks` (to the media host), `ignored_fields`. Each accepted submit is in
    `requests` as `id`, `model` (the endpoint), `body` (what was sent of the known fields, without images), `images`
    (each `field` and either `bytes`, `media_type` and `sha256`, or `url`), `ignored` (names of unknown fields),
    `headers` (those that begin with x-fal- or x-app-fal-) and `webhook`.
    """

    name: ClassVar[str] = "fal"
    origin_names: ClassVar[tuple[str, ...]] = ("queue", "run", "rest", "media")
    extra_faults: ClassVar[Mapping[str, str]] = MappingProxyType({**OWN_FAULTS, **DOWNLOAD_FAULTS})

    def __init__(self, *, seconds: float = 0.5) -> None:
        super().__init__(seconds=seconds)
        self.credit = Decimal(10)
        """The balance in USD; a submit is refused when it is used up."""
        self.tasks = Tasks(self)
        self.queue = Queue(self)
        self.media = Media(self)

    def app(self, origin_name: str) -> ASGIApp:
        """The app of one of fal's hosts."""
        hosts: Mapping[str, Queue | Run | Storage | Media] = {
            "queue": self.queue,
            "run": Run(self),
            "rest": Storage(self),
            "media": self.media,
        }
        return hosts[origin_name].app()

    def config(self) -> Mapping[str, str | int | float | bool]:
        """The settings of `[providers.fal]` that make anykontext speak to this emulator."""
        return {"api_key": "sandbox:sandbox", "base_url": self.origins["queue"], "rest_url": self.origins["rest"]}
