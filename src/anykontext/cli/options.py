"""The options that commands share, and what the words of a command line mean."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anykontext.cli.say import Say

if TYPE_CHECKING:
    from anykontext.config import Config
    from anykontext.sandbox import Sandbox

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

FORMATS = ("jpeg", "jpg", "png", "webp")
CALL_OPTIONS = ("provider", "route", "deadline", "max_price")
FIELDS = (
    *("model", "seed", "aspect_ratio", "size", "num_images", "safety_tolerance", "output_format", "guidance"),
    *("steps", "prompt_upsampling"),
)


def _all(*decorators: Decorator[Any]) -> Decorator[Any]:
    def apply(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


config_option = click.option("--config", metavar="FILE", help="The configuration; without it the usual places.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
said_options = _all(
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr."),
    click.option("-v", "--verbose", count=True, help="Say more; -vv shows the engine's log, too."),
)
force_option = click.option("--force", is_flag=True, help="Replace files that exist.")
out_option = click.option(
    "-o", "--output", "out", metavar="OUT", help="The file or folder to write; without it a new file here."
)
deadline_option = click.option(
    "--deadline", type=float, metavar="SECONDS", help="The longest that it may take, from end to end."
)
fault_options = _all(
    click.option("--seconds", type=click.FloatRange(min=0), metavar="S", help="How long the emulators work on a task."),
    click.option("--fault", "faults", multiple=True, metavar="[PROVIDER:]NAME", help="A fault of the emulators."),
)
sandbox_options = _all(
    click.option("--sandbox", is_flag=True, help="Use emulators on this machine: no key, no network, nothing paid."),
    fault_options,
)
request_options = _all(
    click.option("--model", metavar="[PROVIDER/]MODEL", help="Such as flux-kontext-pro, the default."),
    click.option("--provider", metavar="NAME", help="Use this provider only."),
    click.option("--route", metavar="NAME", help="A route of the configuration."),
    click.option("--seed", type=int, metavar="N", help="The same seed gives the same image again; 0 is one."),
    click.option("--aspect-ratio", metavar="W:H", help="The shape; without it an edit keeps the input's."),
    click.option("--size", metavar="WxH", help="The size in pixels, for the models that take one."),
    click.option("--num-images", type=int, metavar="N", help="How many images to make; each is paid for."),
    click.option("--output-format", type=click.Choice(FORMATS), help="Otherwise the suffix of OUT, or jpeg."),
    click.option("--safety-tolerance", type=int, metavar="0-6", help="0 is the strictest, 2 the default."),
    click.option("--guidance", type=float, metavar="X", help="How closely the prompt is followed."),
    click.option("--steps", type=int, metavar="N", help="Denoising steps."),
    click.option("--prompt-upsampling/--no-prompt-upsampling", default=None, help="Let the prompt be rewritten."),
    click.option(
        "--option",
        "options",
        multiple=True,
        metavar="PROVIDER.KEY=VALUE",
        help="A field in a provider's own words: JSON, else a text. Repeatable.",
    ),
    click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="For `spend` and budgets. Repeatable."),
    click.option("--strict", is_flag=True, help="Refuse what cannot be done exactly as asked."),
    deadline_option,
    click.option("--max-price", metavar="USD", help="Send nothing that would cost more."),
)


def call_of(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the request and the options of the call that were given, and no others."""
    fields = {name: given[name] for name in FIELDS if given[name] is not None}
    call = {name: given[name] for name in CALL_OPTIONS if given[name] is not None}
    if given["options"]:
        fields["provider_options"] = provider_options(given["options"])
    if given["tags"]:
        fields["tags"] = tags_of(given["tags"])
    if given["strict"]:
        call["policy"] = "strict"
    return fields, call


def provider_options(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The values of --option.

    >>> provider_options(["bfl.raw=true", "bfl.webhook_secret=abc"])
    {'bfl': {'raw': True, 'webhook_secret': 'abc'}}
    """
    import json

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        provider, dot, key = name.strip().partition(".")
        if not (equals and dot and provider and key):
            raise click.BadParameter(f"{text!r} is not of the form provider.key=value", param_hint="'--option'")
        fields = found.setdefault(provider, {})
        try:
            fields[key] = json.loads(value, parse_constant=_no_number)
        except (ValueError, RecursionError):
            fields[key] = value
    return found


def tags_of(texts: Sequence[str]) -> dict[str, str]:
    """The values of --tag.

    >>> tags_of(["customer=acme", "note=a=b"])
    {'customer': 'acme', 'note': 'a=b'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name) or name in found:
            told = "is given twice" if name in found else "is not of the form name=value"
            raise click.BadParameter(f"{text!r} {told}", param_hint="'--tag'")
        found[name] = value
    return found


def _no_number(word: str) -> Any:
    raise ValueError(word)


def say_of(given: Mapping[str, Any]) -> Say:
    """What -q, -v and --json mean."""
    return Say(quiet=given["quiet"], verbose=given["verbose"], as_json=given["as_json"])


@contextlib.contextmanager
def configured(given: Mapping[str, Any]) -> Iterator["Config | str | None"]:
    """What a client is made from: --config, the usual places, or with --sandbox emulators that run meanwhile."""
    if not given["sandbox"]:
        yield given["config"]
        return
    import tomllib

    from anykontext.config import Config
    from anykontext.plugins import default_registry

    with started(given["faults"], given["seconds"]) as sandbox:
        sections = tomllib.loads(sandbox.config_toml())["providers"]
        usable = default_registry().adapters  # $ANYKONTEXT_PLUGINS may leave some out, and a plugin may be broken
        providers = {name: one for name, one in sections.items() if one.get("adapter", name) in usable}
        yield Config(providers=providers, ledger={"url": "memory"})  # what costs nothing is in no sum of money


def check_sandbox_options(given: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other."""
    if given["sandbox"] and given["config"]:
        raise click.UsageError("--sandbox brings a configuration of its own: leave out --config")
    for name, option in (("faults", "--fault"), ("seconds", "--seconds")):
        if given[name] not in {None, ()} and not given["sandbox"]:
            raise click.UsageError(f"{option} is for the emulators: add --sandbox")


def config_of_ledger(path: str | None) -> "Config":
    """The configuration for work on the ledger, which needs no provider: where there is none, one without a key.

    Raises:
        ConfigurationError: It cannot be used.
    """
    from anykontext.config import Config
    from anykontext.plugins import default_registry

    config = Config.load(path)
    if config.providers:
        return config
    return Config(providers={name: {} for name in default_registry().adapters}, ledger=config.ledger)


@contextlib.contextmanager
def started(faults: Sequence[str], seconds: float | None) -> Iterator["Sandbox"]:
    """A sandbox that runs; what is wrong with its options is a usage error."""
    from anykontext.model.errors import ConfigurationError
    from anykontext.sandbox import MissingExtra, Sandbox

    try:
        sandbox = Sandbox(faults=faults) if seconds is None else Sandbox(faults=faults, seconds=seconds)
    except MissingExtra as error:
        raise ConfigurationError(str(error)) from error
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--fault'") from None
    with sandbox:
        yield sandbox


def edit_words(words: Sequence[str]) -> tuple[list[str], str]:
    """The images and the prompt of `edit`, or what is missing.

    Raises:
        InvalidRequest: An image or the prompt is missing.
    """
    from anykontext.model.errors import InvalidRequest

    if not words:
        raise InvalidRequest(f"the IMAGE and the PROMPT are missing; {_EXAMPLE}")
    *images, prompt = words
    if not images and _is_image(prompt):
        raise InvalidRequest(f"the PROMPT is missing: the words that say what to do with {prompt}; {_EXAMPLE}")
    if not images:
        raise InvalidRequest(f"the IMAGE is missing: only a prompt was given; {_EXAMPLE}, or use `generate`")
    if _is_image(prompt) and not _is_other_file(prompt):
        raise InvalidRequest(f"the PROMPT seems to be missing: the last word, {prompt}, names an image; {_EXAMPLE}")
    strays = [one for one in images[1:] if not _is_image(one)]
    if strays:
        said = " ".join([*images[images.index(strays[0]) :], prompt])
        raise InvalidRequest(f"{strays[0]!r} is no image; if it belongs to the prompt, put that in quotes: {said!r}")
    return images, prompt


def plan_words(words: Sequence[str]) -> tuple[list[str], str]:
    """The images, if any, and the prompt of `plan`.

    Raises:
        InvalidRequest: The prompt is missing, or a word is no image.
    """
    from anykontext.model.errors import InvalidRequest

    if not words:
        raise InvalidRequest("the PROMPT is missing: the words that say what to show, or what to do with an IMAGE")
    if len(words) == 1 and not _is_image(words[0]):
        return [], words[0]
    return edit_words(words)


_EXAMPLE = 'for example: anykontext edit photo.jpg "make it blue" -o blue.jpg'
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")


_MAGIC = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*", b"BM")


def _is_image(word: str) -> bool:
    """Whether a word names an image rather than says what to do."""
    if word == "-" or word.lower().startswith(("http://", "https://", "data:")):
        return " " not in word
    if word.lower().endswith(_SUFFIXES) and (not any(map(str.isspace, word)) or "/" in word):
        return True
    return _is_file(word)


def _is_other_file(word: str) -> bool:
    """Whether a word is the name of a file that is no picture: then it may be a prompt of one word all the same."""
    if not _is_file(word) or word.lower().endswith(_SUFFIXES):
        return False
    try:
        with open(word, "rb") as file:  # noqa: PTH123 - pathlib would be loaded for --help
            head = file.read(12)
    except OSError:
        return True
    return not head.startswith(_MAGIC) and head[4:8] != b"ftyp"


def _is_file(word: str) -> bool:
    try:
        return os.path.isfile(word)  # noqa: PTH113 - pathlib would be loaded for --help
    except (OSError, ValueError):
        return False
