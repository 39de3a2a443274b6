"""What arrives at the emulator: every option under a name that it knows, and every image in its place."""

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import httpx
import pytest
from _pytest.mark.structures import ParameterSet

from anykontext.adapting import Numbers, Purpose, Spec, Toggle, json_body
from anykontext.model.request import ImageRequest
from anykontext.testing.contract.orders import modes, picture, values
from anykontext.testing.contract.sockets import PROMPT, SocketsContract
from anykontext.testing.contract.stage import Stage

UNKNOWN_FIELD = "zz_no_such_field"


def _usual(spec: Spec) -> Any:
    """A value that is not the one taken when nothing is said."""
    return True if isinstance(spec, Toggle) else values(spec)[1 if len(values(spec)) > 1 else 0]


def _falsy(spec: Spec) -> Any:
    """0 or false where that is allowed, and else another legal value."""
    if isinstance(spec, Toggle):
        return False
    return 0 if isinstance(spec, Numbers) and spec.low <= 0 <= spec.high else values(spec)[-1]


class ArrivingContract(SocketsContract):
    """All of an order at once; one client, since what is sent does not depend on its kind."""

    def corner_cases(self) -> list[ParameterSet]:
        """Every model and mode."""
        return [
            pytest.param((model, mode, offered), id=f"{model}-{mode}") for model, mode, offered in modes(self.facts)
        ]

    def test_every_option_has_a_name_that_is_known(self, corner: Any, stage: Stage) -> None:
        """All options of a model at once, and once more with 0 and false: the emulator ignores none of them."""
        model, mode, offered = corner
        first = {name: _usual(spec) for name, spec in offered.options.items() if name != "size"}
        second = {name: _falsy(spec) for name, spec in offered.options.items()}
        if "size" in second:  # a size has a ratio of its own
            second.pop("aspect_ratio", None)
        images = {"images": [picture()]} if mode == "edit" else {}
        with stage.client("Client") as client:
            for asked in (first, second):
                client.run(ImageRequest(PROMPT, model=model, **images, **asked))

        assert [one["ignored"] for one in stage.emulator.requests if one.get("ignored")] == []
        assert stage.emulator.counters["ignored_fields"] == 0
        assert stage.emulator.counters["accepted"] == 2

    def test_the_emulator_counts_what_it_ignores(self, stage: Stage) -> None:
        """A counter that nobody counts is 0, too: an unknown field, sent by hand, is counted."""
        call, facts = self.call(Purpose.SUBMIT), self.facts
        assert call is not None
        header, form = facts.auth
        settings = stage.emulator.config()
        fields = {**json.loads(bytes(call.body or b"{}")), UNKNOWN_FIELD: 1}
        reply = httpx.request(
            call.method,
            str(settings["base_url"]).rstrip("/") + call.path,
            headers={**call.headers, header: form.replace("{key}", str(settings["api_key"]))},
            content=bytes(replace(call, body=json_body(fields)).body or b""),
        )
        if not stage.emulator.counters["accepted"]:
            assert reply.status_code >= 400
            pytest.skip("capability: a field that is not known is refused there, and not ignored")
        if "ignored_fields" not in stage.emulator.counters:
            pytest.skip("capability: its emulator does not count the fields that it ignores")

        assert stage.emulator.counters["ignored_fields"] == 1, f"{UNKNOWN_FIELD} was ignored, and not counted"

    def test_images_arrive_in_their_order(self, corner: Any, stage: Stage) -> None:
        """Byte for byte, as many as the model takes, up to two."""
        model, mode, offered = corner
        if mode != "edit":
            pytest.skip("capability: a generation has no images")
        pictures = [picture(index) for index in range(min(offered.max_images, 2))]
        with stage.client("Client") as client:
            client.run(ImageRequest(PROMPT, model=model, images=pictures))
        found = stage.emulator.requests[-1]["images"]

        assert len(found) == len(pictures)
        if not all("sha256" in one for one in found):
            pytest.skip("capability: its emulator does not tell the sha256 of the images that it gets")
        assert [one["sha256"] for one in found] == [sha256(one).hexdigest() for one in pictures]
