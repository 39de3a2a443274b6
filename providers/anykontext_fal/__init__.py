"""The adapter for fal's queue API (queue.fal.run)."""

from collections.abc import Callable

from anykontext.adapting import Adapter, hookimpl
from anykontext_fal.adapter import Fal

__all__ = ["Fal", "anykontext_adapters"]


@hookimpl
def anykontext_adapters(register: Callable[[Adapter], None]) -> None:
    """Bring the `fal` adapter."""
    register(Fal())
