"""How a command ends: the one table from errors to exit codes, and what is told of each."""

from typing import Any

import click

from anykontext.cli.say import Say
from anykontext.model import errors

DONE, BUG, BAD_REQUEST, CONFIGURATION, MODERATED = 0, 1, 2, 3, 4
FAILED, UNKNOWN, DEADLINE, BUDGET, INTERRUPTED = 5, 6, 7, 8, 130

EXIT_CODES: dict[type[Exception], int] = {
    errors.InvalidRequest: BAD_REQUEST,
    errors.NoCandidate: BAD_REQUEST,
    errors.ConfigurationError: CONFIGURATION,
    errors.AuthenticationFailed: CONFIGURATION,
    errors.Moderated: MODERATED,
    errors.ProviderError: FAILED,
    errors.OutcomeUnknown: UNKNOWN,
    errors.DeadlineExceeded: DEADLINE,
    errors.BudgetExceeded: BUDGET,
    errors.AnykontextError: BUG,
}


class Interrupted(errors.AnykontextError):
    """Ctrl-C or SIGTERM ended the command; the message says what became of the job.

    Attributes:
        fields: What the JSON object tells beside class and message.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.fields = fields


class NotSaved(errors.AnykontextError):
    """An image was made and cannot be written where it was wanted; the message says where it is kept."""


EXIT_CODES[Interrupted] = INTERRUPTED


def exit_code(error: BaseException) -> int:
    """The exit code of an error; 1 for one that nobody expected."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, errors.AllCandidatesFailed) and {exit_code(one) for one in error.errors} == {CONFIGURATION}:
        return CONFIGURATION  # every key was refused
    return next((EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES), BUG)


def tell(error: Exception, say: Say, *, traceback: bool) -> int:
    """Tell of an error on stderr, and with --json also as an object on stdout; returns the exit code.

    Args:
        error: What ended the command; its notes are told after it.
        say: Where to.
        traceback: Whether the traceback of an unexpected one is wanted.
    """
    if isinstance(error, click.UsageError) and error.ctx is not None:
        error.show()
    elif isinstance(error, click.ClickException):
        say.error(error.format_message())
    elif isinstance(error, Interrupted):
        say.more(f"\n{error}.")
    elif isinstance(error, errors.AnykontextError):
        say.error(error)
    else:
        if traceback:
            import traceback as tracebacks

            say.more("".join(tracebacks.format_exception(error)).rstrip())
        advice = "" if traceback else " with what -v shows"
        say.error(f"{type(error).__name__}: {error}\nThis is a bug in anykontext: please report it{advice}")
    for note in getattr(error, "__notes__", ()):
        say.more(note)
    if say.as_json:
        import json

        say.result(json.dumps({"error": as_json(error)}, default=str))
    return exit_code(error)


def class_of(error: Exception) -> str:
    """The name of an error that scripts can know: of a private kind of a public one, the public one's."""
    own = (Interrupted, NotSaved)
    known = (one for one in type(error).__mro__ if one in own or getattr(errors, one.__name__, None) is one)
    return next(known, type(error)).__name__


def as_json(error: Exception) -> dict[str, Any]:
    """The error object of --json."""
    found: dict[str, Any] = {
        "class": class_of(error),
        "kind": None,
        "message": error.format_message() if isinstance(error, click.ClickException) else str(error),
        "provider": getattr(error, "provider", None),
        "maybe_charged": False,
        "job": None,
        "job_id": None,
        "attempts": [],
    }
    if isinstance(error, errors.AnykontextError):
        found |= {
            "kind": str(error.kind) if isinstance(error, errors.ProviderError) else None,
            "maybe_charged": error.maybe_charged,
            "job": error.handle.to_dict() if error.handle else None,
            "job_id": error.job_id,
            "attempts": [attempt.to_json() for attempt in error.attempts],
        }
    if isinstance(error, Interrupted):
        found |= error.fields
    return found
