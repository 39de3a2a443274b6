"""The key of a provider: looked for when it is first needed, kept, and looked for again after it was refused."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pydantic import SecretStr

from anykontext.config.keys import UNFIT, KeySource, Reentered, fits_a_header
from anykontext.config.source import Source
from anykontext.model.errors import ConfigurationError

log = logging.getLogger("anykontext")
WAIT_S = 60.0  # how long a thread waits while another asks a callable, which may wait for us
KEPT = 10  # earlier keys that are still cut out of replies
REST_S = 5.0  # a key that was just looked for anew is not looked for again: many jobs are refused at the same time


class Key:
    """What a driver calls when it needs the key of a provider; threads may share it.

    The key is looked for when it is first needed, and kept. After it was refused it is looked for once more.

    Args:
        provider: Whose key it is.
        where: Where it is.
        environ: The environment.
        source: The configuration, for relative paths and messages.
        clock: Seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        provider: str,
        where: KeySource,
        environ: Mapping[str, str],
        source: Source,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._where = where
        self._environ = environ
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._asking: int | None = None
        self._kept: SecretStr | None = None
        self._given: tuple[SecretStr, ...] = ()
        self._renewed_at = -math.inf

    def __call__(self) -> SecretStr:
        """The key.

        Raises:
            MissingKey: There is none; the message tells what was tried.
            ConfigurationError: It cannot be a key, or everybody can read it.
        """
        if self._kept is None:
            with self._alone():
                self._kept = self._kept or self._found()
        return self._kept

    @property
    def given(self) -> tuple[SecretStr, ...]:
        """The keys that it has given, the latest last: none of them is for a reply that is shown."""
        return self._given

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time looks for the key. Where that calls a callable, it may call us."""
        thread = threading.get_ident()
        if self._asking == thread:
            raise Reentered(f"provider {self._provider!r}: api_key() has called the client that asks for its key")
        if not self._lock.acquire(timeout=WAIT_S):
            raise Reentered(f"provider {self._provider!r}: api_key() has given no key in {WAIT_S:.0f} s")
        try:
            self._asking = thread
            yield
        finally:
            self._asking = None
            self._lock.release()

    def renew(self, refused: SecretStr) -> bool:
        """Look for the key again, after this one was refused; jobs that are refused together look once for all.

        Returns:
            Whether there is another key now. What keeps it from being found is logged.
        """
        with self._alone():
            if self._kept is None or self._kept != refused:
                return True  # another job has already looked
            if self._clock() - self._renewed_at < REST_S:
                return False
            self._renewed_at = self._clock()
            try:
                found = self._found()
            except ConfigurationError as error:
                log.warning("the key of %r was refused, and cannot be looked for again: %s", self._provider, error)
                return False
            if found == refused:
                return False
            self._kept = found
            log.info("the key of %r was refused; there is a new one from %s", self._provider, self._where)
            return True

    def _found(self) -> SecretStr:
        found = self._where.read(self._provider, self._environ, self._source).strip()
        if not fits_a_header(found):
            raise ConfigurationError(f"provider {self._provider!r}: its key from {self._where} is none: {UNFIT}")
        key = SecretStr(found)
        self._given = (*(one for one in self._given if one != key), key)[-KEPT:]
        return key

    def __repr__(self) -> str:
        return f"Key({self._provider!r}, {self._where})"
