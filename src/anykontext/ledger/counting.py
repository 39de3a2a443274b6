"""What counts against caps on money. Every function reads inside one transaction that the caller has opened."""

import math
import sqlite3
from collections.abc import Iterable, Sequence
from decimal import Decimal

from anykontext.model.money import Cap
from anykontext.model.spend import EXACT

DAY_S = 86_400

_WITH_TAG = """(:name = '' OR EXISTS (SELECT 1 FROM tags t WHERE t.job_id = s.job_id AND t.name = :name
    AND t.value = :value))"""
_WHOLE_DAYS = """SELECT amount, SUM(sends) FROM tally WHERE name = :name AND value = :value AND day >= :day
    GROUP BY amount"""
_FIRST_DAY = f"""SELECT COALESCE(amount, price), COUNT(*) FROM money s WHERE money <> 'free'
    AND intent_at >= :since AND intent_at < :day * 86400 AND {_WITH_TAG} GROUP BY 1"""  # noqa: S608  # our own text
# Repeats the condition of the index, so that few rows are read. What runs under a live lease is not left.
_LEFT_AT_RISK = f"""SELECT price, COUNT(*), MAX(s.job_id = :job_id)
    FROM sends s INDEXED BY sends_at_risk LEFT JOIN jobs j USING (job_id)
    WHERE basis IS NULL AND resolved IS NULL AND (outcome IS NULL OR outcome = 'unknown' OR maybe_charged = 1
            OR (outcome = 'accepted' AND ended_at IS NULL))
    AND intent_at >= :since AND {_WITH_TAG}
    AND (outcome = 'unknown' OR ended_at IS NOT NULL OR j.state NOT IN ('queued', 'running') OR j.lease_until <= :now
        OR (s.job_id = :job_id AND attempt < :attempt)
        OR EXISTS (SELECT 1 FROM sends later WHERE later.job_id = s.job_id AND later.attempt > s.attempt))
    GROUP BY price"""  # noqa: S608  # our own text


def counted(db: sqlite3.Connection, now: float, cap: Cap, going_on: tuple[str, int] = ("", 0)) -> Decimal | None:
    """What counts against a cap.

    Usually that is what is spent and at risk; an amount that nobody knows counts as the price, or not at all where
    that is not known either. Under a cap with `at_risk_only` it is what is at risk on attempts that were left: a
    submit whose outcome is unknown, a task that ended in doubt, and what may still run of an attempt that a later one
    followed, of a job that has ended, or of one whose process is gone.

    Args:
        db: A connection inside a transaction.
        now: Seconds of the wall clock.
        cap: The cap.
        going_on: A job that is about to go on, and its next attempt: the earlier ones are left. None is returned when
            one of them has an unknown price.
    """
    name, value = cap.tag or ("", "")
    asked: dict[str, object] = {"name": name, "value": value, "since": cap.since, "now": now}
    if cap.at_risk_only:
        asked |= {"job_id": going_on[0], "attempt": going_on[1]}
        rows = db.execute(_LEFT_AT_RISK, asked).fetchall()
        if any(price is None and its_own for price, _, its_own in rows):
            return None
        return _sum((price, count) for price, count, _ in rows)
    day = math.ceil(cap.since / DAY_S)
    rows = db.execute(_WHOLE_DAYS, {"name": name, "value": value, "day": day}).fetchall()
    if cap.since < day * DAY_S:
        rows += db.execute(_FIRST_DAY, {**asked, "day": day}).fetchall()
    return _sum(rows)


def _sum(rows: Iterable[tuple[str | None, int]]) -> Decimal:
    """Prices repeat, so that the sum is made of few exact products; SQL's own SUM would go through floats."""
    total = Decimal(0)
    for amount, count in rows:
        total = EXACT.fma(Decimal(amount or 0), Decimal(count), total)
    return total


def left(db: sqlite3.Connection, now: float, caps: Sequence[Cap]) -> list[tuple[Cap, Decimal]]:
    """Each cap with what is left of it in USD, never below zero."""
    found = [(cap, counted(db, now, cap) or Decimal(0)) for cap in caps]
    return [(cap, max(EXACT.subtract(cap.limit, sum_), Decimal(0))) for cap, sum_ in found]


def tag_values(db: sqlite3.Connection, name: str, since: float) -> list[str]:
    """The values of a tag of which anything counts since a day of UTC."""
    sql = "SELECT DISTINCT value FROM tally WHERE name = ? AND day >= ? AND sends > 0 ORDER BY value"
    return [row[0] for row in db.execute(sql, (name, math.ceil(since / DAY_S)))]
