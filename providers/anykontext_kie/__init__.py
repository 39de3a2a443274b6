"""The adapter for kie.ai and its sibling fluxapi.ai."""

from collections.abc import Callable

from anykontext.adapting import Adapter, hookimpl
from anykontext_kie.adapter import Kie

__all__ = ["Kie", "anykontext_adapters"]


@hookimpl
def anykontext_adapters(register: Callable[[Adapter], None]) -> None:
    """Bring the `kie` adapter."""
    register(Kie())
