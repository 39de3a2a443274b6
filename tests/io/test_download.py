import asyncio
import base64
import gzip
import hashlib
import itertools
import logging
import os
import re
import ssl
import time
from datetime import UTC, datetime

import httpcore
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anykontext.engine.effects import Download, Fault, NotDownloaded
from anykontext.io import download as downloads
from anykontext.io.download import afetch, fetch
from anykontext.io.guard import async_guarded_client, guarded_client
from anykontext.model.result import ResultImage

OWN = frozenset({"127.0.0.1"})
CONTEXT = ssl.create_default_context()
SIGNED = "/image.jpg?sig=a%2Bb%2Fc%3D&se=2025-12-18T15%3A49%3A07Z"


@pytest.fixture(params=["sync", "async"])
def download(request, spool):
    """Fetch with a guarded client, in both ways."""

    def sync(url=None, *, base64=None, within_s=5.0, expires_at=None, allowed=OWN, resolve=None, **options):
        what = Download(url, None, within_s, expires_at, base64)
        with guarded_client(allowed, resolve=resolve) as client:
            return fetch(client, what, spool, **options)

    def asynchronous(url=None, *, base64=None, within_s=5.0, expires_at=None, allowed=OWN, resolve=None, **options):
        async def run():
            async with async_guarded_client(allowed, resolve=resolve) as client:
                return await afetch(client, Download(url, None, within_s, expires_at, base64), spool, **options)

        return asyncio.run(run())

    return sync if request.param == "sync" else asynchronous


def failed(found, fault, words=""):
    assert isinstance(found, NotDownloaded), found
    assert (found.fault, re.search(words, found.message) is not None) == (fault, True), found
    assert "sig=" not in found.message
    return found


def rejected(spool):
    return [path.read_bytes() for path in spool.root.glob("rejected/*")]


def test_an_image_is_fetched_into_the_spool_with_its_bytes_untouched(download, server, spool, jpeg):
    server.replies(jpeg, "Content-Type: image/png")  # not believed
    until = datetime(2026, 1, 1, tzinfo=UTC)
    image = download(server.url(SIGNED), expires_at=until)
    assert isinstance(image, ResultImage)
    assert (image.media_type, image.width, image.height) == ("image/jpeg", 640, 427)
    assert image.sha256 == hashlib.sha256(jpeg).hexdigest()
    assert image.data == jpeg
    assert image.source_url == server.url("/image.jpg")
    assert image.expires_at == until
    assert not list(spool.root.glob("incoming/*"))


@pytest.mark.parametrize(
    "target",
    [SIGNED, "/a/../b/%7Eme/c;d=1,2?x=[1]&y={2}|'3'", "/%e4%b8%ad?A=%2f%2F", "/?", "/a?b?c=d/e"],
)
def test_a_signed_url_is_sent_byte_for_byte(download, server, jpeg, target):
    server.replies(jpeg)
    assert isinstance(download(server.url(target)), ResultImage)
    assert server.requests[0].split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()


def test_a_url_with_letters_that_no_request_may_hold_is_quoted_and_loses_its_fragment(download, server, jpeg):
    server.replies(jpeg)
    download(server.url("/my image é.jpg#part"))
    assert server.requests[0].startswith(b"GET /my%20image%20%C3%A9.jpg HTTP/1.1")


def test_nothing_of_ours_goes_along(download, server, jpeg):
    server.replies(jpeg)
    download(server.url(), user_agent="anykontext/9")
    names = {line.split(b":")[0].lower() for line in server.requests[0].split(b"\r\n")[1:] if line}
    assert names == {b"host", b"accept", b"accept-encoding", b"user-agent"}
    assert b"Accept-Encoding: identity" in server.requests[0]
    assert b"User-Agent: anykontext/9" in server.requests[0]


def test_keys_and_cookies_of_a_foreign_client_do_not_go_along_either(server, spool, jpeg):
    server.replies(jpeg)
    with httpx.Client(headers={"x-key": "secret"}, cookies={"a": "b"}, auth=("me", "secret")) as client:
        assert isinstance(fetch(client, Download(server.url(SIGNED), None, 5.0), spool), ResultImage)
    assert b"sig=a%2Bb" in server.requests[0]
    for word in (b"secret", b"cookie", b"authorization"):
        assert word not in server.requests[0].lower()


def test_the_signature_is_in_no_log(download, server, jpeg, caplog):
    server.replies(jpeg)
    with caplog.at_level(logging.DEBUG):
        download(server.url(SIGNED))
    assert "127.0.0.1" in caplog.text
    assert "sig=" not in caplog.text
    assert "a%2Bb" not in caplog.text


def test_f29_a_body_shorter_than_it_said_is_lost(download, server, jpeg):
    server.replies(jpeg[:5000], length=len(jpeg))
    assert failed(download(server.url(SIGNED)), Fault.LOST).http_status == 200


def test_f29_a_short_body_is_noticed_even_where_the_transport_does_not(spool, jpeg):
    reply = httpx.Response(200, headers={"content-length": "112525"}, stream=httpx.ByteStream(jpeg[:5000]))
    with httpx.Client(transport=httpx.MockTransport(lambda _: reply)) as client:
        failed(fetch(client, Download("https://a/b", None, 5.0), spool), Fault.LOST, "after 5000 of 112525 bytes")


def test_f30_a_truncated_image_of_the_length_it_said_is_bad(download, server, jpeg, spool):
    server.replies(jpeg[:-5000])
    failed(download(server.url(SIGNED)), Fault.BAD, "truncated")
    assert rejected(spool) == [jpeg[:-5000]]


def test_f30_a_truncated_image_without_a_length_is_lost_because_the_connection_may_be_to_blame(download, server, jpeg):
    server.answers(server.head(), jpeg[:-5000])
    failed(download(server.url(SIGNED)), Fault.LOST, "truncated")


def test_an_image_without_a_length_is_taken_when_it_is_whole(download, server, jpeg):
    server.answers(server.head(), jpeg)
    assert download(server.url()).data == jpeg


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "410 Gone"])
def test_f31_an_expired_link_is_gone(download, server, status):
    server.replies(b"<Error>expired</Error>", status=status)
    assert failed(download(server.url(SIGNED)), Fault.GONE).http_status == int(status[:3])


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "451 No", "204 No Content", "206 Partial"])
def test_other_refusals_are_bad(download, server, status):
    server.replies(b"", status=status)
    assert failed(download(server.url(SIGNED)), Fault.BAD).http_status == int(status[:3])


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy", "429 Slow", "408 Late"])
def test_a_server_in_trouble_is_worth_another_try(download, server, status):
    server.replies(b"<html>", status=status)
    assert failed(download(server.url(SIGNED)), Fault.LOST).http_status == int(status[:3])


def test_f32_a_slow_drip_ends_at_the_deadline_of_the_whole_download(download, server, jpeg):
    drip = itertools.chain.from_iterable((0.02, jpeg[at : at + 1]) for at in range(200))
    server.answers(server.head(f"Content-Length: {len(jpeg)}"), *drip)
    started = time.monotonic()
    failed(download(server.url(SIGNED), within_s=0.15), Fault.LOST, r"longer than 0\.15 s")
    assert time.monotonic() - started < 2


def test_f32_a_server_that_says_nothing_ends_at_the_deadline(download, server):
    server.answers(5.0)
    started = time.monotonic()
    failed(download(server.url(SIGNED), within_s=0.1), Fault.LOST, "longer than")
    assert time.monotonic() - started < 2


def test_f32_a_drip_in_the_head_ends_at_the_deadline(download, server):
    server.answers(b"HTTP/1.1 200 OK\r\n", *[step for _ in range(100) for step in (0.04, b"X-Drip: 1\r\n")])
    started = time.monotonic()
    failed(download(server.url(SIGNED), within_s=0.15), Fault.LOST, "longer than")
    assert time.monotonic() - started < 2


def test_the_deadline_is_held_by_the_given_clock(download, server, jpeg):
    server.replies(jpeg)
    ticks = itertools.count(0.0, 100.0)
    failed(download(server.url(SIGNED), within_s=150.0, clock=lambda: next(ticks)), Fault.LOST, "longer than 150 s")


def test_f33_an_html_page_with_status_200_is_bad_and_kept(download, server, spool):
    server.replies(b"<html>Please log in</html>", "Content-Type: image/jpeg")
    failed(download(server.url(SIGNED)), Fault.BAD, "an HTML page, not an image .*its bytes are kept in")
    assert rejected(spool) == [b"<html>Please log in</html>"]


def test_f34_an_oversize_image_is_refused_by_its_announced_length(download, server):
    server.answers(server.head("Content-Length: 99999999999"), 5.0)
    failed(download(server.url(SIGNED)), Fault.BAD, "more than the 67108864")


def test_f34_an_oversize_image_without_a_length_is_cut_at_the_limit(download, server, spool):
    server.answers(server.head(), *[b"x" * 10_000] * 30)
    failed(download(server.url(SIGNED), max_bytes=100_000), Fault.BAD, "more than the 100000")
    assert not list(spool.root.glob("*/*"))


def test_f35_a_gzip_bomb_is_not_inflated(download, server, spool, monkeypatch):
    monkeypatch.setattr(httpx._decoders.GZipDecoder, "decode", lambda *_: pytest.fail("it was inflated"))
    server.replies(gzip.compress(bytes(20_000_000)), "Content-Encoding: gzip")
    failed(download(server.url(SIGNED)), Fault.BAD, "packed .'gzip'")
    assert not list(spool.root.glob("*/*"))


def test_an_encoding_of_identity_is_none(download, server, jpeg):
    server.replies(jpeg, "Content-Encoding: Identity")
    assert isinstance(download(server.url()), ResultImage)


def test_f36_a_picture_with_too_many_pixels_is_bad(download, server, jpeg):
    server.replies(jpeg)
    failed(download(server.url(SIGNED), max_pixels=1000), Fault.BAD, "640 x 427 pixels")


def test_a_reset_connection_is_lost(download, server):
    server.answers("reset")
    failed(download(server.url(SIGNED)), Fault.LOST, "the connection failed")


def test_a_server_that_does_not_speak_http_is_lost(download, server):
    server.answers(b"220 smtp ready\r\n")
    failed(download(server.url(SIGNED)), Fault.LOST)


def test_a_server_that_echoes_the_signature_does_not_bring_it_into_the_message(download, server):
    server.answers(b"ERR cannot serve se=2025-12-18T15%3A49%3A07Z&sig=a%2Bb%2Fc%3D\r\n\r\n")
    assert "a%2Bb" not in failed(download(server.url(SIGNED)), Fault.LOST, "cannot serve").message


def test_nobody_listening_is_lost(download, server):
    url = server.url(SIGNED)
    server.close()
    failed(download(url), Fault.LOST)


def test_f57_a_full_disk_is_told_as_such(download, server, jpeg, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    server.replies(jpeg)
    failed(download(server.url(SIGNED)), Fault.DISK, "No space left")


def test_f57_a_spool_that_cannot_be_made_is_told_as_such(download, server, spool):
    spool.root.write_bytes(b"")
    failed(download(server.url(SIGNED)), Fault.DISK)
    assert server.requests == []


def redirects(server, *locations):
    for location in locations:
        server.replies(b"", f"Location: {location}", status="302 Found")


def test_a_redirect_is_followed_byte_for_byte(download, server, jpeg):
    redirects(server, "/b?sig=%2B", server.url("/c?sig=x%3D"))
    server.replies(jpeg)
    image = download(server.url(SIGNED))
    assert image.source_url == server.url("/image.jpg")
    assert [head.split(b" ")[1] for head in server.requests] == [SIGNED.encode(), b"/b?sig=%2B", b"/c?sig=x%3D"]


def test_more_than_three_redirects_are_not_followed(download, server):
    redirects(server, *["/again"] * 4)
    failed(download(server.url(SIGNED)), Fault.BAD, "more than 3 redirects")
    assert len(server.requests) == 4


def test_a_redirect_to_nowhere_is_bad(download, server):
    server.replies(b"", status="302 Found")
    failed(download(server.url(SIGNED)), Fault.BAD, "does not tell where")


@pytest.mark.parametrize(
    "location",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "//10.0.0.1/",
        "http://example.org/a.jpg",
        "file:///etc/passwd",
        "ftp://example.org/",
        "https://me:secret@example.org/",
        "https:///nohost",
        "http://[broken",
    ],
)
def test_a_redirect_to_a_place_that_is_not_allowed_is_refused(download, server, location):
    redirects(server, location)
    failed(download(server.url(SIGNED)), Fault.FORBIDDEN, "not fetched")
    assert len(server.requests) == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::ffff:10.0.0.1"])
def test_a_public_name_that_leads_to_a_private_address_is_refused(download, address):
    found = download("https://cdn.example/a?sig=1", resolve=lambda *_: [address])
    failed(found, Fault.FORBIDDEN, f"'cdn.example' leads to {address}")


def test_a_redirect_to_a_name_that_leads_to_a_private_address_is_refused(download, server):
    redirects(server, "https://cdn.example/a")
    found = download(server.url(SIGNED), resolve=lambda host, _: ["10.0.0.1" if host == "cdn.example" else host])
    failed(found, Fault.FORBIDDEN, "'cdn.example' leads to 10")


def test_a_link_over_http_is_refused_except_to_the_providers_own_host(download, server):
    failed(download("http://cdn.example/a"), Fault.FORBIDDEN, "only https")
    failed(download(server.url(SIGNED), allowed=frozenset({"api.example"})), Fault.FORBIDDEN)
    assert server.requests == []


def test_a_redirect_from_https_to_http_is_refused_even_to_the_providers_own_host(spool):
    client = guarded_client(OWN, resolve=lambda *_: ["93.184.215.14"])
    reply = [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/a\r\nContent-Length: 0\r\n\r\n"]
    client._transport._pool._network_backend._inner = httpcore.MockBackend(reply)
    with client:
        failed(
            fetch(client, Download("https://cdn.example/a", None, 5.0), spool),
            Fault.FORBIDDEN,
            "a redirect away from https",
        )


@pytest.mark.parametrize("url", ["", "image.jpg", "ftp://a/b", "https://", "http://me@127.0.0.1/", "https://a\nb/"])
def test_what_is_no_link_is_refused(download, url):
    failed(download(url), Fault.FORBIDDEN, "not fetched")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=30), st.sampled_from(["", "https://", "https://cdn.example/", "https://cdn.example:"]))
def test_any_text_given_as_a_link_is_told_and_never_crashes(spool, text, beginning):
    with guarded_client(frozenset(), resolve=lambda *_: [], verify=CONTEXT) as client:
        found = fetch(client, Download(beginning + text, None, 5.0), spool)
    assert found.fault in {Fault.FORBIDDEN, Fault.LOST}


def test_neither_link_nor_image_is_bad(download):
    failed(download(None), Fault.BAD, "neither")


def test_an_image_inside_the_reply_is_kept_like_a_fetched_one(download, jpeg, spool):
    image = download(base64=base64.b64encode(jpeg).decode())
    assert (image.data, image.source_url) == (jpeg, None)
    assert image.stored == spool.find(image.sha256)


def test_f42_base64_that_is_too_long_is_not_even_decoded(download, monkeypatch):
    monkeypatch.setattr(downloads.pybase64, "b64decode", lambda *_, **__: pytest.fail("it was decoded"))
    failed(download(base64="A" * 4000, max_bytes=2000), Fault.BAD, "more than the 2000")


@pytest.mark.parametrize("text", ["AAA", "AA*AA", "AA==AAAA", "data:image/png,AAAA", "ééé"])
def test_f43_base64_is_decoded_strictly(download, text):
    failed(download(base64=text), Fault.BAD, "not valid base64")


def test_an_image_inside_the_reply_is_in_the_spool_before_it_is_decoded(download, spool):
    failed(download(base64=base64.b64encode(b"no image").decode()), Fault.BAD, "text, not an image")
    assert rejected(spool) == [b"no image"]


def test_an_empty_image_inside_the_reply_is_bad(download):
    failed(download(base64=""), Fault.BAD, r"nothing \(0 bytes\)")


def test_many_downloads_on_one_client_share_its_connections(server, spool, jpeg, png):
    server.replies(jpeg)

    async def run():
        async with async_guarded_client(OWN) as client:
            return await asyncio.gather(*(afetch(client, Download(server.url(), None, 5.0), spool) for _ in range(20)))

    assert {image.sha256 for image in asyncio.run(run())} == {hashlib.sha256(jpeg).hexdigest()}


def test_a_cancelled_download_leaves_nothing(server, spool, jpeg):
    server.answers(server.head(f"Content-Length: {len(jpeg)}"), jpeg[:1000], 5.0)

    async def run():
        async with async_guarded_client(OWN) as client:
            task = asyncio.create_task(afetch(client, Download(server.url(), None, 5.0), spool))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert not [path for path in spool.root.rglob("*") if path.is_file()]
