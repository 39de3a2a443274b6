"""Values as they stand in kie.ai's replies, where one thing comes in several forms (kie-13, kie-14)."""

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

MOST_CREDITS = 1e12
THEIR_ZONE = timezone(timedelta(hours=8))  # of a time that names none (kie-13)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS_MIN = 10**12  # less is no time in milliseconds of this service's life
_WHOLE = re.compile(r"[0-9]{1,9}")
_WEB = re.compile(r"https?://[^/\s@]+(?:/[^\s]*)?", re.IGNORECASE)
LONGEST_LINK = 4_096


def text(value: object) -> str:
    """A text; empty for anything else, and for the text that stands for null (kie-14)."""
    return value.strip() if isinstance(value, str) and value.strip().lower() != "null" else ""


def link(value: object) -> str | None:
    """A text that is a web address."""
    return value if isinstance(value, str) and len(value) <= LONGEST_LINK and _WEB.fullmatch(value) else None


def whole(value: object) -> int | None:
    """A whole number, which may come as digits or as a fraction of none (kie-14)."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(value: object) -> datetime | None:
    """A time in any of its three forms: ISO with a zone, ISO without one, milliseconds (kie-13)."""
    try:
        if isinstance(value, str):
            then = datetime.fromisoformat(value.strip())
            return (then if then.tzinfo else then.replace(tzinfo=THEIR_ZONE)).astimezone(UTC)
        if isinstance(value, int) and not isinstance(value, bool) and value >= MILLISECONDS_MIN:
            return EPOCH + timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    return None


def later(then: datetime | None, days: int) -> datetime | None:
    """So many days after a time; None where that is not known, or beyond the calendar."""
    try:
        return None if then is None else then + timedelta(days=days)
    except OverflowError:
        return None


def decimal(value: object) -> Decimal | None:
    """A number of credits; anything that cannot be one is unknown."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_CREDITS
    return Decimal(str(value)) if known else None
