"""Telling a moderated task by its words, since kie.ai gives no other mark (kie-5)."""

import re
from dataclasses import dataclass

from anykontext.adapting import Failed, Kind

_GAP = r"[^.!?\n]{0,80}"  # within one sentence


@dataclass(frozen=True, slots=True)
class Words:
    """One way in which moderation is told.

    Attributes:
        pattern: What is looked for, in any case.
        evidence: Why: the label of the sheet, and the sentence or the client's pattern.
    """

    pattern: re.Pattern[str]
    evidence: str


def _words(pattern: str, evidence: str) -> Words:
    return Words(re.compile(pattern, re.IGNORECASE), evidence)


MODERATION = (
    _words(r"\bcontent[ _-]polic(?:y|ies)\b", '[DOC] "...flagged by Website as violating content policies."'),
    _words(r"(?<![a-z])flagged(?![a-z])", '[DOC] the same; [CODE] "The input or output was flagged as sensitive."'),
    _words(r"(?<!case[ -])(?<!time[ -])(?<![a-z])sensitive(?![a-z])", '[CODE] "...flagged as sensitive."'),
    _words(r"(?<![a-z])prohibited(?![a-z])", "[CODE] a client's pattern: PROHIBITED"),
    _words(r"\bmoderat(?:ed|ion)\b", "[INF] the words of Black Forest Labs, whose model it runs"),
    _words(r"\bnsfw\b", "[INF] the word of the service's own nsfw_checker, for other models"),
    _words(rf"\bviolat\w+\b{_GAP}\b(?:polic(?:y|ies)|guidelines?|terms)\b", "[INF] how such services speak"),
    _words(r"\bsafety (?:system|filter|check\w*|polic(?:y|ies)|guidelines?)\b", "[INF] how such services speak"),
    _words(r"\b(?:unsafe|inappropriate)\b", "[INF] how such services speak"),
)
LOOKED_AT = 2_000  # characters: a sentence, and not a reply of megabytes
_BEFORE = re.compile(r"\b(?:prompt|input)s?\b", re.IGNORECASE)
_AFTER = re.compile(r"\b(?:output|result|generated)s?\b", re.IGNORECASE)


def is_moderation(text: str) -> bool:
    """Whether a provider's sentence says that its content filter stopped the task."""
    return any(words.pattern.search(text[:LOOKED_AT]) for words in MODERATION)


def moderated(text: str, *, maybe_charged: bool) -> Failed:
    """The end of a task by moderation; what was flagged is told by the words, where only one thing is named."""
    text = text[:LOOKED_AT]
    before, after = bool(_BEFORE.search(text)), bool(_AFTER.search(text))
    if before == after:
        return Failed(Kind.MODERATED, text, maybe_charged, reasons=(text,))
    return Failed(Kind.MODERATED, text, maybe_charged, stage="input" if before else "output", reasons=(text,))
