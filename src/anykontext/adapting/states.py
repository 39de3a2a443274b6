"""What an adapter makes of a reply: a closed set, told apart by `match`.

`Failed` is the end of a task. `Refused` is the end of one exchange, and says nothing about the task.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from anykontext.adapting.wire import Call
from anykontext.model.errors import Kind, Stage
from anykontext.model.job import Task


@dataclass(frozen=True, slots=True)
class Running:
    """The provider works on the task, or says something that we do not know about a task that has not ended.

    Attributes:
        task: The task; after a submit, the one that was made.
        raw_status: The status in the provider's own words.
        known: Whether the protocol sheet knows that word; an unknown one runs on, and is reported as `Drift`.
        progress: A fraction of 0 to 1, where the provider tells.
        queue_position: Where the provider tells.
    """

    task: Task
    raw_status: str
    known: bool = True
    progress: float | None = None
    queue_position: int | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """The task has ended; one more call tells how (fal)."""

    call: Call
    task: Task


@dataclass(frozen=True, slots=True)
class Output:
    """One image that a task made: a link to it, or the base64 text that came inside the reply.

    Attributes:
        url: Where to download it.
        base64: The text, not decoded yet.
        expires_at: When the link ends, where that can be told.
    """

    url: str | None = None
    base64: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The task has ended well.

    Attributes:
        outputs: Its images.
        task: The task; None at a provider without task ids.
        seed: The seed that was used, where the provider tells.
        prompt: The prompt as it was used, where the provider tells.
        cost_usd: What the provider says it cost, in USD.
        units: How many units of its price list the provider says it billed, such as images.
        flagged: Why images of this task were withheld, one entry for each.
        raw: The reply as a mapping, for `ImageResult.raw`.
    """

    outputs: tuple[Output, ...]
    task: Task | None = None
    seed: int | None = None
    prompt: str | None = None
    cost_usd: Decimal | None = None
    units: Decimal | None = None
    flagged: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The task has ended without an image.

    Attributes:
        kind: The canonical word.
        message: What the provider said.
        maybe_charged: Whether the provider may bill it.
        stage: For moderation: what was flagged.
        reasons: For moderation: the provider's own words.
    """

    kind: Kind
    message: str
    maybe_charged: bool
    stage: Stage = "unknown"
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """This exchange was refused or not understood. At a submit: not accepted; at a poll: tolerated within limits.

    Attributes:
        kind: The canonical word; `Kind.PROTOCOL_ERROR` for a reply that is not understood at all.
        message: What the provider said.
        shape: The name of the body's shape, which `Facts.rejections` lists; empty when it is not the provider's own.
        stage: For moderation at the submit: what was flagged.
        reasons: For moderation at the submit: the provider's own words.
        retry_after_s: Seconds to wait, where the provider has a header or field of its own for it.
        code: The status code in the body, where the provider puts it there and the HTTP status says 200 (F18).
    """

    kind: Kind
    message: str
    shape: str = ""
    stage: Stage = "unknown"
    reasons: tuple[str, ...] = ()
    retry_after_s: float | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Cancelling:
    """The provider took the wish to cancel; the task may still end well."""

    task: Task


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An input image lies where the provider can fetch it."""

    url: str


@dataclass(frozen=True, slots=True)
class Balance:
    """The key is valid, and this is left, where the provider tells.

    Attributes:
        amount: In `unit`; None when the provider does not tell.
        unit: `credits`, `USD`, …
        usd: The same in USD, where the rate is known.
    """

    amount: Decimal | None
    unit: str
    usd: Decimal | None = None


State = Running | Fetch | Succeeded | Failed | Refused | Cancelling | Uploaded | Balance
