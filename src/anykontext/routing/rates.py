"""How fast submits may follow each other at a provider: a sliding window over the last of them. Pure."""

from anykontext.adapting import SubmitRate

Times = tuple[float, ...]  # of the last submits, the oldest first


def wait_s(rate: SubmitRate, times: Times, submits: int, now: float) -> float:
    """Seconds until so many submits may leave together: 0 for at once, infinite for more than the rate ever allows."""
    if submits > rate.submits:
        return float("inf")
    recent = [one for one in times if now - one < rate.seconds]
    too_many = len(recent) + submits - rate.submits
    return max(recent[too_many - 1] + rate.seconds - now, 0.0) if too_many > 0 else 0.0


def noted(rate: SubmitRate, times: Times, submits: int, now: float) -> Times:
    """The times after so many submits have left; only those that still matter are kept."""
    return (*(one for one in times if now - one < rate.seconds), *[now] * submits)
