"""Words for people: the nearest right one for a wrong one, and texts that cannot break a table or drive a terminal."""

import difflib
from collections.abc import Iterable


def one_line(text: object) -> str:
    r"""A text on one line, with every control character made visible.

    >>> one_line("red\x1b[31m\nand more")
    'red\\x1b[31m\\nand more'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


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
