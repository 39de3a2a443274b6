"""The sections of `anykontext.toml`, as frozen models. Times are in seconds, amounts in USD."""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, SecretStr, ValidationError

from anykontext.config.explain import findings
from anykontext.config.fields import (
    USD,
    BaseUrl,
    Count,
    Days,
    Flag,
    Fraction,
    Name,
    Named,
    Positive,
    Seconds,
    Share,
    Table,
    Text,
    kinds,
    listed,
    one_of,
    text,
    word_of,
)
from anykontext.config.keys import KeySource, key_source
from anykontext.config.source import Source
from anykontext.model.errors import ConfigurationError, Kind
from anykontext.model.frozen import Frozen
from anykontext.model.words import near

Policy = Literal["adjust", "strict"]
Strategy = Literal["ordered", "cheapest", "fastest", "weighted", "round-robin"]
GoOn = Literal["raise", "continue"]
WhenFull = Literal["next", "wait"]
UnknownPrice = Literal["refuse", "allow"]
Prompts = Literal["full", "digest"]
Metadata = Literal["private", "all", "keep"]
Form = Literal["path", "url", "bytes"]
FAILOVER_ON = (Kind.UNAVAILABLE, Kind.RATE_LIMITED, Kind.OUT_OF_CREDIT, Kind.GENERATION_FAILED)

Amount = Annotated[Decimal, USD]


class Section(BaseModel):
    """A table of settings, each known by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


class ProviderConfig(Section):
    """`[providers.NAME]`: a service as configured.

    Attributes:
        adapter: The adapter that speaks with it; None means the one of the provider's name.
        api_key: Where its key is: `env:NAME`, `file:PATH`, the key itself, or in Python a callable that returns it
            whenever it is needed. None: the variables of the adapter.
        base_url: The origin of its API, with a path prefix or without; None for the provider's own.
        max_in_flight: How many tasks may run at once; None for the provider's documented limit.
        poll_interval_s: A fixed number of seconds between polls; None for the learnt schedule.
        allow_http: Whether the key may go over http beyond loopback.
        prices: What one image costs in USD, by model, or by `model/edit` and `model/generate`.
        urls: Further origins by the adapter's name for the setting, such as `upload_url`; they stand beside
            `base_url` in the file.
    """

    adapter: Name | None = None
    api_key: Annotated[KeySource | None, BeforeValidator(key_source), PlainSerializer(lambda key: key and str(key))] = (
        None
    )
    base_url: BaseUrl | None = None
    max_in_flight: Count | None = None
    poll_interval_s: Seconds | None = None
    allow_http: Flag = False
    prices: Table[Amount] = Frozen()
    urls: Named[BaseUrl] = Frozen()


class CandidateConfig(Section):
    """One candidate of a route: a provider, with a model or for any.

    Attributes:
        provider: The name of a provider.
        model: It serves requests for this canonical model only; None for any.
        weight: Its share, for the strategy `weighted`.
    """

    provider: Name
    model: Text | None = None
    weight: Positive = 1.0

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


def _candidate(value: Any) -> Any:
    if isinstance(value, str):
        provider, slash, model = value.partition("/")
        return {"provider": provider, **({"model": model} if slash else {})}
    if isinstance(value, Mapping | CandidateConfig):
        return value
    raise ValueError(f'"provider", "provider/model" or a table of the two is needed, not {word_of(value)}')


def _candidates(value: Any) -> tuple[Any, ...]:
    found = listed(value)
    if not found:
        raise ValueError("the route is empty: name at least one provider")
    return found


def _distinct(found: tuple[CandidateConfig, ...]) -> tuple[CandidateConfig, ...]:
    names = [str(one) for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} stands in it twice: each candidate is tried once")
    if not math.isfinite(sum(one.weight for one in found)):
        raise ValueError("the weights are too large to be added up")
    return found


class Route(Section):
    """`[routes.NAME]`, and in Python `Route(candidates, **settings)`: an ordered choice among candidates.

    Attributes:
        candidates: In the order of preference; at least one.
        strategy: How they are put in order.
        failover_on: The kinds of failure after which the next candidate is tried.
        on_maybe_charged: Whether to go on after something that may have been paid.
        on_moderated: Whether to go on after a refused prompt or image.
        when_full: What becomes of a candidate whose places are all taken: passed over, or waited for.
        max_price_usd: The most that one request may cost; None for no cap.
        unknown_price: Whether a candidate of unknown price may be taken under `max_price_usd`.
        deadline_s: Seconds from end to end.
        attempt_share: The part of what is left of the deadline that a candidate may use while another is left. Going
            on while it may still finish is the business of `on_maybe_charged`.
        regions: Only where the work is done in one of these, such as `eu`; empty for anywhere. Unknown is not allowed.
        public_uploads: Whether a candidate may put input images on a public URL; where that is unknown, it may.
        explore: For `fastest`: how often a candidate of which little is known goes first, from 0 to 1.
        breaker: Whether a candidate whose provider has just been out is passed over for a while.

    Raises:
        ConfigurationError: A candidate or a setting is none; it names the nearest right word.
    """

    candidates: Annotated[
        tuple[Annotated[CandidateConfig, BeforeValidator(_candidate)], ...],
        BeforeValidator(_candidates),
        AfterValidator(_distinct),
    ]
    strategy: Annotated[Strategy, one_of(Strategy)] = "cheapest"
    failover_on: Annotated[tuple[Kind, ...], BeforeValidator(kinds)] = FAILOVER_ON
    on_maybe_charged: Annotated[GoOn, one_of(GoOn)] = "raise"
    on_moderated: Annotated[GoOn, one_of(GoOn)] = "raise"
    when_full: Annotated[WhenFull, one_of(WhenFull)] = "next"
    max_price_usd: Amount | None = None
    unknown_price: Annotated[UnknownPrice, one_of(UnknownPrice)] = "refuse"
    deadline_s: Seconds = 180.0
    attempt_share: Share = 1.0
    regions: Annotated[tuple[Name, ...], BeforeValidator(listed)] = ()
    public_uploads: Flag = True
    explore: Fraction = 0.05
    breaker: Flag = True

    def __init__(self, candidates: Any = (), **settings: Any) -> None:
        for key in settings.keys() - type(self).model_fields.keys():
            raise ConfigurationError(f"unknown setting {key!r} of a route; {near(key, type(self).model_fields)}")
        try:
            super().__init__(**{"candidates": candidates, **settings})
        except ValidationError as error:
            raise ConfigurationError("\n".join(findings(error, Source("Route")))) from None

    # The routes of a file do not pass through it: their findings are told with the file and the line.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield None, [str(one) if one.weight == 1 else one.model_dump(exclude_defaults=True) for one in self.candidates]
        for name in type(self).model_fields:
            if name != "candidates" and name in self.model_fields_set:
                yield name, getattr(self, name)


class TagBudget(Section):
    """`[budget.tags.TAG]`: caps for each value of a tag.

    Attributes:
        daily_usd: The most that one value may spend in a day.
        monthly_usd: The most that one value may spend in a month.
    """

    daily_usd: Amount | None = None
    monthly_usd: Amount | None = None


class BudgetConfig(Section):
    """`[budget]`: caps on what is spent; None for no cap.

    Attributes:
        daily_usd: The most in a day.
        monthly_usd: The most in a month.
        max_at_risk_usd: The most that may be at risk when a route goes on after something that may have been paid
            (`on_maybe_charged = "continue"`). It is asked only then, and is no cap on what runs.
        tags: Caps for each value of a tag, by the tag.
    """

    daily_usd: Amount | None = None
    monthly_usd: Amount | None = None
    max_at_risk_usd: Amount | None = None
    tags: Named[TagBudget] = Frozen()


def _ledger_url(value: Any) -> str:
    said = value.get_secret_value() if isinstance(value, SecretStr) else text(value)
    if said not in {"default", "memory"} and not said.startswith(("postgresql://", "postgres://")):
        raise ValueError('"default", "memory" or a URL of the form "postgresql://…" is needed')
    return said


class LedgerConfig(Section):
    """`[ledger]`: what is kept of each job.

    Attributes:
        url: `default` is SQLite in `$ANYKONTEXT_HOME`, `memory` is gone with the process, or a PostgreSQL URL, which
            may hold a password.
        prompts: Whether prompts are kept in `full`, or as a `digest`.
        keep_days: How long, in days.
    """

    url: Annotated[SecretStr, BeforeValidator(_ledger_url)] = SecretStr("default")
    prompts: Annotated[Prompts, one_of(Prompts)] = "full"
    keep_days: Days = 90


class InputConfig(Section):
    """`[input]`: what is done with input images.

    Attributes:
        metadata: What is removed: what is `private` (position, serial numbers, thumbnails), `all`, or nothing (`keep`).
        allow: The forms in which a caller may give an image.
    """

    metadata: Annotated[Metadata, one_of(Metadata)] = "private"
    allow: Annotated[tuple[Annotated[Form, one_of(Form)], ...], BeforeValidator(listed)] = ("path", "url", "bytes")


def _proxy(value: Any) -> str:
    said = value.get_secret_value() if isinstance(value, SecretStr) else text(value)
    if not said.startswith(("http://", "https://", "socks5://", "socks5h://")):
        raise ValueError('the URL of a proxy is needed, such as "http://proxy.example.com:3128"')
    return said


class NetworkConfig(Section):
    """`[network]`: the way out.

    Attributes:
        proxy: The URL of a proxy, which may hold a password, for everything but this machine itself; None for those
            of the environment ($HTTPS_PROXY, $HTTP_PROXY, $ALL_PROXY, but for what $NO_PROXY names). A proxy resolves
            names out of our sight: results are then fetched from a provider's known hosts only, and no input URLs.
        ca_file: Certificates to trust instead of the usual ones: a PEM file, from the config file's folder.

    A vendor's SDK knows nothing of these settings, and would go around them: with either, fal's is not used, and large
    input images go inside the request. Without them it reads the proxies of the environment, as we do.
    """

    proxy: Annotated[SecretStr, BeforeValidator(_proxy)] | None = None
    ca_file: Text | None = None
