"""`jobs resume`, `jobs cancel` and `jobs collect`: what asks providers about jobs. None of it submits anything."""

import sys
from typing import Any

import click

from anykontext.cli.options import (
    config_of_ledger,
    config_option,
    deadline_option,
    force_option,
    json_option,
    out_option,
    said_options,
    say_of,
)

MANY = 100_000  # jobs of a ledger that are looked through


@click.command()
@click.argument("job", metavar="ID|HANDLE|@FILE|-")
@out_option
@force_option
@deadline_option
@config_option
@json_option
@said_options
def resume(job: str, **given: Any) -> None:
    """Wait for a job that was begun before, and write its images. Nothing is paid again.

    ID is that of a job in the ledger; one that has succeeded is written from the spool, and nothing is sent. A HANDLE
    is JSON, and goes on at a machine whose ledger does not know the job, too. @FILE and - (standard input) hold either,
    or what `--json` printed.
    """
    from anykontext.cli.jobs.taking_up import Past, read_word
    from anykontext.cli.make import Work
    from anykontext.cli.target import Target
    from anykontext.model.job import JobHandle

    found = read_word(job)
    given["sandbox"] = False
    past = Past.of_handle(found) if isinstance(found, JobHandle) else Past.of_ledger(found, given["config"])
    target = Target.of(given["out"], "image", past.model, force=given["force"])
    names = target.check(past.images, None)
    call = {} if given["deadline"] is None else {"deadline": given["deadline"]}
    say = say_of(given)
    if past.in_work:
        say.note(f"Another process works on {past.job_id}: it is taken up when that one has ended or let go of it")
    Work(
        *(given, target, names, say),
        lambda client, on_event: past.result(client, on_event=on_event, **call),
        past.handle,
        past.job_id,
    ).do()


@click.command()
@click.argument("job_id", metavar="ID")
@config_option
@json_option
@said_options
def cancel(job_id: str, **given: Any) -> None:
    """Ask the provider to stop working on a job, where it can be asked.

    The job may end well all the same, and may be charged: `jobs resume` tells how it ended.
    """
    import json

    from anykontext.cli.logs import logs
    from anykontext.client import Client
    from anykontext.ledger import is_ended
    from anykontext.model.errors import InvalidRequest

    say = say_of(given)
    with logs(say), Client(config_of_ledger(given["config"])) as client:
        job = client.job(job_id)
        if is_ended(job.state):
            raise InvalidRequest(f"{job_id} has ended ({job.state}): there is nothing to cancel")
        if job.handle is None:
            raise InvalidRequest(f"{job_id} has no task at a provider, as far as is known: there is nothing to cancel")
        provider = job.handle.provider
        job.cancel()
    if say.as_json:
        say.result(json.dumps({"id": job_id, "provider": provider, "asked": True}))
        return
    say.result(f"{provider} was asked to cancel {job_id}.")
    say.note(
        "It may end well all the same, and may be charged; this tells how it ended: "
        f"anykontext jobs resume {job_id} -o OUT"
    )


@click.command()
@click.option("-o", "--output", "out", metavar="FOLDER", help="Write the images there; they stay in the spool, too.")
@config_option
@json_option
@said_options
def collect(**given: Any) -> None:
    """Collect every unfinished job of the ledger whose process is gone. Nothing is submitted.

    Prints how each ended, and where its images are. Exit codes: 0 when the end of each is known now, or there was
    none; 6 when nobody knows what became of one (see `jobs resolve`); 7 when one still runs (another
    process may work on it); 3 when one could not be
    asked for, as its provider is not configured or has no key; 5 when a question went unanswered.
    """
    import json

    from anykontext.cli.failures import DEADLINE, Interrupted
    from anykontext.cli.jobs.taking_up import Collected, exit_code, folder_of
    from anykontext.cli.logs import logs
    from anykontext.cli.say import printable
    from anykontext.client import Client
    from anykontext.ledger import is_ended
    from anykontext.model.job import JobState

    say = say_of(given)
    folder = None if given["out"] is None else folder_of(given["out"])
    with logs(say), Client(config_of_ledger(given["config"])) as client:
        try:
            found = [Collected.of(one, client, folder, say) for one in client.recover()]
        except KeyboardInterrupt:
            raise Interrupted("Interrupted: nothing was sent anew; `anykontext jobs collect` goes on") from None
        told = {one.job_id for one in found}
        others = [one for one in client.jobs(limit=MANY) if one.job_id not in told]
    before = [one for one in others if one.state is JobState.UNKNOWN]
    busy = [one for one in others if one.state in {JobState.QUEUED, JobState.RUNNING}]
    left = [one for one in others if is_ended(one.state) and one.at_risk]
    if say.as_json:
        say.result(json.dumps([one.to_json() for one in found]))
    elif not found:
        say.result("There is nothing to collect now." if busy else "There is nothing to collect.")
    else:
        say.result(printable("\n".join(str(one) for one in found)))
    for one in found:
        if one.advice:
            say.note(one.advice)
    if before:
        say.note(f"{len(before)} more: outcome unknown since before; see `anykontext jobs list --state unknown`")
    if busy:
        say.note(
            f"{len(busy)} more: another process works on it, or one that ended less than a minute ago; "
            "collect again in a minute"
        )
    if left:
        say.note(
            f"{len(left)} more: ended, and money is at risk on an attempt that was left, such as {left[0].job_id}; "
            "`anykontext jobs show` has its handles, and `jobs resume HANDLE` asks the provider"
        )
    sys.exit(exit_code(found) or (DEADLINE if busy else 0))
