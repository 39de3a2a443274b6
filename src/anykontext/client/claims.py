"""Which jobs this client works on. Others may take one up as soon as nobody does; then it is polled, and no more."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from anykontext.client.past import error_of, may_begin_anew, same_request
from anykontext.io.journal import Journal
from anykontext.ledger import UNREADABLE, Existing, JobRecord, LedgerError, is_ended, told_error
from anykontext.model.errors import Cancelled, ProviderError
from anykontext.model.job import JobState

NOBODY = "nobody"  # owns a job that was left: its lease is over, and no client prolongs it
log = logging.getLogger("anykontext")


class Claims:
    """The jobs that a client works on, in any of its threads; each is worked on once at a time.

    Args:
        journal: Gives the journal, which is opened when it is first needed.
        owner: This client, among all that share the ledger.
    """

    def __init__(self, journal: Callable[[], Journal], owner: str) -> None:
        self._journal = journal
        self.owner = owner
        self._lock = threading.Lock()
        self._working: set[str] = set()
        self._beside: Counter[str] = Counter()
        self._put_off: dict[str, Callable[[str], None]] = {}

    def begin(self, job_id: str) -> bool:
        """Whether the caller works on it from now on; else another thread of this client does."""
        with self._lock:
            if job_id in self._working:
                return False
            self._working.add(job_id)
            return True

    def end(self, job_id: str) -> None:
        """The job has ended, or did not begin."""
        with self._lock:
            if self._beside[job_id]:
                self._put_off.setdefault(job_id, self.leave)
            else:
                self._working.discard(job_id)

    def beside(self, job_id: str) -> Callable[[], None]:
        """An attempt of the job is followed on the side: it is not let go before what is returned was called."""
        with self._lock:
            self._beside[job_id] += 1

        def ended() -> None:
            with self._lock:
                self._beside[job_id] -= 1
                let_go = None if self._beside[job_id] else self._put_off.pop(job_id, None)
            if let_go is not None:
                let_go(job_id)

        return ended

    def take(self, job_id: str) -> JobRecord | None:
        """Work on a job that nobody works on any more: its tasks may be polled, nothing is submitted.

        None: somebody works on it, it has ended with all of its tasks, or the ledger does not know it.
        """
        if not self.begin(job_id):
            return None
        taken = None
        try:
            journal = self._journal()
            taken = journal.ledger.take_over(job_id, self.owner).result()
            for one in journal.ledger.events(job_id) if taken is not None else ():
                if one.what == UNREADABLE:
                    log.warning("a handle of %s is passed over: %s", job_id, one.detail)
            journal.keep_leases()
            return taken
        finally:
            if taken is None:
                self.end(job_id)

    def leave(self, job_id: str) -> None:
        """Stop working on a job that may still run: from now on anybody may take it up."""
        with self._lock:
            if self._beside[job_id]:
                self._put_off[job_id] = self.leave
                return
        try:
            ledger = self._journal().ledger
            record = ledger.job(job_id)
            if record is None or record.owner != self.owner:
                return
            if is_ended(record.state):
                if not record.has_open_task:
                    return
            elif record.state is not JobState.UNKNOWN and not (
                record.at_risk or record.charged or ledger.handles(job_id)
            ):
                self.abandoned(record)
                return
            ledger.take_over(job_id, self.owner, lease_s=0).result()
            ledger.take_over(job_id, NOBODY, lease_s=0).result()
        except LedgerError as error:  # it is told elsewhere; the lease ends by itself
            log.debug("the lease of %s could not be let go: %s", job_id, error)
        finally:
            self.end(job_id)

    def abandoned(self, record: JobRecord) -> ProviderError:
        """The end of a job of this client that no task can be asked of, written down."""
        if record.at_risk or record.charged:
            state = JobState.UNKNOWN
            error = error_of(replace(record, state=state), ())
        else:
            state = JobState.CANCELLED
            error = Cancelled(
                f"{record.job_id} was left before anything was accepted; nothing was spent",
                provider=record.provider or "", model=record.model, job_id=record.job_id, maybe_charged=False,
            )  # fmt: skip
        self._journal().ledger.finish(record.job_id, state, owner=self.owner, error=told_error(error)).result()
        return error

    def reopened(self, begun: Existing) -> JobRecord | None:
        """The job that has an idempotency key, begun anew; None where it is to be attached to.

        Raises:
            InvalidRequest: The key belongs to another request.
        """
        record = begun.job
        same_request(record, same=begun.same_request)
        ledger = self._journal().ledger
        if self._was_left(record) and (taken := self.take(record.job_id)) is not None:
            try:
                if not (taken.at_risk or taken.charged or ledger.handles(record.job_id)):
                    self.abandoned(taken)
                    record = ledger.job(record.job_id) or record
            finally:
                self.leave(record.job_id)
        if not may_begin_anew(record) or not self.begin(record.job_id):
            return None
        anew = None
        try:
            anew = ledger.reopen(record.job_id, self.owner).result()
            return anew
        finally:
            if anew is None:
                self.end(record.job_id)

    def _was_left(self, record: JobRecord) -> bool:
        ended = is_ended(record.state) or record.state is JobState.UNKNOWN
        return not ended and not record.at_risk and record.lease_until <= time.time()
