"""The fake provider itself: what arrived, what it is to answer, and its tasks."""

import json
import threading
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import Any

from anykontext.model.errors import Kind, ProviderError, Stage
from anykontext.model.words import near
from anykontext.testing.fake.pictures import picture, size_of, small

PRICE = Decimal("0.04")
# How a provider usually tells each kind: HTTP status, whether it may be charged, whether a task had been accepted.
USUALLY: Mapping[Kind, tuple[int, bool, bool]] = {
    Kind.AUTHENTICATION_FAILED: (401, False, False),
    Kind.OUT_OF_CREDIT: (402, False, False),
    Kind.RATE_LIMITED: (429, False, False),
    Kind.REQUEST_REJECTED: (422, False, False),
    Kind.UNAVAILABLE: (503, False, False),
    Kind.MODERATED: (422, False, False),
    Kind.OUTCOME_UNKNOWN: (502, True, False),
    Kind.GENERATION_FAILED: (200, False, True),
    Kind.CANCELLED: (200, False, True),
    Kind.PROTOCOL_ERROR: (200, True, True),
    Kind.JOB_NOT_FOUND: (404, True, True),
    Kind.RESULT_EXPIRED: (410, True, True),
    Kind.DEADLINE_EXCEEDED: (200, True, True),
}
# After these the task is done all the same, and resuming its handle brings the picture.
RESUMABLE = frozenset({Kind.JOB_NOT_FOUND, Kind.RESULT_EXPIRED, Kind.DEADLINE_EXCEEDED})
Answer = tuple[int, dict[str, Any], dict[str, str]]


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request as the provider got it, fitted and with our defaults.

    Attributes:
        provider: The provider's name in the configuration.
        model: The canonical model.
        mode: `edit` or `generate`.
        prompt: The words.
        images: The input images: their bytes, or the URL of one that the provider is to fetch.
        num_images: How many images this one task is to make.
        options: The canonical options that were sent, and `provider_options`.
    """

    provider: str
    model: str
    mode: str
    prompt: str
    images: tuple[bytes | str, ...] = field(repr=False)
    num_images: int
    options: Mapping[str, Any]


@dataclass(slots=True)
class _Failure:
    kind: Kind
    said: Mapping[str, Any]
    provider: str | None
    retry_after: float | None
    times: int

    def answer(self) -> Answer:
        headers = {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}
        return USUALLY[self.kind][0], {"state": "failed", "kind": self.kind, **self.said}, headers


@dataclass(slots=True)
class _Task:
    answer: Answer
    first: Answer | None = None


class Fake:
    """The fake provider of one test.

    Attributes:
        requests: What arrived, in order; those that failed, too.
    """

    def __init__(self, on_price: Callable[[Decimal | None], None]) -> None:
        self.requests: list[FakeRequest] = []
        self._on_price = on_price
        self._price: Decimal | None = PRICE
        self._image: bytes | None = None
        self._failures: deque[_Failure] = deque()
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        """How many requests arrived."""
        return len(self.requests)

    @property
    def price(self) -> Decimal | None:
        """What one image costs in USD; None for a provider that does not tell.

        The provider reports it at once; `max_price` goes by it in clients that are made from then on.
        """
        return self._price

    @price.setter
    def price(self, amount: Decimal | str | float | None) -> None:
        self._price = None if amount is None else Decimal(str(amount))
        self._on_price(self._price)

    def answer_with(self, image: bytes | None) -> None:
        """Answer with these bytes from now on, whatever they are; None for pictures of the fake's own."""
        self._image = image

    def fail_next(
        self,
        kind: Kind | str | type[ProviderError],
        *,
        maybe_charged: bool | None = None,
        times: int = 1,
        provider: str | None = None,
        message: str | None = None,
        retry_after: float | None = None,
        stage: Stage = "input",
        reasons: tuple[str, ...] = (),
    ) -> None:
        """Let the next requests fail, in the order in which this is called.

        Args:
            kind: A word such as `out_of_credit`, a `Kind`, or the class of the error.
            maybe_charged: Whether money may have been spent; None for what is usual with this kind.
            times: How many requests.
            provider: Only requests to this one, where the marker names several.
            message: What the provider says.
            retry_after: With `rate_limited` and `unavailable`: the seconds that it asks to wait.
            stage: With `moderated`: what was flagged.
            reasons: With `moderated`: the provider's own words.

        Raises:
            ValueError: There is no such kind.
        """
        word = getattr(kind, "kind", kind)
        if word not in set(Kind):
            raise ValueError(f"unknown kind {word!r}; {near(str(word), Kind)}")
        found = Kind(word)
        said = {
            "message": message or f"the fake was told to fail with {found}",
            "maybe_charged": USUALLY[found][1] if maybe_charged is None else maybe_charged,
            "stage": stage if found is Kind.MODERATED else "unknown",
            "reasons": reasons,
        }
        with self._lock:
            self._failures.append(_Failure(found, said, provider, retry_after, times))

    def answer(self, provider: str, method: str, path: str, body: bytes) -> Answer:
        """What a provider of this name says to a request; called from any thread."""
        with self._lock:
            task = self._tasks.get(path)
            match method:
                case "POST":
                    return self._submitted(provider, json.loads(body))
                case "DELETE" if task:
                    cancelled = {"message": "cancelled", "maybe_charged": False, "stage": "unknown", "reasons": ()}
                    task.answer, task.first = _Failure(Kind.CANCELLED, cancelled, None, None, 0).answer(), None
                    return task.answer
                case "GET" if task:
                    said, task.first = task.first or task.answer, None
                    return said
                case "GET" if path == "/account":
                    return 200, {"state": "account"}, {}
        return _Failure(Kind.JOB_NOT_FOUND, _UNKNOWN_TASK, None, None, 0).answer()

    def _submitted(self, provider: str, body: Mapping[str, Any]) -> Answer:
        images = tuple(one["url"] if isinstance(one, dict) else b64decode(one) for one in body["images"])
        request = FakeRequest(
            provider, body["model"], body["mode"], body["prompt"], images, body["num_images"], body["options"]
        )
        self.requests.append(request)
        name = f"fake-{len(self.requests)}"
        failure = self._failure(provider)
        if failure is None:
            task = _Task(self._done(name, request))
            self._tasks[f"/tasks/{name}"] = task
            return task.answer
        if not USUALLY[failure.kind][2]:
            return failure.answer()
        ends_well = failure.kind in RESUMABLE
        task = _Task(self._done(name, request) if ends_well else failure.answer(), failure.answer())
        self._tasks[f"/tasks/{name}"] = task
        return 200, {"state": "running", "id": name}, {}

    def _failure(self, provider: str) -> _Failure | None:
        for failure in self._failures:
            if failure.provider in {None, provider}:
                failure.times -= 1
                if failure.times < 1:
                    self._failures.remove(failure)
                return failure
        return None

    def _done(self, name: str, request: FakeRequest) -> Answer:
        words = f"{request.model} {request.mode} {request.prompt}"
        seed = request.options.get("seed")
        if seed is None:
            seed = int.from_bytes(sha256(words.encode()).digest()[:4], "big")
        images = [self._image] if self._image is not None else list(_pictures(request, f"{words} {seed}"))
        images *= request.num_images if self._image is not None else 1
        said = {
            "state": "done",
            "id": name,
            "images": [b64encode(image).decode() for image in images],
            "seed": seed,
            "prompt": request.prompt,
            "cost": None if self._price is None else str(self._price * len(images)),
        }
        return 200, said, {}


_UNKNOWN_TASK = {"message": "no such task", "maybe_charged": True, "stage": "unknown", "reasons": ()}


def _pictures(request: FakeRequest, words: str) -> Iterator[bytes]:
    for index in range(request.num_images):
        yield picture(f"{words} {index}", _size(request), str(request.options.get("output_format", "jpeg")))


def _size(request: FakeRequest) -> tuple[int, int]:
    """As asked; else a small one of the ratio that was asked for, or of the first input."""
    if size := request.options.get("size"):
        return (size[0], size[1])
    if ratio := request.options.get("aspect_ratio"):
        width, _, height = ratio.partition(":")
        return small(int(width), int(height))
    given = [image for image in request.images[:1] if isinstance(image, bytes)]
    return small(*size_of(given[0])) if given else small(1, 1)
