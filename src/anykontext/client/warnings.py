"""What is said of prices that have grown old: in every plan, and once to the log."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from anykontext.engine.submit import Step
from anykontext.routing.prices import old_price

log = logging.getLogger("anykontext")
_told: set[str] = set()


def old_prices(steps: Sequence[Step], now: float) -> Mapping[str, str]:
    """What is to be said of the listed prices that these steps go by, by provider; `now` is of the wall clock."""
    today = datetime.fromtimestamp(now, UTC).date()
    said = {one.candidate.provider.name: old_price(one.candidate, one.orders[0].mode, today) for one in steps}
    return {name: words for name, words in said.items() if words is not None}


def warn_once(said: Mapping[str, str]) -> None:
    """Log each of these, once for each provider and process."""
    for name in said.keys() - _told:
        _told.add(name)
        log.warning("%s", said[name])
