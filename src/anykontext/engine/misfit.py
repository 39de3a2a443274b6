"""Why a candidate cannot do a request: said by negotiation, told in plans, raised when there is no other."""

from dataclasses import dataclass
from typing import Any

from anykontext.model.errors import UnsupportedOption


@dataclass(slots=True, eq=False)
class Misfit(Exception):
    """Why a candidate cannot do a request.

    Attributes:
        option: The canonical option.
        asked: What was asked for.
        allowed: What it can do, in words or values.
        reason: The whole sentence.
    """

    option: str
    asked: Any
    allowed: Any
    reason: str

    def error(self, provider: str) -> UnsupportedOption:
        """The error for a caller who asked for this one provider."""
        message = f"{provider}: {self.reason}. Nothing was sent"
        return UnsupportedOption(message, option=self.option, asked=self.asked, allowed=self.allowed, provider=provider)
