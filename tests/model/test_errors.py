import copy
import pickle
from typing import Any

import pytest

from anykontext.engine.policy import FAILOVER_ON
from anykontext.model import errors
from anykontext.model.errors import (
    ERROR_OF_KIND,
    AllCandidatesFailed,
    AnykontextError,
    BrokenPlugin,
    BudgetExceeded,
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    Kind,
    MissingKey,
    Moderated,
    NoCandidate,
    ProviderError,
    Unavailable,
    UnknownModel,
    UnknownProvider,
    UnsupportedOption,
)
from anykontext.model.job import JobHandle, Task
from anykontext.model.result import Attempt

HANDLE = JobHandle("job_1", "bfl", "bfl", "flux-kontext-pro", "edit", (Task("one", "https://api.bfl.ai/x"),))
FIELDS: dict[str, Any] = {
    "provider": "bfl",
    "model": "flux-kontext-pro",
    "http_status": 503,
    "raw": "busy",
    "retry_after": 2.0,
    "handle": HANDLE,
    "job_id": "job_1",
    "maybe_charged": True,
}


def every_error() -> list[AnykontextError]:
    unsupported = UnsupportedOption("no", option="seed", asked=1, allowed=(2, 3), provider="bfl")
    plain = [cls("words") for cls in (ConfigurationError, MissingKey, UnknownProvider, UnknownModel, BrokenPlugin)]
    others = [InvalidRequest("words"), unsupported, NoCandidate("none", reasons={"a/b": "no"}), BudgetExceeded("dear")]
    of_kinds = [cls("words", **FIELDS) for cls in ERROR_OF_KIND.values()]
    moderated = Moderated("flagged", stage="output", reasons=("NSFW",), **FIELDS)
    every = AllCandidatesFailed("all", errors=[of_kinds[0], moderated], **FIELDS)
    for error in (*of_kinds, moderated, every):
        error.attempts = (Attempt("bfl", "flux-kontext-pro", "unavailable", maybe_charged=True, seconds=1.5),)
    return [*plain, *others, *of_kinds, moderated, every]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_can_be_pickled_and_copied(error: AnykontextError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(error) is type(again)
        assert (str(error), error.args) == (str(again), again.args)
        for name, value in error.__dict__.items():
            if name != "errors":
                assert value == getattr(again, name)
        if isinstance(error, ProviderError):
            assert isinstance(again, ProviderError)
            assert (error.kind, error.retryable) == (again.kind, again.retryable)
            assert [str(one) for one in error.errors] == [str(one) for one in again.errors]


TREE = {
    AnykontextError: (Exception,),
    ConfigurationError: (AnykontextError,),
    MissingKey: (ConfigurationError,),
    UnknownProvider: (ConfigurationError,),
    UnknownModel: (ConfigurationError,),
    BrokenPlugin: (ConfigurationError,),
    InvalidRequest: (AnykontextError, ValueError),
    UnsupportedOption: (InvalidRequest,),
    NoCandidate: (AnykontextError,),
    BudgetExceeded: (AnykontextError,),
    ProviderError: (AnykontextError,),
    DeadlineExceeded: (ProviderError, TimeoutError),
    AllCandidatesFailed: (ProviderError,),
}


def test_the_tree_is_that_of_the_design() -> None:
    for cls, bases in TREE.items():
        assert bases == cls.__bases__
    for cls in {*ERROR_OF_KIND.values()} - TREE.keys():
        assert (ProviderError,) == cls.__bases__


def test_every_kind_has_one_error_and_every_error_one_kind() -> None:
    assert set(Kind) == set(ERROR_OF_KIND)
    assert len(Kind) == len(set(ERROR_OF_KIND.values()))
    assert all(cls.kind is kind for kind, cls in ERROR_OF_KIND.items())


def test_the_kinds_are_the_words_of_the_design() -> None:
    words = """authentication_failed out_of_credit rate_limited request_rejected unavailable moderated
    generation_failed job_not_found result_expired cancelled outcome_unknown deadline_exceeded protocol_error"""

    assert words.split() == [kind.value for kind in Kind]
    assert {"unavailable", "rate_limited", "out_of_credit", "generation_failed"} == set(FAILOVER_ON)


@pytest.mark.parametrize("cls", ERROR_OF_KIND.values())
@pytest.mark.parametrize(
    ("charged", "money"), [(True, "money may have been spent"), (False, "nothing was charged")], ids=["paid", "free"]
)
def test_an_error_says_who_what_money_and_what_to_do(cls: type[ProviderError], charged: bool, money: str) -> None:
    error = cls("it said no.", **(FIELDS | {"maybe_charged": charged}))

    assert f"bfl/flux-kontext-pro: it said no ({money}). {cls.advice}" == str(error)
    assert cls.advice
    assert (not charged) == error.retryable


def test_advice_can_be_more_than_the_kinds_own() -> None:
    error = Unavailable("no", provider="bfl", advice="Make room")

    assert "bfl: no (nothing was charged). Make room" == str(error)
    assert "Try again later" in Unavailable.advice


def test_an_error_alone_is_its_own_list_of_errors() -> None:
    error = Unavailable("no", provider="bfl")

    assert (error,) == error.errors
    assert () == error.attempts


def test_fields_have_quiet_defaults() -> None:
    error = Unavailable("no", provider="bfl")

    assert (None, None, None, None, None, None) == (
        *(error.model, error.http_status, error.raw),
        *(error.retry_after, error.handle, error.job_id),
    )
    assert error.maybe_charged is False


def test_when_all_failed_the_kind_is_that_of_the_last_and_of_this_error_only() -> None:
    last = Moderated("flagged", provider="b")

    error = AllCandidatesFailed("all", errors=[Unavailable("no", provider="a"), last], provider="b")

    assert Kind.MODERATED is error.kind
    assert Kind.UNAVAILABLE is AllCandidatesFailed.kind
    assert last is error.errors[-1]


def test_the_docstring_shows_every_error() -> None:
    shown = errors.__doc__ or ""

    assert all(cls.__name__ in shown for cls in (*TREE, *ERROR_OF_KIND.values()))
