"""From an accepted task to its images in the spool: everything here is free, and repeated until the deadline."""

from collections import Counter
from dataclasses import dataclass, replace

from anykontext.adapting import Fetch, Output, Purpose, Running, State, Succeeded, Task
from anykontext.engine.effects import Download, Fault, Fetched, Flow, NotDownloaded, Send, Sleep
from anykontext.engine.ends import Ended, ended_by, gravest
from anykontext.engine.money_table import Again, Charged, Happened, Row, after_download, after_poll
from anykontext.engine.pace import poll_after, repeat_after
from anykontext.engine.provider import Candidate
from anykontext.engine.redact import cleaned
from anykontext.engine.renew import ask
from anykontext.engine.signing import UntrustedUrl, address
from anykontext.engine.watch import Watch
from anykontext.model.errors import Kind
from anykontext.model.events import Downloading, Drift, Progress, Retrying
from anykontext.model.result import ResultImage

RENEWALS = 1  # of an expired link, F31
REFETCHES = 1  # of something that came and was no image
EXCHANGE_MAX_S = 30.0  # for one poll: a hung one must not use up the deadline
DOWNLOAD_MAX_S = 120.0
WORD = 80  # characters of a provider's status that an error shows
LAST_LOOK_S = 0.5  # before the deadline, at most a tenth of it, one more poll is sent
GONE = "the task has ended, and its result is not kept any more"
UNITS_PER_IMAGE = 10  # a price list may count megapixels; more than that is no bill of ours
FETCH_MIN_S = 1.0  # an image that is ready is worth a second beyond the deadline


@dataclass(frozen=True, slots=True)
class Made:
    """A task that succeeded, with its images in the spool.

    Attributes:
        succeeded: What the provider said.
        images: What is in the spool.
        ends: Of images of this task that were flagged, or could not be fetched, when others were.
        ready_s: When the provider said so, in seconds from the start of the job.
    """

    succeeded: Succeeded
    images: tuple[ResultImage, ...]
    ends: tuple[Ended, ...]
    ready_s: float


def follow_task(watch: Watch, task: Task | None, state: State | None) -> Flow[Made | Ended]:
    """Poll one task until it ends and fetch its images.

    Args:
        watch: The clock, which also knows the candidate.
        task: What to poll; None when `state` is already the end.
        state: What the submit answered; None when a handle is resumed, so that the first poll comes at once.
    """
    renewals = 0
    kept: Made | None = None
    while True:
        done = state if isinstance(state, Succeeded) else (yield from _until_done(watch, task, state))
        if isinstance(done, Ended):
            return kept or done
        done = yield from _bounded(watch, done)
        watch.keep_on()  # it is made, and may be paid: nobody else is asked while it is fetched
        ready_s = watch.seconds
        watch.see((yield watch.emit(Downloading, count=len(done.outputs))))
        fetched = yield from _collect(watch, done, last_chance=task is None)
        images = tuple(one for one in fetched if isinstance(one, ResultImage))
        faults = [one for one in fetched if isinstance(one, NotDownloaded)]
        ends = (*(_not_downloaded(watch, one) for one in faults), *map(_flagged, done.flagged))
        if images and (kept is None or len(images) >= len(kept.images)):
            kept = Made(done, images, ends, ready_s)
        if any(one.fault is Fault.GONE for one in faults) and task is not None and renewals < RENEWALS:
            renewals, state = renewals + 1, None
            continue
        return kept or gravest(ends)


def _bounded(watch: Watch, done: Succeeded) -> Flow[Succeeded]:
    """What a task can have made: more images than the provider documents are not fetched, nor counted."""
    candidate = watch.candidate
    assert candidate is not None
    most = candidate.provider.adapter.facts.images_per_task
    if len(done.outputs) > most:
        watch.see((yield watch.emit(Drift, what="images", word=f"{len(done.outputs)} of one task")))
        done = replace(done, outputs=done.outputs[:most])
    if done.units is not None and done.units > most * UNITS_PER_IMAGE:
        watch.see((yield watch.emit(Drift, what="billed units", word=str(done.units))))
        done = replace(done, units=None)
    return done


def _until_done(watch: Watch, task: Task | None, state: State | None) -> Flow[Succeeded | Ended]:
    """Ask until the provider says how the task ended, within the deadline and the limits of the facts."""
    candidate = watch.candidate
    assert candidate is not None
    assert task is not None
    poll = _Poll(candidate, task)
    pause = poll_after(watch, candidate.provider.interval_s) if state else 0.0
    if isinstance(state, Running):
        yield from poll.news(watch, state)
    call = state.call if isinstance(state, Fetch) else None
    while True:
        if watch.paid_left_s <= 0 or poll.looked_last:
            return poll.too_late(watch)
        if pause >= watch.paid_left_s:
            pause, poll.looked_last = max(watch.paid_left_s - _last_look_s(watch), 0.0), True
        watch.see((yield Sleep(pause)))
        try:
            asked = call or candidate.provider.adapter.poll(poll.task)
            way = address(asked, candidate.provider)
        except UntrustedUrl as error:
            return Ended(Kind.PROTOCOL_ERROR, f"the task's URL is refused: {error}", maybe_charged=True)
        # One look after a suspend, too (F63).
        within_s = max(min(watch.paid_left_s, EXCHANGE_MAX_S), _last_look_s(watch))
        heard, found = yield from ask(watch, Send(asked, candidate.provider, way, within_s), poll.task)
        row = after_poll(heard, found)
        if row is None:
            poll.troubles.clear()
            poll.trouble = None
            if isinstance(found, Succeeded):
                return found
            call = found.call if isinstance(found, Fetch) else None
            pause = 0.0 if call else poll_after(watch, candidate.provider.interval_s)
            if isinstance(found, Running):
                yield from poll.news(watch, found)
            continue
        end = poll.trouble = ended_by(row, heard, found)
        if poll.gives_up(row):
            gone = asked.purpose is Purpose.FETCH and row.happened is Happened.NOT_FOUND
            if gone:
                return replace(end, kind=Kind.RESULT_EXPIRED, message=GONE)
            return replace(end, task=poll.task) if row.charged is Charged.MAYBE else end
        call = None if call and call.purpose is not Purpose.FETCH else call
        pause = repeat_after(watch, poll.troubles.total(), end.retry_after, first_s=candidate.provider.interval_s)
        watch.see((yield watch.emit(Retrying, purpose="poll", reason=end.message, wait_s=pause)))


def _last_look_s(watch: Watch) -> float:
    return min(LAST_LOOK_S, watch.deadline_s / 10)


class _Poll:
    """What is known of one task while it is polled."""

    def __init__(self, candidate: Candidate, task: Task) -> None:
        self.candidate = candidate
        self.task = task
        self.status = ""
        self.unknown: set[str] = set()
        self.fraction: float | None = None
        self.said: tuple[str, float | None, int | None] | None = None
        self.troubles: Counter[Happened] = Counter()
        self.trouble: Ended | None = None
        self.looked_last = False

    def news(self, watch: Watch, state: Running) -> Flow[None]:
        """Tell of a new status or more progress; never of less (F24), and of an unknown word once (F23)."""
        self.task = state.task
        self.status = word = cleaned(state.raw_status, WORD)
        if not state.known and word not in self.unknown:
            self.unknown.add(word)
            watch.see((yield watch.emit(Drift, what="status", word=word)))
        if state.progress is not None:
            self.fraction = max(self.fraction or 0.0, state.progress)
        said = (word, self.fraction, state.queue_position)
        if said != self.said:
            self.said = said
            watch.see((yield watch.emit(Progress, status=said[0], fraction=said[1], queue_position=said[2])))

    def gives_up(self, row: Row) -> bool:
        """Whether a trouble has come too often in a row."""
        self.troubles[row.happened] += 1
        facts = self.candidate.provider.adapter.facts
        limit = facts.not_found_polls if row.happened is Happened.NOT_FOUND else facts.unreadable_polls
        return row.again is Again.NEVER or (row.again is Again.LIMITED and self.troubles[row.happened] > limit)

    def too_late(self, watch: Watch) -> Ended:
        """The deadline has passed."""
        last = f"the last status was {self.status!r}" if self.status else "no poll told its status"
        if self.status in self.unknown:
            last += ", a word that we do not know"
        message = f"{watch.limit} passed while the task may still run; {last}"
        if self.trouble is None:
            return Ended(Kind.DEADLINE_EXCEEDED, message, maybe_charged=True, task=self.task)
        message = f"{message}; the last poll went wrong: {self.trouble.message}"
        found = replace(self.trouble, kind=Kind.DEADLINE_EXCEEDED, message=message, maybe_charged=True)
        return replace(found, retry_after=None, task=self.task)


def _collect(watch: Watch, done: Succeeded, *, last_chance: bool) -> Flow[list[Fetched]]:
    """Fetch every image of a task, one after the other."""
    fetched: list[Fetched] = []
    for output in done.outputs:  # a generator cannot be delegated to inside a comprehension
        one = yield from _fetch(watch, output, last_chance=last_chance)
        fetched.append(one)
    return fetched


def _fetch(watch: Watch, output: Output, *, last_chance: bool) -> Flow[Fetched]:
    """Fetch one image, as often as the money table allows."""
    candidate = watch.candidate
    assert candidate is not None
    troubles = 0
    while True:
        within_s = max(min(watch.left_s, DOWNLOAD_MAX_S), FETCH_MIN_S)
        what = Download(output.url, candidate.provider, within_s, output.expires_at, output.base64, last_chance)
        fetched: Fetched = watch.see((yield what))
        if not isinstance(fetched, NotDownloaded):
            return fetched
        row = after_download(fetched.fault)
        troubles += 1
        pause = repeat_after(watch, troubles, None, first_s=0.25)
        again = row.again is Again.ALWAYS or (row.happened is Happened.BAD and troubles <= REFETCHES)
        if not again or output.url is None or pause >= watch.left_s:
            return fetched
        watch.see((yield watch.emit(Retrying, purpose="download", reason=fetched.message, wait_s=pause)))
        watch.see((yield Sleep(pause)))


def _flagged(reason: str) -> Ended:
    return Ended(Kind.MODERATED, f"one of several images was flagged: {reason}", maybe_charged=True, stage="output")


def _not_downloaded(watch: Watch, what: NotDownloaded) -> Ended:
    row = after_download(what.fault)
    kind = row.kind or Kind.PROTOCOL_ERROR
    advice = None
    if row.happened is Happened.DISK:
        advice = "Make room, then resume it with the handle before the link expires"
    message = f"the image was made, but could not be fetched: {what.message}"
    if kind is Kind.DEADLINE_EXCEEDED:
        message = f"the deadline of {watch.deadline_s:g} s passed while fetching the image: {what.message}"
    return Ended(kind, message, maybe_charged=True, http_status=what.http_status, advice=advice)
