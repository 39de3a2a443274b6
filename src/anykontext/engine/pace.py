"""How long to wait: between polls, before a repeat, and as a provider asks."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from anykontext.adapting import Reply
from anykontext.engine.effects import Heard
from anykontext.engine.watch import Watch

PATIENCE_S = 5.0  # for a submit that was surely not accepted, design section 6
WAIT_MAX_S = 5.0  # between two polls of a provider in trouble
LONGEST_S = 1e9  # what a provider can ask for; more is as good as never
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def retry_after(heard: Heard) -> float | None:
    """Seconds that the provider asks us to wait, on 429 and 503 only; None when it does not, or unreadably.

    Both forms of RFC 9110: seconds, or a date, which is measured against the reply's own Date (F9).
    """
    text = heard.retry_after if isinstance(heard, Reply) else None
    if text is None:
        return None
    if _SECONDS.fullmatch(plain := text.strip()):
        return min(float(plain), LONGEST_S)
    try:
        return _until(text, heard.headers.get("date"))  # type: ignore[union-attr]  # a Reply, since it has a text
    except (ValueError, OverflowError):
        return None


def _until(text: str, now: str | None) -> float | None:
    if now is None:
        return None
    then, base = (_aware(parsedate_to_datetime(one)) for one in (text, now))
    return max(0.0, (then - base).total_seconds())


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def repeat_after(watch: Watch, troubles: int, asked: float | None, *, first_s: float) -> float:
    """Seconds before something is tried again: as asked, else doubling from `first_s` with jitter, at most 5 s.

    Never less than half of `first_s`: a provider that asks for 0 seconds is not hammered.

    Args:
        watch: For the jitter.
        troubles: How often in a row it went wrong, 1 for the first time.
        asked: What the provider asked for.
        first_s: The wait after the first trouble.
    """
    if asked is not None:
        return max(asked, first_s / 2)
    return min(first_s * 2.0 ** min(troubles - 1, 16), WAIT_MAX_S) * (0.5 + watch.jitter / 2)


def poll_after(watch: Watch, interval_s: float) -> float:
    """Seconds until the next poll, spread by a tenth so that many jobs do not poll in step."""
    return interval_s * (0.95 + watch.jitter / 10)
