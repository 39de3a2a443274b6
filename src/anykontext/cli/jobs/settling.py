"""`jobs resolve` and `jobs forget`: what people decide about jobs. No provider is asked."""

import sys
from typing import Any

import click

from anykontext.cli.options import config_option, json_option, said_options, say_of


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--charged", "charged", is_flag=True, help="The provider has charged for it.")
@click.option("--not-charged", "not_charged", is_flag=True, help="The provider has not charged for it.")
@config_option
@json_option
@said_options
def resolve(job_id: str, *, charged: bool, not_charged: bool, **given: Any) -> None:
    """Settle by your word what is at risk on a job, after a look at the provider's own list or bill.

    Nothing is sent. Money at risk counts against budgets until then, and an unknown job keeps its idempotency key.
    """
    import json

    from anykontext.cli.jobs.words import cost_of, listed, looked_up, money_of
    from anykontext.cli.logs import logs

    if charged == not_charged:
        raise click.UsageError("say which: exactly one of --charged and --not-charged")
    say = say_of(given)
    with logs(say), looked_up(given["config"]) as store:
        before = store.record(job_id)
        after = store.resolve(job_id, charged=charged)
        cost = cost_of(store.ledger.sends(job_id))
        if say.as_json:
            say.result(json.dumps(listed(after, store.ledger)))
            return
        states = f"{before.state} before, {after.state} now" if before.state is not after.state else f"{after.state}"
        money = f"{money_of(after, cost)} was spent" if charged else "nothing more is at risk"
        say.result(f"{job_id} is resolved as {'charged' if charged else 'not charged'}: {states}; {money}.")


@click.command()
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--before", metavar="DATE", help="All that ended before then: 2026-11-20, or an ISO time (UTC).")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="All that ended so many days ago.")
@click.option("--force", is_flag=True, help="Do not ask.")
@config_option
@json_option
@said_options
def forget(job_id: str | None, *, force: bool, **given: Any) -> None:
    """Delete jobs that have ended from the ledger: their prompts, handles and sums.

    Jobs that have not ended, and those with money at risk, are kept. Images stay in the spool for its own time.
    """
    import json
    from datetime import UTC, datetime, timedelta

    from anykontext.cli.jobs.words import looked_up, moment
    from anykontext.cli.logs import logs
    from anykontext.model.errors import InvalidRequest

    before, days, now = given["before"], given["older_than"], datetime.now(UTC)
    if sum(one is not None for one in (job_id, before, days)) != 1:
        raise click.UsageError("say which jobs: exactly one of an ID, --before and --older-than")
    try:
        until = moment(before, now) if before is not None else None if days is None else now - timedelta(days=days)
    except OverflowError:
        raise InvalidRequest(f"--older-than {days:g} is before all time") from None
    say = say_of(given)
    with logs(say), looked_up(given["config"]) as store:
        going, kept = _sorted(store, job_id, None if until is None else until.timestamp())
        if job_id is not None and kept:
            raise InvalidRequest(f"{job_id} is kept: {_why(kept)}")
        what = job_id or f"{len(going)} {'job' if len(going) == 1 else 'jobs'}"
        if going and not force and sys.stdin is not None and sys.stdin.isatty():
            going = going if click.confirm(f"Forget {what}, with all that is known?", err=True) else []
        gone = store.forget(job_id, until) if going else 0
    if say.as_json:
        say.result(json.dumps({"forgotten": gone, "kept": len(kept)}))
        return
    say.result(f"Forgot {gone} {'job' if gone == 1 else 'jobs'}.")
    if kept:
        say.note(f"{len(kept)} {'was' if len(kept) == 1 else 'were'} kept: {_why(kept)}")


def _sorted(store: Any, job_id: str | None, until: float | None) -> tuple[list[Any], list[Any]]:
    """The jobs that are meant: those that may be forgotten, and those that may not."""
    from anykontext.ledger import is_ended

    if job_id is not None:
        found = [store.record(job_id)]
    else:
        found = [one for one in store.ledger.jobs(until=until, limit=10**9) if one.updated_at < until]
    going = [one for one in found if is_ended(one.state) and not one.at_risk]
    return going, [one for one in found if one not in going]


def _why(kept: list[Any]) -> str:
    """Why jobs are not forgotten, with what would change that."""
    from anykontext.ledger import is_ended
    from anykontext.model.job import JobState

    running = sum(not is_ended(one.state) and one.state is not JobState.UNKNOWN for one in kept)
    counts = (
        (running, "not ended yet (`anykontext jobs collect`)"),
        (len(kept) - running, "with money at risk (`anykontext jobs resolve`)"),
    )
    return "; ".join(f"{count} {words}" if len(kept) > 1 else words for count, words in counts if count)
