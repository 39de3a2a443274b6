import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anykontext.adapting import Call, Purpose, get
from anykontext.engine.signing import UntrustedUrl, address, hosts_of, is_delivery, is_loopback

TRUSTED = re.compile(r"([a-z0-9_-]+\.)*bfl\.ai")


def at(lab: SimpleNamespace, url: str, **provider: Any) -> Any:
    return address(get(Purpose.POLL, url, origin=None), lab.provider(**provider))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.bfl.ai/v1/get_result?id=1",
        "https://api.eu4.bfl.ai/v1/get_result?id=1",
        "https://bfl.ai/x",
        "https://API.BFL.AI/x",
        "https://api.us1.bfl.ai:443/x",
        "HTTPS://gateway.bfl.ai/x",
        "https://a-b_c.bfl.ai/x",
    ],
)
def test_the_key_goes_to_the_providers_own_hosts_byte_for_byte(lab: SimpleNamespace, url: str) -> None:
    found = at(lab, url)

    assert (url, True, False) == (found.url, found.signed, found.guarded)


@pytest.mark.parametrize(
    "url",
    [
        "https://notbfl.ai/x",
        "https://bfl.ai.evil.example/x",
        "https://api.bfl.ai.evil.example/x",
        "https://evil.example/api.bfl.ai",
        "https://evil.example/?https://api.bfl.ai",
        "https://evil.example/#@api.bfl.ai",
        "https://evil.example#.bfl.ai",
        "https://evil.example?.bfl.ai",
        "https://api-bfl.ai/x",
        "https://bfl.ai.:443/x",
        "https://api.bfl.ai./x",
        "https://api.bfl.ai:8443/x",
        "http://api.bfl.ai/x",
        "http://api.bfl.ai:443/x",
        "https://bflxai/x",
        "https://bfldeliveryprodeu4.blob.core.windows.net/x",
        "https://93.184.216.34/x",
        "http://169.254.169.254/latest",
        "http://127.0.0.1:8000/x",
        "http://localhost/x",
        "https://[::1]/x",
    ],
)
def test_the_key_does_not_go_to_a_stranger_and_the_call_is_guarded(lab: SimpleNamespace, url: str) -> None:
    found = at(lab, url)

    assert (url, False, True) == (found.url, found.signed, found.guarded)


@pytest.mark.parametrize(
    "url",
    [
        "https://bfl.ai@evil.example/x",
        "https://api.bfl.ai:x@evil.example/x",
        "https://:@api.bfl.ai/x",
        "https://@api.bfl.ai/x",
        "https://evil.example\\@api.bfl.ai/x",
        "https://evil.example\\.bfl.ai/x",
        "https://evil.example%2f.bfl.ai/x",
        "https://evil.example;.bfl.ai/x",
        "https://.bfl.ai/x",
        "https://evil..bfl.ai/x",
        "https://api.bfl.ai:0/x",
        "https://api.bfl.ai:99999/x",
        "https://api.bfl.ai:port/x",
        "https://api.bfl\t.ai/x",
        "https://api.bfl.ai\n/x",
        "\thttps://api.bfl.ai/x",
        " https://api.bfl.ai/x",
        "https://api.bfl.ai/x y",
        "https://api.bfl.ai/x\r\nX-Key: 1",
        "https://api.bfl.ai/\x00",
        "https://\uff42fl.ai/x",
        "https://b\u00fccher.bfl.ai/x",
        "https://evil.example\uff0f.bfl.ai/x",
        "https://evil.example\u2028.bfl.ai/x",
        "https://[api.bfl.ai]/x",
        "https://[::1/x",
        "https://[fe80::1%25eth0]/x",
        "https:///x",
        "https:api.bfl.ai/x",
        "//api.bfl.ai/x",
        "/v1/get_result",
        "",
        "ftp://api.bfl.ai/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/plain,x",
    ],
)
def test_nothing_is_sent_to_a_url_that_can_be_read_in_two_ways(lab: SimpleNamespace, url: str) -> None:
    with pytest.raises(UntrustedUrl):
        at(lab, url)


@pytest.mark.parametrize("url", ["https://proxy.example:8443/v1/get_result", "https://PROXY.example:8443/x"])
def test_the_configured_origin_gets_the_key_with_its_port(lab: SimpleNamespace, url: str) -> None:
    found = at(lab, url, origins={"api": "https://proxy.example:8443/bfl"})

    assert (True, False) == (found.signed, found.guarded)


@pytest.mark.parametrize(
    "url", ["https://proxy.example/x", "https://proxy.example:8444/x", "https://sub.proxy.example:8443/x"]
)
def test_a_neighbour_of_the_configured_origin_is_a_stranger(lab: SimpleNamespace, url: str) -> None:
    found = at(lab, url, origins={"api": "https://proxy.example:8443"})

    assert (False, True) == (found.signed, found.guarded)


@pytest.mark.parametrize(
    ("base", "allow_http", "signed"),
    [
        ("http://127.0.0.1:8000", False, True),
        ("http://localhost:8000", False, True),
        ("http://sub.localhost:8000", False, True),
        ("http://[::1]:8000", False, True),
        ("http://10.0.0.7:8000", False, False),
        ("http://proxy.example", False, False),
        ("http://localhost.evil.example", False, False),
        ("http://10.0.0.7:8000", True, True),
        ("https://proxy.example", False, True),
    ],
)
def test_over_http_the_key_goes_to_this_machine_or_where_it_is_allowed(
    lab: SimpleNamespace, base: str, allow_http: bool, signed: bool
) -> None:
    who = lab.provider(origins={"api": base}, allow_http=allow_http)

    submit = address(Call(Purpose.SUBMIT, "POST", "/v1/x"), who)
    poll = address(get(Purpose.POLL, f"{base}/v1/x", origin=None), who)

    assert (f"{base}/v1/x", signed, False) == (submit.url, submit.signed, submit.guarded)
    assert (signed, False) == (poll.signed, poll.guarded)


def test_the_way_to_an_emulator_does_not_open_the_way_to_other_services_of_this_machine(lab: SimpleNamespace) -> None:
    found = at(lab, "http://127.0.0.1:22/x", origins={"api": "http://127.0.0.1:8000"})

    assert (False, True) == (found.signed, found.guarded)


def test_a_path_prefix_of_the_base_url_is_kept(lab: SimpleNamespace) -> None:
    who = lab.provider(origins={"api": "https://proxy.example/bfl"})

    assert "https://proxy.example/bfl/v1/x" == address(Call(Purpose.SUBMIT, "POST", "/v1/x"), who).url


@pytest.mark.parametrize("path", [".evil.example/x", "@evil.example/x", ":8080/x", "x", ""])
def test_a_path_cannot_change_the_host(lab: SimpleNamespace, path: str) -> None:
    with pytest.raises(UntrustedUrl):
        address(Call(Purpose.SUBMIT, "POST", path), lab.provider())


def test_the_message_of_a_refused_url_is_short(lab: SimpleNamespace) -> None:
    with pytest.raises(UntrustedUrl) as caught:
        at(lab, "ftp://x.example/" + "a" * 10_000)

    assert len(str(caught.value)) < 200


HOSTS = st.sampled_from(
    [
        *("api.bfl.ai", "bfl.ai", "notbfl.ai", "evil.example", "bfl.ai.evil.example", "127.0.0.1", "[::1]", ""),
        *(".bfl.ai", "bfl.ai.", "API.bfl.AI", "api%2ebfl.ai", "\uff42fl.ai", "localhost"),
    ]
)
GLUE = st.sampled_from([*":@/\\#?.%;&,=[]_-\t\n\r \x00\u3002\uff0f\uff0e", "//", "%2f", "%00", "://", ":443", ":0"])
URLS = st.lists(st.one_of(HOSTS, GLUE, st.text(max_size=3)), max_size=6).map("".join)
SCHEMES = st.sampled_from(["https://", "http://", "HTTPS://", "https:", "https:/", "https:\\\\", "//", ""])


@settings(max_examples=1500, deadline=None)
@given(scheme=SCHEMES, rest=URLS)
@example("https://", "evil.example\\.bfl.ai/")
@example("https://", "a:b@api.bfl.ai")
def test_a_url_that_is_signed_has_a_trusted_host_by_other_parsers_too(
    lab: SimpleNamespace, scheme: str, rest: str
) -> None:
    url = scheme + rest
    try:
        found = at(lab, url)
    except UntrustedUrl:
        return

    assert url == found.url
    assert found.signed is not found.guarded
    if not found.signed:
        return
    by_httpx = httpx.URL(url)
    by_regex = re.match(r"(?i)https://([^/?#\\@]*)(?:[/?#]|$)", url)
    assert by_regex is not None
    host = by_regex[1].lower().removesuffix(":443").removesuffix(":")
    assert TRUSTED.fullmatch(host)
    assert TRUSTED.fullmatch(by_httpx.host)
    assert TRUSTED.fullmatch(urlsplit(url).hostname or "")
    assert "https" == by_httpx.scheme
    assert by_httpx.port in {None, 443}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, loopback: bool) -> None:
    assert loopback == is_loopback(host)


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("https://delivery-eu1.bfl.ai/x", True),
        ("https://delivery.ice.bfl.ai/ephemeral/x", True),
        ("https://bfldeliveryprodeu4.blob.core.windows.net/x", True),
        ("https://bfl.ai/x", True),
        ("http://delivery-eu1.bfl.ai/x", False),
        ("https://evilblob.core.windows.net/x", False),
        ("https://bfldelivery.blob.core.windows.net.evil.example/x", False),
        ("https://evil.example\\.bfl.ai/x", False),
        ("https://u@delivery.bfl.ai/x", False),
        ("ftp://delivery.bfl.ai/x", False),
        ("", False),
        ("https://proxy.example/x", True),
    ],
)
def test_delivery_hosts_are_told_by_name_and_nothing_raises(lab: SimpleNamespace, url: str, known: bool) -> None:
    assert known == is_delivery(url, lab.provider(origins={"api": "https://proxy.example:8443"}))


def test_the_hosts_of_a_provider_are_those_of_its_base_urls(lab: SimpleNamespace) -> None:
    who = lab.provider(origins={"api": "http://127.0.0.1:8000", "upload": "https://up.example"})

    assert {"127.0.0.1", "up.example"} == hosts_of(who)
