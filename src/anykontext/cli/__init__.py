"""The `anykontext` command. Everything heavy is imported inside the commands, so that `--help` is quick."""

import os
import re
import sys
from collections.abc import Sequence

import click

_VERBOSE = re.compile(r"-[qv]*v[qv]*|--verbose")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; nothing but an exit of the interpreter is ever raised.

    Args:
        args: The words after the command's name; None for those of the process.
    """
    from anykontext.cli.app import app

    words = list(sys.argv[1:] if args is None else args)
    try:
        return int(app.main(words, prog_name="anykontext", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:  # who read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except SystemExit as end:  # click's way out when a help page could not be written
        return int(end.code or 0)
    except (click.Abort, KeyboardInterrupt):
        from anykontext.cli.failures import Interrupted

        return _failed(Interrupted("Interrupted: nothing was sent, nothing was charged"), words)
    except Exception as error:  # noqa: BLE001 - no traceback reaches the user unasked
        return _failed(error, words)


def _failed(error: Exception, words: Sequence[str]) -> int:
    """Tell of it as the options say, even of one that kept them from being read."""
    from anykontext.cli.failures import tell
    from anykontext.cli.say import Say

    options = words[: words.index("--")] if "--" in words else words
    return tell(error, Say(as_json="--json" in options), traceback=any(map(_VERBOSE.fullmatch, options)))
