"""The real services, for whoever has keys; README.md beside this file tells how, and what it costs."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from anykontext.adapting import Call, Purpose, Task, get
from anykontext.testing.live import Live, Settings, Subject, played
from anykontext.testing.live.settings import SWITCH

ROOT = Path(__file__).parents[2]


def early_at_fal(task: Task) -> Call:
    return get(Purpose.FETCH, task.data["response_url"], origin=None)  # fal-5


SUBJECTS = (
    Subject("bfl", invalid={"seed": "no number"}),  # a 422 of validation names no task
    Subject(
        "fal",
        why_valid="fal-4, fal-16: a submit is not validated, and a 422 at its result may cost",
        unknown=Task("00000000-0000-4000-8000-000000000000", data={"app": "fal-ai/flux-pro"}),
        early=early_at_fal,
    ),
    Subject("kie", invalid={"safetyTolerance": 9}),  # kie-6: listed as not accepted
    Subject("together", why_valid="together sheet: whether a refused request is billed is not said"),
)


def small_photo() -> bytes:
    photo = Image.open(ROOT / "tests/data/rocket.jpg")
    photo.thumbnail((256, 256))
    out = io.BytesIO()
    photo.save(out, "JPEG")
    return out.getvalue()


def settings() -> Settings:
    """What the environment says; an amount that is none matters only where a live run is wanted."""
    try:
        return Settings.from_env(os.environ)
    except ValueError:
        if os.environ.get(SWITCH) == "1":
            raise
        return Settings.from_env({})


LIVE = Live(settings(), SUBJECTS, ROOT / "cassettes", small_photo())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("provider", "scene"), LIVE.cases())
def test_live(live: Live, request: pytest.FixtureRequest, provider: str, scene: str) -> None:
    report = played(live, provider, scene)
    request.node.add_report_section("call", "anykontext live", "\n".join(report.told()))
    if report.error:
        raise report.error
