"""What is known about a provider, as data: every difference between providers that is not translation stands here.

Each fact names its evidence: a quirk id of the adapter's README, such as `bfl-9`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from anykontext.model.frozen import Frozen
from anykontext.model.job import Mode


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers from `low` to `high`; whole ones unless `fractions`.

    `wraps` says how a value beyond is fitted: seeds keep their difference (modulo), all others go to the nearest end.
    """

    low: float
    high: float
    evidence: str
    fractions: bool = False
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Choices:
    """One of these values. The first is the one taken when a dial does not fit; a ratio must be one of them."""

    values: tuple[str, ...]
    evidence: str


@dataclass(frozen=True, slots=True)
class Toggle:
    """True or false."""

    evidence: str


@dataclass(frozen=True, slots=True)
class Ratios:
    """Any ratio "W:H" between two ends, given as (width, height); `default` is sent when generating without one."""

    narrowest: tuple[int, int]
    widest: tuple[int, int]
    evidence: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """A size in pixels: both sides from `low` to `high` in steps of `step`. A ratio is sent as a size of about 1 MP."""

    low: int
    high: int
    step: int
    evidence: str


Spec = Numbers | Choices | Toggle | Ratios | Sizes


@dataclass(frozen=True, slots=True)
class ModeFacts:
    """What a model can do in one mode.

    Attributes:
        options: Canonical option -> what is allowed; an option that is missing here is not supported.
        max_images: How many input images it takes (0 when generating).
    """

    options: Mapping[str, Spec]
    max_images: int = 0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model at one provider.

    Attributes:
        wire_name: The provider's name for it: an endpoint or an id.
        modes: What it can do, by mode.
        passthrough: The provider's own fields that `provider_options` may set, with a word on each.
        max_active: How many tasks of this model may run at once; None when only the provider's own limit holds.
        evidence: Why we believe that the provider hosts it.
    """

    wire_name: str
    modes: Mapping[Mode, ModeFacts]
    evidence: str
    passthrough: Mapping[str, str] = field(default_factory=Frozen)
    max_active: int | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A 5xx at a submit that surely means "not accepted", because the provider documents it so.

    `status` is the HTTP status, or the code in the body where the provider puts it there (`Refused.code`). With
    `at_home` it counts only at the provider's own base URL: a page of the provider's front door may be any proxy's.
    """

    status: int
    shape: str
    evidence: str
    at_home: bool = False


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What a provider takes as an input image.

    Attributes:
        forms: `bytes` (in the body) and/or `url` (fetched by the provider), in the order preferred.
        media_types: The formats it takes.
        max_bytes: The largest image, in bytes before base64.
        max_pixels: The largest image, in pixels (width x height).
        evidence: The quirk id.
    """

    forms: tuple[Literal["bytes", "url"], ...]
    media_types: tuple[str, ...]
    max_bytes: int
    max_pixels: int
    evidence: str


@dataclass(frozen=True, slots=True)
class SubmitRate:
    """How many tasks of one account a provider takes in so many seconds."""

    submits: int
    seconds: float
    evidence: str


@dataclass(frozen=True, slots=True)
class UploadFacts:
    """Where a provider lets its users put input images, so that it can fetch them.

    Without an upload host (a `base_url` of the user's own, and no setting for the host), images go in the body where
    the provider takes them so, and the provider is out for pictures that are not URLs where it does not.

    Attributes:
        over: Images of more bytes than this are uploaded; 0 for all.
        origin: The name of the origin that takes them; empty where a vendor's SDK knows it.
        lifetime_s: Seconds until the provider deletes them; None where that is not known.
        public: Whether anyone who knows the URL can see them.
        evidence: The quirk id.
    """

    over: int
    origin: str
    lifetime_s: float | None
    public: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Known:
    """A statement about a provider in words, for people: nothing is decided by it. Unknown things are left out."""

    words: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known about one kind of provider.

    Attributes:
        name: The adapter's name, as in `[providers.<name>]`.
        title: The service's own name.
        origins: Origin name -> default base URL. `api` is required.
        base_url_settings: Origin name -> the config setting that replaces it; `api` is always `base_url`.
        trusted: Domains of the provider's own (with their subdomains) that may get the key, over https.
        siblings: Base URLs of other services that speak the same protocol: our prices do not hold there.
        uploads: Where input images can be put; None where there is no such place.
        delivery: Host patterns of result files, for use behind a proxy (`*` matches any letters).
        auth: The header that carries the key, and its form with `{key}` in it.
        keys: Environment variables that may hold the key, each alternative a tuple joined by `:`; tried in order.
        models: Canonical model -> facts.
        inputs: What it takes as input images.
        rejections: The 5xx replies that surely mean "not accepted".
        poll_interval_s: Seconds between polls.
        not_found_polls: "Task not found" in a row that are tolerated.
        unreadable_polls: Polls in a row that may be refused or not understood.
        max_active: Tasks of one account that may run at once; None when no limit is known.
        submit_rate: How fast submits may follow each other; None when no rate is known.
        images_per_task: How many images one task makes at most.
        busy_as_out_of_credit: Whether "no credit" may also mean "busy": then the balance is asked first.
        webhooks: Whether a submit may name a webhook.
        webhook_hides_polling: Whether a submit with `webhook_url` gives nothing to poll.
        reserved_options: The provider's fields that `provider_options` must not set -> the canonical option.
        retention_s: How long a result can be fetched, in seconds, where known.
        regions: Base URL -> where the work is done there, such as `eu`; only what the provider states.
        statuses: The provider's words for the state of a task -> what they mean.
        errors: A status, code or type of error -> what it means.
        moderation: The forms in which the provider says that a prompt or an image was refused.
        lifetimes: What ends after a time (a result, a link, an upload) -> when.
        limits: What is limited (running tasks, submits, prompt length) -> how.
        webhook: How a webhook is signed; None where there is none, or nothing is known of it.
        verified_live: When the adapter last passed its contract against the real service; None for never.
        evidence: For the plain fields above: field -> quirk id.
        quirks: Quirk id -> one sentence; the adapter's README tells more.
    """

    name: str
    title: str
    origins: Mapping[str, str]
    trusted: tuple[str, ...]
    delivery: tuple[str, ...]
    auth: tuple[str, str]
    keys: tuple[tuple[str, ...], ...]
    models: Mapping[str, ModelFacts]
    inputs: InputLimits
    poll_interval_s: float
    evidence: Mapping[str, str]
    quirks: Mapping[str, str]
    rejections: tuple[Rejection, ...] = ()
    siblings: tuple[str, ...] = ()
    uploads: UploadFacts | None = None
    not_found_polls: int = 0
    unreadable_polls: int = 10
    max_active: int | None = None
    submit_rate: SubmitRate | None = None
    images_per_task: int = 1
    busy_as_out_of_credit: bool = False
    webhooks: bool = False
    webhook_hides_polling: bool = False
    retention_s: float | None = None
    regions: Mapping[str, str] = field(default_factory=Frozen)
    statuses: Mapping[str, Known] = field(default_factory=Frozen)
    errors: Mapping[str, Known] = field(default_factory=Frozen)
    moderation: tuple[Known, ...] = ()
    lifetimes: Mapping[str, Known] = field(default_factory=Frozen)
    limits: Mapping[str, Known] = field(default_factory=Frozen)
    webhook: Known | None = None
    verified_live: date | None = None
    reserved_options: Mapping[str, str] = field(default_factory=Frozen)
    base_url_settings: Mapping[str, str] = field(default_factory=Frozen)
