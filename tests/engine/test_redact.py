from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.engine.redact import EXCERPT, excerpt, without_signatures

SIGNED = "https://d.bfl.ai/a.jpeg?se=2025-12-18T15%3A49%3A07Z&sp=r&sig=TCGRVM3f%3D"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def test_an_excerpt_hides_base64_and_signatures() -> None:
    shown = excerpt(f'{{"input":"{"QUJD" * 100}","sample":"{SIGNED}","word":"kept"}}'.encode())

    assert "<400 characters of base64>" in shown
    assert "https://d.bfl.ai/a.jpeg?…" in shown
    assert "kept" in shown
    assert "TCGRVM3f" not in shown


def test_f41_bytes_that_are_not_utf8_are_shown_escaped() -> None:
    assert "a\\xffb c" == excerpt(b"a\xffb\x00c")


def test_an_excerpt_is_short_and_says_that_it_is_cut() -> None:
    shown = excerpt(b"a b " * 1_000_000)

    assert len(shown) <= EXCERPT + 2
    assert shown.endswith("…")


@given(body=st.binary(max_size=300))
def test_an_excerpt_of_any_bytes_is_printable(body: bytes) -> None:
    assert excerpt(body).isprintable()


@settings(deadline=None)
@given(value=JSON)
def test_json_without_signed_links_stays_as_it_is(value: Any) -> None:
    assert value == without_signatures(value)


@pytest.mark.parametrize("word", ["sig", "signature", "token", "X-Amz-Signature", "expires", "se"])
def test_the_query_of_a_signed_link_is_cut_off_wherever_it_stands(word: str) -> None:
    found = without_signatures({"a": [{"b": f"see https://x.example/y?a=1&{word}=secret now"}]})

    assert {"a": [{"b": "see https://x.example/y?… now"}]} == found


def test_f40_deep_json_is_cut_and_raises_nothing() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]

    assert "…" in repr(without_signatures(deep))


def test_long_texts_are_told_by_their_length() -> None:
    assert "<20000 characters>" == without_signatures("a " * 10_000)


@pytest.mark.timeout(20)
def test_many_hostile_texts_do_not_take_minutes() -> None:
    hostile = ("http://a?" * 1_111)[:10_000]

    found = without_signatures([hostile] * 400)

    assert [hostile] * 400 == found
