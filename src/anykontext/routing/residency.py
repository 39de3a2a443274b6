"""Where the work is done, and who may see the input images on the way: what a route allows of it (pure).

What is not known counts as not allowed. An image that the caller gives as a URL lies where the caller has put it: that
is not ours to judge.
"""

from collections.abc import Mapping, Sequence

from anykontext.adapting import InputImage
from anykontext.engine.misfit import Misfit
from anykontext.engine.provider import Candidate, Provider

ANYONE = "a public URL, where anyone who knows it can see the image"


def region_of(provider: Provider) -> str | None:
    """Where the work is done at its base URL, in the provider's own word; None where nobody says so.

    A base URL of the user's own (a proxy, a gateway, a sibling service) is never one that the provider speaks of.
    """
    return provider.adapter.facts.regions.get(provider.origins["api"])


def check_region(candidate: Candidate, allowed: Sequence[str]) -> None:
    """Whether the work is done where the route allows it; no regions mean anywhere.

    Raises:
        Misfit: It is done elsewhere, or nobody says where.
    """
    provider = candidate.provider
    found = region_of(provider)
    if not allowed or _is_among(found, allowed):
        return
    wanted = " or ".join(allowed)
    told = f"it works in the region {found}" if found else f"where {provider.origins['api']} works is not known"
    hint = _hint(provider.adapter.facts.regions, allowed)
    raise Misfit("regions", tuple(allowed), found, f"{told}, and the route allows {wanted} only{hint}")


def _is_among(region: str | None, allowed: Sequence[str]) -> bool:
    return region is not None and region.casefold() in map(str.casefold, allowed)


def _hint(regions: Mapping[str, str], allowed: Sequence[str]) -> str:
    """The nearest possible value: a base URL that would do, else all that is known."""
    fitting = [f'base_url = "{url}" works in {region}' for url, region in regions.items() if _is_among(region, allowed)]
    if fitting:
        return f"; {' and '.join(fitting)}"
    return f"; known are {', '.join(f'{url} ({region})' for url, region in regions.items())}" if regions else ""


def check_exposure(candidate: Candidate, images: Sequence[InputImage], *, public_uploads: bool) -> None:
    """Whether these images may go the way that they would go there.

    Raises:
        Misfit: One would be put on a public URL, and that is not allowed.
    """
    place = candidate.provider.adapter.facts.uploads
    if public_uploads or place is None or not place.public:
        return
    if any(map(candidate.provider.must_upload, images)):
        over = f"; up to {place.over / 1e6:.1f} MB it is sent in the request itself" if place.over else ""
        why = f"it would put the input image on {ANYONE} ({place.evidence}), and the route does not allow that{over}"
        raise Misfit("public_uploads", False, None, f"{why}; a URL of your own would be passed on as it is")  # noqa: FBT003
