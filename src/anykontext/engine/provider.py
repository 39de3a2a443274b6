"""A provider as configured, and a candidate: that provider with one model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from pydantic import SecretStr

from anykontext.adapting import Adapter, InputImage, InputLimits, Refused
from anykontext.adapting.facts import ModelFacts
from anykontext.model.frozen import Frozen
from anykontext.model.money import Cost, Price


@runtime_checkable
class Renewable(Protocol):
    """A key that may have been replaced meanwhile where it comes from."""

    def renew(self, refused: SecretStr) -> bool:
        """Whether there is another key than the one that was refused; `key()` then gives it."""


@runtime_checkable
class Remembering(Protocol):
    """A key that knows which ones it has given, so that a reply can echo none of them."""

    @property
    def given(self) -> tuple[SecretStr, ...]:
        """The keys that it has given, the latest last."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A service as configured.

    Attributes:
        name: Its name in the config, such as `bfl` or `bfl-eu`.
        adapter: The adapter that speaks with it.
        origins: Origin name -> base URL without a slash at its end; a path prefix is kept.
        key: Called by the driver when a key is needed; raises `MissingKey` where there is none. One that is
            `Renewable` is looked for again when it was refused.
        allow_http: Whether the key may go over http beyond loopback.
        poll_interval_s: Seconds between polls; None for the adapter's.
        max_in_flight: How many tasks may run at once; None for the adapter's limit.
        upload: A vendor's SDK that puts an image where the provider can fetch it: called with the image, the key and
            the seconds it may take, returns the URL or why not; None without one.
        listed: Prices by canonical model, and by `model/mode` where the modes differ.
        other_account: Whether its key is another than the configured one, so that neither account tells of the other.
    """

    name: str
    adapter: Adapter
    origins: Mapping[str, str]
    key: Callable[[], SecretStr] = field(repr=False)
    allow_http: bool = False
    poll_interval_s: float | None = None
    max_in_flight: int | None = None
    upload: Callable[[InputImage, SecretStr, float], str | Refused] | None = field(default=None, repr=False)
    listed: Mapping[str, Price] = field(default_factory=Frozen)
    other_account: bool = False

    @property
    def interval_s(self) -> float:
        """Seconds between polls."""
        return self.adapter.facts.poll_interval_s if self.poll_interval_s is None else self.poll_interval_s

    @property
    def at_home(self) -> bool:
        """Whether it is asked at the service's own base URL, and not at a proxy, a sibling or an emulator."""
        return self.origins["api"] == self.adapter.facts.origins["api"]

    @property
    def can_upload(self) -> bool:
        """Whether there is a place to put input images, as it is configured."""
        facts = self.adapter.facts.uploads
        if facts is None:
            return False
        return facts.origin in self.origins if facts.origin else self.upload is not None

    @property
    def inputs(self) -> InputLimits:
        """What it takes as input images: bytes that can only be uploaded are out where there is no upload host."""
        facts = self.adapter.facts
        if facts.uploads is None or facts.uploads.over > 0 or self.can_upload:
            return facts.inputs
        return replace(facts.inputs, forms=tuple(form for form in facts.inputs.forms if form != "bytes"))

    def must_upload(self, image: InputImage) -> bool:
        """Whether an image goes to the provider's upload host before the submit."""
        facts = self.adapter.facts.uploads
        return facts is not None and image.data is not None and len(image.data) > facts.over and self.can_upload


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider and a canonical model that it hosts."""

    provider: Provider
    model: str

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider.name}/{self.model}"

    @property
    def facts(self) -> ModelFacts:
        """The model's facts at this provider."""
        return self.provider.adapter.facts.models[self.model]

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """How many tasks may run at once: of the whole provider, and of this model."""
        ours = self.provider.max_in_flight
        return (self.provider.adapter.facts.max_active if ours is None else ours, self.facts.max_active)

    @property
    def hosted(self) -> bool:
        """Whether the provider has this model; without it there are no facts, and no limits."""
        return self.model in self.provider.adapter.facts.models

    @property
    def most(self) -> int | None:
        """How many tasks can be submitted together, by the places and by the submit rate; None for any number."""
        rate = self.provider.adapter.facts.submit_rate
        found = [*self.limits, rate.submits if rate else None]
        return min((one for one in found if one is not None), default=None)

    def listed(self, mode: str) -> Price | None:
        """The line of the price list; None where there is none."""
        listed = self.provider.listed
        return listed.get(f"{self.model}/{mode}", listed.get(self.model))

    def price(self, mode: str, size: tuple[int, int] | None = None) -> Cost:
        """The listed price of one image of this size in pixels; unknown when none is listed."""
        found = self.listed(mode)
        return Cost() if found is None else found.of_image(size)

    def unit_price(self, mode: str) -> Cost:
        """The listed price of one unit, as the provider counts them."""
        found = self.listed(mode)
        return Cost() if found is None else found.of_unit()
