"""`jobs list`."""

from typing import Any

import click

from anykontext.cli.options import config_option, json_option, said_options, say_of

HEADS = ("id", "begun (UTC)", "provider/model", "state", "money", "prompt")
LEAST, PLAIN = 12, 60  # characters of a prompt that are shown on a narrow terminal, and where there is none


@click.command("list")
@click.option("--state", metavar="STATE", help="Only jobs in this state: queued, running, succeeded, unknown, ...")
@click.option("--since", metavar="WHEN", help="Only jobs begun since then: 2026-11-20, an ISO time (UTC), 3h or 2d.")
@click.option("--tag", metavar="NAME[=VALUE]", help="Only jobs with this tag.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@config_option
@json_option
@said_options
def list_jobs(**given: Any) -> None:
    """List the jobs of the ledger, the newest first.

    With --json, maybe_charged tells whether money was spent on a job, or may have been.
    """
    import json
    from datetime import UTC, datetime

    from anykontext.cli.jobs.words import in_memory, listed, looked_up, moment
    from anykontext.cli.logs import logs
    from anykontext.model.errors import InvalidRequest

    say = say_of(given)
    if given["tag"] is not None and not given["tag"].partition("=")[0]:
        raise InvalidRequest(f"a tag is NAME or NAME=VALUE, not {given['tag']!r}")
    since = None if given["since"] is None else moment(given["since"], datetime.now(UTC))
    with logs(say), looked_up(given["config"]) as store:
        found = store.records(state=given["state"], since=since, tag=given["tag"], limit=given["limit"])
        if in_memory(store):
            say.warning("the ledger is in memory ([ledger] url), so jobs of other processes are not known")
        if say.as_json:
            say.result(json.dumps([listed(one, store.ledger) for one in found]))
        elif not found:
            asked = any(given[name] is not None for name in ("state", "since", "tag"))
            say.result("No such job is in the ledger." if asked else "No job is in the ledger yet.")
        else:
            _table(store, found, say)
        if len(found) == given["limit"]:
            say.note(f"Only the newest {len(found)} are shown; --limit shows more.")


def _table(store: Any, found: Any, say: Any) -> None:
    import shutil
    import sys

    from anykontext.cli.jobs.words import cost_of, money_of, one_line, short
    from anykontext.cli.say import on_terminal
    from anykontext.cli.tables import show

    rows = []
    for job in found:
        cost = cost_of(store.ledger.sends(job.job_id) if job.charged else ())
        who = f"{job.provider or '-'}/{job.model}"
        rows.append([job.job_id, short(job.created_at), who, str(job.state), money_of(job, cost)])
    most = PLAIN
    if on_terminal(sys.stdout):
        taken = sum(max(len(row[index]) for row in [HEADS, *rows]) + 3 for index in range(len(HEADS) - 1))
        most = max(shutil.get_terminal_size().columns - taken, LEAST)
    for row, job in zip(rows, found, strict=True):
        row.append(one_line(job.prompt, job.prompt_sha256, most))
    show(say, HEADS, rows)
