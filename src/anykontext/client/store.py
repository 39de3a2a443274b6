"""What a client keeps: the ledger with its journal, the spool, and which jobs it works on."""

import logging
import math
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from anykontext.client.claims import Claims
from anykontext.client.options import Options
from anykontext.config import Config
from anykontext.io.gate import Gate
from anykontext.io.journal import Journal
from anykontext.io.spool import Spool
from anykontext.io.trace import Tracer
from anykontext.ledger import JobRecord, Ledger, New, NewJob, is_ended, open_ledger
from anykontext.model.errors import InvalidRequest
from anykontext.model.job import JobState
from anykontext.model.request import ImageRequest
from anykontext.model.words import near

PERSON = "a person"  # who resolves, in the events of a job
FAR_S = 1e12  # no time of the wall clock comes near it
MANY, NAMED = 10_000, 10  # jobs that are looked through for those that others hold, and that are named
_OPEN = (JobState.QUEUED, JobState.RUNNING)
log = logging.getLogger("anykontext")


class Store:
    """The ledger and the spool of one client, and of all views of it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.spool = Spool(config.home / "spool")
        self.owner = uuid.uuid4().hex
        self.claims = Claims(lambda: self.journal, self.owner)
        self.gate = Gate(lambda: {one.provider: str(one) for one in self.ledger.drains()})
        self._journal: Journal | None = None
        self._lock = threading.RLock()  # a signal handler may close the client at any time

    @property
    def journal(self) -> Journal:
        """What writes into the ledger, which is opened when it is first needed.

        Raises:
            LedgerError: It cannot be opened: then nothing is sent.
        """
        with self._lock:
            if self._journal is None:
                section = self.config.ledger
                word = section.url.get_secret_value()
                url = self.config.home / "ledger.sqlite3" if word == "default" else word
                ledger = open_ledger(url, now=time.time, prompts=section.prompts)
                kept = section.prompts == "full" and word != "memory"  # a reply may echo the prompt
                tracer = Tracer(self.config.home / "traces") if kept else None
                self._journal = Journal(ledger, self.owner, tracer)
                keep_s = section.keep_days * 86_400
                ledger.forget(before=time.time() - keep_s)
                self.spool.trim(keep_s)
                if tracer is not None:
                    tracer.sweep(time.time() - keep_s)
            return self._journal

    @property
    def ledger(self) -> Ledger:
        """The ledger.

        Raises:
            LedgerError: As `journal` does.
        """
        return self.journal.ledger

    def close(self) -> None:
        """Close the ledger, if it was opened."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()

    def new_job(self, request: ImageRequest, digest: str, options: Options, job_id: str) -> NewJob:
        """The row of a job that is about to begin."""
        now = time.time()
        return NewJob(
            job_id=job_id,
            request_digest=digest,
            prompt=request.prompt,
            model=request.canonical_model,
            mode=request.mode,
            created_at=now,
            owner=self.owner,
            tags=request.tags,
            tenant=tenant_of(request),
            idempotency_key=request.idempotency_key,
            deadline_at=now + options.deadline_s,
        )

    def begin(self, new: NewJob) -> JobRecord | tuple[str, int]:
        """Write a job down and work on it: its id, and the number of its next attempt. Else the job to attach to.

        Raises:
            InvalidRequest: The idempotency key belongs to another request.
            LedgerError: It cannot be written down.
        """
        self.claims.begin(new.job_id)
        began = None
        try:
            began = self.ledger.begin(new).result()
        finally:
            if not isinstance(began, New):
                self.claims.end(new.job_id)
        if isinstance(began, New):
            return new.job_id, 0
        anew = self.claims.reopened(began)
        if anew is None:
            return began.job
        return anew.job_id, max((one.attempt + 1 for one in self.ledger.sends(anew.job_id)), default=0)

    def record(self, job_id: str) -> JobRecord:
        """A job of the ledger.

        Raises:
            InvalidRequest: The ledger does not know it.
        """
        found = self.ledger.job(job_id)
        if found is None:
            raise InvalidRequest(
                f"the ledger knows no job {job_id[:80]!r}; `anykontext jobs list` shows those it knows"
            )
        return found

    def records(
        self, *, state: Any = None, since: Any = None, tag: str | None = None, limit: int = 100
    ) -> list[JobRecord]:
        """Jobs of the ledger, the newest first.

        Raises:
            InvalidRequest: The state, the time or the limit is none.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit < 2**63:
            raise InvalidRequest(f"limit is a whole number above 0, not {str(limit)[:80]!r}")
        if state is not None and state not in set(JobState):
            raise InvalidRequest(f"unknown state {state!r}; {near(str(state), [one.value for one in JobState])}")
        begun = wall(since, "since")
        return self.ledger.jobs(state=None if state is None else JobState(state), since=begun, tag=tag, limit=limit)

    def resolve(self, job_id: str, *, charged: bool) -> JobRecord:
        """Settle by a person's word what is at risk; see `Client.resolve`.

        Raises:
            InvalidRequest: The ledger does not know the job, or there is nothing to settle.
        """
        before = self.record(job_id)
        if self.ledger.resolve(job_id, charged=charged, who=PERSON).result():
            return self.record(job_id)
        if not is_ended(before.state) and before.state is not JobState.UNKNOWN:
            raise InvalidRequest(
                f"{job_id} is {before.state}, and a process works on it, which may bring it to its end: "
                f"`anykontext jobs resume {job_id}` waits for that"
            )
        raise InvalidRequest(f"{job_id} is {before.state}, and no money is at risk on it: there is nothing to resolve")

    def forget(self, job_id: str | None, before: Any) -> int:
        """Delete jobs that have ended; see `Client.forget`.

        Raises:
            InvalidRequest: Neither or both are given, the time is none, or the ledger does not know the job.
        """
        if (job_id is None) == (before is None):
            raise InvalidRequest("say which jobs are to be forgotten: one by its id, or all before a time")
        if job_id is not None:
            self.record(job_id)
        until = wall(before, "before")
        gone = self.ledger.forget(job_id=job_id, before=until).result()
        tracer = self.journal.tracer
        if tracer is not None and job_id is not None and gone:
            tracer.forget(job_id)
        if tracer is not None and until is not None:
            tracer.sweep(until)
        return gone

    def taken_over(self) -> list[JobRecord]:
        """The jobs that nobody works on and that may still give an image or have no end, now this client's to poll."""
        owned = [self.claims.take(one.job_id) for one in self.ledger.unfinished()]
        self._tell_held()
        self.spool.ensure()
        return [one for one in owned if one is not None]

    def _tell_held(self) -> None:
        """Name the jobs that another process holds: they are not collected, also where it was killed a moment ago."""
        now = time.time()
        found = [one for state in _OPEN for one in self.ledger.jobs(state=state, limit=MANY)]
        held = [one for one in found if one.owner != self.owner and one.lease_until > now]
        if held:
            told = [f"{one.job_id} until {datetime.fromtimestamp(one.lease_until, UTC):%H:%M:%S}" for one in held]
            more = f", and {len(held) - NAMED} more" if len(held) > NAMED else ""
            log.info("not collected, as another process holds them (UTC): %s%s", ", ".join(told[:NAMED]), more)


def tenant_of(request: ImageRequest) -> str:
    """Within which an idempotency key counts."""
    return request.tags.get("tenant", "")


def wall(value: Any, name: str) -> float | None:
    """A time of the caller as seconds of the wall clock.

    Raises:
        InvalidRequest: It is neither a datetime nor a number.
    """
    if value is None:
        return None
    try:
        found = value.timestamp() if isinstance(value, datetime) else math.nan if isinstance(value, bool) else value
        if isinstance(found, int | float) and abs(found) < FAR_S:  # not a number is not near
            return float(found)
    except (OverflowError, OSError):
        pass
    raise InvalidRequest(f"{name} is a datetime, or seconds of the wall clock, not {value!r:.60}")
