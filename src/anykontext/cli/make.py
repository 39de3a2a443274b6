"""Carrying out a job for `edit`, `generate` and `jobs resume`: run it, save it, say what came of it."""

import contextlib
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anykontext.cli.interrupt import Signals, Tracker, interrupted
from anykontext.cli.logs import logs
from anykontext.cli.options import config_of_ledger, configured
from anykontext.cli.progress import display, tell_adjustment
from anykontext.cli.say import Say
from anykontext.cli.target import Target
from anykontext.client import Client
from anykontext.client.asking import FINAL
from anykontext.config import Config
from anykontext.io.files import media_type_of
from anykontext.model.errors import Kind, ProviderError
from anykontext.model.events import Event
from anykontext.model.job import JobHandle
from anykontext.model.result import ImageResult, ResultImage

OPEN = frozenset(Kind) - FINAL  # ends of a question: the task may still run, or its image may still be fetched
Run = Callable[[Client, Callable[[Event], None]], ImageResult]


@dataclass(frozen=True, slots=True)
class Work:
    """One job of the command line.

    Attributes:
        given: The options of the command.
        target: Where its images go.
        names: The names that were checked for them.
        say: Where things are said.
        run: Gets the result from a client.
        handle: Of the job that is resumed.
        job_id: Of the job that is resumed from the ledger.
    """

    given: Mapping[str, Any]
    target: Target
    names: Sequence[Path]
    say: Say
    run: Run
    handle: JobHandle | None = None
    job_id: str | None = None
    tracker: Tracker = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tracker", Tracker(self.handle, job_id=self.job_id))

    def do(self) -> None:
        """Run the job, save its images, and tell.

        Raises:
            Interrupted: Ctrl-C or SIGTERM came before the images were there.
            ProviderError: No image; its notes tell how to go on.
            NotSaved: The images cannot be written.
        """
        with logs(self.say), Signals(self.tracker) as signals:
            try:
                with display(self.say) as shown:
                    signals.on_waiting = shown.waiting
                    result = self._result(shown.event)
                    paths = self.target.save(result.images, len(self.names), self.say)
                self._tell(result, paths)
            except KeyboardInterrupt as wish:
                done = wish.__dict__.get("anykontext_result")
                saved = self.target.save(done.images, len(self.names), self.say) if done else []
                raise interrupted(self.tracker, wish.__cause__, self._resume, saved) from wish
            except ProviderError as error:
                for handle in _open_handles(error):
                    error.add_note(self._resume(handle))
                if error.kind is Kind.OUTCOME_UNKNOWN and error.job_id and self.tracker.in_ledger:
                    error.add_note(
                        f"Once you know: anykontext jobs resolve {error.job_id} --charged (or --not-charged)"
                    )
                raise

    def _result(self, show: Callable[[Event], None]) -> ImageResult:
        def on_event(event: Event) -> None:
            self.tracker.event(event)
            show(event)

        with configured(self.given) as given:
            load = config_of_ledger if self.job_id else Config.load
            config = given if isinstance(given, Config) else load(given)
            from_elsewhere = self.handle is not None and self.job_id is None
            self.tracker.in_ledger = not from_elsewhere and config.ledger.url.get_secret_value() != "memory"
            with Client(config) as client:
                return self.run(client, on_event)

    def _resume(self, job: JobHandle | str) -> str:
        """The command that goes on with a job: by its id where a later process knows it, else by its handle."""
        out = self.given["out"] or str(self.names[0])
        words = ["anykontext", "jobs", "resume", self._named(job), "-o", out]
        words += ["--config", self.given["config"]] if self.given["config"] else []
        words += ["--force"] if self.given["force"] else []
        lost = "\n(The sandbox has ended with this command, and its jobs with it.)" if self.given["sandbox"] else ""
        return f"Go on with it: {shlex.join(words)}{lost}"

    def _named(self, job: JobHandle | str) -> str:
        """An earlier attempt has its handle only: the id stands for the latest."""
        if isinstance(job, str):
            return job
        return job.job_id if self.tracker.in_ledger and job == self.tracker.handle else job.to_json()

    def _tell(self, result: ImageResult, paths: Sequence[Path]) -> None:
        for adjustment in result.adjustments:
            if adjustment not in self.tracker.told:
                tell_adjustment(self.say, adjustment)
        for error in result.errors:
            self.say.warning(f"an image was not made: {error}")
        self.say.summary(summary(result))
        if self.say.as_json:
            self.say.result(json.dumps(as_json(result, paths), default=str))
        else:
            self.say.result("\n".join(map(str, paths)))


def _open_handles(error: ProviderError) -> list[JobHandle]:
    """The handles of attempts that may still give an image."""
    return [one.handle for one in error.errors if one.handle is not None and one.kind in OPEN]


def summary(result: ImageResult) -> str:
    """A result in one line."""
    parts = [f"{result.provider}/{result.model}", f"{result.timings.total:.1f} s", str(result.cost)]
    if result.spent != result.cost:
        parts.append(f"{result.spent} with earlier attempts")
    parts += [] if result.seed is None else [f"seed {result.seed}"]
    return "Made by " + ", ".join([*parts, f"job {result.job_id}"])


def as_json(result: ImageResult, paths: Sequence[Path]) -> dict[str, Any]:
    """The object of --json; each image is described as its file is."""
    found = {
        "images": [_image(image, path) for image, path in zip(result.images, paths, strict=True)],
        "provider": result.provider,
        "adapter": result.adapter,
        "model": result.model,
        "seed": result.seed,
        "cost": result.cost.to_json(),
        "adjustments": [one.to_json() for one in result.adjustments],
        "attempts": [one.to_json() for one in result.attempts],
        "job": result.job.to_dict() if result.job else None,
        "job_id": result.job_id,
    }
    if result.errors:
        found["errors"] = [{"class": type(one).__name__, "message": str(one)} for one in result.errors]
    return found


def _image(image: ResultImage, path: Path) -> dict[str, Any]:
    media_type, sha256 = media_type_of(path) or image.media_type, image.sha256
    if media_type != image.media_type:  # the suffix of another format has converted it
        with contextlib.suppress(OSError):
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "path": str(path),
        "width": image.width,
        "height": image.height,
        "media_type": media_type,
        "sha256": sha256,
    }
