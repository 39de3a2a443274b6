import threading
import time

import pytest

from anykontext.io.journal import Journal
from anykontext.ledger import open_ledger


def test_a_journal_that_is_closed_while_it_begins_to_keep_leases_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    class Slow(threading.Thread):
        def start(self) -> None:
            begun.set()
            time.sleep(0.1)
            super().start()

    journal = Journal(open_ledger("memory", now=time.time), "we")
    starting = threading.Thread(target=journal.keep_leases)
    with monkeypatch.context() as patch:
        patch.setattr("anykontext.io.journal.threading.Thread", Slow)
        starting.start()
        assert begun.wait(5)
        journal.close()
        starting.join(5)

    assert "anykontext-leases" not in {one.name for one in threading.enumerate()}
