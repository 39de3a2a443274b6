from collections.abc import Callable, Iterator

import pytest

from anykontext.ledger import Ledger

from .conftest import Shared
from .contract import LedgerContract


class TestAFile(LedgerContract):
    @pytest.fixture
    def ledger(self, opened: Callable[..., Ledger]) -> Ledger:
        return opened()


class TestAFileSharedByTwo(LedgerContract):
    @pytest.fixture
    def ledger(self, opened: Callable[..., Ledger]) -> Shared:
        return Shared(opened(), opened())


class TestMemory(LedgerContract):
    @pytest.fixture
    def ledger(self, opened: Callable[..., Ledger]) -> Iterator[Ledger]:
        return opened("memory")
