"""What `providers` tells of an adapter: pure functions of its facts."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from anykontext.adapting import Adapter, Call, Choices, Facts, Known, Task, UploadFacts
from anykontext.cli import matrix
from anykontext.plugins import default_registry

ADAPTERS = default_registry().adapters


class Stranger:
    """An adapter with the facts of BFL, changed, and a poll of its own."""

    def __init__(self, **changes: Any) -> None:
        self.facts: Facts = replace(ADAPTERS["bfl"].facts, **changes)

    def poll(self, task: Task) -> Call:
        raise KeyError(task.data["status_url"])


def data(adapter: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(matrix.as_json(adapter, {}, [])))
    return found


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (None, "Uploads: none"),
        (
            UploadFacts(0, "upload", 259_200.0, public=True, evidence="x-1"),
            "Uploads: all files; anyone with the URL can see them; kept 3 days",
        ),
        (
            UploadFacts(5_000_000, "", None, public=False, evidence="x-1"),
            "Uploads: files above 5.0 MB; private; not known how long",
        ),
    ],
)
def test_an_upload_is_told_with_its_size_its_readers_and_its_end(place: UploadFacts | None, words: str) -> None:
    assert words == matrix.uploads(Stranger(uploads=place).facts)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1_209_600.0, "14 days"),
        (86_400.0, "1 day"),
        (5_400.0, "90 minutes"),
        (3_600.0, "1 hour"),
        (61.0, "61 seconds"),
        (0.5, "0.5 seconds"),
    ],
)
def test_a_time_is_told_in_the_largest_whole_unit(seconds: float, words: str) -> None:
    assert words == matrix.duration(seconds)


@pytest.mark.parametrize(("name", "has"), [("bfl", True), ("fal", True), ("kie", True), ("together", False)])
def test_a_provider_that_answers_at_once_has_no_task_ids(name: str, has: bool) -> None:
    assert has == matrix.has_task_ids(ADAPTERS[name]) == data(ADAPTERS[name])["task_ids"]


def test_a_poll_that_wants_more_of_a_task_has_something_to_ask() -> None:
    stranger: Any = Stranger()

    assert matrix.has_task_ids(stranger)


@pytest.mark.parametrize(("day", "words"), [(None, "never"), (date(2026, 12, 1), "2026-12-01")])
def test_the_last_check_against_the_real_service_is_a_date_or_never(day: date | None, words: str) -> None:
    stranger: Any = Stranger(verified_live=day)

    assert words == matrix.verified(stranger.facts)
    assert matrix.title(stranger, []).endswith(f". Last verified live: {words}")
    assert (words if day else None) == data(stranger)["verified_live"]


@pytest.mark.parametrize(("name", "warned"), [("bfl", False), ("together", True)])
def test_the_title_warns_where_a_lost_reply_cannot_be_collected(name: str, warned: bool) -> None:
    assert warned == ("No task ids: a lost reply cannot be collected" in matrix.title(ADAPTERS[name], []))


def test_an_option_that_takes_any_text_says_so() -> None:
    assert "any text" == matrix.words(Choices((), "x-1"))
    assert "jpeg|png" == matrix.words(Choices(("jpeg", "png"), "x-1"))


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_json_has_what_is_known_beside_the_options(adapter: Adapter) -> None:
    found = data(adapter)

    assert {"statuses", "errors", "lifetimes", "limits", "regions", "retention_s", "moderation", "webhook"} <= set(
        found
    )
    assert {"uploads", "task_ids", "cancel", "verified_live", "poll_interval_s", "max_active"} <= set(found)
    assert list(adapter.facts.errors) == list(found["errors"])
    assert all({"words", "evidence"} == set(one) for one in found["errors"].values())


@pytest.mark.parametrize(
    ("name", "able"),
    [
        ("bfl", {"check"}),
        ("fal", {"cancel", "check", "uploads"}),
        ("kie", {"check", "uploads"}),
        ("together", set()),
    ],
)
def test_json_tells_capabilities_by_what_the_adapter_can_do(name: str, able: set[str]) -> None:
    found = data(ADAPTERS[name])

    assert able == {word for word in ("cancel", "check", "uploads") if found[word]}


def test_json_has_statements_with_their_evidence() -> None:
    said = {"words": "done", "evidence": "x-1 [DOC]"}
    known = Known(**said)
    found = data(Stranger(statuses={"ok": known}, moderation=(known,), webhook=known, regions={"https://eu.x": "eu"}))

    assert {"ok": said} == found["statuses"]
    assert [said] == found["moderation"]
    assert said == found["webhook"]
    assert {"https://eu.x": "eu"} == found["regions"]
    assert data(Stranger(webhook=None))["webhook"] is None


@pytest.mark.parametrize(
    ("name", "region", "public", "retention_s"),
    [
        ("bfl", "eu", False, None),
        ("fal", None, {"over_bytes": 4 * 1024 * 1024, "lifetime_s": None}, 3600),
        ("kie", None, {"over_bytes": 0, "lifetime_s": 3 * 86_400.0}, 14 * 86_400.0),
        ("together", None, False, None),
    ],
)
def test_json_has_where_data_goes_with_its_evidence(name: str, region: Any, public: Any, retention_s: Any) -> None:
    found = data(ADAPTERS[name])["residency"]

    assert region == (found["regions"]["value"] or {}).get(f"https://api.eu.{name}.ai")
    assert (public, retention_s) == (found["public_uploads"]["value"], found["retention_s"]["value"])
    for one in found.values():
        assert one["value"] is None or one["evidence"].startswith(f"{name}-")


def test_the_command_tells_uploads_and_the_last_check_of_each(cli: Callable[..., Any]) -> None:
    out = cli("providers").out

    assert len(ADAPTERS) == out.count("Uploads: ") == out.count("Last verified live: never")
