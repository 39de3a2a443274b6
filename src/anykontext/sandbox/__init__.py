"""All emulators on loopback: everything works with no key and no network.

    with Sandbox(faults=["bfl:submit-lost"]) as sandbox:
        sandbox.origins["bfl"]["api"]            # http://127.0.0.1:41001
        sandbox.emulators["bfl"].counters        # what arrived there

For authors of emulators: subclass `Emulator` in a module `emulator` beside your adapter, and take what
you need from `replies` (bad answers), `downloads` (bad files) and `pictures` (a real edit of a real picture).
"""

from typing import TYPE_CHECKING, Any

from anykontext.sandbox.discovery import MissingExtra
from anykontext.sandbox.emulator import KEYS, Emulator
from anykontext.sandbox.faults import FAULTS
from anykontext.sandbox.runner import Sandbox

if TYPE_CHECKING:
    from anykontext.sandbox.replies import reset_connection

__all__ = ["FAULTS", "KEYS", "Emulator", "MissingExtra", "Sandbox", "reset_connection"]


def __getattr__(name: str) -> Any:
    """`reset_connection` needs the extra `sandbox`, which a mere import of this package does not."""
    if name == "reset_connection":
        from anykontext.sandbox import replies

        return replies.reset_connection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
