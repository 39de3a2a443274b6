"""Where the work is done, and who may see the input images: unknown counts as not allowed."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from anykontext.adapting import Adapter, InputImage
from anykontext.engine.misfit import Misfit
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.model.request import ImageRequest
from anykontext.routing.plan import plan
from anykontext.routing.residency import check_exposure, check_region, region_of
from anykontext.routing.rules import Rules
from anykontext_bfl import Bfl
from anykontext_fal import Fal
from anykontext_kie import Kie
from anykontext_together import Together

from .conftest import NOW, candidate

PRO = "flux-kontext-pro"
LINK = InputImage(None, "https://cdn.example/a.jpg", None, None, None)


def picture(size: int = 1000) -> InputImage:
    return InputImage(b"\xff\xd8\xff" + bytes(size), None, "image/jpeg", 640, 480)


def at(adapter: Adapter, **more: Any) -> Candidate:
    provider = Provider(adapter.facts.name, adapter, adapter.facts.origins, lambda: SecretStr("k"), **more)
    return Candidate(provider, PRO)


def uploads(*_: object) -> str:
    return "https://up.example/a.jpg"


@pytest.mark.parametrize(
    ("base_url", "region"),
    [
        ("https://api.bfl.ai", "global"),
        ("https://api.eu.bfl.ai", "eu"),
        ("https://api.us.bfl.ai", "us"),
        ("https://proxy.example", None),
        ("http://127.0.0.1:8000", None),
    ],
)
def test_the_region_is_what_the_provider_says_of_this_very_base_url(base_url: str, region: str | None) -> None:
    assert region == region_of(candidate("bfl", base_url=base_url).provider)


def test_only_the_allowed_regions_are_taken() -> None:
    eu, us = candidate("eu", base_url="https://api.eu.bfl.ai"), candidate("us", base_url="https://api.us.bfl.ai")
    request = ImageRequest("a cat")

    def taken(*regions: str) -> list[str]:
        found = plan(request, [], [eu, us], Policy(), rules=Rules(regions=regions), situation=NOW)
        return [one.candidate.provider.name for one in found.steps]

    assert [["eu", "us"], ["eu"], ["eu", "us"], []] == [taken(), taken("EU"), taken("eu", "us"), taken("ch")]


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (candidate("bfl"), ["the region global", "eu only", 'base_url = "https://api.eu.bfl.ai" works in eu']),
        (candidate("bfl", base_url="https://proxy.example"), ["https://proxy.example works is not known", "eu"]),
        (at(Together()), ["https://api.together.ai works is not known"]),
    ],
)
def test_the_reason_names_what_is_known_and_the_nearest_that_would_do(one: Candidate, words: list[str]) -> None:
    with pytest.raises(Misfit) as caught:
        check_region(one, ["eu"])

    assert all(word in caught.value.reason for word in words)
    assert "regions" == caught.value.option


@pytest.mark.parametrize(
    ("one", "image", "allowed"),
    [
        (at(Bfl()), picture(10**7), True),
        (at(Together()), picture(10**7), True),
        (at(Kie()), picture(), False),
        (at(Kie()), LINK, True),
        (at(Fal(), upload=uploads), picture(), True),
        (at(Fal(), upload=uploads), picture(5 * 1024 * 1024), False),
        (at(Fal()), picture(5 * 1024 * 1024), True),  # without the upload it goes in the body
    ],
)
def test_no_image_of_ours_goes_to_a_public_url_where_that_is_not_allowed(
    one: Candidate, image: InputImage, allowed: bool
) -> None:
    check_exposure(one, [image], public_uploads=True)
    if allowed:
        check_exposure(one, [image], public_uploads=False)
        return
    with pytest.raises(Misfit, match="public URL") as caught:
        check_exposure(one, [LINK, image], public_uploads=False)
    assert one.provider.adapter.facts.uploads is not None
    assert one.provider.adapter.facts.uploads.evidence in caught.value.reason


def test_a_place_that_is_private_may_be_used() -> None:
    class Private(Kie):
        facts = replace(Kie.facts, uploads=replace(Kie.facts.uploads, public=False))  # type: ignore[type-var]

    check_exposure(at(Private()), [picture()], public_uploads=False)
