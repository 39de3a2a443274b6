"""Jobs, tasks and handles: what is needed to find a paid image again, in this process or in another."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

from anykontext.model.errors import InvalidRequest
from anykontext.model.frozen import Frozen
from anykontext.model.result import Adjustment

Mode = Literal["edit", "generate"]
HANDLE_VERSION = 1
TASKS_MAX = 1000


class JobState(StrEnum):
    """Where a job is. The last six are ends; `unknown` means: it may run, and may have been billed."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MODERATED = "moderated"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Task:
    """What a provider runs for us, and bills.

    Attributes:
        id: The provider's own name for it.
        poll_url: The full URL to ask for its state, where the provider gave one; None where it is built from `id`
            or where there is nothing to poll (BFL with a webhook, quirk bfl-2).
        data: Other strings that the adapter needs to poll, fetch or cancel, such as further URLs.
    """

    id: str
    poll_url: str | None = None
    data: Mapping[str, str] = field(default_factory=Frozen)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping."""
        return {"id": self.id, "poll_url": self.poll_url, "data": dict(self.data)}


@dataclass(frozen=True, slots=True)
class JobHandle:
    """One accepted attempt at one provider, with its tasks: enough to resume it anywhere.

    It holds no key. Its URLs are checked like a stranger's before anything is sent to them.

    Attributes:
        job_id: Our own id of the job, stable across failover.
        provider: The name of the provider in the config.
        adapter: The name of the adapter that wrote it, and that can read it.
        model: The canonical name of the model.
        mode: `edit` or `generate`.
        tasks: What the provider runs: one task, or one for each image where it makes one image per task.
        adjustments: What was changed on the way from the request to what was sent.
        created_at: When the first task was accepted, as an ISO 8601 time in UTC.
    """

    job_id: str
    provider: str
    adapter: str
    model: str
    mode: Mode
    tasks: tuple[Task, ...]
    adjustments: tuple[Adjustment, ...] = ()
    created_at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form as a mapping."""
        return {
            "version": HANDLE_VERSION,
            "job_id": self.job_id,
            "provider": self.provider,
            "adapter": self.adapter,
            "model": self.model,
            "mode": self.mode,
            "tasks": [task.to_json() for task in self.tasks],
            "adjustments": [adjustment.to_json() for adjustment in self.adjustments],
            "created_at": self.created_at,
        }

    def to_json(self) -> str:
        """One line of JSON, without a key and without image bytes."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: "str | bytes | Mapping[str, Any]") -> Self:
        """Read what `to_json` wrote; fields that a later version added are passed over.

        Raises:
            InvalidRequest: The text is no handle, or one of a version that this release cannot read.
        """
        try:
            found = json.loads(text) if isinstance(text, str | bytes) else text
            if not isinstance(found, Mapping):
                raise ValueError("a JSON object is needed")
            if found["version"] != HANDLE_VERSION:
                raise InvalidRequest(
                    f"this job handle has version {found['version']!r}, and this release reads {HANDLE_VERSION}; "
                    "use the release that wrote it, or a newer one"
                )
            tasks = tuple(
                Task(_text(t["id"]), _url(t.get("poll_url")), _strings(t.get("data"))) for t in found["tasks"]
            )
            names = {name: _text(found[name]) for name in ("job_id", "provider", "adapter", "model", "mode")}
            adjustments = tuple(Adjustment.from_json(a) for a in found.get("adjustments", ()))
            if names["mode"] not in {"edit", "generate"}:
                raise ValueError(f"no mode {names['mode']!r}")
            if not 0 < len({task.id for task in tasks}) == len(tasks) <= TASKS_MAX:
                raise ValueError("a handle names 1 to 1000 tasks, each once")
            return cls(**names, tasks=tasks, adjustments=adjustments, created_at=str(found.get("created_at", "")))  # type: ignore[arg-type]  # mode was checked
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, InvalidRequest):
                raise
            raise InvalidRequest(f"this is not a job handle: {error or type(error).__name__}") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a text, found {value!r}")
    value.encode()  # half a character (a lone surrogate) can be sent to nobody
    return value


def _url(value: object) -> str | None:
    return None if value is None else _text(value)


def _strings(value: object) -> Frozen[str]:
    return Frozen({_text(key): _text(item) for key, item in value.items()} if isinstance(value, Mapping) else {})
