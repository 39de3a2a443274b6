"""What a configuration may hold, and what is said of one that cannot be used."""

import copy
import pickle
from decimal import Decimal
from pathlib import Path

import pytest

from anykontext.config import Config, Route
from anykontext.config.source import line_index
from anykontext.model.errors import ConfigurationError, Kind, UnknownProvider
from anykontext.plugins import Registry

# The example of the design's section 5, as it stands there.
EXAMPLE = """
policy = "adjust"                     # adjust (default): dials are fitted and reported; strict: any difference from what was set refuses
route  = "default"

[providers.bfl]                       # adapter defaults to the provider's name
api_key  = "env:BFL_API_KEY"          # env:NAME, file:PATH, or the key itself (warned about); in Python also a callable
base_url = "https://api.bfl.ai"       # an origin (a path prefix is kept; the adapter adds /v1/…): a regional host, a proxy, an emulator
max_in_flight = 24                    # the default is the provider's documented limit; yours is honoured, higher or lower
# poll_interval_s = 0.5               # a fixed interval instead of the learnt schedule
# allow_http = true                   # http beyond loopback, for a proxy of your own
[providers.bfl.prices]
"flux-kontext-pro" = "0.04"

[routes.default]
strategy    = "cheapest"              # ordered | cheapest | fastest | weighted | round-robin
candidates  = ["bfl", "fal", "kie"]   # "provider" or "provider/model" or {provider, model, weight}; one with a model serves requests for it
failover_on = ["unavailable", "rate_limited", "out_of_credit", "generation_failed"]
on_maybe_charged = "raise"            # or "continue", as far as max_at_risk_usd allows
on_moderated     = "raise"            # or "continue"
when_full        = "next"             # a candidate at its in-flight cap is passed over when another can serve; or "wait"
max_price_usd    = "0.06"
deadline_s       = 180

[budget]
daily_usd = "20"                      # also monthly_usd; [budget.tags.customer] daily_usd = "1" caps each value of a tag
max_at_risk_usd = "1"

[ledger]
url = "default"                       # default: SQLite in $ANYKONTEXT_HOME; "memory"; later postgresql://…
prompts = "full"                      # or "digest"
keep_days = 90
[input]
metadata = "private"                  # remove GPS, serials, thumbnails; "all"; "keep"
allow = ["path", "url", "bytes"]      # a service narrows it
[network]
# proxy, ca_file
"""  # noqa: E501

NOTHING = Registry()
KEY = "bfl-0123456789-very-secret"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anykontext.toml"


def load(file: Path, text: str) -> Config:
    file.write_text(text, encoding="utf-8")
    return Config.load(file, environ={}, registry=NOTHING)


def complaint(file: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load(file, text)
    return str(raised.value).removeprefix(str(file))


def test_the_example_of_the_design_loads_as_it_is(file: Path) -> None:
    config = load(file, EXAMPLE)

    assert (config.policy, config.route, config.path) == ("adjust", "default", file)
    assert list(config.providers) == ["bfl", "fal", "kie"]
    assert config.providers["bfl"].base_url == "https://api.bfl.ai"
    assert config.providers["bfl"].max_in_flight == 24
    assert config.providers["bfl"].prices == {"flux-kontext-pro": Decimal("0.04")}
    route = config.route_named()
    assert [str(candidate) for candidate in route.candidates] == ["bfl", "fal", "kie"]
    assert (route.strategy, route.max_price_usd, route.deadline_s) == ("cheapest", Decimal("0.06"), 180.0)
    assert route.failover_on == (Kind.UNAVAILABLE, Kind.RATE_LIMITED, Kind.OUT_OF_CREDIT, Kind.GENERATION_FAILED)
    assert (config.budget.daily_usd, config.budget.max_at_risk_usd) == (Decimal(20), Decimal(1))
    assert (config.ledger.url.get_secret_value(), config.ledger.prompts, config.ledger.keep_days) == (
        "default",
        "full",
        90,
    )
    assert (config.input.metadata, config.input.allow) == ("private", ("path", "url", "bytes"))


def test_what_the_example_leaves_out_loads_too(file: Path) -> None:
    text = EXAMPLE.replace("# poll_interval_s", "poll_interval_s").replace("# allow_http", "allow_http")
    text = text.replace("# proxy, ca_file", 'proxy = "http://user:secret@proxy.example:3128"\nca_file = "ca.pem"')
    text += '[budget.tags.customer]\ndaily_usd = "1"\n'

    config = load(file, text)

    assert (config.providers["bfl"].poll_interval_s, config.providers["bfl"].allow_http) == (0.5, True)
    assert config.budget.tags["customer"].daily_usd == Decimal(1)
    assert config.network.ca_file is not None
    assert config.resolve(config.network.ca_file) == file.parent / "ca.pem"
    assert "user:secret" not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"


def test_a_misspelt_section_names_the_line_and_the_right_word(file: Path) -> None:
    text = 'policy = "strict"\n\n[provider.bfl]\napi_key = "env:BFL_API_KEY"\n'

    assert complaint(file, text) == ", line 3: unknown section 'provider'; did you mean 'providers'?"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('polcy = "strict"', 1, "unknown setting 'polcy'; did you mean 'policy'"),
        ('policy = "strikt"', 1, "policy: unknown word 'strikt'; did you mean 'strict'"),
        ("policy = 3", 1, "policy: one of adjust, strict is needed, not a whole number"),
        (
            "[providers.bfl]\n\nbase-url = 'x'",
            3,
            "unknown setting 'base-url' of providers.bfl; did you mean 'base_url'",
        ),
        ("[providers]\nbfl.max_in_fligt = 3", 2, "did you mean 'max_in_flight'"),
        (
            "\nproviders = {bfl = {apikey = 'x'}}",
            2,
            "unknown setting 'apikey' of providers.bfl; did you mean 'api_key'",
        ),
        ("providers = 3", 1, "providers: a table is needed, not a whole number"),
        ("[providers]\nbfl = 'x'", 2, "providers.bfl: a table is needed, not a text"),
        ("[providers.'a/b']", 1, "'a/b'"),
        ("[providers.bfl]\nmax_in_flight = 0", 2, "providers.bfl.max_in_flight: a whole number from 1"),
        ("[providers.bfl]\nmax_in_flight = 2.5", 2, "a whole number from 1"),
        ("[providers.bfl]\nmax_in_flight = true", 2, "a whole number from 1"),
        ("[providers.bfl]\npoll_interval_s = nan", 2, "a number above 0"),
        ("[providers.bfl]\npoll_interval_s = -1", 2, "a number above 0"),
        ("[providers.bfl]\nallow_http = 'yes'", 2, "true or false is needed, not a text"),
        ("[providers.bfl]\nallow_http = 1", 2, "true or false is needed, not a whole number"),
        ("[providers.bfl]\nadapter = ''", 2, "providers.bfl.adapter: a name is needed"),
        ("[providers.bfl]\napi_key = 3", 2, 'providers.bfl.api_key: "env:NAME"'),
        ("[providers.bfl]\napi_key = ''", 2, "it is empty"),
        ("[providers.kie]\nupload_url = 'kie.ai'", 2, "providers.kie.upload_url: a base URL is needed"),
        ("[providers.bfl.prices]\n'flux-kontext-pro' = '-1'", 2, "must not be negative"),
        ("[providers.bfl.prices]\n'flux-kontext-pro' = 'cheap'", 2, "an amount in USD"),
        ("[providers.bfl.prices]\nflux-1.1-pro = '0.04'", 2, "written in quotes"),
        ("[routes.x]\nstrategy = 'ordered'", 1, "routes.x.candidates: it is missing"),
        ("[routes.x]\ncandidates = []", 2, "routes.x.candidates: the route is empty"),
        ("[routes.x]\ncandidates = 'bfl'", 2, "a list is needed, not a text"),
        ("[routes.x]\ncandidates = ['bfl', 'fal', 'bfl']", 2, "'bfl' stands in it twice"),
        (
            "[routes.x]\ncandidates = [{provider = 'bfl', weight = 1e308}, {provider = 'fal', weight = 1e308}]",
            2,
            "the weights are too large",
        ),
        ("[routes.x]\ncandidates = ['bfl']\ndeadline_s = 1e10", 3, "a number of seconds below 10000000"),
        ("[providers.bfl]\npoll_interval_s = 1e200", 2, "a number of seconds below 10000000"),
        ("[providers.bfl]\n[route.default]\ncandidates = ['bfl']", 2, "write [routes.NAME], with an s"),
        ("[ledger]\nkeep_days = 4503599627370496", 2, "at most 36500 days"),
        ("[routes.x]\ncandidates = [3]", 2, "not a whole number"),
        ("[routes.x]\ncandidates = ['bfl/']", 2, "it is empty"),
        ("[routes.x]\ncandidates = [{provider = 'bfl', wait = 2}]", 2, "did you mean 'weight'"),
        ("[[routes.x.candidates]]\nprovider = 'bfl'\n[[routes.x.candidates]]\nmodel = 'm'", 3, "it is missing"),
        ("[routes.x]\ncandidates = ['bfl']\nstrategy = 'cheap'", 3, "did you mean 'cheapest'"),
        ("[routes.x]\ncandidates = ['bfl']\nfailover_on = ['unavailabel']", 3, "did you mean 'unavailable'"),
        ("[routes.x]\ncandidates = ['bfl']\nfailover_on = 'unavailable'", 3, "a list is needed"),
        ("[routes.x]\ncandidates = ['bfl']\nfailover_on = ['moderated']", 3, "on_moderated"),
        ("[routes.x]\ncandidates = ['bfl']\nfailover_on = ['outcome_unknown']", 3, "on_maybe_charged"),
        ("[routes.x]\ncandidates = ['bfl']\nfailover_on = ['deadline_exceeded']", 3, "deadline_s"),
        ("[routes.x]\ncandidates = ['bfl']\ndeadline_s = 0", 3, "a number above 0"),
        ("[routes.x]\ncandidates = ['bfl']\nmax_price_usd = '1e3'", 3, "an amount in USD"),
        ("[routes.x]\ncandidates = ['bfl', 'blf']", 2, "no provider 'blf' is configured; did you mean 'bfl'"),
        ("route = 'y'\n[routes.x]\ncandidates = ['bfl']", 1, "unknown route 'y'"),
        ("[budget.tags.customer]\ndayly_usd = '1'", 2, "did you mean 'daily_usd'"),
        ("[ledger]\nurl = 'mysql://x'", 2, "postgresql://"),
        ("[ledger]\nkeep_days = '90'", 2, "a whole number from 1"),
        ("[input]\nallow = ['paths']", 2, "did you mean 'path'"),
        ("[network]\nproxy = 'proxy:3128'", 2, "the URL of a proxy"),
        ("a = [\n", 1, "not TOML"),
        ("policy = 'adjust'\n= 3", 2, "not TOML"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(file: Path, text: str, line: int, told: str) -> None:
    said = complaint(file, text)

    assert said.startswith(f", line {line}: ")
    assert told in said


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    text = "[providers.bfl]\nmax_in_flight = 0\nallow_http = 0\n[routes.x]\ncandidates = []\n"

    assert [line.split(":")[0][-6:] for line in complaint(file, text).split("\n")] == ["line 2", "line 3", "line 5"]


def test_a_line_is_that_on_which_a_setting_begins(file: Path) -> None:
    text = '# [providers.bfl]\n[routes.x] # max_in_flight\ncandidates = [\n  "bfl",\n  "blf",\n]\n'

    assert complaint(file, text).startswith(", line 3: routes.x.candidates: no provider 'blf'")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_line_of_the_example_is_told_rightly(ending: str) -> None:
    found = line_index(EXAMPLE.replace("\n", ending))

    lines = EXAMPLE.split("\n")
    assert len(found) == 40
    for keys, number in found.items():
        name = str(next(key for key in reversed(keys) if isinstance(key, str)))
        assert name in lines[number - 1].split("#")[0]


def test_a_config_from_python_is_checked_like_a_file() -> None:
    config = Config(providers={"bfl": {"max_in_flight": 3}}, routes={"x": {"candidates": ("bfl/flux-kontext-pro",)}})

    assert config.providers["bfl"].max_in_flight == 3
    assert config.route_named("x").candidates[0].model == "flux-kontext-pro"
    assert config.path is None
    with pytest.raises(ConfigurationError, match=r"^Config: unknown section 'provider'; did you mean 'providers'"):
        Config(provider={"bfl": {}})
    with pytest.raises(ConfigurationError, match=r"^Config: providers\.bfl\.max_in_flight: a whole number from 1"):
        Config(providers={"bfl": {"max_in_flight": "3"}})
    with pytest.raises(UnknownProvider, match="did you mean 'mine'"):
        Config(providers={"mine": {"adapter": "bfl"}}, routes={"x": {"candidates": ["mein"]}})


def test_models_are_as_good_as_tables_in_python() -> None:
    config = Config(routes={"x": Route(["bfl"], strategy="ordered")})

    assert list(config.providers) == ["bfl"]
    assert Config(providers=config.providers, routes=config.routes) == config
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    with pytest.raises(ConfigurationError, match="did you mean 'strategy'"):
        Route(["bfl"], strategie="ordered")
    with pytest.raises(ConfigurationError, match="did you mean 'ordered'"):
        Route(["bfl"], strategy="order")


def test_the_route_of_a_call_without_one_is_the_default_one() -> None:
    two = {"x": {"candidates": ["bfl"]}, "y": {"candidates": ["fal"]}}

    assert str(Config(routes=two, route="y").route_named().candidates[0]) == "fal"
    assert str(Config(routes={**two, "default": {"candidates": ["kie"]}}).route_named().candidates[0]) == "kie"
    assert str(Config(routes={"x": two["x"]}).route_named().candidates[0]) == "bfl"
    every = Config(providers={"a": {"adapter": "bfl"}, "bfl": {}}).route_named()
    assert ([str(one) for one in every.candidates], every.strategy) == (["a", "bfl"], "cheapest")
    with pytest.raises(ConfigurationError, match="several routes"):
        Config(routes=two).route_named()
    with pytest.raises(ConfigurationError, match="unknown route 'z'"):
        Config(routes=two).route_named("z")
