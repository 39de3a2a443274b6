from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.adapting import (
    Choices,
    Effective,
    InputImage,
    InputLimits,
    ModeFacts,
    ModelFacts,
    Numbers,
    Ratios,
    Sizes,
    Toggle,
)
from anykontext.engine.misfit import Misfit
from anykontext.engine.negotiate import DIALS, negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.shape import MEGAPIXEL
from anykontext.model.errors import UnsupportedOption
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment
from anykontext_bfl import Bfl

STRICT = Policy(strict=True)
PICTURE = InputImage(b"\xff\xd8", None, "image/jpeg", 640, 480)
KONTEXT, PRO_11, ULTRA = "flux-kontext-pro", "flux-1.1-pro", "flux-1.1-pro-ultra"


def fit(lab: SimpleNamespace, model: str = KONTEXT, *, policy: Policy | None = None, **asked: Any) -> Any:
    """The step for a request; `images=True` makes it an edit."""
    images = [PICTURE] if asked.pop("images", False) else []
    waits = asked.pop("waits", True)
    request = ImageRequest("a cat", [b"\xff\xd8"] if images else (), **asked)
    return negotiate(request, images, lab.candidate(model=model), policy or Policy(), waits=waits)


def order(lab: SimpleNamespace, model: str = KONTEXT, **asked: Any) -> Effective:
    return fit(lab, model, **asked).orders[0]


def body(found: Effective) -> dict[str, Any]:
    call = Bfl().submit(found)
    return orjson.loads(bytes(call.body))


def either(lab: SimpleNamespace, model: str, **asked: Any) -> Any:
    """The step, or why there is none."""
    try:
        return fit(lab, model, **asked)
    except Misfit as no:
        return no


def misfit(lab: SimpleNamespace, model: str = KONTEXT, **asked: Any) -> Misfit:
    with pytest.raises(Misfit) as caught:
        fit(lab, model, **asked)
    return caught.value


# ----------------------------------------------------------------------------------------------------------- shapes


def test_an_edit_without_aspect_ratio_sends_none_and_keeps_the_inputs(lab: SimpleNamespace) -> None:
    found = body(order(lab, images=True))

    assert not {"aspect_ratio", "width", "height"} & found.keys()


@pytest.mark.parametrize("model", [KONTEXT, "flux-kontext-max", ULTRA])
def test_generating_without_aspect_ratio_is_square_and_said_so(lab: SimpleNamespace, model: str) -> None:
    assert "1:1" == body(order(lab, model))["aspect_ratio"]


def test_a_model_that_takes_sizes_gets_a_square_megapixel(lab: SimpleNamespace) -> None:
    found = body(order(lab, PRO_11))

    assert (1024, 1024) == (found["width"], found["height"])
    assert "aspect_ratio" not in found


@pytest.mark.parametrize("ratio", ["9:21", "3:7", "1:2", "1:1", "16:9", "21:9", "7:3"])
def test_ratios_within_the_range_are_passed_on(lab: SimpleNamespace, ratio: str) -> None:
    spelt = {"3:7": "9:21", "7:3": "21:9"}.get(ratio, ratio)
    assert spelt == body(order(lab, aspect_ratio=ratio))["aspect_ratio"]


@pytest.mark.parametrize(
    ("ratio", "nearest"), [("1:3", "9:21"), ("8:21", "9:21"), ("3:1", "21:9"), ("22:9", "21:9"), ("99999:1", "21:9")]
)
def test_a_ratio_beyond_the_range_is_a_misfit_that_names_the_nearest(
    lab: SimpleNamespace, ratio: str, nearest: str
) -> None:
    found = misfit(lab, aspect_ratio=ratio)

    assert ("aspect_ratio", ratio, nearest) == (found.option, found.asked, found.allowed)
    assert nearest in found.reason


def test_a_size_where_only_ratios_are_taken_is_a_misfit_that_names_the_ratio(lab: SimpleNamespace) -> None:
    found = misfit(lab, size=(1920, 1080))

    assert "size" == found.option
    assert "aspect_ratio='16:9'" in found.reason


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((1000, 1000), (992, 992)),
        ((1024, 1025), (1024, 1024)),
        ((100, 1024), (256, 1024)),
        ((5000, 9000), (1440, 1440)),
        ((1, 1), (256, 256)),
    ],
)
def test_a_size_off_the_grid_is_a_misfit_that_names_the_nearest(lab: SimpleNamespace, size: Any, nearest: Any) -> None:
    found = misfit(lab, PRO_11, size=size)

    assert nearest == found.allowed
    assert order(lab, PRO_11, size=nearest).size == nearest


@settings(max_examples=200, deadline=None)
@given(width=st.integers(1, 99_999), height=st.integers(1, 99_999))
def test_a_size_made_of_a_ratio_is_exact_on_the_grid_and_about_a_megapixel(
    lab: SimpleNamespace, width: int, height: int
) -> None:
    found = either(lab, PRO_11, aspect_ratio=f"{width}:{height}")
    if isinstance(found, Misfit):
        assert order(lab, PRO_11, size=found.allowed).size == found.allowed
        return

    found = found.orders[0].size
    assert Fraction(*found) == Fraction(width, height)
    assert all(side % 32 == 0 and 256 <= side <= 1440 for side in found)


@pytest.mark.parametrize(
    ("ratio", "size"),
    [("1:1", (1024, 1024)), ("4:3", (1152, 864)), ("16:9", (1024, 576)), ("9:16", (576, 1024)), ("3:2", (1248, 832))],
)
def test_common_ratios_are_near_a_megapixel(lab: SimpleNamespace, ratio: str, size: tuple[int, int]) -> None:
    found = order(lab, PRO_11, aspect_ratio=ratio).size

    assert size == found
    assert 0.5 * MEGAPIXEL < size[0] * size[1] < 1.2 * MEGAPIXEL


# ------------------------------------------------------------------------------------------------------------ dials


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 0), ("safety_tolerance", 0), ("prompt_upsampling", False), ("output_format", "jpeg")]
)
@pytest.mark.parametrize("images", [True, False])
def test_falsy_values_and_defaults_are_sent(lab: SimpleNamespace, field: str, value: Any, images: bool) -> None:
    found = body(order(lab, images=images, **{field: value}))

    assert value == found[field]
    assert type(value) is type(found[field])


def test_the_output_format_is_always_sent(lab: SimpleNamespace) -> None:
    assert all(body(order(lab, model))["output_format"] == "jpeg" for model in (KONTEXT, PRO_11, ULTRA))


def test_without_a_seed_none_is_sent(lab: SimpleNamespace) -> None:
    assert "seed" not in body(order(lab))


@pytest.mark.parametrize("asked", [3, 4, 5, 6])
def test_safety_with_an_image_goes_to_the_nearest_and_is_stricter(lab: SimpleNamespace, asked: int) -> None:
    step = fit(lab, images=True, safety_tolerance=asked)

    (adjustment,) = step.adjustments
    assert 2 == body(step.orders[0])["safety_tolerance"]
    assert ("safety_tolerance", asked, 2, False) == (
        *(adjustment.option, adjustment.asked),
        *(adjustment.sent, adjustment.more_permissive),
    )
    assert "0 to 2" in adjustment.reason


@pytest.mark.parametrize(("asked", "sent"), [(2**32, 0), (2**32 + 7, 7), (2**64 - 1, 2**32 - 1)])
def test_a_seed_beyond_the_range_keeps_its_difference(lab: SimpleNamespace, asked: int, sent: int) -> None:
    step = fit(lab, seed=asked)

    assert sent == body(step.orders[0])["seed"]
    assert [("seed", asked, sent)] == [(one.option, one.asked, one.sent) for one in step.adjustments]


@pytest.mark.parametrize(("field", "value"), [("guidance", 3.5), ("steps", 30)])
def test_a_dial_that_is_not_offered_is_left_out_and_recorded(lab: SimpleNamespace, field: str, value: Any) -> None:
    step = fit(lab, **{field: value})

    assert field not in body(step.orders[0])
    assert [(field, value, None)] == [(one.option, one.asked, one.sent) for one in step.adjustments]


@pytest.mark.parametrize(
    ("asked", "images"),
    [({"guidance": 3.5}, False), ({"steps": 3}, True), ({"safety_tolerance": 3}, True), ({"seed": 2**32}, False)],
)
def test_strict_refuses_to_adjust_what_the_caller_set(lab: SimpleNamespace, asked: Any, images: bool) -> None:
    found = misfit(lab, images=images, policy=STRICT, **asked)

    ((name, value),) = asked.items()
    assert (name, value) == (found.option, found.asked)
    assert name in found.reason


def test_strict_judges_what_the_caller_set_not_our_defaults(lab: SimpleNamespace) -> None:
    assert () == fit(lab, images=True, policy=STRICT).adjustments


@pytest.mark.parametrize(("field", "value"), [("translate_prompt", True), ("watermark", "mine")])
def test_meaning_is_never_adjusted(lab: SimpleNamespace, field: str, value: Any) -> None:
    found = misfit(lab, **{field: value})

    assert (field, value) == (found.option, found.asked)
    assert field not in body(order(lab, translate_prompt=False))


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**64 - 1),
        "safety_tolerance": st.integers(0, 6),
        "guidance": st.floats(0.01, 100),
        "steps": st.integers(1, 1000),
        "prompt_upsampling": st.booleans(),
        "output_format": st.sampled_from(["jpeg", "png", "webp"]),
        "aspect_ratio": st.builds("{}:{}".format, st.integers(1, 50), st.integers(1, 50)),
        "num_images": st.integers(1, 4),
    },
)
MODELS = st.sampled_from(sorted(Bfl.facts.models))


def in_range(value: Any, spec: object) -> bool:
    match spec:
        case Numbers():
            whole = spec.fractions or (isinstance(value, int) and not isinstance(value, bool))
            return whole and spec.low <= value <= spec.high
        case Choices():
            return value in spec.values
        case Toggle():
            return isinstance(value, bool)
        case Ratios():
            ratio = Fraction(*map(int, value.split(":")))
            return Fraction(*spec.narrowest) <= ratio <= Fraction(*spec.widest)
        case Sizes():
            return all(spec.low <= side <= spec.high and side % spec.step == 0 for side in value)
    return False


@settings(max_examples=300, deadline=None)
@given(model=MODELS, asked=REQUESTS, images=st.booleans())
def test_whatever_is_asked_what_is_sent_is_within_the_facts_and_differences_are_recorded(
    lab: SimpleNamespace, model: str, asked: dict[str, Any], images: bool
) -> None:
    step = either(lab, model, images=images, **asked)
    if isinstance(step, Misfit):
        assert step.option in {"aspect_ratio", "images"}
        assert step.reason
        return

    options = Bfl.facts.models[model].modes["edit" if images else "generate"].options
    recorded = {one.option: one for one in step.adjustments}
    assert asked.get("num_images", 1) == len(step.orders)
    for found in step.orders:
        for name in (*DIALS, "aspect_ratio", "size"):
            value = getattr(found, name)
            assert value is None or in_range(value, options.get(name))
        for name in DIALS:
            assert getattr(found, name) == asked.get(name, getattr(found, name)) or name in recorded
    for one in recorded.values():
        assert one.asked == asked[one.option] if one.option in asked else one.asked is not None
        assert one.sent == getattr(step.orders[0], one.option)
    looser = step.orders[0].safety_tolerance
    if looser is None or looser > asked.get("safety_tolerance", 2):
        assert recorded["safety_tolerance"].more_permissive


@settings(max_examples=200, deadline=None)
@given(model=MODELS, asked=REQUESTS, images=st.booleans())
def test_adjusting_what_was_adjusted_changes_nothing(
    lab: SimpleNamespace, model: str, asked: dict[str, Any], images: bool
) -> None:
    try:
        first = fit(lab, model, images=images, **asked)
    except Misfit:
        return
    effective = {name: getattr(first.orders[0], name) for name in DIALS}
    again = {**asked, **{name: value for name, value in effective.items() if name in asked or value is not None}}
    again = {name: value for name, value in again.items() if value is not None}

    second = fit(lab, model, images=images, policy=STRICT, **again)

    assert first.orders == second.orders
    assert () == second.adjustments


@settings(max_examples=200, deadline=None)
@given(model=MODELS, asked=REQUESTS, images=st.booleans())
def test_strict_never_adjusts(lab: SimpleNamespace, model: str, asked: dict[str, Any], images: bool) -> None:
    try:
        step = fit(lab, model, images=images, policy=STRICT, **asked)
    except Misfit:
        return

    assert all(getattr(step.orders[0], name) == asked[name] for name in DIALS if name in asked)
    assert all(one.option not in asked for one in step.adjustments)


# --------------------------------------------------------------------------------- facts that BFL does not have (yet)


def toy(lab: SimpleNamespace, **options: Any) -> Any:
    models = {KONTEXT: ModelFacts("toy", {"generate": ModeFacts(options)}, "toy")}
    return lab.candidate(adapter=lab.Toy({}, models=models))


def asked_of(who: Any, **asked: Any) -> Any:
    return negotiate(ImageRequest("a cat", **asked), [], who, Policy())


def test_where_safety_is_not_offered_leaving_it_out_may_be_looser_and_says_so(lab: SimpleNamespace) -> None:
    (adjustment,) = asked_of(toy(lab), safety_tolerance=0).adjustments

    assert (None, True) == (adjustment.sent, adjustment.more_permissive)


def test_a_safety_that_starts_above_what_was_asked_is_looser_and_says_so(lab: SimpleNamespace) -> None:
    (adjustment,) = asked_of(toy(lab, safety_tolerance=Numbers(1, 6, "toy-1")), safety_tolerance=0).adjustments

    assert (1, True) == (adjustment.sent, adjustment.more_permissive)


def test_a_default_of_ours_that_had_to_be_loosened_says_so_too(lab: SimpleNamespace) -> None:
    (adjustment,) = asked_of(toy(lab, safety_tolerance=Numbers(3, 6, "toy-1"))).adjustments

    assert (3, True) == (adjustment.sent, adjustment.more_permissive)


def test_a_fraction_where_whole_numbers_are_taken_is_rounded_and_recorded(lab: SimpleNamespace) -> None:
    step = asked_of(toy(lab, guidance=Numbers(1, 10, "toy-1")), guidance=3.4)

    assert 3 == step.orders[0].guidance
    assert "whole" in step.adjustments[0].reason


@pytest.mark.parametrize(("asked", "sent"), [(0.5, 1.5), (3.4, 3.4), (99, 5.0)])
def test_fractions_go_to_the_nearest_end(lab: SimpleNamespace, asked: float, sent: float) -> None:
    step = asked_of(toy(lab, guidance=Numbers(1.5, 5, "toy-1", fractions=True)), guidance=asked)

    assert sent == step.orders[0].guidance


def test_a_format_that_is_not_offered_becomes_the_first_that_is(lab: SimpleNamespace) -> None:
    step = asked_of(toy(lab, output_format=Choices(("png", "jpeg"), "toy-1")), output_format="webp")

    assert "png" == step.orders[0].output_format
    assert "it offers png, jpeg" == step.adjustments[0].reason


def test_what_may_not_be_asked_for_a_shape_takes_only_the_default(lab: SimpleNamespace) -> None:
    assert asked_of(toy(lab)).orders[0].aspect_ratio is None
    with pytest.raises(Misfit, match="takes no aspect_ratio"):
        asked_of(toy(lab), aspect_ratio="1:1")


@pytest.mark.parametrize(("count", "tasks"), [(1, [1]), (4, [4]), (5, [4, 1]), (9, [4, 4, 1])])
def test_images_are_split_over_tasks_as_facts_say(lab: SimpleNamespace, count: int, tasks: list[int]) -> None:
    who = lab.candidate(adapter=lab.Toy({}, images_per_task=4))

    step = asked_of(who, num_images=count)

    assert tasks == [one.num_images for one in step.orders]


# -------------------------------------------------------------------------------------------------------- exclusions


def test_a_model_that_is_not_hosted_names_those_that_are(lab: SimpleNamespace) -> None:
    found = misfit(lab, "flux-kontext-dev")

    assert "model" == found.option
    assert "flux-kontext-pro" in found.reason


@pytest.mark.parametrize("model", [PRO_11, ULTRA])
def test_a_model_without_edits_says_so(lab: SimpleNamespace, model: str) -> None:
    found = misfit(lab, model, images=True)

    assert ("images", "generate") == (found.option, found.allowed)


def test_more_images_than_it_takes_are_a_misfit(lab: SimpleNamespace) -> None:
    request = ImageRequest("a cat", [b"1"] * 5)

    with pytest.raises(Misfit) as caught:
        negotiate(request, [PICTURE] * 5, lab.candidate(), Policy())

    assert ("images", 5, 4) == (caught.value.option, caught.value.asked, caught.value.allowed)


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (InputImage(b"x", None, "image/tiff", 1, 1, "photo.tif"), "JPEG or PNG or WebP only"),
        (InputImage(b"x" * 15_728_641, None, "image/png", 1, 1, "big.png"), "at most 15,728,640 bytes"),
        (InputImage(b"x", None, "image/png", 5000, 5000, "wide.png"), "at most 20,000,000 pixels"),
    ],
)
def test_an_image_that_it_does_not_take_is_to_be_fitted(lab: SimpleNamespace, image: InputImage, word: str) -> None:
    request = ImageRequest("a cat", [b"1"])
    step = negotiate(request, [image], lab.candidate(), Policy())

    assert ["images"] == [one.option for one in step.adjustments]
    assert word in step.adjustments[0].reason
    with pytest.raises(Misfit) as caught:
        negotiate(request, [image], lab.candidate(), Policy(strict=True))
    assert word in caught.value.reason


def test_what_was_done_to_the_images_before_is_recorded_and_refused_when_strict(lab: SimpleNamespace) -> None:
    request, done = ImageRequest("a cat", [b"1"]), Adjustment("images", "GIF", "PNG 1 x 1", "converted")
    step = negotiate(request, [PICTURE], lab.candidate(), Policy(), prepared=[done])

    assert (done,) == step.adjustments
    with pytest.raises(Misfit, match="converted"):
        negotiate(request, [PICTURE], lab.candidate(), Policy(strict=True), prepared=[done])


def test_a_form_that_it_does_not_take_is_named(lab: SimpleNamespace) -> None:
    who = lab.candidate(adapter=lab.Toy({}, inputs=InputLimits(("url",), ("image/jpeg",), 10**6, 10**6, "toy-1")))

    with pytest.raises(Misfit) as caught:
        negotiate(ImageRequest("a cat", [b"1"]), [PICTURE], who, Policy())

    assert "takes images as url only" in caught.value.reason


def test_a_url_is_fetched_for_a_provider_that_takes_none(lab: SimpleNamespace) -> None:
    who = lab.candidate(adapter=lab.Toy({}, inputs=InputLimits(("bytes",), ("image/jpeg",), 10**6, 10**6, "toy-1")))
    link = InputImage(None, "https://x.example/a.png", None, None, None, "a.png")
    step = negotiate(ImageRequest("a cat", [b"1"]), [link], who, Policy())

    assert "does not fetch URLs" in step.adjustments[0].reason


@pytest.mark.parametrize(("model", "most"), [(KONTEXT, 24), ("flux-kontext-max", 6)])
def test_more_tasks_than_run_at_once_are_a_misfit(lab: SimpleNamespace, model: str, most: int) -> None:
    assert most == len(fit(lab, model, num_images=most).orders)
    assert most == misfit(lab, model, num_images=most + 1).allowed


def test_a_webhook_that_takes_the_polling_away_needs_somebody_who_does_not_wait(lab: SimpleNamespace) -> None:
    found = misfit(lab, webhook_url="https://me.example/hook")
    step = fit(lab, webhook_url="https://me.example/hook", waits=False)

    assert "submit()" in found.reason
    assert "https://me.example/hook" == body(step.orders[0])["webhook_url"]


def test_a_misfit_becomes_an_unsupported_option_of_the_provider(lab: SimpleNamespace) -> None:
    error = misfit(lab, aspect_ratio="3:1").error("bfl")

    assert ("aspect_ratio", "3:1", "21:9", "bfl") == (error.option, error.asked, error.allowed, error.provider)
    assert isinstance(error, ValueError)
    assert "Nothing was sent" in str(error)


# -------------------------------------------------------------------------------------------------- provider_options


def test_an_option_of_the_provider_is_merged_last_and_recorded(lab: SimpleNamespace) -> None:
    step = fit(lab, ULTRA, seed=1, provider_options={"bfl": {"raw": True, "seed": 7}})

    found = body(step.orders[0])
    assert (True, 7) == (found["raw"], found["seed"])
    assert [("raw", True, "provider_options"), ("seed", 7, "provider_options")] == [
        (one.option, one.sent, one.by) for one in step.adjustments
    ]


def test_an_unknown_option_of_the_provider_names_the_near_ones(lab: SimpleNamespace) -> None:
    with pytest.raises(UnsupportedOption, match="did you mean 'seed'") as caught:
        fit(lab, provider_options={"bfl": {"sede": 7}})

    assert ("bfl.sede", "bfl") == (caught.value.option, caught.value.provider)


def test_an_option_of_another_model_is_unknown(lab: SimpleNamespace) -> None:
    assert "has no field 'raw'" in misfit(lab, provider_options={"bfl": {"raw": True}}).reason


@pytest.mark.parametrize(
    ("name", "ours"), [("prompt", "prompt"), ("webhook_url", "webhook_url"), ("input_image_3", "images")]
)
def test_a_reserved_option_names_the_canonical_one(lab: SimpleNamespace, name: str, ours: str) -> None:
    with pytest.raises(UnsupportedOption, match=f"is set by {ours}"):
        fit(lab, provider_options={"bfl": {name: "x"}})


def test_options_of_another_provider_are_not_sent(lab: SimpleNamespace) -> None:
    step = fit(lab, provider_options={"fal": {"acceleration": "high"}})

    assert "acceleration" not in body(step.orders[0])
    assert () == step.adjustments


def test_options_go_by_the_adapters_name_and_by_the_providers_which_wins(lab: SimpleNamespace) -> None:
    request = ImageRequest("a cat", provider_options={"bfl": {"seed": 1}, "bfl-eu": {"seed": 2}})

    here = negotiate(request, [], lab.candidate("bfl-eu"), Policy())
    there = negotiate(request, [], lab.candidate("bfl"), Policy())

    assert (2, 1) == (body(here.orders[0])["seed"], body(there.orders[0])["seed"])


def test_a_safety_set_in_the_providers_own_words_may_be_looser_and_says_so(lab: SimpleNamespace) -> None:
    step = fit(lab, images=True, provider_options={"bfl": {"safety_tolerance": 6}})

    assert [True] == [one.more_permissive for one in step.adjustments]


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"bytes", {1: 2}, 2**70, "\ud800"],
    ids=["object", "set", "bytes", "key", "number", "surrogate"],
)
def test_an_option_that_json_cannot_hold_is_a_misfit(lab: SimpleNamespace, value: Any) -> None:
    assert "cannot be written as JSON" in misfit(lab, provider_options={"bfl": {"seed": value}}).reason


def test_neither_a_secret_nor_a_picture_is_recorded(lab: SimpleNamespace) -> None:
    picture = "QUJD" * 10_000
    options = {"webhook_secret": "hush-hush", "image_prompt": picture}

    step = fit(lab, ULTRA, provider_options={"bfl": options})

    assert ("hush-hush", picture) == (
        body(step.orders[0])["webhook_secret"],
        body(step.orders[0])["image_prompt"],
    )
    assert "hush-hush" not in repr(step.adjustments)
    assert "QUJDQUJD" not in repr(step.adjustments)
    assert "<40000 characters>" in repr(step.adjustments)


def test_meaning_that_is_supported_is_passed_on(lab: SimpleNamespace) -> None:
    who = toy(lab, watermark=Choices((), "toy-1"), translate_prompt=Toggle("toy-2"))

    found = asked_of(who, watermark="mine", translate_prompt=True).orders[0]

    assert ("mine", True) == (found.watermark, found.translate_prompt)


def test_a_link_that_the_provider_fetches_itself_is_passed_on(lab: SimpleNamespace) -> None:
    link = InputImage(None, "https://x.example/a.png", None, None, None)

    step = negotiate(ImageRequest("a cat", "https://x.example/a.png"), [link], lab.candidate(), Policy())

    assert "https://x.example/a.png" == body(step.orders[0])["input_image"]


def test_a_provider_without_webhooks_is_out_for_a_request_that_names_one(lab: SimpleNamespace) -> None:
    with pytest.raises(Misfit, match="it has no webhooks") as raised:
        lab.step(
            lab.candidate(adapter=lab.Toy({}, webhooks=False, webhook_hides_polling=False)),
            webhook_url="https://me.example/hook",
        )

    assert "webhook_url" == raised.value.option
