"""Facts that agree with themselves, and an adapter that is pure."""

import dataclasses
import re
from typing import Any, get_args

import pytest
from _pytest.mark.structures import ParameterSet

from anykontext.adapting import Choices, Facts, Known, Numbers, Ratios, Sizes, Spec
from anykontext.adapting.facts import Rejection
from anykontext.model.request import MODELS, ImageRequest
from anykontext.plugins import Plugin, Registry
from anykontext.testing.contract.base import Contract, listed
from anykontext.testing.contract.orders import OPTIONS, any_order, modes, sent
from anykontext.testing.purity import adapter_files, violations_of_an_adapter

UNANSWERED = frozenset({408, 504})
LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
DOMAIN = re.compile(rf"({LABEL}\.)+{LABEL}")
PATTERN = re.compile(rf"([a-z0-9*-]+\.)*{LABEL}\.{LABEL}")


class FactsContract(Contract):
    """The facts, and purity."""

    def offered_cases(self) -> list[ParameterSet]:
        """Every option of every mode, once for each spec."""
        return [
            pytest.param((mode, option, spec), id=f"{model}-{mode}-{option}")
            for model, mode, offered in modes(self.facts)
            for option, spec in offered.options.items()
        ]

    def rejection_cases(self) -> list[ParameterSet]:
        """The replies that the facts claim as rejections."""
        found = [pytest.param(one, id=f"{one.status}-{one.shape}") for one in self.facts.rejections]
        return listed(found, without="its facts claim no 5xx as a rejection")

    def registry(self) -> Registry:
        """A registry that holds this adapter alone."""
        return Registry([Plugin(self.facts.name, "", self.home, (self.adapter,))])

    def test_its_modules_import_nothing_impure(self) -> None:
        """No network, clock, files or randomness: `anykontext.adapting` and pure standard modules, and no `open`."""
        where = self.files
        files = adapter_files(where) if where.is_dir() else [where]
        found = [f"{path.name}:{line}: {what}" for path, line, what in self._violations(files)]

        assert files
        assert found == []

    def _violations(self, files: list[Any]) -> Any:
        return violations_of_an_adapter(files, own=self.home.partition(".")[0])

    def test_it_keeps_no_state(self) -> None:
        """Asking it twice gives equal answers, and changes neither it nor its facts."""
        before = (repr(self.facts), dict(vars(self.adapter)))
        order = any_order(self.facts)
        first, second = self.adapter.submit(order), self.adapter.submit(order)
        states = [(self.read(one), self.read(one)) for one in self.documented]

        assert sent(first) == sent(second)
        assert all(one == other for one, other in states)
        assert (repr(self.facts), dict(vars(self.adapter))) == before

    def test_its_facts_are_frozen(self) -> None:
        """Every thread and event loop shares them."""
        assert isinstance(self.facts, Facts)
        assert self.adapter.facts is self.facts
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.facts.name = "other"  # type: ignore[misc]

    def test_it_can_be_registered(self) -> None:
        """Under a plain name, with an origin for its calls, over https."""
        facts = self.facts

        assert re.fullmatch(r"[a-z][a-z0-9_-]*", facts.name)
        assert facts.title
        assert "api" in facts.origins
        assert all(re.fullmatch(r"https://[^/]+(/.*)?[^/]", base) for base in facts.origins.values())
        assert set(facts.base_url_settings) <= set(facts.origins)
        assert self.registry().adapter(facts.name) is self.adapter

    def test_its_key_has_a_header_and_a_variable(self) -> None:
        """The header has a form with the key in it; the variables have names that a shell can set."""
        header, form = self.facts.auth

        assert re.fullmatch(r"[A-Za-z0-9-]+", header)
        assert form.count("{key}") == 1
        assert self.facts.keys
        assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for names in self.facts.keys for name in names)

    def test_its_hosts_are_domains(self) -> None:
        """A trusted domain gets the key, and a pattern lets downloads pass: neither is a whole top-level domain."""
        facts = self.facts

        assert [one for one in facts.trusted if not DOMAIN.fullmatch(one)] == [], "two labels, no scheme, no port"
        assert [one for one in facts.delivery if not PATTERN.fullmatch(one)] == [], "two labels without a *, no port"

    def test_its_numbers_are_possible(self) -> None:
        """Intervals, limits and counts."""
        facts = self.facts

        assert facts.poll_interval_s > 0
        assert min(facts.not_found_polls, facts.unreadable_polls) >= 0
        assert facts.images_per_task >= 1
        assert facts.max_active is None or facts.max_active >= 1
        assert facts.submit_rate is None or min(facts.submit_rate.submits, facts.submit_rate.seconds) > 0
        assert facts.retention_s is None or facts.retention_s > 0
        assert min(facts.inputs.max_bytes, facts.inputs.max_pixels) > 0

    def test_its_models_have_modes_and_perhaps_prices(self) -> None:
        """An edit takes images and a generation none; a listed price is that of a model that it hosts."""
        assert self.facts.models
        for model, mode, offered in modes(self.facts):
            assert model in MODELS, f"{model} is no canonical name"
            assert mode in {"edit", "generate"}
            assert (offered.max_images > 0) == (mode == "edit")
        prices = self.registry().prices(self.facts.name)
        assert {name.partition("/")[0] for name in prices} <= set(self.facts.models)

    def test_an_option_has_a_range_and_evidence(self, offered: Any) -> None:
        """Each spec allows something, and says why we believe it."""
        mode, option, spec = offered

        assert option in OPTIONS
        assert isinstance(spec, get_args(Spec))
        assert self.is_evidence(spec.evidence), f"{mode} {option}: {spec.evidence!r} is no quirk id and no source"
        if isinstance(spec, Numbers):
            assert spec.low < spec.high
            assert spec.fractions or (spec.low, spec.high) == (int(spec.low), int(spec.high))
        elif isinstance(spec, Choices):
            assert len(set(spec.values)) == len(spec.values)
        elif isinstance(spec, Ratios):
            assert spec.narrowest[0] * spec.widest[1] < spec.widest[0] * spec.narrowest[1]
        elif isinstance(spec, Sizes):
            assert 0 < spec.low <= spec.high // spec.step * spec.step

    def test_a_rejection_has_evidence_and_is_no_missing_answer(self, rejection: Rejection) -> None:
        """A 5xx counts as not accepted only with evidence; "the upstream did not answer" never does."""
        assert self.is_evidence(rejection.evidence), f"{rejection.evidence!r} is no quirk id and no source"
        assert rejection.status not in UNANSWERED
        assert rejection.shape

    def test_every_statement_has_evidence(self) -> None:
        """A quirk id that is explained, or the name of a source."""
        facts = self.facts
        names = {one.name for one in dataclasses.fields(facts)}
        told = [facts.inputs.evidence, *facts.evidence.values(), *(one.evidence for one in facts.models.values())]
        told += [one.evidence for one in self._known()]
        told += [one.evidence for one in (facts.uploads, facts.submit_rate) if one is not None]

        assert [one for one in told if not self.is_evidence(one)] == []
        assert [name for name in facts.evidence if name not in names] == []
        assert facts.quirks
        assert all(re.fullmatch(rf"{facts.name}-[0-9]+", quirk) for quirk in facts.quirks)
        assert all(text.strip() for text in facts.quirks.values())

    def _known(self) -> list[Known]:
        facts = self.facts
        tables = (facts.statuses, facts.errors, facts.lifetimes, facts.limits)
        return [*(one for table in tables for one in table.values()), *facts.moderation, *filter(None, [facts.webhook])]

    def test_every_documented_reply_has_evidence(self) -> None:
        """A reply that nobody saw or documented proves nothing."""
        assert [one for one in self.documented if not self.is_evidence(one.evidence)] == []

    def test_the_providers_own_fields_are_told_apart(self) -> None:
        """A field can be set by `provider_options` or is reserved; each stands for a canonical option, or for none."""
        canonical = {*ImageRequest.model_fields, ""}
        for hosted in self.facts.models.values():
            assert set(hosted.passthrough.values()) <= canonical
            assert not set(hosted.passthrough) & set(self.facts.reserved_options)
