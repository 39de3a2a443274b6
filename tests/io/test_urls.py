from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anykontext.io.addresses import Forbidden
from anykontext.io.urls import bare, split


@pytest.mark.parametrize(
    "url", ["https://xn--/", "https://xn--a/x?sig=1", "https://\ud800/", "https://[::1", "file:///x"]
)
def test_a_url_that_cannot_be_read_is_forbidden(url: str) -> None:
    with pytest.raises(Forbidden):
        split(url)


@given(st.text(max_size=60))
@example("xn--/")
@example("xn--\u00df")
def test_no_url_raises_anything_else(rest: str) -> None:
    with suppress(Forbidden):
        url, _ = split("https://" + rest)
        assert url.host


def test_the_query_goes_byte_for_byte() -> None:
    _, target = split("https://a.example/x/%2F?sig=a%2Bb%2Fc%3D&se=1%3A2")

    assert b"/x/%2F?sig=a%2Bb%2Fc%3D&se=1%3A2" == target


def test_a_bare_url_has_no_signature() -> None:
    assert "https://a.example/x" == bare("https://a.example/x?sig=1#f")
