"""The adapter for Echo, an invented image service."""

from collections.abc import Callable

from anykontext.adapting import Adapter, hookimpl

from anykontext_echo.adapter import Echo

__all__ = ["Echo", "anykontext_adapters"]


@hookimpl
def anykontext_adapters(register: Callable[[Adapter], None]) -> None:
    """Bring the `echo` adapter."""
    register(Echo())
