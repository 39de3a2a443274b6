"""What the author of a contract got wrong: one sentence, before two hundred tests fail for one reason."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, get_args

from anykontext.adapting import Facts, Failed, Kind, Purpose, Refused, State

STATES = get_args(State)
ENDS = (Failed, Refused)
LONGEST = 3  # type, kind, whether it may be charged
METHODS = ("submit", "poll", "read")
NEAR = 0.8


def wrong_reply(purpose: object, means: Any, told: Mapping[str, Any]) -> str:
    """What is wrong with the words of a documented reply; empty where nothing is."""
    if not isinstance(purpose, Purpose):
        return f"the purpose of a documented reply is a Purpose, such as Purpose.POLL, and not {purpose!r}"
    pair = isinstance(means, tuple)
    state = means[0] if pair and means else means
    if state not in STATES:
        return f"`means` is a type of state, such as Running or (Failed, Kind.MODERATED, True), and not {means!r}"
    if pair != (state in ENDS):
        more = f"({state.__name__}, Kind.…)" if state in ENDS else state.__name__
        return f"`means` is {more} for a {state.__name__}, and not {means!r}"
    if pair and not (2 <= len(means) <= LONGEST and isinstance(means[1], Kind)):
        return f"`means` is ({state.__name__}, a Kind, and perhaps whether it may be charged), and not {means!r}"
    if pair and len(means) == LONGEST and not isinstance(means[2], bool | None):
        return f"the third word of `means` is True, False or None: whether it may be charged, and not {means[2]!r}"
    odd = [name for name in told if name not in state.__dataclass_fields__]
    known = ", ".join(state.__dataclass_fields__)
    return f"`told` names {odd[0]!r}, and a {state.__name__} has only {known}" if odd else ""


def mistake(suite: type, base: type, replies: type) -> str:
    """What is wrong with a contract as a whole; empty where nothing is.

    Args:
        suite: The class that the author wrote.
        base: The class that tells what may be named.
        replies: The class of documented replies.
    """
    from anykontext.sandbox import Emulator

    name = suite.__name__
    known = [one for one in base.__annotations__ if not one.startswith("_")]
    for own in [one for above in suite.__mro__ if not issubclass(base, above) for one in vars(above)]:
        if own not in dir(base) and own not in known and (near := get_close_matches(own, known, 1, NEAR)):
            return f"{name} has {own!r}, which means nothing: did you mean {near[0]!r}?"
    adapter = getattr(suite, "adapter", None)
    if adapter is None:
        return f"{name} names no adapter: write `adapter = YourAdapter()` into the class"
    if isinstance(adapter, type):
        return (
            f"{name}.adapter is the class {adapter.__name__}; an instance is needed: `adapter = {adapter.__name__}()`"
        )
    if not isinstance(getattr(adapter, "facts", None), Facts):
        return (
            f"{name}.adapter, a {type(adapter).__name__}, has no `facts`, or none of the type anykontext.adapting.Facts"
        )
    missing = [one for one in METHODS if not callable(getattr(adapter, one, None))]
    if missing:
        return f"{name}.adapter, a {type(adapter).__name__}, has no method {missing[0]!r}"
    return _wrong_values(suite, replies, Emulator)


def _wrong_values(suite: Any, replies: type, emulators: type) -> str:
    """What is wrong with the other names of a contract."""
    name, documented, emulator = suite.__name__, suite.documented, suite.emulator
    if isinstance(documented, replies):
        return f"{name}.documented is one Documented; a tuple is needed, and that of one ends with a comma: (one,)"
    if not isinstance(documented, tuple | list) or not all(isinstance(one, replies) for one in documented):
        return f"{name}.documented is a tuple of Documented, and not {documented!r:.200}"
    if isinstance(emulator, emulators):
        kind = type(emulator).__name__
        return f"{name}.emulator is an instance of {kind}; the class is needed: `emulator = {kind}`"
    if emulator is not None and not (isinstance(emulator, type) and issubclass(emulator, emulators)):
        return f"{name}.emulator is a class below anykontext.sandbox.Emulator, or None, and not {emulator!r:.200}"
    for table in ("ends", "without_faults", "inverted", "reworded", "headers"):
        if not isinstance(getattr(suite, table), Mapping):
            return f"{name}.{table} is a mapping, and not {getattr(suite, table)!r:.200}"
    return ""
