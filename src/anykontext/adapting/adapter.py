"""The contract of an adapter: facts, and pure functions between the canonical words and the provider's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from anykontext.adapting.facts import Facts, ModelFacts
from anykontext.adapting.states import State
from anykontext.adapting.wire import Call, Reply
from anykontext.model.frozen import Frozen
from anykontext.model.image import InputImage
from anykontext.model.job import Mode, Task


@dataclass(frozen=True, slots=True)
class Effective:
    """The request as one provider gets it: within its ranges, None where an option is not to be sent.

    Attributes:
        model: The canonical name.
        facts: The model's facts at this provider.
        mode: `edit` or `generate`.
        prompt: The words.
        images: The input images, read and checked.
        aspect_ratio: "W:H".
        size: (width, height) in pixels.
        num_images: How many images this one task is to make.
        start_within_s: Seconds within which the task must start to be of use: a provider that can be told so does not
            run, and bill, a task that nobody waits for any more.
        fails_fast: Whether another candidate is left, so that a provider that repeats failed tasks by itself had
            better say at once that it failed.
        extra: The caller's `provider_options` for this provider: to be merged last.
    """

    model: str
    facts: ModelFacts
    mode: Mode
    prompt: str
    images: tuple[InputImage, ...] = ()
    aspect_ratio: str | None = None
    size: tuple[int, int] | None = None
    output_format: str | None = None
    seed: int | None = None
    safety_tolerance: int | None = None
    guidance: float | None = None
    steps: int | None = None
    prompt_upsampling: bool | None = None
    translate_prompt: bool | None = None
    num_images: int = 1
    watermark: str | None = None
    webhook_url: str | None = None
    start_within_s: float | None = None
    fails_fast: bool = False
    extra: Mapping[str, Any] = field(default_factory=Frozen)


class Adapter(Protocol):
    """Translation for one kind of provider. Stateless, pure, shared by every thread and event loop.

    The contract:

    - An adapter imports `anykontext.adapting` and pure parts of the standard library; no network, clock, files,
      randomness, no logging, and it never sees a key: the engine signs.
    - `submit` puts every field of the `Effective` that is not None into the call, in the provider's words, falsy
      values too (seed 0 is a seed), sends no field that the provider does not document, and merges `extra` last.
    - `poll` asks for the state of one task: its URL verbatim where the provider gave one.
    - `read` reads every reply, told apart by `reply.call.purpose`; `task` is None only for a submit or a check.
      It looks at the body before the HTTP status, never raises on any bytes, and answers with a `State`:
      `Running` for a word it does not know (with `known=False`), `Refused(Kind.PROTOCOL_ERROR, …)` for a reply
      that it does not understand at all, `Failed` only when the provider says that the task itself has ended.
      `Refused.shape` is set only when the body has a shape of the provider's own.
    - Where the provider has them: `cancel` (`Cancels`), `check` (`Checks`), `upload` (`Uploads`). Where a vendor's SDK
      uploads, a module `upload` beside the adapter has a function `upload(image, key, timeout_s)` that returns the URL,
      or `Refused`.
    """

    @property
    def facts(self) -> Facts:
        """All that is known about the provider."""

    def submit(self, order: Effective) -> Call:
        """The call that starts one task, and may cost money."""

    def poll(self, task: Task) -> Call:
        """The call that asks how the task is."""

    def read(self, reply: Reply, task: Task | None) -> State:
        """What a reply means."""


@runtime_checkable
class Checks(Protocol):
    """An adapter whose provider tells, without spending, whether a key is valid."""

    def check(self) -> Call:
        """The call; `read` answers it with `Balance` or `Refused`."""


@runtime_checkable
class Cancels(Protocol):
    """An adapter whose provider can cancel a task."""

    def cancel(self, task: Task) -> Call:
        """The call; `read` answers it with `Cancelling`, `Failed(Kind.CANCELLED, …)` or `Refused`."""


@runtime_checkable
class Uploads(Protocol):
    """An adapter whose provider takes pictures as URLs, and has a place to put them; see `Facts.uploads`."""

    def upload(self, image: InputImage) -> Call:
        """The call that puts one image there; `read` answers it with `Uploaded` or `Refused`."""
