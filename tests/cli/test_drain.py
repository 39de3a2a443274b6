"""`drain` and `undrain`: what they say, and what they refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
[providers.kie]
api_key = "0123456789"
[providers.fal]
api_key = "id:0123456789"
"""


@pytest.fixture(autouse=True)
def config(work: Path) -> Path:
    file = work / "anykontext.toml"
    file.write_text(CONFIG)
    return file


def test_a_provider_is_drained_listed_and_let_go(cli: Callable[..., Any]) -> None:
    assert "No provider is drained." in cli("drain", "-q").out
    assert cli("drain", "kie", "--why", "slow today", "-q").out.startswith("kie is drained by ")
    assert cli("drain", "kie", "--why", "another word", "-q").out.startswith("kie is already drained by ")

    listed = cli("drain", "--json").json

    assert [("kie", "slow today")] == [(one["provider"], one["why"]) for one in listed]
    assert {"provider", "since", "who", "why"} == listed[0].keys()
    assert "kie takes jobs again." in cli("undrain", "kie", "-q").out
    assert "kie was not drained." in cli("undrain", "kie", "-q").out
    assert [] == cli("drain", "--json").json


def test_a_plan_shows_who_drained_it_since_when_and_why(cli: Callable[..., Any]) -> None:
    cli("drain", "kie", "--why", "slow today")

    shown = cli("plan", "a cat", "-q").out
    refused = cli("generate", "a cat", "--provider", "kie", "-o", "x.jpg")

    assert "kie/flux-kontext-pro: drained by " in shown
    assert "UTC: slow today; `anykontext undrain kie`" in shown
    refused.refused("drained by", "slow today", "anykontext undrain kie", "nothing was charged", code=5)


def test_when_all_are_drained_a_plan_ends_as_the_request_does(cli: Callable[..., Any]) -> None:
    for name in ("kie", "fal"):
        cli("drain", name, "--why", "red \x1b[31m\nalert")

    for words in (("plan", "a cat"), ("generate", "a cat", "-o", "x.jpg")):
        ended = cli(*words)
        assert (2, False) == (ended.code, "\x1b" in ended.out + ended.err)
    for words in (("plan", "a cat"), ("generate", "a cat", "-o", "x.jpg")):
        assert 5 == cli(*words, "--provider", "kie").code
    assert 2 == len(cli("drain", "-q").out.splitlines())


def test_a_name_that_is_none_is_refused_with_the_nearest(cli: Callable[..., Any]) -> None:
    cli("drain", "kei").refused("'kei'", "kie", code=3)
    cli("undrain", "kei").refused("'kei'", "kie", code=3)


def test_one_that_is_not_configured_any_more_can_be_let_go(cli: Callable[..., Any], config: Path) -> None:
    cli("drain", "kie")
    config.write_text(CONFIG.replace("providers.kie", "providers.together"))

    assert "kie takes jobs again." in cli("undrain", "kie", "-q").out


def test_a_ledger_in_memory_has_nobody_to_tell(cli: Callable[..., Any], config: Path) -> None:
    config.write_text(CONFIG + '[ledger]\nurl = "memory"\n')

    cli("drain", "kie").refused("of no use", "memory", code=3)


def test_a_reason_needs_a_name(cli: Callable[..., Any]) -> None:
    cli("drain", "--why", "slow").refused("--why", code=2)
