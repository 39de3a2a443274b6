"""What the author of an adapter tests with. It needs the packages of the extra `plugin`, and loads them on first use.

    class TestEcho(AdapterContract):
        adapter = Echo()
        emulator = Emulator
        cassettes = Path("cassettes/echo")
        documented = (Documented(Purpose.POLL, 200, {"status": "Pending"}, Running, evidence="echo-3"),)

`anykontext.testing.contract` tells more.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anykontext.testing.contract import AdapterContract as AdapterContract
    from anykontext.testing.contract import Documented as Documented
    from anykontext.testing.contract import End as End
    from anykontext.testing.recording import recording as recording
    from anykontext.testing.recording import replaying as replaying

_CONTRACT = "anykontext.testing.contract"
_PLACES = {
    "AdapterContract": _CONTRACT,
    "Documented": _CONTRACT,
    "End": _CONTRACT,
    "recording": "anykontext.testing.recording",
    "replaying": "anykontext.testing.recording",
}
__all__ = sorted(_PLACES)  # noqa: PLE0605 - the names stand in one place


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _PLACES[name] == _CONTRACT and _CONTRACT not in sys.modules:
        import pytest

        pytest.register_assert_rewrite(_CONTRACT)  # a failing contract tells the values that differ
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
