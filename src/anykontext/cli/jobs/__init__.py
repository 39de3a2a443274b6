"""`jobs`: what the ledger knows of the jobs that were begun, and what can be done about them."""

import click

from anykontext.cli.jobs.listing import list_jobs
from anykontext.cli.jobs.resuming import cancel, collect, resume
from anykontext.cli.jobs.settling import forget, resolve
from anykontext.cli.jobs.showing import show


@click.group()
def jobs() -> None:
    """Jobs that were begun before, as the ledger knows them.

    \b
    anykontext jobs list --state unknown
    anykontext jobs resume JOB_ID -o out.jpg        wait for one, and write its images
    anykontext jobs collect -o folder/              the same for all that nobody waits for

    A job is named by its id (job_...), as `jobs list` shows it. Times are in UTC.
    """  # noqa: D301 - click reads the backspace


for _command in (list_jobs, show, resume, cancel, collect, resolve, forget):
    jobs.add_command(_command)
