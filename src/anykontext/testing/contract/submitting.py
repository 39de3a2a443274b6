"""What a submit says: every option in the provider's words, falsy values too, and never a key."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet
from pydantic import SecretStr

from anykontext.adapting import Call, Choices, Numbers, Purpose, Ratios, Sizes, Spec, Toggle
from anykontext.engine.misfit import Misfit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import address
from anykontext.engine.submit import Step
from anykontext.model.errors import UnsupportedOption
from anykontext.model.job import Mode
from anykontext.model.request import ImageRequest
from anykontext.testing.contract.base import Contract, listed
from anykontext.testing.contract.orders import image_for, leaves, modes, order_of, places, sent, values

SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-key", "x-api-key", "api-key"})
DIALS_ASKED = {"seed": 1, "safety_tolerance": 1, "guidance": 2.5, "steps": 20, "prompt_upsampling": True}
MEANT: dict[str, Any] = {"size": (1024, 1024), "translate_prompt": True, "watermark": "me"}
ELSEWHERE = "zz_no_such_field"
MINE = "zz-from-the-caller"


class SubmittingContract(Contract):
    """The call that may cost money."""

    def option_cases(self) -> list[ParameterSet]:
        """Every option of every model and mode."""
        return listed(self._options(Numbers | Choices | Toggle | Ratios | Sizes), without="it has no options")

    def falsy_cases(self) -> list[ParameterSet]:
        """Every option that may be 0 or false."""
        found = (one for one in self._options(Numbers | Toggle) if self._may_be_falsy(*one.values))
        return listed(found, without="none of its options may be 0 or false")

    def _options(self, kinds: Any) -> Iterator[ParameterSet]:
        for (model, mode), images in places(self.facts):
            for option, spec in self.facts.models[model].modes[mode].options.items():
                if isinstance(spec, kinds):
                    several = f"-{len(images)}-images" if len(images) > 1 else ""
                    yield pytest.param((model, mode, images, option), id=f"{model}-{mode}{several}-{option}")

    def _may_be_falsy(self, option: Any) -> bool:
        spec = self._spec(option)
        return isinstance(spec, Toggle) or (isinstance(spec, Numbers) and spec.low <= 0)

    def _spec(self, option: Any) -> Spec:
        model, mode, _, name = option
        spec: Spec = self.facts.models[model].modes[mode].options[name]
        return spec

    def _with_option(self, option: Any, value: Any) -> Call:
        model, mode, images, name = option
        return self._submit((model, mode), images=images, **{name: value})

    def place_cases(self) -> list[ParameterSet]:
        """Every model and mode."""
        return [pytest.param((model, mode), id=f"{model}-{mode}") for model, mode, _ in modes(self.facts)]

    def editing_cases(self) -> list[ParameterSet]:
        """Every model that edits."""
        found = (pytest.param(model, id=model) for model, mode, _ in modes(self.facts) if mode == "edit")
        return listed(found, without="it does not edit")

    def own_field_cases(self) -> list[ParameterSet]:
        """Every field of the provider's own that the caller may set."""
        found = (
            pytest.param((model, mode, name), id=f"{model}-{mode}-{name}")
            for model, mode, _ in modes(self.facts)
            for name in self.facts.models[model].passthrough
        )
        return listed(found, without="provider_options may set none of its fields")

    def reserved_cases(self) -> list[ParameterSet]:
        """Every field of the provider's own that the caller may not set."""
        found = (pytest.param(name, id=name) for name in self.facts.reserved_options)
        return listed(found, without="it reserves no field")

    def _submit(self, place: tuple[str, Mode], **changes: Any) -> Call:
        return self.adapter.submit(order_of(self.facts, *place, **changes))

    def _candidate(self, model: str) -> Candidate:
        facts = self.facts
        return Candidate(Provider(facts.name, self.adapter, facts.origins, lambda: SecretStr("k")), model)

    def _negotiate(self, model: str, mode: str, asked: Mapping[str, Any], *, strict: bool = False) -> Step:
        images = (image_for(self.facts, 0, raw=True),) if mode == "edit" else ()
        source = {"images": [one.data for one in images]} if images else {}
        request = ImageRequest("a cat", model=model, **source, **asked)
        return negotiate(request, images, self._candidate(model), Policy(strict=strict))

    def test_an_option_of_the_facts_reaches_the_provider(self, option: Any) -> None:
        """Two legal values are two different calls: a lost option is a paid wrong picture."""
        legal = values(self._spec(option))
        calls = [sent(self._with_option(option, value)) for value in legal]

        assert len(set(calls)) == len(calls), f"two of {legal} are sent alike"

    def test_a_falsy_value_is_sent(self, falsy: Any) -> None:
        """Seed 0 is a seed, and false is not "left out"."""
        spec, name = self._spec(falsy), falsy[-1]
        nothing, something = (False, True) if isinstance(spec, Toggle) else (0, values(spec)[1])
        bodies = [self._with_option(falsy, value).body for value in (nothing, something)]
        without, with_it = (dict(leaves(json.loads(bytes(body or b"{}")))) for body in bodies)
        differ = [path for path in with_it if without.get(path, with_it) != with_it[path]]

        assert differ, f"{name}={something!r} is sent as {name}={nothing!r}"
        assert all(path in without for path in differ), f"{name}={nothing!r} is left out"
        assert all(type(without[path]) is type(with_it[path]) for path in differ)

    def test_a_prompt_reaches_the_provider(self, place: tuple[str, Mode]) -> None:
        """Letter for letter, in any script."""
        prompt = 'Ein "Käse" \\ 猫 \U0001f431\n2'
        body = json.loads(bytes(self._submit(place, prompt=prompt).body or b"{}"))

        assert prompt in {value for _, value in leaves(body) if isinstance(value, str)}

    def test_every_image_reaches_the_provider(self, editing: str) -> None:
        """As many as the facts say, in their order."""
        most = self.facts.models[editing].modes["edit"].max_images
        images = [image_for(self.facts, index) for index in range(most)]
        calls = [sent(self._submit((editing, "edit"), images=tuple(images[: count + 1]))) for count in range(most)]
        others = [(*images[:index], image_for(self.facts, 9), *images[index + 1 :]) for index in range(most)]
        calls += [sent(self._submit((editing, "edit"), images=other)) for other in others]
        last = sent(self._submit((editing, "edit"), images=tuple(images)))

        assert len(set(calls)) == len(calls)
        assert last in calls
        assert most == 1 or last != sent(self._submit((editing, "edit"), images=tuple(images[::-1])))

    def test_a_generation_is_no_edit(self, editing: str) -> None:
        """The image is what makes it one."""
        if "generate" not in self.facts.models[editing].modes:
            pytest.skip(f"capability: {editing} only edits")
        assert sent(self._submit((editing, "edit"))) != sent(self._submit((editing, "generate")))

    def test_the_number_of_images_reaches_the_provider(self, place: tuple[str, Mode]) -> None:
        """Where one task makes several."""
        most = self.facts.images_per_task
        if most == 1:
            pytest.skip("capability: one task makes one image")
        calls = {sent(self._submit(place, num_images=count)) for count in range(1, most + 1)}

        assert len(calls) == most

    def test_the_models_are_told_apart(self) -> None:
        """No two models and modes are the same call."""
        shared = [(model, mode) for model, mode, _ in modes(self.facts)]
        calls = {(mode, sent(self._submit((model, mode)))) for model, mode in shared}

        assert len(calls) == len(shared)

    def test_a_webhook_reaches_the_provider(self) -> None:
        """Where the facts know of one."""
        if not self.facts.webhooks:
            pytest.skip("capability: it has no webhooks")
        model, mode, _ = next(modes(self.facts))
        calls = [self._submit((model, mode), webhook_url=url) for url in ("https://a.example/", "https://b.example/")]

        assert sent(calls[0]) != sent(calls[1])

    def test_a_field_of_the_callers_is_merged_last(self, own_field: Any) -> None:
        """`provider_options` override what we would send."""
        model, mode, name = own_field
        option = self.facts.models[model].passthrough[name]
        spec = self.facts.models[model].modes[mode].options.get(option)
        ours = {option: values(spec)[1]} if spec else {}
        body = json.loads(bytes(self._submit((model, mode), **ours, extra={name: MINE}).body or b"{}"))

        assert [value for path, value in leaves(body) if path[-1:] == (name,)] == [MINE]

    def test_an_unknown_field_is_refused(self, place: tuple[str, Mode]) -> None:
        """A misnamed field is a paid wrong picture."""
        with pytest.raises((UnsupportedOption, Misfit), match=ELSEWHERE):
            self._negotiate(*place, {"provider_options": {self.facts.name: {ELSEWHERE: 1}}})

    def test_a_reserved_field_is_refused(self, reserved: str) -> None:
        """What changes the price, the number of images or the meaning has a canonical name."""
        model, mode, _ = next(modes(self.facts))
        with pytest.raises(UnsupportedOption, match=reserved):
            self._negotiate(model, mode, {"provider_options": {self.facts.name: {reserved: 1}}})

    def test_a_plain_request_is_negotiated_and_submitted(self, place: tuple[str, Mode]) -> None:
        """The facts and the adapter fit together: what one lets through, the other can write."""
        step = self._negotiate(*place, {})
        images = tuple(image_for(self.facts, 0) for _ in step.orders[0].images)  # as they are once they are uploaded
        for order in step.orders:
            call = self.adapter.submit(replace(order, images=images))

            assert (call.purpose, call.method) == (Purpose.SUBMIT, "POST")

    def test_options_outside_the_facts_are_refused(self, place: tuple[str, Mode]) -> None:
        """Under `strict`; otherwise they are left out, and recorded."""
        offered = self.facts.models[place[0]].modes[place[1]].options
        for name in DIALS_ASKED.keys() - offered.keys():
            asked = {name: DIALS_ASKED[name]}
            with pytest.raises(Misfit):
                self._negotiate(*place, asked, strict=True)
            step = self._negotiate(*place, asked)
            assert [getattr(order, name) for order in step.orders] == [None] * len(step.orders)
            assert name in {one.option for one in step.adjustments}
        for name in MEANT.keys() - offered.keys():
            with pytest.raises(Misfit):
                self._negotiate(*place, {name: MEANT[name]})

    def test_no_call_carries_a_key(self, place: tuple[str, Mode]) -> None:
        """The engine signs; an adapter sees no key and makes no header for one."""
        calls = [self._submit(place), *(call for one in self.purposes() if (call := self.call(one)))]
        for call in calls:
            names = {name.lower() for name in call.headers}
            assert not names & {*SECRET_HEADERS, self.facts.auth[0].lower()}
            assert "{key}" not in call.path

    def test_every_call_goes_to_an_origin_of_the_facts(self, place: tuple[str, Mode]) -> None:
        """Below a named origin, or to a URL that the provider itself gave."""
        provider = self._candidate(place[0]).provider
        calls = [self._submit(place), *(call for one in self.purposes() if (call := self.call(one)))]
        for call in calls:
            way = address(call, provider)
            assert call.purpose is not Purpose.SUBMIT or call.origin in self.facts.origins
            assert way.signed, f"{call.purpose}: the key does not go to {way.url}"

    def test_a_body_is_as_long_as_it_says(self, place: tuple[str, Mode]) -> None:
        """Content-Length is told before the first byte is encoded."""
        body = self._submit(place).body

        assert body is not None
        assert len(body) == len(bytes(body)) == len(bytes(body))

    def test_an_option_is_not_taken_for_left_out(self, option: Any) -> None:
        """Each legal value differs from the option left out, except where that is the one that is always sent."""
        left_out = sent(self._with_option(option, None))
        same = [value for value in values(self._spec(option)) if sent(self._with_option(option, value)) == left_out]

        assert len(same) <= 1, f"{same} are sent as if nothing was asked"
