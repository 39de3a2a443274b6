"""An emulator, and processes that are killed while they use it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from .matrix import Lab


@pytest.fixture(autouse=True, scope="module")
def one_tls_context() -> Iterator[None]:
    """The certificates of the world are read once."""
    context = httpx.create_ssl_context(trust_env=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", lambda *_, **__: context)
        yield


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[str], Lab]]:
    opened: list[Lab] = []

    def lab_of(provider: str) -> Lab:
        opened.append(Lab(provider, tmp_path).__enter__())
        return opened[-1]

    yield lab_of
    for one in opened:
        one.__exit__()
