"""How one of several requests or jobs ended."""

from dataclasses import dataclass

from anykontext.model.errors import AnykontextError
from anykontext.model.request import ImageRequest
from anykontext.model.result import ImageResult


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one request among several, or of one job that was recovered.

    Attributes:
        index: Its place among those that were given.
        request: What was asked; None for a recovered job, whose images are not kept, and for what is no request.
        result: Its images; None when it failed.
        error: What went wrong; None when it succeeded.
        job_id: Our id of the job; None when it was refused before it became one.
    """

    index: int
    request: ImageRequest | None
    result: ImageResult | None = None
    error: AnykontextError | None = None
    job_id: str | None = None
