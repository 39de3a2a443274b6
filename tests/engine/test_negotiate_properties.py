"""Whatever is asked of whichever provider: what goes over the wire is what its protocol sheet documents.

The tables here are written from the sheets, and know nothing of the adapters' facts. Every adapter of ours is run
with random requests, through negotiation and its own `submit`.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from anykontext.adapting import Effective, InputImage
from anykontext.engine.misfit import Misfit
from anykontext.engine.negotiate import DIALS, negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.submit import Step
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment
from anykontext.plugins import Registry

# ------------------------------------------------------------------------------------- the sheets, as tables of fields

Legal = Callable[[Any], bool]
LINK = re.compile(r"https?://\S+")
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
DATA_URI = re.compile(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")


def text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def never(value: Any) -> bool:
    """Documented, and not ours to send: it would change price, retention or safety behind the caller's back."""
    return False


def whole(low: int, high: int, step: int = 1) -> Legal:
    """An integer; `True` is none."""
    return lambda value: type(value) is int and low <= value <= high and value % step == 0


def number(low: float, high: float) -> Legal:
    return lambda value: type(value) in {int, float} and low <= value <= high


def word(*words: str) -> Legal:
    return lambda value: isinstance(value, str) and value in words


def written(*forms: re.Pattern[str]) -> Legal:
    return lambda value: isinstance(value, str) and any(form.fullmatch(value) for form in forms)


def some(legal: Legal) -> Legal:
    return lambda value: isinstance(value, list) and bool(value) and all(map(legal, value))


def shape(narrowest: Fraction, widest: Fraction) -> Legal:
    return lambda value: bool(re.fullmatch(r"\d+:\d+", value)) and narrowest <= ratio_of(value) <= widest


def ratio_of(value: str) -> Fraction:
    return Fraction(*map(int, value.split(":")))


def pixels(value: Any) -> bool:
    sides = whole(1, 14_142)
    return isinstance(value, dict) and {"width", "height"} == value.keys() and all(map(sides, value.values()))


@dataclass(frozen=True)
class Endpoint:
    """One endpoint as documented; fields that are needed lest the provider take a default of its own are `required`."""

    path: str
    fields: Mapping[str, Legal]
    required: frozenset[str]


def endpoint(path: str, fields: Mapping[str, Legal], *required: str, without: str = "") -> Endpoint:
    """`required` beside the prompt and the format, whose defaults differ everywhere."""
    needed = {"prompt", "output_format", *required}
    return Endpoint(path, {"prompt": text, **fields}, frozenset(needed - {without}))


SEED_32 = whole(0, 2**32 - 1)
FAR = (Fraction(9, 21), Fraction(21, 9))
BFL = {
    "seed": SEED_32,
    "output_format": word("jpeg", "png", "webp"),
    "prompt_upsampling": flag,
    "safety_tolerance": whole(0, 6),
    "webhook_url": written(LINK),
}
BFL_IMAGES = {f"input_image{suffix}": written(BASE64, LINK) for suffix in ("", "_2", "_3", "_4")}
BFL_KONTEXT = BFL | {"aspect_ratio": shape(*FAR)}
BFL_EDIT = BFL_KONTEXT | BFL_IMAGES | {"safety_tolerance": whole(0, 2)}  # bfl-17

FAL_RATIOS = ("21:9", "16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "9:21")
FAL_SIZES = {
    "square_hd": Fraction(1),
    "square": Fraction(1),
    "portrait_4_3": Fraction(3, 4),
    "portrait_16_9": Fraction(9, 16),
    "landscape_4_3": Fraction(4, 3),
    "landscape_16_9": Fraction(16, 9),
}
FAL_IMAGE = written(LINK, DATA_URI)
FAL_PLAIN = {
    "seed": whole(0, 2**64 - 1),
    "num_images": whole(1, 4),
    "output_format": word("jpeg", "png"),
    "enhance_prompt": flag,
    "sync_mode": lambda value: value is False,  # true shortens the life of the result to minutes
}
FAL_PRO = FAL_PLAIN | {"safety_tolerance": word("1", "2", "3", "4", "5", "6")}
FAL_KONTEXT = FAL_PRO | {"guidance_scale": number(1, 20), "aspect_ratio": word(*FAL_RATIOS)}
FAL_DEV = FAL_PLAIN | {
    "image_url": FAL_IMAGE,
    "num_inference_steps": whole(10, 50),
    "guidance_scale": number(1, 20),
    "enable_safety_checker": lambda value: value is True,
    "acceleration": word("none", "regular", "high"),
    "resolution_mode": word("auto", "match_input", *FAL_RATIOS[:4], "1:1", "2:3", "4:5", "5:4", "3:4", "9:16", "9:21"),
}
FAL_11 = FAL_PRO | {"image_size": lambda value: pixels(value) or value in FAL_SIZES}
FAL_ULTRA = FAL_PRO | {"aspect_ratio": shape(Fraction(1, 100), Fraction(100)), "raw": flag}

KIE = {
    "aspectRatio": word("21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
    "outputFormat": word("jpeg", "png"),
    "model": word("flux-kontext-pro", "flux-kontext-max"),
    "safetyTolerance": whole(0, 6),
    "promptUpsampling": flag,
    "enableTranslation": flag,
    "callBackUrl": written(LINK),
    "uploadCn": flag,
    "watermark": text,
}
KIE_EDIT = KIE | {"inputImage": written(LINK), "safetyTolerance": whole(0, 2)}
KIE_NEEDED = ("outputFormat", "model", "safetyTolerance", "enableTranslation")

TOGETHER = {
    "model": text,
    "seed": whole(0, 2**64 - 1),
    "n": whole(1, 4),
    "response_format": word("base64", "url"),
    "output_format": word("jpeg", "png"),
    "width": whole(8, 4096, 8),
    "height": whole(8, 4096, 8),
    "steps": never,
    "guidance_scale": never,
    "disable_safety_checker": never,
}
TOGETHER_KONTEXT = TOGETHER | {"aspect_ratio": shape(*FAR)}
TOGETHER_NEEDED = ("model", "response_format")


def kie(fields: Mapping[str, Legal], *required: str) -> Endpoint:
    return endpoint("/api/v1/flux/kontext/generate", fields, *KIE_NEEDED, *required, without="output_format")


def together(fields: Mapping[str, Legal], *required: str) -> Endpoint:
    return endpoint("/v1/images/generations", fields, *TOGETHER_NEEDED, *required)


# Adapter -> (model, what is made of how many images) -> the endpoint that must be called.
Job = tuple[str, str]
DOCUMENTED: Mapping[str, Mapping[Job, Endpoint]] = {
    "bfl": {
        **{
            (model, job): endpoint(f"/v1/{model}", fields, "safety_tolerance", *more)
            for model in ("flux-kontext-pro", "flux-kontext-max")
            for job, fields, more in (
                ("generate", BFL_KONTEXT, ("aspect_ratio",)),
                ("edit", BFL_EDIT, ("input_image",)),
                ("edit several", BFL_EDIT, ("input_image", "input_image_2")),
            )
        },
        ("flux-1.1-pro", "generate"): endpoint(
            "/v1/flux-pro-1.1",
            BFL | {"width": whole(256, 1440, 32), "height": whole(256, 1440, 32)},
            *("safety_tolerance", "width", "height"),
        ),
        ("flux-1.1-pro-ultra", "generate"): endpoint(
            "/v1/flux-pro-1.1-ultra", BFL_KONTEXT, "safety_tolerance", "aspect_ratio"
        ),
    },
    "fal": {
        **{
            (f"flux-kontext-{model}", job): endpoint(f"/fal-ai/flux-pro/kontext{path}", FAL_KONTEXT | fields, *more)
            for model, top in (("pro", ""), ("max", "/max"))
            for job, path, fields, more in (
                ("generate", f"{top}/text-to-image", {}, ("safety_tolerance", "aspect_ratio")),
                ("edit", top, {"image_url": FAL_IMAGE}, ("safety_tolerance", "image_url")),
                ("edit several", f"{top}/multi", {"image_urls": some(FAL_IMAGE)}, ("safety_tolerance", "image_urls")),
            )
        },
        ("flux-kontext-dev", "edit"): endpoint(
            "/fal-ai/flux-kontext/dev", FAL_DEV, "image_url", "enable_safety_checker"
        ),
        ("flux-1.1-pro", "generate"): endpoint("/fal-ai/flux-pro/v1.1", FAL_11, "safety_tolerance", "image_size"),
        ("flux-1.1-pro-ultra", "generate"): endpoint(
            "/fal-ai/flux-pro/v1.1-ultra", FAL_ULTRA, "safety_tolerance", "aspect_ratio"
        ),
    },
    "kie": {
        (model, job): made
        for model in ("flux-kontext-pro", "flux-kontext-max")
        for job, made in (("generate", kie(KIE, "aspectRatio")), ("edit", kie(KIE_EDIT, "inputImage")))
    },
    "together": {
        **{
            (model, job): made
            for model in ("flux-kontext-pro", "flux-kontext-max")
            for job, made in (
                ("generate", together(TOGETHER_KONTEXT)),
                ("edit", together(TOGETHER_KONTEXT | {"image_url": written(LINK, DATA_URI)}, "image_url")),
            )
        },
        ("flux-1.1-pro", "generate"): together(TOGETHER, "width", "height"),
    },
}
# Where a canonical dial stands in each body.
SNAKE = {
    "guidance": "guidance_scale",
    "output_format": "output_format",
    "prompt_upsampling": "prompt_upsampling",
    "safety_tolerance": "safety_tolerance",
    "seed": "seed",
    "steps": "steps",
}
WORDS: Mapping[str, Mapping[str, str]] = {
    "bfl": SNAKE,
    "fal": SNAKE | {"prompt_upsampling": "enhance_prompt", "steps": "num_inference_steps"},
    "kie": {
        **dict.fromkeys(("guidance", "seed", "steps"), "no such field"),
        "output_format": "outputFormat",
        "prompt_upsampling": "promptUpsampling",
        "safety_tolerance": "safetyTolerance",
    },
    "together": SNAKE,
}
SHAPE_WORDS = ("aspect_ratio", "aspectRatio", "resolution_mode", "image_size", "width", "height")
# Who takes a shape of its own for an edit that names none, instead of the input's (together-8).
OWN_SHAPE = {"together"}
LOOSEST = 6

# ------------------------------------------------------------------------------------------------- requests and answers

# What is installed is loaded anew: $ANYKONTEXT_PLUGINS, which may leave some out, is not looked at.
ADAPTERS = {name: one for name, one in Registry.load().adapters.items() if name in DOCUMENTED}
CANDIDATES = [
    pytest.param(
        Candidate(Provider(name, one, dict(one.facts.origins), lambda: SecretStr("k")), model), id=f"{name}/{model}"
    )
    for name, one in ADAPTERS.items()
    for model in one.facts.models
]
each = pytest.mark.parametrize("who", CANDIDATES)
often = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

PLACED = "https://uploads.example.com/a.jpg"
PICTURES = [
    InputImage(b"\xff\xd8\xff", None, "image/jpeg", 640, 480),
    InputImage(b"\x89PNG", None, "image/png", 1000, 617),
    InputImage(None, "https://example.com/a.png", None, None, None),  # of which no size is known
    InputImage(b"\xff\xd8\xff", None, "image/jpeg", 6000, 200),  # 30:1
]
COMMON_RATIOS = ("1:1", "16:9", "32:18", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9", "7:3", "9:21", "4:5", "2:1")
RATIOS = st.one_of(
    st.sampled_from(COMMON_RATIOS),
    st.builds("{}:{}".format, st.integers(1, 50), st.integers(1, 50)),
    st.sampled_from(["99999:1", "1:99999"]),
)
SIZES = st.one_of(
    st.sampled_from([(1024, 1024), (1024, 768), (1440, 1440), (1792, 768), (1000, 617), (99_999, 1)]),
    st.tuples(st.integers(1, 80), st.integers(1, 80)).map(lambda sides: (sides[0] * 32, sides[1] * 32)),
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
)
SHAPES = st.one_of(
    st.just({}),
    st.builds(lambda value: {"aspect_ratio": value}, RATIOS),
    st.builds(lambda value: {"size": value}, SIZES),
)
DIAL_VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "output_format": st.sampled_from(["jpeg", "png", "webp"]),
    "seed": st.one_of(
        st.none(), st.just(0), st.sampled_from([2**31, 2**32, 2**53 + 1, 2**64 - 1]), st.integers(0, 2**64 - 1)
    ),
    "safety_tolerance": st.integers(0, 6),
    "guidance": st.one_of(st.none(), st.floats(0.01, 100), st.integers(1, 30)),
    "steps": st.one_of(st.none(), st.integers(1, 200)),
    "prompt_upsampling": st.booleans(),
}
PROMPTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
DIALLED = st.fixed_dictionaries({"prompt": PROMPTS}, optional=DIAL_VALUES)
# Meaning that few providers take; it is asked for now and then.
RARE = st.sampled_from(
    [*[{}] * 5, {"watermark": "mine"}, {"translate_prompt": True}, {"translate_prompt": False}, {"num_images": 30}]
)
REST = st.fixed_dictionaries(
    {}, optional={"num_images": st.integers(1, 7), "webhook_url": st.just("https://example.com/hook")}
)


@dataclass(frozen=True)
class Asked:
    """A request as fields, with its images as the client has read them."""

    fields: Mapping[str, Any]
    images: tuple[InputImage, ...]

    @property
    def request(self) -> ImageRequest:
        return ImageRequest(images=[image.data or image.url for image in self.images], **self.fields)

    def but(self, **fields: Any) -> "Asked":
        return replace(self, fields={**self.fields, **fields})


@st.composite
def asked(draw: st.DrawFn, who: Candidate, *, meaning: bool = True) -> Asked:
    """Anything that may be asked; without `meaning` only the dials, which are always fitted."""
    made = draw(st.sampled_from(sorted(job for model, job in DOCUMENTED[adapter_of(who)] if model == who.model)))
    fewest, most = {"generate": (0, 0), "edit": (1, 1), "edit several": (2, 4)}[made]
    few = draw(st.lists(st.sampled_from(PICTURES if meaning else PICTURES[:2]), min_size=fewest, max_size=most))
    images = draw(st.sampled_from([few, few, few, few, few, [], PICTURES[:1] * 5])) if meaning else few
    fields = draw(DIALLED) | (draw(SHAPES) | draw(REST) | draw(RARE) if meaning else {})
    return Asked(fields, tuple(images))


def adapter_of(who: Candidate) -> str:
    return who.provider.adapter.facts.name


def fit(who: Candidate, what: Asked, *, strict: bool = False) -> Step:
    return negotiate(what.request, what.images, who, Policy(strict=strict), waits=False)


def either(who: Candidate, what: Asked, *, strict: bool = False) -> Step | Misfit:
    try:
        return fit(who, what, strict=strict)
    except Misfit as misfit:
        return misfit


def sent(who: Candidate, order: Effective) -> tuple[str, dict[str, Any]]:
    """Path and body of the submit; images that are uploaded first are URLs by then, as the engine has it."""
    provider = who.provider
    images = [replace(one, data=None, url=PLACED) if provider.must_upload(one) else one for one in order.images]
    call = provider.adapter.submit(replace(order, images=tuple(images)))
    assert call.body is not None
    assert "authorization" not in {name.lower() for name in call.headers}
    return call.path.partition("?")[0], json.loads(bytes(call.body))


def job(order: Effective) -> Job:
    return order.model, "edit several" if len(order.images) > 1 else order.mode


def complaints(body: Mapping[str, Any], documented: Endpoint) -> list[str]:
    """What is wrong with a body by the provider's own documentation."""
    found = [f"{name} is missing" for name in sorted(documented.required - body.keys())]
    for name, value in body.items():
        if name not in documented.fields:
            found.append(f"{name} is not documented")
        elif not documented.fields[name](value):
            found.append(f"{name}={value!r} is not legal")
    return found


def wire_shape(body: Mapping[str, Any]) -> Fraction | None:
    """The ratio that a body asks for; None where it leaves that to the provider."""
    if "width" in body:
        return Fraction(body["width"], body["height"])
    for name in SHAPE_WORDS[:4]:
        value = body.get(name)
        if isinstance(value, dict):
            return Fraction(value["width"], value["height"])
        if value is not None and value != "match_input":
            return FAL_SIZES[value] if value in FAL_SIZES else ratio_of(value)
    return None


def explicit(what: Asked) -> Iterator[tuple[str, Any]]:
    """The dials that the caller set, with their values."""
    return ((name, getattr(what.request, name)) for name in DIALS if name in what.fields)


def same(name: str, wanted: Any, got: Any) -> bool:
    """Whether a dial got what was asked; where there is no such dial, `False` is what happens."""
    return bool(wanted == got) or (name == "prompt_upsampling" and wanted is False and got is None)


def records(step: Step, name: str) -> list[Adjustment]:
    return [one for one in step.adjustments if one.option == name]


def assert_documented(who: Candidate, step: Step) -> None:
    """Every body is one that the provider documents, at the endpoint for that job."""
    for order in step.orders:
        path, body = sent(who, order)
        documented = DOCUMENTED[adapter_of(who)][job(order)]
        assert documented.path == path
        assert [] == complaints(body, documented)


def assert_no_looser_than_told(who: Candidate, what: Asked, step: Step) -> None:
    """By what stands in the body: `more_permissive` is there exactly where it is so, or may be."""
    wanted = what.request.safety_tolerance
    for order in step.orders:
        _, body = sent(who, order)
        found = body.get(WORDS[adapter_of(who)]["safety_tolerance"])
        dropped = "safety_tolerance" in what.fields and wanted < LOOSEST
        looser = dropped if found is None else int(found) > wanted
        assert ["safety_tolerance"] * looser == [one.option for one in step.adjustments if one.more_permissive]


def assert_told(what: Asked, step: Step) -> None:
    """Each difference of a dial that was set is recorded once, and nothing is that did not change."""
    assert {one.option for one in step.adjustments} <= {*DIALS, "images", "size"}
    for name in DIALS:
        wanted, found, told = getattr(what.request, name), getattr(step.orders[0], name), records(step, name)
        if name in what.fields:
            assert (0 if same(name, wanted, found) else 1) == len(told), name
        for one in told:
            assert not same(name, wanted, found), name
            assert (wanted, found) == (one.asked, one.sent)
            assert one.reason
            assert "negotiation" == one.by


# --------------------------------------------------------------------------------------------------------- the table


def test_every_adapter_that_comes_with_this_is_in_the_table_with_all_that_it_offers() -> None:
    registry = Registry.load()
    ours = {
        one.facts.name: one
        for plugin in registry.plugins
        for one in plugin.adapters
        if "anykontext " in plugin.distribution
    }

    assert DOCUMENTED.keys() == ours.keys(), registry.broken
    for name, adapter in ours.items():
        offered = {(model, mode) for model, facts in adapter.facts.models.items() for mode in facts.modes}
        assert offered == {(model, made) for model, made in DOCUMENTED[name] if made != "edit several"}, name


@pytest.mark.parametrize(
    ("name", "made", "wrong"),
    [
        ("bfl", "edit", {"safety_tolerance": 3}),
        ("bfl", "edit", {"input_image": "data:image/png;base64,QUJD"}),
        ("bfl", "edit", {"image": "QUJD"}),
        ("bfl", "generate", {"safety_tolerance": True}),
        ("bfl", "generate", {"aspect_ratio": "22:9"}),
        ("fal", "edit", {"safety_tolerance": 2}),
        ("fal", "edit", {"safety_tolerance": "0"}),
        ("fal", "edit", {"image_url": "QUJD"}),
        ("fal", "generate", {"image_url": "https://example.com/a.png"}),
        ("fal", "generate", {"output_format": "webp"}),
        ("kie", "edit", {"safetyTolerance": "2"}),
        ("kie", "edit", {"inputImage": "data:image/png;base64,QUJD"}),
        ("kie", "generate", {"aspectRatio": "9:21"}),
        ("kie", "generate", {"seed": 0}),
        ("together", "generate", {"n": 5}),
        ("together", "generate", {"safety_tolerance": 2}),
        ("together", "generate", {"disable_safety_checker": False}),
    ],
)
def test_the_table_finds_what_the_sheets_call_wrong(name: str, made: str, wrong: dict[str, Any]) -> None:
    ((field, _),) = wrong.items()

    found = complaints(wrong, DOCUMENTED[name]["flux-kontext-pro", made])

    assert any(one.startswith(field) for one in found)


# ---------------------------------------------------------------------------------------------- what goes over the wire


@each
@often
@given(data=st.data(), strict=st.booleans())
def test_whatever_is_asked_only_documented_fields_in_their_ranges_are_sent(
    who: Candidate, data: st.DataObject, strict: bool
) -> None:
    what = data.draw(asked(who))
    step = either(who, what, strict=strict)
    if isinstance(step, Misfit):
        return

    assert_documented(who, step)


EDGES: Mapping[str, Sequence[Any]] = {
    "guidance": (None, 0.01, 1, 1.5, 3.4, 20, 20.5, 100),
    "output_format": ("jpeg", "png", "webp"),
    "prompt_upsampling": (False, True),
    "safety_tolerance": range(7),
    "seed": (None, 0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**53 + 1, 2**63, 2**64 - 1),
    "steps": (None, 1, 9, 10, 28, 50, 51, 1000),
}


@each
@pytest.mark.parametrize("dial", EDGES)
def test_each_edge_of_a_dial_is_sent_as_documented_or_told(who: Candidate, dial: str) -> None:
    jobs = [made for model, made in DOCUMENTED[adapter_of(who)] if model == who.model]
    for made, value in itertools.product(jobs, EDGES[dial]):
        what = Asked({"prompt": "a cat", dial: value}, tuple(PICTURES[: {"generate": 0, "edit": 1}.get(made, 2)]))

        step = fit(who, what)

        assert_documented(who, step)
        assert_no_looser_than_told(who, what, step)
        assert_told(what, step)
        assert isinstance(either(who, what, strict=True), Misfit) is bool(records(step, dial))
        seed = step.orders[0].seed
        assert dial != "seed" or seed is None or seed == value or seed == value % 2**32  # seeds keep their difference


@each
@often
@given(data=st.data())
def test_the_meaning_arrives_as_it_was_asked(who: Candidate, data: st.DataObject) -> None:
    what = data.draw(asked(who))
    step = either(who, what)
    if isinstance(step, Misfit):
        return

    bodies = [sent(who, order)[1] for order in step.orders]
    first, request = bodies[0], what.request
    assert {request.prompt} == {body["prompt"] for body in bodies}
    assert request.num_images == sum(body.get("num_images", body.get("n", 1)) for body in bodies)
    assert request.translate_prompt == first.get("enableTranslation", False)
    assert request.watermark == first.get("watermark")
    if request.size:
        size = first.get("image_size", first)
        assert request.size == (size["width"], size["height"])
    elif request.aspect_ratio or not what.images:
        assert ratio_of(request.aspect_ratio or "1:1") == wire_shape(first)
    elif (shape := wire_shape(first)) is None:
        assert adapter_of(who) not in OWN_SHAPE
    else:
        assert what.images[0].width
        assert what.images[0].height
        assert abs(shape / Fraction(what.images[0].width, what.images[0].height) - 1) <= Fraction(205, 10_000)


@each
@often
@given(data=st.data())
def test_what_was_negotiated_is_what_stands_in_the_body(who: Candidate, data: st.DataObject) -> None:
    what = data.draw(asked(who, meaning=False))
    step = either(who, what)
    if isinstance(step, Misfit):
        return

    _, body = sent(who, step.orders[0])
    name = adapter_of(who)
    for dial in DIALS:
        value, written_as = getattr(step.orders[0], dial), WORDS[name][dial]
        if name == "fal" and dial == "safety_tolerance" and value is not None:
            value = str(value)
        assert value == body.get(written_as), dial
        assert (value is not None) is (written_as in body), dial


@each
@pytest.mark.parametrize("images", [(), (PICTURES[0],)], ids=["generate", "edit"])
def test_a_falsy_value_is_a_value_wherever_it_is_documented(who: Candidate, images: tuple[InputImage, ...]) -> None:
    name, what = adapter_of(who), Asked({"prompt": "a cat"}, images)
    made = (who.model, "edit" if images else "generate")
    if made not in DOCUMENTED[name]:
        assert "images" == misfit_of(who, what).option
        return
    fields = DOCUMENTED[name][made].fields

    step = fit(who, what.but(seed=0, safety_tolerance=0, prompt_upsampling=False))

    _, body = sent(who, step.orders[0])
    strictest: Any = "1" if name == "fal" else 0
    for dial, value in (("seed", 0), ("safety_tolerance", strictest), ("prompt_upsampling", False)):
        if WORDS[name][dial] in fields:
            found = body[WORDS[name][dial]]
            assert (type(value), value) == (type(found), found), dial


# ------------------------------------------------------------------------------------------------------- what is told


@each
@often
@given(data=st.data())
def test_adjusting_what_was_adjusted_changes_nothing(who: Candidate, data: st.DataObject) -> None:
    what = data.draw(asked(who))
    first = either(who, what)
    if isinstance(first, Misfit):
        return
    order = first.orders[0]
    kept = {name: value for name, value in what.fields.items() if name not in {*DIALS, "aspect_ratio", "size"}}
    now = {name: getattr(order, name) for name in (*DIALS, "aspect_ratio", "size")}
    again = Asked(kept | {name: value for name, value in now.items() if value is not None}, what.images)

    assert first.orders == fit(who, again).orders
    assert () == fit(who, again).adjustments
    assert first.orders == fit(who, again, strict=True).orders


@each
@often
@given(data=st.data())
def test_strict_refuses_or_sends_what_the_caller_set(who: Candidate, data: st.DataObject) -> None:
    what = data.draw(asked(who))
    step = either(who, what, strict=True)
    if isinstance(step, Misfit):
        return

    for name, value in explicit(what):
        assert same(name, value, getattr(step.orders[0], name)), name
        assert [] == records(step, name)


@each
@often
@given(data=st.data())
def test_strict_refuses_exactly_what_would_be_adjusted(who: Candidate, data: st.DataObject) -> None:
    what = data.draw(asked(who, meaning=False))
    loose, strict = either(who, what), either(who, what, strict=True)
    if isinstance(loose, Misfit):
        assert isinstance(strict, Misfit)
        assert loose.option == strict.option
        return
    touched = {one.option for one in loose.adjustments} & what.fields.keys()

    if isinstance(strict, Misfit):
        assert strict.option in touched | {one.option for one in loose.adjustments if one.option == "images"}
        assert strict.option in strict.reason or strict.option == "images"
    else:
        assert set() == touched


@each
@often
@given(data=st.data(), strict=st.booleans())
def test_nothing_is_more_permissive_than_asked_without_saying_so(
    who: Candidate, data: st.DataObject, strict: bool
) -> None:
    what = data.draw(asked(who))
    step = either(who, what, strict=strict)
    if isinstance(step, Misfit):
        return
    assert_no_looser_than_told(who, what, step)


@each
@often
@given(data=st.data())
def test_each_difference_is_recorded_once_and_nothing_else_is(who: Candidate, data: st.DataObject) -> None:
    what = data.draw(asked(who))
    step = either(who, what)
    if isinstance(step, Misfit):
        return

    assert_told(what, step)


# ---------------------------------------------------------------------------------------------------- what does not fit


def takes_ratios_only(who: Candidate) -> bool:
    fields = {
        name for (model, _), made in DOCUMENTED[adapter_of(who)].items() if model == who.model for name in made.fields
    }
    return not fields & {"width", "image_size"}


def misfit_of(who: Candidate, what: Asked) -> Misfit:
    with pytest.raises(Misfit) as caught:
        fit(who, what)
    return caught.value


def remedied(what: Asked, misfit: Misfit) -> Asked | None:
    """The same with the value that the misfit calls possible; None where it knows none."""
    allowed, hint = misfit.allowed, re.search(r"aspect_ratio='(\d+:\d+)'", misfit.reason)
    fields = {name: value for name, value in what.fields.items() if name != misfit.option}
    match misfit.option, allowed:
        case "aspect_ratio" | "size", str():
            return replace(what, fields=fields | {"aspect_ratio": allowed})
        case "aspect_ratio" | "size", (int(), int()):
            return replace(what, fields=fields | {"size": tuple(allowed)})
        case "size", None if hint:
            return replace(what, fields=fields | {"aspect_ratio": hint[1]})
        case "webhook_url", None:
            return replace(what, fields=fields)
        case "images", int():
            return replace(what, images=what.images[:allowed])
        case "images", "edit" | "generate":
            return replace(what, images=(PICTURES[0],) if allowed == "edit" else ())
        case "num_images", int():
            return what.but(num_images=allowed)
        case "translate_prompt" | "watermark", None:
            return replace(what, fields=fields)
    return None


def asked_for(what: Asked, misfit: Misfit) -> Sequence[Any]:
    """What a misfit may name as asked."""
    request = what.request
    if misfit.option == "images":
        return [len(what.images), request.mode]
    if misfit.option == "aspect_ratio" and request.aspect_ratio is None:
        first = what.images[0] if what.images else PICTURES[0]
        return [None, "1:1", f"{first.width}:{first.height}"]
    if misfit.option == "aspect_ratio":
        reduced = ratio_of(str(request.aspect_ratio))
        return [request.aspect_ratio, f"{reduced.numerator}:{reduced.denominator}"]
    return [getattr(request, misfit.option)]


@each
@often
@given(data=st.data())
def test_a_misfit_names_the_option_and_a_value_that_does_fit(who: Candidate, data: st.DataObject) -> None:
    what = data.draw(asked(who))
    seen: set[str] = set()
    while isinstance(found := either(who, what), Misfit):
        assert found.option not in seen, f"{found.reason}; what was said to be possible is not"
        assert found.option in ImageRequest.model_fields
        assert found.option not in DIALS
        assert found.asked in asked_for(what, found)
        assert found.reason
        seen.add(found.option)
        better = remedied(what, found)
        if better is None:  # no value is possible, or none is known without the size of a picture
            assert "aspect_ratio" == found.option
            assert found.allowed is None
            return
        what = better


@pytest.mark.parametrize("who", [one for one in CANDIDATES if takes_ratios_only(one.values[0])])
def test_a_size_is_told_as_a_ratio_that_is_offered(who: Candidate) -> None:
    what = Asked({"prompt": "a cat", "size": (3200, 100)}, (PICTURES[0],) if "dev" in who.model else ())

    better = remedied(what, misfit_of(who, what))

    assert better is not None
    assert isinstance(fit(who, better), Step)
