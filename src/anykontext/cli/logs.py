"""The library's log, on stderr."""

import contextlib
import logging
from collections.abc import Iterator

from anykontext.cli.say import Say


@contextlib.contextmanager
def logs(say: Say) -> Iterator[None]:
    """Show the library's log: warnings always, more with -v and -vv."""
    logger, handler = logging.getLogger("anykontext"), _Handler(say)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    if say.verbose:
        logger.setLevel(logging.INFO if say.verbose == 1 else logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class _Handler(logging.Handler):
    """Passes log records on; the lines about events are left out unless -vv, because the progress tells them."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        if record.module == "notify" and self._say.verbose < 2 and record.exc_info is None:
            return
        if record.levelno >= logging.WARNING:
            self._say.warning(record.getMessage())
        else:
            self._say.note(f"{record.levelname.lower()}: {record.getMessage()}")
