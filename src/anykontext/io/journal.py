"""The ledger as the drivers use it: entries of flows become rows, and failures to write them become values."""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from anykontext.engine.entries import Acceptance, Entry, Intent, JobEnd, PartEnd
from anykontext.io.trace import Tracer
from anykontext.ledger import Ledger, NewSend, told_error, told_result
from anykontext.model.errors import AnykontextError
from anykontext.model.result import ImageResult

LEASE_S = 60.0
RENEW_S = 20.0
log = logging.getLogger("anykontext")


class TakenOver(AnykontextError):
    """Another process works on this job now, or has ended it: nothing was sent by this one."""


class Journal:
    """Writes what flows want kept, and keeps the leases of this client's jobs.

    Args:
        ledger: Where it is written.
        owner: This client, among all that share the ledger.
        tracer: What keeps the effects of jobs; None keeps none.
    """

    def __init__(self, ledger: Ledger, owner: str, tracer: Tracer | None = None) -> None:
        self.tracer = tracer
        self.ledger = ledger
        self.owner = owner
        self._stop = threading.Event()
        self._renewing: threading.Thread | None = None
        self._lock = threading.RLock()  # a signal handler may close it at any time

    def write(self, entry: Entry) -> Future[Any]:
        """Begin to write an entry; the future never raises before `verdict` looks at it."""
        log.debug("ledger job=%s %s", entry.job_id, _line(entry))
        try:
            return self._write(entry)
        except Exception as error:  # noqa: BLE001 - what cannot be written must not cost a paid image
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _write(self, entry: Entry) -> Future[Any]:
        match entry:
            case Intent(job_id, attempt, candidate, prices, caps):
                sends = [NewSend(part, candidate.provider.name, candidate.model, one) for part, one in prices.items()]
                return self.ledger.intents(job_id, attempt, sends, owner=self.owner, caps=caps)
            case Acceptance(job_id, attempt, part, handle):
                return self.ledger.accepted(job_id, attempt, part, handle, owner=self.owner)
            case PartEnd(job_id, attempt, part, outcome, kind, message, maybe_charged, cost):
                return self.ledger.sent_end(
                    job_id, attempt, part, outcome, owner=self.owner, kind=kind and kind.value, message=message,
                    maybe_charged=maybe_charged, cost=cost,
                )  # fmt: skip
            case JobEnd(job_id, attempt, state, result, error, aside):
                return self.ledger.finish(
                    job_id, state, owner=self.owner, attempt=attempt, result=_told(result),
                    error=None if error is None else told_error(error), aside=aside,
                )  # fmt: skip

    def verdict(self, entry: Entry, written: "Future[Any]") -> Exception | None:
        """What a flow is told of an entry: None, or why it could not be written."""
        error = written.exception()
        if error is None:
            if isinstance(entry, Intent) and not written.result():
                return TakenOver(f"{entry.job_id} has ended, or is another process's now; nothing was sent")
            return None
        if not isinstance(entry, Intent):
            handle = f"; its handle: {entry.handle.to_json()}" if isinstance(entry, Acceptance) and entry.handle else ""
            log.error("the ledger could not be written for %s: %s%s", entry.job_id, error, handle)
        return error if isinstance(error, Exception) else AnykontextError(str(error))

    def keep_leases(self) -> None:
        """Begin to prolong the leases of this client's jobs, in a thread of its own."""
        with self._lock:
            if self._renewing is None and not self._stop.is_set():
                self._renewing = threading.Thread(target=self._renew, name="anykontext-leases", daemon=True)
                self._renewing.start()

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_S):
            try:
                self.ledger.renew(self.owner, lease_s=LEASE_S).result()
            except Exception:
                log.exception("the leases of this client's jobs could not be prolonged")

    def close(self) -> None:
        """Let the leases go, so that others may take the jobs up at once; once more does nothing."""
        if self._stop.is_set():
            return
        with self._lock:  # not between the two steps of `keep_leases`
            self._stop.set()
        if self._renewing is not None and self._renewing.ident is not None:
            self._renewing.join()
        try:
            self.ledger.renew(self.owner, lease_s=0).result()
        except Exception:
            log.exception("the leases of this client's jobs could not be let go")
        self.ledger.close()


def _told(result: ImageResult | None) -> Mapping[str, Any] | None:
    return None if result is None else told_result(result)


def _line(entry: Entry) -> str:
    match entry:
        case Intent(candidate=candidate, prices=prices):
            return f"{candidate.name} intent of {len(prices)}"
        case Acceptance(handle=handle):
            return f"accepted task={','.join(task.id for task in handle.tasks)}" if handle else "accepted"
        case PartEnd(outcome=outcome, kind=kind):
            return f"{outcome} {kind or 'succeeded'}"
        case JobEnd(state=state):
            return f"ended {state}"
