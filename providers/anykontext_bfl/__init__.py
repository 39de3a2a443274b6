"""The adapter for Black Forest Labs' own API (bfl.ai)."""

from collections.abc import Callable

from anykontext.adapting import Adapter, hookimpl
from anykontext_bfl.adapter import Bfl

__all__ = ["Bfl", "anykontext_adapters"]


@hookimpl
def anykontext_adapters(register: Callable[[Adapter], None]) -> None:
    """Bring the `bfl` adapter."""
    register(Bfl())
