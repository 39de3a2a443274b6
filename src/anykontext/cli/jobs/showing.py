"""`jobs show`: all that is known of one job, and what to do about it."""

from typing import Any

import click

from anykontext.cli.options import config_option, json_option, said_options, say_of


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--trace", is_flag=True, help="Print what was sent and heard instead, as JSON lines.")
@config_option
@json_option
@said_options
def show(job_id: str, *, trace: bool, **given: Any) -> None:
    """Show all that is known of one job, and what to do about it.

    --trace prints one JSON object a line, without keys and images: first the job's effects, which
    anykontext.testing.trace replays without a network, then the rows of the ledger: lines with "path": "ledger" and
    a "send" or an "event".
    """
    import json
    import time

    from anykontext.cli.jobs.words import looked_up
    from anykontext.cli.logs import logs
    from anykontext.cli.say import printable

    say = say_of(given)
    with logs(say), looked_up(given["config"]) as store:
        job = store.record(job_id)
        if trace:
            for one in _trace(store, job_id):
                say.result(json.dumps(one))
            return
        told = _told(store, job, time.time())
        if say.as_json:
            say.result(json.dumps(told))
        else:
            say.result(printable("\n".join(_lines(told))))


def _trace(store: Any, job_id: str) -> list[dict[str, Any]]:
    """The effects first, since a replay begins at the first line; it passes over the lines of the ledger."""
    tracer = store.journal.tracer
    sends = [{"path": "ledger", "send": _send(one)} for one in store.ledger.sends(job_id)]
    events = [{"path": "ledger", "event": _event(one)} for one in store.ledger.events(job_id)]
    return [*(tracer.lines(job_id) if tracer else ()), *sends, *events]


def _told(store: Any, job: Any, now: float) -> dict[str, Any]:
    """The object of --json: that of `jobs list`, and more."""
    from anykontext.cli.jobs.words import iso, listed, spooled, surplus_results, what_next
    from anykontext.model.frozen import thaw

    ledger = store.ledger
    handles, events = ledger.handles(job.job_id), ledger.events(job.job_id)
    images = spooled(job.result, store.spool)
    late = [image for result in surplus_results(events) for image in spooled(result, store.spool)]
    return {
        **listed(job, ledger),
        "mode": job.mode,
        "prompt": job.prompt,
        "prompt_sha256": job.prompt_sha256,
        "tags": dict(job.tags),
        "idempotency_key": job.idempotency_key,
        "updated_at": iso(job.updated_at),
        "deadline_at": iso(job.deadline_at),
        "owner": job.owner,
        "lease_until": iso(job.lease_until),
        "in_work": job.state.value in {"queued", "running"} and job.lease_until > now,
        "at_risk": job.at_risk,
        "charged": job.charged,
        "images": images,
        "surplus": late,
        "error": thaw(job.error),
        "sends": [_send(one) for one in ledger.sends(job.job_id)],
        "handles": [
            {"attempt": one.attempt, "part": one.part, "added_at": iso(one.added_at), "handle": one.handle.to_dict()}
            for one in handles
        ],
        "events": [_event(one) for one in events],
        "next": what_next(job, handles, images, now),
    }


def _send(send: Any) -> dict[str, Any]:
    from anykontext.cli.jobs.words import iso

    told: dict[str, Any] = send.to_json()
    del told["job_id"], told["owner"]
    return told | {"intent_at": iso(send.intent_at), "ended_at": iso(send.ended_at)}


def _event(event: Any) -> dict[str, Any]:
    from anykontext.cli.jobs.words import iso

    told: dict[str, Any] = event.to_json()
    del told["seq"], told["job_id"]
    return told | {"at": iso(event.at)}


def _lines(told: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [f"Job {told['id']}: {told['state']}", *_head(told)]
    for title, found in (
        ("Submits", [_send_line(one) for one in told["sends"]]),
        ("Handles", [_handle_line(one) for one in told["handles"]]),
        ("Images", _image_lines(told["images"])),
        ("Images that came after the end", _image_lines(told["surplus"])),
        ("Events (UTC)", [_event_line(one) for one in told["events"]]),
    ):
        if found:
            lines += ["", f"{title}:", *(f"  {one}" for one in found)]
    return [*lines, "", f"Next: {told['next']}"]


def _head(told: dict[str, Any]) -> list[str]:
    prompt, error = told["prompt"], told["error"]
    cost = told["cost"]
    paid = (
        "nothing is known to be charged" if cost is None else f"{cost['amount'] or 'an unknown sum'} {cost['currency']}"
    )
    rows = [
        ("request", f"{told['mode']} with {told['model']}"),
        ("prompt", prompt if prompt is not None else f"not kept; its SHA-256 is {told['prompt_sha256']}"),
        ("tags", ", ".join(f"{name}={value}" for name, value in told["tags"].items())),
        ("key", told["idempotency_key"] or ""),
        ("begun", told["created_at"]),
        ("changed", told["updated_at"]),
        ("in work", f"by {told['owner']} until {told['lease_until']} at least" if told["in_work"] else "by nobody now"),
        (
            "money",
            paid + (f" ({cost['basis']})" if cost else "") + (", and more is at risk" if told["at_risk"] else ""),
        ),
        ("error", f"{error['class']}: {error['message']}" if error else ""),
    ]
    return [f"  {name:<8} {value}" for name, value in rows if value]


def _send_line(send: dict[str, Any]) -> str:
    price = "an unknown price" if send["price"] is None else f"{send['price']} USD"
    again = f", sent again {send['send']}x" if send["send"] else ""
    end = f", ended as {send['kind']}" if send["kind"] else ", ended well" if send["basis"] else ""
    cost = "" if send["basis"] is None else f", cost {send['cost'] or 'an unknown sum'} USD ({send['basis']})"
    word = {"spent": "spent", "risk": "AT RISK", "free": "free"}[send["money"]]
    resolved = f", resolved by a person as {send['resolved']}" if send["resolved"] else ""
    return (
        f"attempt {send['attempt']} part {send['part']}{again}: {send['provider']}/{send['model']} at {price}: "
        f"{send['outcome'] or 'no reply known'}{end}{cost}; money: {word}{resolved}"
        + (f" - {send['message']}" if send["message"] else "")
    )


def _handle_line(one: dict[str, Any]) -> str:
    import json

    handle = json.dumps(one["handle"], ensure_ascii=False, separators=(",", ":"))
    return f"attempt {one['attempt']} part {one['part']}: {handle}"


def _image_lines(images: list[dict[str, Any]]) -> list[str]:
    from anykontext.cli.jobs.words import path_words

    sizes = [f"{one['width']}x{one['height']} {one['media_type']}" for one in images]
    return [f"{path}  {size}" for path, size in zip(path_words(images), sizes, strict=True)]


def _event_line(event: dict[str, Any]) -> str:
    changed = event["from_state"] != event["to_state"] and event["to_state"] is not None
    states = f" ({event['from_state'] or 'new'} -> {event['to_state']})" if changed else ""
    detail = event["detail"] if len(event["detail"]) <= 200 else event["detail"][:200] + "…"
    return f"{event['at']}  {event['what']}{states}" + (f": {detail}" if detail else "") + f"  [{event['who'][:8]}]"
