"""The adapter for Together AI's images endpoint (api.together.ai)."""

from collections.abc import Callable

from anykontext.adapting import Adapter, hookimpl
from anykontext_together.adapter import Together

__all__ = ["Together", "anykontext_adapters"]


@hookimpl
def anykontext_adapters(register: Callable[[Adapter], None]) -> None:
    """Bring the `together` adapter."""
    register(Together())
