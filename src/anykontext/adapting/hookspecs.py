"""The hooks that a plugin may implement."""

from collections.abc import Callable

import pluggy

from anykontext.adapting.adapter import Adapter

PROJECT = "anykontext"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def anykontext_adapters(register: Callable[[Adapter], None]) -> None:
    """Call `register(adapter)` once for each adapter that this plugin brings."""
