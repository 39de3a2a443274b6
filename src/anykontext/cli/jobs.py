"""`jobs resume`: take up a job by its handle."""

import sys
from typing import Any

import click

from anykontext.cli.options import (
    config_option,
    deadline_option,
    force_option,
    json_option,
    out_option,
    said_options,
    say_of,
)


@click.group()
def jobs() -> None:
    """Jobs that were begun before."""


@jobs.command()
@click.argument("handle")
@out_option
@force_option
@deadline_option
@config_option
@json_option
@said_options
def resume(handle: str, **given: Any) -> None:
    """Wait for a job that was begun before, and fetch its images. Nothing is paid again.

    HANDLE is the handle's JSON, @FILE for a file that holds it, or - for standard input. What `--json` printed will
    do, too.
    """
    from anykontext.cli.make import Work
    from anykontext.cli.target import Target

    found = read_handle(handle)
    given["sandbox"] = False
    target = Target.of(given["out"], "image", found.model, force=given["force"])
    names = target.check(len(found.tasks), None)
    call = {} if given["deadline"] is None else {"deadline": given["deadline"]}
    Work(
        *(given, target, names, say_of(given)),
        lambda client, on_event: client.resume(found, on_event=on_event, **call).wait(),
        found,
    ).do()


def read_handle(word: str) -> Any:
    """The handle that a word gives, or names.

    Raises:
        InvalidRequest: There is none.
    """
    import json

    from anykontext.model.errors import InvalidRequest
    from anykontext.model.job import JobHandle

    text, found = _text_of(word), None
    try:
        found = json.loads(text)
        found = found.get("error", found)
        found = found.get("job", found)
        if found is None:
            raise InvalidRequest("there is no handle in it: no provider had accepted the job")
    except (ValueError, RecursionError, AttributeError) as error:
        if isinstance(error, InvalidRequest):
            raise
    if not isinstance(found, dict) and word.lstrip()[:1] not in {"{", "@", "-"}:
        raise InvalidRequest(
            f"{word[:80]!r} is no job handle. A job is resumed by its handle, the JSON that was printed for it (give "
            "the JSON, @FILE, or - for standard input); resuming by job id comes in a later release, with the ledger"
        )
    return JobHandle.from_json(found if isinstance(found, dict) else text)


def _text_of(word: str) -> str:
    from pathlib import Path

    from anykontext.model.errors import InvalidRequest

    try:
        if word == "-":
            return sys.stdin.read() if sys.stdin is not None else ""
        return Path(word[1:]).read_text(encoding="utf-8") if word.startswith("@") else word
    except UnicodeDecodeError:
        raise InvalidRequest(f"{word} is no job handle: it is not a text") from None
    except OSError as error:
        raise InvalidRequest(f"the handle cannot be read from {word[1:]}: {(error.strerror or '').lower()}") from None
