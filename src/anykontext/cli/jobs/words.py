"""What the commands of `jobs` share: the ledger opened for a look, points in time, and a job in JSON and in words."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from anykontext.cli.options import config_of_ledger
from anykontext.client.core import Core
from anykontext.client.past import latest_handles
from anykontext.client.store import Store
from anykontext.io.spool import Spool
from anykontext.ledger import HandleRecord, JobRecord, Ledger, SendRecord, is_ended
from anykontext.model.errors import InvalidRequest
from anykontext.model.job import JobState
from anykontext.model.money import Cost

_AGO = re.compile(r"(\d{1,6})\s*(m|h|d|w)", re.IGNORECASE)
_UNIT_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@contextlib.contextmanager
def looked_up(config: str | None) -> Iterator[Store]:
    """The configuration with its ledger, for commands that ask no provider.

    Raises:
        ConfigurationError: The configuration cannot be used, or the ledger cannot be opened.
    """
    store = Core(config_of_ledger(config), "httpx", None).store
    try:
        yield store
    finally:
        store.close()


def in_memory(store: Store) -> bool:
    """Whether the ledger ends with each process, so that no command finds what another did."""
    return store.config.ledger.url.get_secret_value() == "memory"


def moment(word: str, now: datetime) -> datetime:
    """A point in time: a date or an ISO time, which is UTC unless it says otherwise, or how long ago.

    >>> moment("2026-11-20", datetime(2026, 11, 21, tzinfo=UTC)).isoformat()
    '2026-11-20T00:00:00+00:00'
    >>> moment("3h", datetime(2026, 11, 21, tzinfo=UTC)).isoformat()
    '2026-11-20T21:00:00+00:00'

    Raises:
        InvalidRequest: It is none of these.
    """
    ago = _AGO.fullmatch(word.strip())
    try:
        if ago:
            return now - timedelta(seconds=int(ago[1]) * _UNIT_S[ago[2].lower()])
        found = datetime.fromisoformat(word.strip())
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        found.timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{word[:80]!r} is no time; give a date such as 2026-11-20, a time such as 2026-11-20T14:30, or how long "
            "ago, as 30m, 3h, 2d or 1w"
        ) from None
    return found


def iso(seconds: float | None) -> str | None:
    """A time of the ledger as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def short(seconds: float) -> str:
    """A time of the ledger, for tables."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def one_line(prompt: str | None, sha256: str | None, most: int) -> str:
    """A prompt on one line of at most so many characters, or its digest where only that is kept."""
    text = " ".join(prompt.split()) if prompt is not None else f"sha256:{sha256}" if sha256 else ""
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def cost_of(sends: Sequence[SendRecord]) -> Cost | None:
    """What a job has cost with all of its attempts; None while nothing is known to have been charged."""
    spent = [_paid(one) for one in sends if one.money == "spent"]
    return sum(spent[1:], start=spent[0]) if spent else None


def _paid(send: SendRecord) -> Cost:
    """The cost that is known, else for what a person called charged the price."""
    if send.basis is not None:
        return Cost(send.cost, "USD", send.basis)  # type: ignore[arg-type]  # the ledger holds a basis
    return Cost() if send.price is None else Cost(send.price, "USD", "listed")


def listed(job: JobRecord, ledger: Ledger) -> dict[str, Any]:
    """The object of `jobs list --json`."""
    found = latest_handles(ledger.handles(job.job_id))
    cost = cost_of(ledger.sends(job.job_id) if job.charged else ())
    return {
        "id": job.job_id,
        "provider": job.provider,
        "model": job.model,
        "state": job.state.value,
        "maybe_charged": job.at_risk or job.charged,
        "cost": cost.to_json() if cost else None,
        "created_at": iso(job.created_at),
        "handle": found[-1][1].to_dict() if found else None,
    }


def money_of(job: JobRecord, cost: Cost | None) -> str:
    """The money of a job in a few words."""
    paid = "" if cost is None else f"{cost.amount} {cost.currency}" if cost.amount is not None else "unknown price"
    return " + ".join(filter(None, [paid, "at risk" if job.at_risk else ""])) or "-"


def spooled(told: Mapping[str, Any] | None, spool: Spool) -> list[dict[str, Any]]:
    """The images of a result, each with its path in the spool; None where it is not there any more."""
    found = []
    for image in told["images"] if told else ():
        place = spool.find(image["sha256"])
        described = {name: image[name] for name in ("width", "height", "media_type", "sha256")}
        found.append({"path": str(place.path) if place else None, **described})
    return found


def surplus_results(events: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The results of images that the job made beside those that it gave its caller."""
    found = []
    for one in events:
        if one.what == "surplus":
            with contextlib.suppress(ValueError):
                found.append(json.loads(one.detail))
    given = {one["given"] for one in found if "given" in one and one["given"] != one.get("attempt")}
    return [one["result"] for one in found if one.get("result") and one.get("attempt") not in given]


def what_next(job: JobRecord, handles: Sequence[HandleRecord], images: Sequence[Mapping[str, Any]], now: float) -> str:
    """What to do about a job, in one sentence."""
    resume, lost = f"`anykontext jobs resume {job.job_id} -o OUT`", job.error or {}
    provider = (lost.get("provider") if lost.get("kind") == "outcome_unknown" else job.provider) or "the provider"
    asked = " and ".join(dict.fromkeys(one.handle.provider for one in handles))
    resolve = f"`anykontext jobs resolve {job.job_id} --charged` or `--not-charged`"
    collect = "`anykontext jobs collect` asks for its image while that pays"
    if job.state is JobState.SUCCEEDED:
        if not images or any(image["path"] is None for image in images):
            return "Its images are not in the spool any more, and are never made anew by themselves."
        more = f" Money is at risk on another attempt: {collect}, or settle it with {resolve}." if job.at_risk else ""
        return f"Its images lie in the spool; {resume} writes them, and sends nothing.{more}"
    if job.state is JobState.UNKNOWN:
        return f"Look at {provider}'s own list of tasks, and settle it with {resolve}."
    if not is_ended(job.state):
        if job.lease_until > now:
            return f"A process works on it; {resume} waits for its end, and takes it up when that process is gone."
        if handles or job.at_risk:
            return f"Nobody waits for it: {resume} does, or `anykontext jobs collect` for all such jobs."
        return "Nothing was sent and nothing was charged: ask again for what you want."
    if job.at_risk and handles:
        return f"Money is at risk: {resume} asks {asked} once more, or settle it with {resolve}."
    if job.at_risk:
        return f"Money is at risk: look at {provider}'s own list of tasks, and settle it with {resolve}."
    return "There is nothing to do; " + ("it was charged." if job.charged else "nothing was charged.")


def path_words(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where images are, one line each."""
    return [str(Path(one["path"])) if one["path"] else f"{one['sha256']} (not in the spool)" for one in images]
