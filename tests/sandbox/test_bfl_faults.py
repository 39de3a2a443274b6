"""Every fault on demand, as BFL's emulator shows it on the wire."""

import gzip
import io
import itertools
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

pytestmark = pytest.mark.sandbox


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def statuses(bfl: Any, url: str, polls: int) -> list[Any]:
    return [bfl.client.get(url).json().get("status") for _ in range(polls)]


@pytest.mark.parametrize(
    ("fault", "status", "reply"),
    [
        ("outage", 503, {"detail": "Service Unavailable"}),
        ("server-error", 500, {"detail": "Internal Server Error"}),
        ("out-of-credit", 402, {"detail": "Insufficient credits"}),
        ("busy-402", 402, {"detail": "Insufficient credits"}),
        ("bad-key", 403, {"detail": "Not authenticated - Invalid Authentication"}),
    ],
)
def test_a_refused_submit_accepts_nothing(bfl: Any, fault: str, status: int, reply: dict[str, str]) -> None:
    bfl.emulator.inject(fault, times=1)
    refused = bfl.post()

    assert (refused.status_code, refused.json()) == (status, reply)
    assert bfl.emulator.counters["accepted"] == 0
    assert bfl.post().status_code == 200


def test_a_rate_limited_submit_says_when_to_come_back(bfl: Any) -> None:
    bfl.emulator.inject("rate-limited")
    refused = bfl.post()

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert bfl.emulator.counters["accepted"] == 0


def test_a_busy_402_leaves_credits_on_the_account_and_an_empty_one_does_not(bfl: Any) -> None:
    bfl.emulator.inject("busy-402")
    assert bfl.credits() == 1000.0
    bfl.emulator.inject("out-of-credit")
    assert bfl.credits() == 0.0


def test_a_refused_key_fails_the_free_check_too(bfl: Any) -> None:
    bfl.emulator.inject("bad-key")
    reply = bfl.client.get(f"{bfl.emulator.origins['api']}/v1/credits", headers={"x-key": "sandbox"})

    assert reply.status_code == 403


def test_a_lost_submit_was_accepted_before_the_reset(bfl: Any) -> None:
    bfl.emulator.inject("submit-lost", times=1)
    with pytest.raises(httpx.ReadError, match="reset"):
        bfl.edit(b"\0" * 3_000_000)

    assert bfl.emulator.counters["accepted"] == 1
    assert bfl.emulator.requests[0]["images"][0]["bytes"] == 3_000_000


def test_a_gateway_page_hides_an_accepted_submit(bfl: Any) -> None:
    bfl.emulator.inject("gateway-page")
    reply = bfl.post()

    assert reply.status_code == 502
    assert reply.headers["content-type"].startswith("text/html")
    assert bfl.emulator.counters["accepted"] == 1


def test_a_slow_submit_is_accepted_though_the_client_gave_up(bfl: Any) -> None:
    bfl.emulator.inject("submit-slow")
    bfl.client.timeout = 0.1
    with pytest.raises(httpx.ReadTimeout):
        bfl.post()

    assert bfl.emulator.counters["accepted"] == 1


def test_a_slow_submit_answers_in_the_end(bfl: Any, stopwatch: Any) -> None:
    bfl.emulator.inject("submit-slow")
    bfl.emulator.slow_seconds = 0.1

    assert bfl.post().json()["polling_url"]
    assert stopwatch() >= 0.1


@pytest.mark.parametrize(
    ("faults", "status", "details"),
    [
        (["moderated"], "Request Moderated", {"Moderation Reasons": ["Derivative Works Filter"]}),
        (["moderated-output"], "Content Moderated", {"Moderation Reasons": ["Sexual Content"]}),
        (["moderated", "details-as-string"], "Request Moderated", "Derivative Works Filter"),
        (["moderated-output", "no-details"], "Content Moderated", None),
        (["resultless-error"], "Error", None),
    ],
)
def test_an_end_without_a_picture_is_free(bfl: Any, faults: list[str], status: str, details: Any) -> None:
    for fault in faults:
        bfl.emulator.inject(fault)
    reply = bfl.finished(bfl.edit())

    assert reply.status_code == 200
    assert reply.json()["status"] == status
    assert reply.json()["details"] == details
    assert reply.json()["result"] is None
    assert "cost" not in reply.json()
    assert bfl.credits() == 1000.0


def test_a_refused_prompt_shows_at_once_and_a_refused_picture_at_the_end(bfl: Any) -> None:
    bfl.emulator.inject("moderated", times=1)
    assert statuses(bfl, bfl.edit(), 1) == ["Request Moderated"]
    bfl.emulator.inject("moderated-output")
    assert statuses(bfl, bfl.edit(), 1) == ["Pending"]


def test_a_failed_task_comes_under_422_with_a_status_in_its_body(bfl: Any) -> None:
    bfl.emulator.inject("failed")
    reply = bfl.finished(bfl.edit())

    assert reply.status_code == 422
    assert reply.json()["status"] == "Error"
    assert reply.json()["details"] == {"error": "Invalid or corrupted image input"}
    assert bfl.credits() == 1000.0


def test_poll_errors_come_in_turn_for_each_task_and_then_all_is_well(bfl: Any) -> None:
    bfl.emulator.inject("poll-errors")
    for url in (bfl.edit(), bfl.edit()):
        first, second, third = (bfl.client.get(url) for _ in range(3))
        with pytest.raises(httpx.ReadError):
            bfl.client.get(url)
        fifth, sixth = bfl.client.get(url), bfl.client.get(url)

        assert [first.status_code, second.status_code, third.status_code] == [500, 502, 200]
        assert first.json() == {"detail": "Internal Server Error"}
        assert "<html>" in second.text
        assert "<html>" in third.text
        assert (fifth.status_code, fifth.headers["retry-after"], fifth.json()["status"]) == (503, "0", "Pending")
        assert (sixth.status_code, sixth.json()["status"]) == (200, "Pending")


@pytest.mark.parametrize(("fault", "status"), [("unknown-status", "Simmering"), ("never-ends", "Pending")])
def test_a_stalled_task_ends_when_the_fault_is_cleared(bfl: Any, fault: str, status: str) -> None:
    bfl.emulator.inject(fault)
    url = bfl.edit()
    assert bfl.finished(url).json()["status"] == status

    bfl.emulator.clear()
    assert statuses(bfl, url, 1) == ["Ready"]


def test_a_finished_task_is_never_taken_back(bfl: Any) -> None:
    url = bfl.edit()
    bfl.finished(url)
    bfl.emulator.inject("never-ends")

    assert statuses(bfl, url, 1) == ["Ready"]


def test_reasoning_and_generating_come_before_the_end(bfl: Any) -> None:
    bfl.emulator.inject("reasoning")
    url = bfl.edit()
    bfl.finished(url)

    assert statuses(bfl, url, 2) == ["Generating", "Ready"]


def test_the_first_two_polls_may_not_find_the_task(bfl: Any) -> None:
    bfl.emulator.inject("not-found-first")
    url = bfl.edit()

    assert [bfl.client.get(url).status_code for _ in range(3)] == [404, 404, 200]


def test_a_task_may_never_be_found(bfl: Any) -> None:
    bfl.emulator.inject("not-found-always")
    url = bfl.edit()

    assert statuses(bfl, url, 8) == ["Task not found"] * 8


def test_a_ready_task_may_lack_its_url(bfl: Any) -> None:
    bfl.emulator.inject("ready-without-url", times=1)
    url = bfl.edit()

    assert bfl.finished(url).json()["result"] is None
    assert bfl.client.get(url).json()["result"]["sample"]


def test_every_url_may_have_expired(bfl: Any) -> None:
    bfl.emulator.inject("expired-url")
    url = bfl.edit()

    assert [bfl.client.get(bfl.sample(url)).status_code for _ in range(3)] == [403] * 3


def test_a_first_url_may_have_expired_and_a_new_poll_helps(bfl: Any) -> None:
    bfl.emulator.inject("expired-once")
    url = bfl.edit()

    assert [bfl.client.get(bfl.sample(url)).status_code for _ in range(2)] == [403, 200]


def test_a_foreign_poll_host_answers_and_counts_the_keys_it_sees(bfl: Any) -> None:
    bfl.emulator.inject("foreign-poll-host")
    url = bfl.edit()
    assert url.startswith(bfl.emulator.origins["delivery"])

    assert bfl.client.get(url).json()["status"] == "Pending"
    assert bfl.emulator.counters["key_leaks"] == 0
    bfl.client.get(url, headers={"x-key": "sandbox"})
    assert bfl.emulator.counters["key_leaks"] == 1


def test_a_truncated_image_has_a_fitting_length_and_does_not_decode(bfl: Any) -> None:
    sample = bfl.sample(bfl.edit())
    whole = bfl.client.get(sample)
    bfl.emulator.inject("truncated-image")
    half = bfl.client.get(sample)

    assert len(half.content) == int(half.headers["content-length"]) == len(whole.content) // 2
    with pytest.raises(OSError, match="truncated"):
        decoded(half.content)


def test_not_an_image_calls_itself_one(bfl: Any) -> None:
    sample = bfl.sample(bfl.edit())
    bfl.emulator.inject("not-an-image")
    reply = bfl.client.get(sample)

    assert reply.headers["content-type"] == "image/jpeg"
    assert reply.content.startswith(b"<html>")


def test_a_gzip_bomb_is_small_on_the_wire_and_200_mb_inside(bfl: Any) -> None:
    sample = bfl.sample(bfl.edit())
    bfl.emulator.inject("gzip-bomb")
    with bfl.client.stream("GET", sample) as reply:
        wire = b"".join(reply.iter_raw())
    inflater = zlib.decompressobj(31)
    inflated = len(inflater.decompress(wire, 1_000_000))
    while inflater.unconsumed_tail:
        inflated += len(inflater.decompress(inflater.unconsumed_tail, 10_000_000))

    assert reply.headers["content-encoding"] == "gzip"
    assert len(wire) < 300_000
    assert inflated == 200_000_000
    with gzip.open(io.BytesIO(wire)) as opened:
        assert opened.read(4) == b"\0\0\0\0"


def test_an_oversize_image_has_no_end_and_the_emulator_lives_on(bfl: Any) -> None:
    sample = bfl.sample(bfl.edit())
    bfl.emulator.inject("oversize-image", times=1)
    with bfl.client.stream("GET", sample) as reply:
        received = sum(len(chunk) for chunk in itertools.islice(reply.iter_raw(65536), 200))

    assert received > 10_000_000
    assert decoded(bfl.client.get(sample).content)


def test_a_slow_drip_comes_byte_by_byte(bfl: Any, stopwatch: Any) -> None:
    sample = bfl.sample(bfl.edit())
    bfl.emulator.inject("slow-drip")
    with bfl.client.stream("GET", sample) as reply:
        start = stopwatch()
        chunks = list(itertools.islice(reply.iter_raw(), 3))

    assert int(reply.headers["content-length"]) > 500
    assert [len(chunk) for chunk in chunks] == [1, 1, 1]
    assert stopwatch() - start > 0.3


def test_a_pixel_bomb_claims_30000_squared(bfl: Any) -> None:
    sample = bfl.sample(bfl.edit())
    bfl.emulator.inject("pixel-bomb")
    data = bfl.client.get(sample).content

    assert len(data) < 200
    with pytest.raises(Image.DecompressionBombError, match="900000000"):
        Image.open(io.BytesIO(data))
