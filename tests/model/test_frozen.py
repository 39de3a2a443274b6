import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykontext.model.frozen import Frozen, freeze, thaw
from anykontext.model.words import near

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


@given(value=JSON)
def test_freezing_and_thawing_gives_the_same_json(value: Any) -> None:
    assert value == thaw(freeze(value))
    assert isinstance(hash(freeze(value)), int)


def test_a_frozen_mapping_is_one_and_cannot_be_changed() -> None:
    frozen = Frozen({"a": 1})

    assert {"a": 1} == frozen
    assert (1, 1, ["a"]) == (frozen["a"], len(frozen), list(frozen))
    assert "{'a': 1}" == repr(frozen)
    with pytest.raises(TypeError):
        frozen["a"] = 2  # type: ignore[index]
    with pytest.raises(AttributeError):
        frozen.other = 1  # type: ignore[attr-defined]


def test_equal_mappings_have_one_hash_in_any_order() -> None:
    assert hash(Frozen({"a": 1, "b": 2})) == hash(Frozen({"b": 2, "a": 1}))


def test_it_can_be_copied_and_pickled() -> None:
    frozen = Frozen({"a": Frozen({"b": 1})})

    assert all(frozen == one for one in (pickle.loads(pickle.dumps(frozen)), copy.copy(frozen), copy.deepcopy(frozen)))


@pytest.mark.parametrize(
    ("word", "known", "clause"),
    [
        ("flux-kontext-por", ["flux-1.1-pro", "flux-kontext-pro"], "'flux-kontext-pro'"),
        ("zzz", ["fal", "bfl"], "known are: bfl, fal"),
        ("zzz", [], "none is known"),
    ],
)
def test_the_nearest_word_is_named(word: str, known: list[str], clause: str) -> None:
    assert clause in near(word, known)
