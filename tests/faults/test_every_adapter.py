"""The faults of replies, F16 to F27 and F39 to F44, at every provider, on real sockets and with both clients.

What a provider says when all goes well, and how it says that it does not, stands in `protocols`.
"""

import asyncio
import gc
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

import anykontext as ak
from anykontext.plugins import default_registry

from .conftest import Asked
from .protocols import DATA_URI, ECHO, HTML, PICTURE, SPEECHES, Place, Said, Saying, Speaker, Speech, bfl, fal, said
from .server import CLOSE, Step, reply

CLIENTS = ["Client", "AsyncClient"]
OURS = (KeyError, TypeError, AttributeError, IndexError, AssertionError, RecursionError)
MARK = "a-word-to-know-it-by"
DEADLINE_S = 5.0


class Told(NamedTuple):
    """What the caller gets of an error."""

    maybe_charged: bool = True
    has_handle: bool = True
    has_raw: bool = True


@pytest.fixture
def speakers() -> Iterator[Callable[[Speech], Speaker]]:
    with ExitStack() as stack:

        def opened(speech: Speech) -> Speaker:
            speaker = Speaker(speech)
            stack.callback(speaker.close)
            return speaker

        yield opened


@pytest.fixture(params=CLIENTS)
def generate(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Callable[..., Asked]:
    """Ask the speakers for one picture: the first is the provider, a second one the next candidate."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpcore")
    run = _sync if request.param == "Client" else _async

    def generate(*speakers: Speaker, **options: Any) -> Asked:
        names = [one.speech.name + "-two" * index for index, one in enumerate(speakers)]
        config = ak.Config(providers={name: _settings(one) for name, one in zip(names, speakers, strict=True)})
        events: list[ak.Event] = []
        options = {"deadline": DEADLINE_S, "on_event": events.append, "route": names, **options}
        began = time.monotonic()
        outcome = run(config, options)
        logged = "\n".join(f"{one.getMessage()} {one.args!r}" for one in caplog.records)
        return Asked(outcome, events, time.monotonic() - began, logged)

    return generate


def _settings(speaker: Speaker) -> dict[str, Any]:
    speech = speaker.speech
    return {"adapter": speech.name, "api_key": speech.key, "base_url": speaker.url, "poll_interval_s": 0.01}


def _sync(config: ak.Config, options: dict[str, Any]) -> Any:
    try:
        with ak.Client(config) as client:
            return client.generate("a cat", **options)
    except ak.AnykontextError as error:
        return error


def _async(config: ak.Config, options: dict[str, Any]) -> Any:
    complaints: list[Any] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        try:
            async with ak.AsyncClient(config) as client:
                return await client.generate("a cat", **options)
        except ak.AnykontextError as error:
            return error
        finally:
            gc.collect(1)

    outcome = asyncio.run(main())
    assert not complaints
    return outcome


# ------------------------------------------------------------------------------------------------- what always holds


def echoing(saying: Saying, key: str) -> Saying:
    """The same reply, which also repeats the key and the picture that it was sent."""

    def marked(place: Place) -> Said:
        what = saying(place)
        echo = {"mark": MARK, "authorization": f"Key {key}", "image": DATA_URI, "input": ECHO}
        body = what.body
        if isinstance(body, dict):
            body = {**body, "echo": echo}
        elif isinstance(body, bytes) and body:
            body += json.dumps(echo).encode()
        return Said(what.status, body, what.headers)

    return marked


def is_clean(asked: Asked, speech: Speech) -> None:
    """No fault of ours behind it, and neither key nor picture in anything that could be printed."""
    told = asked.told()
    assert " raised " not in told
    assert "an error in anykontext" not in told
    assert speech.key not in told
    shown = "\n".join(_shown(asked))
    assert PICTURE[:120] not in shown
    assert not re.search(r"[A-Za-z0-9+_-]{120,}", shown)  # a slash may be one of a path
    seen: BaseException | None = asked.outcome if isinstance(asked.outcome, BaseException) else None
    while seen is not None:
        assert not isinstance(seen, OURS)
        seen = seen.__cause__ or seen.__context__
    assert asked.seconds < DEADLINE_S + 2


def _shown(asked: Asked) -> Iterator[str]:
    yield str(asked.outcome)
    yield from map(repr, asked.events)
    if isinstance(asked.outcome, ak.ProviderError):
        yield repr(vars(asked.outcome))


def ends_in(asked: Asked, speech: Speech, error: type[ak.ProviderError], told: Told) -> None:
    """The class, the money, the handle and the raw reply of an error."""
    is_clean(asked, speech)
    assert error is type(asked.outcome)
    assert told.maybe_charged == asked.error.maybe_charged
    assert told.has_handle == (asked.error.handle is not None)
    assert ["task-1"] * told.has_handle == [one.id for one in (asked.error.handle.tasks if asked.error.handle else ())]
    assert [(error.kind, told.maybe_charged)] == [(one.outcome, one.maybe_charged) for one in asked.error.attempts]
    raw = asked.error.raw
    assert told.has_raw == (raw is not None)
    if raw is not None:
        assert len(raw) <= 2_100
        assert raw.isprintable()
        assert PICTURE not in raw


def named(part: object) -> str | None:
    """What stands for a part of a case in the name of its test."""
    return part.name if isinstance(part, Speech) else part if isinstance(part, str) else "says"


def table(rows: Iterable[tuple[str, Any]]) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(row, id=name.replace(" ", "_")) for name, row in rows])


def of_each(field: str) -> Iterator[tuple[str, Any]]:
    """Every row of one field of every speech."""
    for speech in SPEECHES.values():
        for name, row in getattr(speech, field).items():
            yield f"{speech.name}: {name}", (speech, row)


# ---------------------------------------------------------------------------------- F16, F17, F39 to F41, F44: no JSON

DEEP = b'{"echo":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
UNREADABLE: dict[str, Saying] = {
    "f16 a page": said(200, HTML, "Content-Type: text/html"),
    "f16 nothing": said(200, b""),
    "f16 204": said(204, b""),
    "f16 null": said(200, b"null"),
    "f17 cut": said(200, b'{"id": "task-1", "data": {"taskId": "task-1", "request_id": "task-1", "status": "Rea'),
    "f40 deep": said(200, DEEP),
    "f41 not utf-8": said(200, b'{"id": "\xff\xfe\xfa", "request_id": "\xff", "data": {"taskId": "\xff"}}'),
    "f44 nan": said(200, b'{"id": "task-1", "request_id": "task-1", "data": {"taskId": "task-1"}, "x": NaN}'),
    "f44 infinity": said(200, b'{"id": "task-1", "status": "Ready", "successFlag": -Infinity}'),
    "f19 a list": said(200, [{"id": "task-1", "request_id": "task-1", "taskId": "task-1"}]),
    "f19 another object": said(200, {"ok": True}),
}


def unreadable(*stages: str) -> Iterator[tuple[str, Any]]:
    for speech in SPEECHES.values():
        for stage in stages:
            if stage in speech.stages:
                for name, saying in UNREADABLE.items():
                    yield f"{speech.name} {stage}: {name}", (speech, stage, saying)


@table(unreadable("submit"))
def test_a_submit_that_is_answered_unreadably_is_unknown_and_not_sent_again(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, str, Saying]
) -> None:
    speech, stage, saying = case
    speaker = speakers(speech)
    speaker.always[stage] = echoing(saying, speech.key)

    asked = generate(speaker)

    ends_in(asked, speech, ak.OutcomeUnknown, Told(has_handle=False))
    assert 1 == len(speaker.heard("submit"))


@table(unreadable("poll", "fetch"))
def test_polls_that_are_answered_unreadably_end_with_the_handle(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, str, Saying]
) -> None:
    speech, stage, saying = case
    speaker = speakers(speech)
    speaker.always[stage] = echoing(saying, speech.key)

    asked = generate(speaker)

    ends_in(asked, speech, ak.ProtocolError, Told())
    assert 1 == len(speaker.heard("submit"))
    assert 2 <= len(speaker.heard(stage)) <= 40


@table(unreadable("poll", "fetch"))
def test_a_poll_that_is_answered_unreadably_twice_is_asked_again_and_the_picture_arrives(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, str, Saying]
) -> None:
    speech, stage, saying = case
    speaker = speakers(speech)
    speaker.once[stage] = [echoing(saying, speech.key)] * 2

    asked = generate(speaker)

    is_clean(asked, speech)
    assert (40, 24) == (asked.result.image.width, asked.result.image.height)
    assert 1 == len(speaker.heard("submit"))


@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
def test_when_all_goes_well_the_picture_arrives(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], speech: Speech
) -> None:
    speaker = speakers(speech)

    asked = generate(speaker)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    assert 1 == len(speaker.heard("submit"))
    assert [] == [one for one in asked.events if isinstance(one, ak.Drift)]
    assert {True} == {speech.key in repr(one.headers) for stage in speech.stages for one in speaker.heard(stage)}
    assert [False] == [speech.key in repr(one) for one in speaker.got("GET", "/image.jpeg")]


GIGANTIC: dict[str, tuple[Step, ...]] = {
    "endless": (b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 4096] * 60, CLOSE),
    "with a length": (reply(b'{"id": "' + b"x" * 200_000 + b'"}'),),
}


@pytest.mark.parametrize("how", GIGANTIC)
@pytest.mark.parametrize(
    ("speech", "stage"), [(one, stage) for one in SPEECHES.values() for stage in one.stages], ids=named
)
def test_f39_a_gigantic_reply_is_cut_off(
    speakers: Callable[[Speech], Speaker],
    generate: Callable[..., Asked],
    monkeypatch: pytest.MonkeyPatch,
    speech: Speech,
    stage: str,
    how: str,
) -> None:
    monkeypatch.setattr("anykontext.io.exchange.REPLY_MAX", 64 * 1024)
    speaker = speakers(speech)
    speaker.always[stage] = GIGANTIC[how]

    asked = generate(speaker)

    at_submit = stage == "submit"
    error = ak.OutcomeUnknown if at_submit else ak.ProtocolError
    ends_in(asked, speech, error, Told(has_handle=not at_submit, has_raw=False))
    assert "65,536 bytes" in asked.error.message
    assert 1 == len(speaker.heard("submit"))


# ----------------------------------------------------------------------------------------------- F18, F19: the submit


@table(of_each("nameless"))
def test_f19_a_submit_that_names_no_task_is_unknown_and_not_sent_again(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, Saying]
) -> None:
    speech, saying = case
    speaker = speakers(speech)
    speaker.always["submit"] = echoing(saying, speech.key)

    asked = generate(speaker)

    ends_in(asked, speech, ak.OutcomeUnknown, Told(has_handle=False))
    assert MARK in (asked.error.raw or "")
    assert 1 == len(speaker.heard("submit"))


@pytest.mark.parametrize("speech", [one for one in SPEECHES.values() if one.images == 1], ids=named)
def test_f19_a_task_that_is_named_twice_is_collected_once_and_the_other_is_unknown(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], speech: Speech
) -> None:
    speaker = speakers(speech)
    speaker.always["submit"] = lambda place: speech.replies["submit"](Place(place.url, "task-1"))

    asked = generate(speaker, num_images=2)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    assert [(ak.OutcomeUnknown, True)] == [(type(one), one.maybe_charged) for one in asked.result.errors]
    assert 2 == len(speaker.heard("submit"))


SENT_AGAIN = {"RateLimited", "Unavailable"}  # surely not accepted: some seconds of patience


@table(of_each("refused"))
def test_f18_an_error_in_a_reply_of_200_is_what_its_code_says(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[Saying, str]]
) -> None:
    speech, (saying, name) = case
    speaker = speakers(speech)
    speaker.always["submit"] = echoing(saying, speech.key)

    asked = generate(speaker)

    unknown = name == "OutcomeUnknown"
    ends_in(asked, speech, getattr(ak, name), Told(maybe_charged=unknown, has_handle=False))
    assert MARK in (asked.error.raw or "")
    assert (name in SENT_AGAIN) == (len(speaker.heard("submit")) > 1)


# -------------------------------------------------------------------------------------------------- F20 to F24: polls


@table(of_each("lost"))
def test_f20_a_task_that_is_not_found_just_after_the_submit_is_asked_for_again(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying]]
) -> None:
    speech, (stage, saying) = case
    speaker = speakers(speech)
    speaker.once[stage] = [echoing(saying, speech.key)] * 2

    asked = generate(speaker)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    assert 1 == len(speaker.heard("submit"))


@pytest.mark.parametrize("polls", [0, 3], ids=["at_once", "late"])
@table(of_each("lost"))
def test_f21_a_task_that_stays_unknown_is_not_submitted_anew(
    speakers: Callable[[Speech], Speaker],
    generate: Callable[..., Asked],
    case: tuple[Speech, tuple[str, Saying]],
    polls: int,
) -> None:
    speech, (stage, saying) = case
    speaker = speakers(speech)
    speaker.once["poll"] = [speech.replies["running"]] * polls
    speaker.always[stage] = echoing(saying, speech.key)

    asked = generate(speaker)

    ends_in(asked, speech, ak.ResultExpired if stage == "fetch" else ak.JobNotFound, Told())
    assert 1 == len(speaker.heard("submit"))
    assert 2 <= len(speaker.heard(stage)) <= polls + 40


@table(of_each("trouble"))
def test_f22_a_burst_of_5xx_is_sat_out(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying]]
) -> None:
    speech, (stage, saying) = case
    speaker = speakers(speech)
    speaker.once[stage] = [echoing(saying, speech.key)] * 15

    asked = generate(speaker)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    assert 16 <= len(speaker.heard(stage))
    assert 1 == len(speaker.heard("submit"))


@table(of_each("trouble"))
def test_f22_5xx_for_ever_end_at_the_deadline_with_the_handle(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying]]
) -> None:
    speech, (stage, saying) = case
    speaker = speakers(speech)
    speaker.always[stage] = echoing(saying, speech.key)

    asked = generate(speaker, deadline=0.4)

    body = saying(Place()).body
    is_status = isinstance(body, dict) and body.get("status") == "Pending"  # read as such, whatever it came with
    ends_in(asked, speech, ak.DeadlineExceeded, Told(has_raw=not is_status))
    assert is_status or "the last poll went wrong" in str(asked.error)
    assert asked.seconds < 2
    assert 1 == len(speaker.heard("submit"))


ODD = [(one, *one.odd) for one in SPEECHES.values() if one.odd]


@pytest.mark.parametrize(("speech", "saying", "word"), ODD, ids=named)
def test_f23_an_unknown_status_runs_on_until_the_deadline_and_is_named(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], speech: Speech, saying: Saying, word: str
) -> None:
    speaker = speakers(speech)
    speaker.always["poll"] = echoing(saying, speech.key)

    asked = generate(speaker, deadline=0.4)

    ends_in(asked, speech, ak.DeadlineExceeded, Told(has_raw=False))
    assert word in asked.error.message
    assert [True] == [word in one.word for one in asked.events if isinstance(one, ak.Drift)]
    assert 1 == len(speaker.heard("submit"))
    assert asked.seconds < 2


@pytest.mark.parametrize(("speech", "saying", "word"), ODD, ids=named)
def test_f23_an_unknown_status_that_passes_does_no_harm(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], speech: Speech, saying: Saying, word: str
) -> None:
    speaker = speakers(speech)
    speaker.once["poll"] = [echoing(saying, speech.key)] * 15

    asked = generate(speaker)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    assert [True] == [word in one.word for one in asked.events if isinstance(one, ak.Drift)]


@pytest.mark.parametrize("speech", [one for one in SPEECHES.values() if one.backwards], ids=named)
def test_f24_a_status_that_goes_back_takes_nothing_away(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], speech: Speech
) -> None:
    speaker = speakers(speech)
    for stage, saying in speech.backwards:
        speaker.once[stage].append(saying)

    asked = generate(speaker)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    told = [one.fraction for one in asked.events if isinstance(one, ak.Progress) and one.fraction is not None]
    assert all(before <= after for before, after in pairwise(told))
    assert 1 == len(speaker.heard("submit"))


def test_f24_a_result_that_is_always_too_early_ends_at_the_deadline(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked]
) -> None:
    speech = SPEECHES["fal"]
    speaker = speakers(speech)
    speaker.always["fetch"] = said(400, {"detail": "Request is still in progress"})

    asked = generate(speaker, deadline=0.4)

    ends_in(asked, speech, ak.DeadlineExceeded, Told(has_raw=False))
    assert asked.seconds < 2
    assert 2 <= len(speaker.heard("fetch")) <= 60


@pytest.mark.parametrize("speech", [SPEECHES["bfl"], SPEECHES["fal"]], ids=named)
def test_f23_an_unknown_status_is_told_shortened_and_printable(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], speech: Speech
) -> None:
    word = "Odd\nINFO anykontext finished " + PICTURE * 5
    speaker = speakers(speech)
    speaker.once["poll"] = [(bfl if speech.name == "bfl" else fal)(200, status=word)]

    asked = generate(speaker)

    assert 1 == len(asked.result.images)
    words = [one.word for one in asked.events if isinstance(one, ak.Drift)]
    words += [one.status for one in asked.events if isinstance(one, ak.Progress)]
    assert all(len(one) <= 200 and one.isprintable() for one in words)
    assert PICTURE not in asked.logged


# --------------------------------------------------------------------------------------------- F25 to F27: the end


@table(of_each("moderated"))
def test_f25_a_refused_prompt_is_not_offered_to_the_next_candidate(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying]]
) -> None:
    speech, (stage, saying) = case
    speaker, other = speakers(speech), speakers(speech)
    speaker.always[stage] = saying

    asked = generate(speaker, other)

    is_clean(asked, speech)
    assert ak.Moderated is type(asked.outcome)
    assert ECHO not in asked.error.message
    assert (stage != "submit") == (asked.error.handle is not None)
    assert 1 == len(speaker.heard("submit"))
    assert [] == other.requests


@table(of_each("failed"))
def test_f26_a_failed_task_is_not_submitted_again(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying, bool]]
) -> None:
    speech, (stage, saying, billed) = case
    speaker = speakers(speech)
    speaker.always[stage] = echoing(saying, speech.key)

    asked = generate(speaker)

    ends_in(asked, speech, ak.GenerationFailed, Told(maybe_charged=billed))
    assert 1 == len(speaker.heard("submit"))
    assert 1 == len(speaker.heard(stage))


@table(of_each("failed"))
def test_f26_only_a_failure_that_is_surely_free_goes_on_to_the_next_candidate(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying, bool]]
) -> None:
    speech, (stage, saying, billed) = case
    speaker, other = speakers(speech), speakers(speech)
    speaker.always[stage] = saying

    asked = generate(speaker, other)

    assert (ak.GenerationFailed if billed else ak.ImageResult) is type(asked.outcome)
    assert 1 == len(speaker.heard("submit"))
    assert (0 if billed else 1) == len(other.heard("submit"))


@table(of_each("empty"))
def test_f27_an_end_without_a_link_is_asked_for_again(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying]]
) -> None:
    speech, (stage, saying) = case
    speaker = speakers(speech)
    speaker.once[stage] = [echoing(saying, speech.key)] * 2

    asked = generate(speaker)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    assert 1 == len(speaker.heard("submit"))


@table(of_each("empty"))
def test_f27_an_end_that_never_has_a_link_is_a_protocol_error_with_the_handle(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], case: tuple[Speech, tuple[str, Saying]]
) -> None:
    speech, (stage, saying) = case
    speaker = speakers(speech)
    speaker.always[stage] = echoing(saying, speech.key)

    asked = generate(speaker)

    ends_in(asked, speech, ak.ProtocolError, Told())
    assert MARK in (asked.error.raw or "")
    assert 1 == len(speaker.heard("submit"))


@pytest.mark.parametrize("speech", [one for one in SPEECHES.values() if one.junk], ids=named)
def test_f44_a_wrong_type_in_a_field_that_is_not_needed_does_not_cost_the_picture(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], speech: Speech
) -> None:
    assert speech.junk is not None
    stage, saying = speech.junk
    speaker = speakers(speech)
    speaker.once[stage] = [saying]

    asked = generate(speaker)

    is_clean(asked, speech)
    assert 1 == len(asked.result.images)
    assert asked.result.seed is None
    assert asked.result.prompt is None
    assert 1 == len(speaker.heard("submit"))


# --------------------------------------------------------------------------------------------------- F42, F43: base64

NO_PICTURE: dict[str, str] = {
    "f42 long, and no picture": "QUJD" * 1_000_000,
    "f43 letters that are none": "!!!! not base64 !!!!",
    "f43 cut": PICTURE + "A",
    "f43 a page": "PGh0bWw+PC9odG1sPg==",
    "f43 signs of urls": "_-_-" * 100,
}
HOLDING: dict[str, Callable[[str], Saying]] = {
    "together": lambda text: said(200, {"data": [{"index": 0, "b64_json": text, "type": "b64_json"}]}),
    "fal": lambda text: (
        lambda place: Said(
            200, {"images": [{"url": f"data:image/jpeg;base64,{text}"}], "seed": 1, "has_nsfw_concepts": [False]}
        )
    ),
}


@pytest.mark.parametrize("text", NO_PICTURE.values(), ids=[name.replace(" ", "_") for name in NO_PICTURE])
@pytest.mark.parametrize("name", HOLDING)
def test_f43_base64_that_is_no_picture_was_paid_for_and_is_not_asked_for_again(
    speakers: Callable[[Speech], Speaker], generate: Callable[..., Asked], name: str, text: str
) -> None:
    speech = SPEECHES[name]
    speaker = speakers(speech)
    speaker.always[speech.end] = HOLDING[name](text)

    asked = generate(speaker)

    is_clean(asked, speech)
    assert ak.ProtocolError is type(asked.outcome)
    assert asked.error.maybe_charged
    assert ("poll" in speech.stages) == (asked.error.handle is not None)
    assert 1 == len(speaker.heard("submit"))
    assert text[:100] not in asked.error.message


@pytest.mark.parametrize("name", HOLDING)
def test_f42_base64_beyond_the_limit_of_a_reply_is_not_taken(
    speakers: Callable[[Speech], Speaker],
    generate: Callable[..., Asked],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr("anykontext.io.exchange.REPLY_MAX", 64 * 1024)
    speech = SPEECHES[name]
    speaker = speakers(speech)
    speaker.always[speech.end] = HOLDING[name]("QUJD" * 100_000)

    asked = generate(speaker)

    at_submit = speech.end == "submit"
    error = ak.OutcomeUnknown if at_submit else ak.ProtocolError
    ends_in(asked, speech, error, Told(has_handle=not at_submit, has_raw=False))
    assert 1 == len(speaker.heard("submit"))


# --------------------------------------------------------------------------------------------------------- the tables


def test_every_installed_adapter_is_asked() -> None:
    assert set(SPEECHES) == set(default_registry().adapters)


@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
def test_a_fault_without_a_case_says_why(speech: Speech) -> None:
    cases = {
        "F19, duplicate": speech.images == 1 or speech.name == "fal",
        "F20": bool(speech.lost),
        "F21": bool(speech.lost),
        "F22": bool(speech.trouble),
        "F23": speech.odd is not None,
        "F24": bool(speech.backwards),
        "F26": bool(speech.failed),
        "F27": bool(speech.empty),
    }

    assert {fault for fault, has_case in cases.items() if not has_case} == set(speech.cannot)
