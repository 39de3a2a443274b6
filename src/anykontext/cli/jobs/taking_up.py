"""Taking up jobs: which one a word names, how it goes on, and what came of those that were collected."""

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from anykontext.cli.failures import CONFIGURATION, DEADLINE, DONE, FAILED, UNKNOWN, NotSaved
from anykontext.cli.jobs.words import looked_up
from anykontext.cli.make import OPEN
from anykontext.cli.say import Say
from anykontext.cli.target import Target
from anykontext.client import Client
from anykontext.client.past import latest_handles
from anykontext.ledger import is_ended
from anykontext.model.errors import AnykontextError, ConfigurationError, InvalidRequest, ProviderError, ResultExpired
from anykontext.model.events import Event
from anykontext.model.job import JobHandle, JobState
from anykontext.model.outcome import Outcome
from anykontext.model.result import ImageResult

_ID = re.compile(r"[\w.:-]{1,100}")


@dataclass(frozen=True, slots=True)
class Past:
    """A job that is taken up.

    Attributes:
        model: Of its latest attempt.
        images: How many it may bring.
        handle: Where it goes on by its handle.
        job_id: Where it goes on from the ledger.
        in_work: Whether another process works on it, or was killed within the last minute.
    """

    model: str
    images: int
    handle: JobHandle | None = None
    job_id: str | None = None
    in_work: bool = False

    @classmethod
    def of_handle(cls, handle: JobHandle) -> Self:
        """One that a handle names."""
        return cls(handle.model, len(handle.tasks), handle)

    @classmethod
    def of_ledger(cls, job_id: str, config: str | None) -> Self:
        """One of the ledger.

        Raises:
            InvalidRequest: The ledger does not know it.
            ConfigurationError: The ledger cannot be read.
        """
        with looked_up(config) as store:
            job = store.record(job_id)
            found = latest_handles(store.ledger.handles(job_id))
        if job.result is not None:
            return cls(job.result["model"], len(job.result["images"]), job_id=job_id)
        last = found[-1][1] if found else None
        in_work = not is_ended(job.state) and job.lease_until > time.time()
        return cls(last.model if last else job.model, len(last.tasks) if last else 1, last, job_id, in_work)

    def result(self, client: Client, *, on_event: Callable[[Event], None], **call: Any) -> ImageResult:
        """Wait for it; a job of the ledger that ended while its task may not have is asked for again by that.

        Raises:
            ProviderError: It gave no image.
        """
        if self.job_id is None:
            assert self.handle is not None
            return client.resume(self.handle, on_event=on_event, **call).wait()
        job = client.resume(self.job_id, on_event=on_event, **call)
        try:
            return job.wait()
        except ResultExpired as error:
            if error.handle is not None:
                error.add_note(
                    "The provider may still have the images: anykontext jobs resume "
                    f"'{error.handle.to_json()}' asks for them, and pays nothing"
                )
            raise


def read_word(word: str) -> JobHandle | str:
    """The handle, or the id of a job, that a word gives or names.

    Raises:
        InvalidRequest: It is neither.
    """
    text = _text_of(word).strip()
    if _ID.fullmatch(text):
        return text
    found = None
    try:
        found = json.loads(text)
        found = found.get("error", found)
        job_id = found.get("job_id")
        if "job" in found:
            found = found["job"]
            if found is None and isinstance(job_id, str) and _ID.fullmatch(job_id):
                return job_id
            if found is None:
                raise InvalidRequest("there is no handle in it: no provider had accepted the job")
    except (ValueError, RecursionError, AttributeError) as error:
        if isinstance(error, InvalidRequest):
            raise
    if not isinstance(found, dict) and word.lstrip()[:1] not in {"{", "@", "-"}:
        raise InvalidRequest(
            f"{word[:80]!r} is no job handle, and no id of a job. A job is resumed by its id (`anykontext jobs list` "
            "shows them) or by its handle, the JSON that was printed for it (give the JSON, @FILE, or - for standard "
            "input)"
        )
    return JobHandle.from_json(found if isinstance(found, dict) else text)


def _text_of(word: str) -> str:
    try:
        if word == "-":
            return sys.stdin.read() if sys.stdin is not None else ""
        return Path(word[1:]).read_text(encoding="utf-8") if word.startswith("@") else word
    except UnicodeDecodeError:
        raise InvalidRequest(f"{word} is no job handle: it is not a text") from None
    except OSError as error:
        raise InvalidRequest(f"the handle cannot be read from {word[1:]}: {(error.strerror or '').lower()}") from None


def folder_of(out: str) -> Path:
    """The folder that collected images are written to.

    Raises:
        InvalidRequest: It is none, or nothing can be written there.
    """
    folder = Path(out).expanduser() if out else Path("-")
    if out in {"", "-"} or not folder.is_dir():
        raise InvalidRequest(f"-o needs a folder that exists, and {out!r} is none")
    Target.of(str(folder), "image", "collected", force=False).check(1, None)
    return folder


@dataclass(frozen=True, slots=True)
class Collected:
    """How one job ended that was collected.

    Attributes:
        job_id: Our id.
        state: Where it is now.
        paths: Its images: in the folder that was given, else in the spool.
        error: Why there are none.
        unsaved: Why images are in the spool only.
    """

    job_id: str
    state: JobState
    paths: tuple[str, ...] = ()
    error: AnykontextError | None = None
    unsaved: NotSaved | None = None

    @classmethod
    def of(cls, outcome: Outcome, client: Client, folder: Path | None, say: Say) -> Self:
        """What came of a job, with its images written where that was asked for."""
        job_id, result = outcome.job_id or "", outcome.result
        state, unsaved = client.job(job_id).state, None
        paths = tuple(str(getattr(image.stored, "path", "")) for image in result.images) if result else ()
        if result and folder is not None:
            target = Target(folder, job_id, "", automatic=True, force=False)
            try:
                paths = tuple(map(str, target.save(result.images, len(result.images), say)))
            except NotSaved as error:
                unsaved = error
                say.error(error)
        return cls(job_id, state, paths, outcome.error, unsaved)

    def to_json(self) -> dict[str, Any]:
        """The object of --json."""
        error = self.error
        told = {"class": type(error).__name__, "kind": getattr(error, "kind", None), "message": str(error)}
        return {
            "id": self.job_id,
            "state": self.state.value,
            "images": list(self.paths),
            "maybe_charged": error.maybe_charged if isinstance(error, ProviderError) else True,  # it was accepted once
            "error": told if error else None,
        }

    def __str__(self) -> str:
        return f"{self.job_id}  {self.state}  " + (str(self.error) if self.error else "  ".join(self.paths))

    @property
    def advice(self) -> str | None:
        """What to do about it."""
        if self.state is JobState.UNKNOWN:
            return (
                f"Look at the provider's own list for {self.job_id}, then: "
                f"anykontext jobs resolve {self.job_id} --charged (or --not-charged)"
            )
        if not is_ended(self.state):
            return f"Not ended yet: anykontext jobs resume {self.job_id} -o OUT"
        return None

    @property
    def exit_code(self) -> int:
        """0 when its end is known."""
        if self.state is JobState.UNKNOWN:
            return UNKNOWN
        if isinstance(self.error, ConfigurationError):
            return CONFIGURATION
        if not is_ended(self.state):
            return DEADLINE
        question = self.unsaved or (isinstance(self.error, ProviderError) and self.error.kind in OPEN)
        return FAILED if question else DONE


def exit_code(found: Sequence[Collected]) -> int:
    """The gravest of them."""
    codes = {one.exit_code for one in found}
    return next((code for code in (UNKNOWN, DEADLINE, CONFIGURATION, FAILED) if code in codes), DONE)
