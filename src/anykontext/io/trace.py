"""Traces: what a job asked its driver for and was told, one JSON line each, without keys, images and request bodies.

`anykontext jobs show ID --trace` prints them, and `anykontext.testing.trace` replays them without a network. A line
holds `path` (the flow: a word of its own, and `word.1.0` for the first of flows side by side), `effect` (its kind, and
what tells it from others), `told` (the outcome), `mono` (seconds since the first line of this flow), `wall`, `jitter`.
"""

import contextlib
import json
import logging
import os
import re
import secrets
from pathlib import Path
from typing import Any

from anykontext.adapting import Refused, Reply, Uploaded
from anykontext.engine.effects import (
    Admit,
    All,
    Await,
    Detach,
    Download,
    Effect,
    Emit,
    Lost,
    NotAdmitted,
    NotDownloaded,
    Observed,
    Persist,
    Send,
    Told,
)
from anykontext.engine.redact import excerpt, without_signatures
from anykontext.model.result import ResultImage

HEADERS = ("retry-after", "date", "content-type", "x-ratelimit-reset", "x-fal-billable-units", "x-fal-request-id")
MAX_BYTES = 200 * 1024**2  # of all traces together
LONGEST = 200_000  # characters of a reply that are kept
_NAME = re.compile(r"job_[0-9a-f]{32}")
log = logging.getLogger("anykontext")


class Tracer:
    """Appends the lines of jobs to files of their own, readable by the user alone.

    Args:
        folder: Where they lie; made when the first line is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, job_id: str, path: str, effect: Effect, told: Told, began: float) -> None:
        """Add one line; what cannot be written is logged, since it must not cost a paid image."""
        line = {
            "path": path,
            "effect": effect_line(effect),
            "told": told_line(told.value),
            "mono": round(told.mono - began, 6),
            "wall": told.wall.isoformat(),
            "jitter": round(told.jitter, 6),
        }
        try:
            if not _NAME.fullmatch(job_id):
                return
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.file(job_id), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(file, "a", encoding="utf-8") as lines:
                lines.write("\n" + json.dumps(line, separators=(",", ":")))  # a torn line before it spoils only itself
        except OSError as error:
            log.debug("no trace of %s: %s", job_id, error)

    def file(self, job_id: str) -> Path:
        """Where the lines of a job are."""
        return self.folder / f"{job_id}.jsonl"

    def lines(self, job_id: str) -> list[dict[str, Any]]:
        """The lines of a job; none when there is no trace."""
        if not _NAME.fullmatch(job_id) or not self.file(job_id).is_file():
            return []
        found = []
        for line in self.file(job_id).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # empty, or torn by a full disk or a kill
                found.append(json.loads(line))
        return found

    def sweep(self, before: float, max_bytes: int = MAX_BYTES) -> None:
        """Delete traces that were last written before a time, then the oldest until the rest has so many bytes."""
        files = []
        for file in self.folder.glob("job_*.jsonl"):
            with contextlib.suppress(OSError):  # another process may have taken it away
                files.append((file.stat().st_mtime, file.stat().st_size, file))
        left = sum(size for _, size, _ in files)
        for written, size, file in sorted(files):
            if written < before or left > max_bytes:
                file.unlink(missing_ok=True)
                left -= size

    def forget(self, job_id: str) -> None:
        """Delete the trace of a job."""
        if _NAME.fullmatch(job_id):
            self.file(job_id).unlink(missing_ok=True)


class Tracing:
    """The trace of one flow. What comes before the first effect that names the job is kept until then."""

    def __init__(self, tracer: Tracer | None, path: str = "", job_id: str | None = None) -> None:
        self._tracer = tracer
        self._path = path or secrets.token_hex(3)
        self._job_id = job_id
        self._began: float | None = None
        self._waiting: list[tuple[Effect, Told]] = []
        self._rounds = 0

    def note(self, effect: Effect, told: Told) -> None:
        """Add one line."""
        if self._tracer is None:
            return
        if self._began is None:
            self._began = told.mono
        self._job_id = self._job_id or _job_of(effect)
        self._waiting.append((effect, told))
        if self._job_id is not None:
            for one in self._waiting:
                self._tracer.note(self._job_id, self._path, *one, self._began)
            self._waiting.clear()

    def beside(self, count: int) -> "list[Tracing]":
        """The traces of several flows side by side."""
        self._rounds += 1
        return [Tracing(self._tracer, below(self._path, self._rounds, index), self._job_id) for index in range(count)]


def below(path: str, rounds: int, index: int) -> str:
    """The path of a flow that runs beside others, the `rounds`-th time that a flow has several."""
    return f"{path}.{rounds}.{index}"


def _job_of(effect: Effect) -> str | None:
    match effect:
        case Persist(entry):
            return entry.job_id
        case Emit(event):
            return event.job_id
        case _:
            return None


def effect_line(effect: Effect) -> dict[str, Any]:
    """What tells an effect from others: no body, no key, no query."""
    name: dict[str, Any] = {"kind": type(effect).__name__}
    match effect:
        case Send(call=call, address=address):
            where = address.url.partition("?")[0] if call.origin is None else call.path.partition("?")[0]
            name |= {"purpose": call.purpose.value, "method": call.method, "to": where, "signed": address.signed}
            name["bytes"] = len(call.body) if call.body is not None else 0
        case Download(url=url):
            name["from"] = None if url is None else url.partition("?")[0]
        case Persist(entry):
            name["entry"] = type(entry).__name__
        case Emit(event):
            name["event"] = type(event).__name__
        case Admit(candidate=candidate, places=places):
            name |= {"candidate": candidate.name, "places": places}
        case Observed(candidate, kind):
            name |= {"candidate": candidate.name, "kind_of_end": kind and kind.value}
        case All(flows):
            name["flows"] = len(flows)
        case Detach():
            name["flows"] = 1
        case Await(asides):
            name["flows"] = len(asides)
        case _:
            pass
    return name


def told_line(value: Any) -> dict[str, Any]:
    """What was told, in a form that `anykontext.testing.trace` reads back."""
    match value:
        case Reply(status=status, headers=headers):
            kept = {key: headers[key] for key in HEADERS if key in headers}
            return {"kind": "Reply", "status": status, "headers": kept, "body": _body(value)}
        case Lost(loss, message):
            return {"kind": "Lost", "loss": loss.value, "message": message}
        case NotAdmitted(kind, message, since):
            return {"kind": "NotAdmitted", "not_admitted": kind.value, "message": message, "since": since}
        case NotDownloaded(fault, message, status):
            return {"kind": "NotDownloaded", "fault": fault.value, "message": message, "status": status}
        case ResultImage():
            told = {name: getattr(value, name) for name in ("media_type", "width", "height", "sha256")}
            return {"kind": "ResultImage", **told}
        case Uploaded():
            return {"kind": "Uploaded"}
        case Refused(kind=kind, message=message):
            return {"kind": "Refused", "refused": kind.value, "message": message}
        case (int(place), _):
            return {"kind": "ended", "place": place}
        case bool() | None:
            return {"kind": "plain", "value": value}
        case Exception():
            return {"kind": "error", "class": type(value).__name__, "message": excerpt(str(value).encode())}
        case _:
            return {"kind": "other"}


def _body(reply: Reply) -> Any:
    found = reply.json()
    if found is None or len(reply.body) > LONGEST:
        return {"text": excerpt(reply.body)}
    return {"json": without_signatures(found)}
