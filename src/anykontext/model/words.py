"""The nearest right word for a wrong one: every `unknown …` message of the library uses it."""

import difflib
from collections.abc import Iterable


def near(word: str, known: Iterable[str]) -> str:
    """A clause for the end of a message: the nearest known words, else all of them.

    >>> near("flux-kontext-por", ["flux-kontext-pro", "flux-1.1-pro"])
    "did you mean 'flux-kontext-pro'?"
    >>> near("zzz", ["bfl", "fal"])
    'known are: bfl, fal'
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"known are: {', '.join(known)}" if known else "none is known"
