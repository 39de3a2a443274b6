"""Echo keeps the contract, and works where it is installed."""

from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import anykontext as ak
import pytest
from anykontext.adapting import Failed, Kind, Purpose, Refused, Running, Succeeded
from anykontext.model.errors import OutcomeUnknown
from anykontext.testing import AdapterContract, Documented, End

from anykontext_echo import Echo
from anykontext_echo.emulator import Emulator

SUBMIT, POLL = Purpose.SUBMIT, Purpose.POLL
URL = "https://images.echo.example/1"
DONE = {"state": "done", "image_url": URL, "cents": 5, "seed": 7}
REFUSED = {  # (status, code) -> kind, whether a submit may be charged, evidence
    (403, "bad_key"): (Kind.AUTHENTICATION_FAILED, False, "echo-5"),
    (403, "no_credit"): (Kind.OUT_OF_CREDIT, False, "echo-5"),
    (422, "bad_request"): (Kind.REQUEST_REJECTED, False, "echo-7, echo-8"),
    (429, "slow_down"): (Kind.RATE_LIMITED, False, "echo-5"),
    (500, "internal"): (Kind.UNAVAILABLE, True, "echo-10"),
    (503, "overloaded"): (Kind.UNAVAILABLE, False, "echo-10"),
}


def error(code: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "text": "in words"}}


def polled(body: dict[str, object], means: object, evidence: str, **told: object) -> Documented:
    return Documented(POLL, 200, body, means, evidence, told=told)


class TestEcho(AdapterContract):
    adapter = Echo()
    emulator = Emulator
    ends: ClassVar = {"no-task": End(OutcomeUnknown, maybe_charged=True, accepted=1)}
    documented = (
        Documented(SUBMIT, 200, {"task": "a1"}, Running, "echo-1"),
        Documented(SUBMIT, 200, {}, (Refused, Kind.PROTOCOL_ERROR, True), "echo-1"),
        *(
            Documented(SUBMIT, status, error(code), (Refused, kind, charged), evidence)
            for (status, code), (kind, charged, evidence) in REFUSED.items()
        ),
        polled({"state": "queued"}, Running, "echo-2", known=True),
        polled({"state": "drawing"}, Running, "echo-2", known=True),
        polled(DONE, Succeeded, "echo-6, echo-9, echo-11", seed=7, cost_usd=Decimal("0.05")),
        polled(
            {"state": "refused", "stage": "output", "text": "not allowed"},
            (Failed, Kind.MODERATED, False),
            "echo-3",
            stage="output",
            reasons=("not allowed",),
        ),
        polled({"state": "broken", "text": "the pen broke"}, (Failed, Kind.GENERATION_FAILED, False), "echo-4"),
        Documented(POLL, 404, error("no_such_task"), (Refused, Kind.JOB_NOT_FOUND), "echo-1"),
    )


@pytest.mark.anykontext(providers=["echo"])
def test_it_is_found_where_it_is_installed(anykontext_sandbox: object) -> None:
    result = ak.generate("a cat", model="flux-kontext-pro", seed=7)

    assert (result.provider, result.seed, result.cost.amount) == ("echo", 7, Decimal("0.05"))


def test_every_quirk_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

    assert [] == [quirk for quirk in Echo().facts.quirks if f"| {quirk} |" not in readme]
