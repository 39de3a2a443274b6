"""A contract that cannot fail is worth nothing: adapters with one defect each fail in the tests that are for it."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from anykontext.adapting import Failed, Kind, Purpose, Refused, Running
from anykontext.model.errors import Moderated
from anykontext.testing import AdapterContract, Documented
from anykontext.testing.contract.faults import ENDS
from anykontext_bfl import Bfl
from anykontext_bfl.emulator import Emulator

from . import broken_adapters, test_bfl, test_fal, test_kie, test_together

FILE = Path(__file__).with_name("broken_adapters.py")
# What takes long and sees none of these defects, and what knows more models than the one that they have.
QUICKLY = "not huge and not any_change and not Client and not prices and not request-moderated"
# What pytest does for each of many thousand tests and nobody looks at here.
BARE = ("-q", "--tb=no", "--capture=no", "-p", "no:cacheprovider", "-p", "no:logging")

# Adapter -> the tests that must fail, and no other.
EXPECTED: dict[str, set[str]] = {
    "Sound": set(),
    "LosesAField": {
        "test_a_value_is_sent_as_it_was_asked",
        "test_an_option_of_the_facts_reaches_the_provider",
        "test_an_option_is_not_taken_for_left_out",
    },
    "DropsSeedZero": {"test_a_falsy_value_is_sent", "test_a_value_is_sent_as_it_was_asked"},
    "LosesTheLastImage": {"test_every_image_reaches_the_provider", "test_images_are_sent_in_their_order"},
    "MergesExtraFirst": {"test_a_field_of_the_callers_is_merged_last"},
    "SendsAKey": {"test_no_call_carries_a_key", "test_no_call_has_a_place_for_a_key"},
    "SendsElsewhere": {
        "test_every_call_goes_to_an_origin_of_the_facts",
        "test_a_polling_url_is_asked_verbatim",
        "test_the_key_goes_with_a_poll",
        "test_a_cassette_is_understood",
    },
    "RewritesThePollUrl": {"test_a_polling_url_is_asked_verbatim"},
    "PollsById": {
        "test_a_polling_url_is_asked_verbatim",
        "test_a_task_is_told_by_its_own_id",
        "test_a_cassette_is_understood",
    },
    "BelievesAnyStatus": {"test_an_unknown_status_runs_on"},
    "SwallowsAStatus": {"test_a_documented_reply_means_what_it_should", "test_a_cassette_is_understood"},
    "EndsAnUnknownStatus": {"test_an_unknown_status_runs_on"},
    "RaisesOnHtml": {
        "test_it_keeps_no_state",
        "test_a_state_says_nothing_impossible",
        "test_a_documented_reply_means_what_it_should",
        "test_any_bytes_are_survived",
        "test_an_end_is_only_told_by_the_provider",
        "test_a_claimed_rejection_is_seen_in_a_reply",
        "test_a_refused_submit_costs_what_it_should",
        "test_a_missing_answer_is_never_a_rejection",
        "test_an_undocumented_5xx_may_be_charged",
        "test_a_page_of_something_in_between_may_be_charged",
    },
    "SaysThatItIsFree": {"test_a_documented_reply_means_what_it_should"},
    "TakesAPageForARejection": {"test_a_documented_reply_means_what_it_should"},
    "RemembersTheLastSeed": {"test_it_keeps_no_state"},
    "ClaimsARejection": {"test_a_refused_submit_costs_what_it_should"},
    "ClaimsWithoutEvidence": {"test_a_rejection_has_evidence_and_is_no_missing_answer"},
    "ListsATimeout": {
        "test_a_rejection_has_evidence_and_is_no_missing_answer",
        "test_a_claimed_rejection_is_seen_in_a_reply",
    },
    "HasAKeylessHeader": {"test_its_key_has_a_header_and_a_variable"},
    "CountsExtraFields": {"test_unknown_fields_change_nothing"},
    "Impure": {"test_its_modules_import_nothing_impure"},
    "Undocumented": {
        "test_there_are_documented_replies_of_every_kind",
        "test_a_documented_status_has_a_reply",
        "test_a_documented_error_has_a_reply",
        "test_an_output_has_a_link_or_a_text",
        "test_a_claimed_rejection_is_seen_in_a_reply",
    },
    "RefusedForNothing": {"test_every_fault_has_an_end"},
    "TurnsTheImages": {"test_images_are_sent_in_their_order"},
    "TurnsTheRatio": {"test_a_value_is_sent_as_it_was_asked"},
    "InvertsAToggle": {"test_a_value_is_sent_as_it_was_asked"},
    "CutsThePrompt": {"test_a_prompt_is_sent_whole"},
    "CutsTheSeed": {"test_a_value_is_sent_as_it_was_asked"},
    "HasAFieldOfAnotherName": {"test_a_value_is_sent_as_it_was_asked", "test_a_field_of_the_callers_is_merged_last"},
    "TakesNoWebp": {"test_an_image_of_each_type_is_sent"},
    "SendsAToken": {"test_no_call_has_a_place_for_a_key"},
    "SignsInTheQuery": {"test_no_call_has_a_place_for_a_key", "test_a_cassette_is_understood"},
    "UnescapesALink": {"test_a_link_is_passed_on_byte_for_byte", "test_an_output_has_a_link_or_a_text"},
    "BelievesAnySeed": {"test_a_state_says_nothing_impossible"},
    "TrustsATopLevelDomain": {"test_its_hosts_are_domains"},
    "DownloadsFromAnywhere": {"test_its_hosts_are_domains"},
    "WithoutItsCassettes": {"test_the_cassettes_are_where_they_are_said_to_be"},
    "SaysThatItInverts": set(),
    "NamesItsHeader": set(),
    "SaysThatItRewords": set(),
    "LiesAboutAFault": set(),  # nothing but sockets sees it: see below
}


GROUPS = 3  # runs, each in the time of one test


def group(index: int) -> list[str]:
    """Some of the broken adapters."""
    return list(EXPECTED)[index::GROUPS]


def failures(folder: Path, chosen: str, *suites: str) -> Mapping[str, set[str]]:
    """The names of the tests that fail, by the class of the broken adapter; classes without failures are there too."""
    report = folder / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        *(f"{FILE}::Test{suite}" for suite in suites),
        *BARE,
        "-k",
        chosen,
    ]
    run = subprocess.run(
        [*command, f"--junitxml={report}"],
        cwd=FILE.parents[2],
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in {0, 1}, run.stdout[-2000:] + run.stderr[-2000:]
    found: dict[str, set[str]] = defaultdict(set)
    for case in ET.parse(report).iter("testcase"):
        name = (case.get("classname") or "").rpartition(".Test")[2]
        bad = case.find("failure") is not None or case.find("error") is not None
        found[name] |= {(case.get("name") or "").partition("[")[0]} if bad else set()
    return found


@pytest.fixture(scope="module", params=range(GROUPS))
def pure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    return failures(tmp_path_factory.mktemp("pure"), QUICKLY, *group(request.param))


@pytest.mark.timeout(180)
def test_a_defect_fails_in_the_tests_that_are_there_for_it(pure: Mapping[str, set[str]]) -> None:
    assert {name: EXPECTED[name] for name in pure} == pure


def test_every_broken_adapter_has_its_expectation() -> None:
    suites = {name.removeprefix("Test") for name in vars(broken_adapters) if name.startswith("Test")}

    assert set(EXPECTED) == suites - {"TrustsTypes"}
    assert sorted(EXPECTED) == sorted(name for index in range(GROUPS) for name in group(index))


def test_a_type_that_is_trusted_raises_somewhere(tmp_path: Path) -> None:
    found = failures(tmp_path, "wrong_types or any_change", "TrustsTypes")

    assert {"test_wrong_types_are_survived", "test_any_change_of_a_reply_is_survived"} >= found["TrustsTypes"]
    assert "test_wrong_types_are_survived" in found["TrustsTypes"]


@pytest.mark.sandbox
def test_a_fault_that_ends_elsewhere_than_it_says_is_found(tmp_path: Path) -> None:
    assert {"LiesAboutAFault": {"test_a_fault_ends_as_it_should"}} == failures(
        tmp_path, "fault_ends and (failed or poll-errors)", "LiesAboutAFault"
    )
    assert {"LiesAboutAFault": set()} == failures(tmp_path, "fault_ends and poll-errors", "LiesAboutAFault")


@pytest.mark.parametrize("suite", [test_bfl.TestBfl, test_fal.TestFal, test_kie.TestKie, test_together.TestTogether])
def test_what_is_claimed_is_told(suite: type[AdapterContract]) -> None:
    told = suite.capabilities()

    assert suite.adapter.facts.title in told
    assert all(f"fault {name}: {end.because}" in told for name, end in suite.ends.items() if name in ENDS)
    assert all(f"without fault {name}: {why}" in told for name, why in suite.without_faults.items())
    assert "an emulator: yes" in told


A_STRANGERS_TESTS = """
import re
from anykontext.adapting import Kind, Purpose, Refused, Running, Failed, Succeeded
from anykontext.testing import AdapterContract, Documented
from strange import Echo

class TestEcho(AdapterContract):
    adapter = Echo()
    documented = (
        Documented(Purpose.SUBMIT, 200, {"id": "one"}, Running, evidence="echo-1"),
        Documented(Purpose.SUBMIT, 402, {"error": "empty"}, (Refused, Kind.OUT_OF_CREDIT, False), evidence="echo-1"),
        Documented(Purpose.POLL, 200, {"status": "running"}, Running, evidence="echo-1"),
        Documented(Purpose.POLL, 200, {"status": "done", "url": "https://e/i.png"}, Succeeded, evidence="echo-1"),
        Documented(Purpose.POLL, 200, {"status": "failed"}, (Failed, Kind.GENERATION_FAILED, False), "echo-1"),
    )
"""
A_STRANGERS_ADAPTER = """
from anykontext.adapting import (
    Facts, Failed, InputLimits, Kind, ModeFacts, ModelFacts, Numbers, Output, Purpose, Refused, Running, Succeeded,
    Task, get, post,
)

class Echo:
    facts = Facts(
        name="echo", title="Echo", origins={"api": "https://echo.example"}, trusted=("echo.example",), delivery=(),
        auth=("Authorization", "Bearer {key}"), keys=(("ECHO_KEY",),),
        models={
            "flux-kontext-pro": ModelFacts("pro", {"generate": ModeFacts({"seed": Numbers(0, 9, "echo-1")})}, "echo-1"),
        },
        inputs=InputLimits(("bytes",), ("image/png",), 1000, 1000, "echo-1"),
        poll_interval_s=1.0, evidence={}, quirks={"echo-1": "It echoes."},
    )

    def submit(self, order):
        fields = {"prompt": order.prompt, **({} if order.seed is None else {"seed": order.seed}), **order.extra}
        return post(Purpose.SUBMIT, "/make", fields)

    def poll(self, task):
        return get(Purpose.POLL, "/tasks", query={"id": task.id})

    def read(self, reply, task):
        body = reply.mapping()
        name, status, url, error = (body.get(one) for one in ("id", "status", "url", "error"))
        if reply.call.purpose is Purpose.SUBMIT and reply.status == 200 and isinstance(name, str) and name:
            return Running(Task(name), "accepted")
        if reply.call.purpose is Purpose.POLL and isinstance(status, str):
            if status == "done" and isinstance(url, str) and url:
                return Succeeded((Output(url),), task)
            if status == "failed":
                return Failed(Kind.GENERATION_FAILED, "failed", maybe_charged=False)
            return Running(task, status, known=status == "running")
        if reply.status == 402 and isinstance(error, str):
            return Refused(Kind.OUT_OF_CREDIT, error, shape="error")
        return Refused(Kind.PROTOCOL_ERROR, "")
"""


MISTAKES = {  # what stands there -> what is written instead, and what the sentence says of it
    "adapter = Echo()": {
        "pass": "TestEcho names no adapter",
        "adapter = Echo": "TestEcho.adapter is the class Echo; an instance is needed",
        "adapter = object()": "TestEcho.adapter, a object, has no `facts`",
        "adapter = Echo(); emulater = None": "'emulater', which means nothing: did you mean 'emulator'?",
        "adapter = Echo(); cassette = 'x'": "'cassette', which means nothing: did you mean 'cassettes'?",
        "adapter = Echo(); emulator = object()": "TestEcho.emulator is a class below anykontext.sandbox.Emulator",
        "adapter = Echo(); emulator = Bfl()": "TestEcho.emulator is an instance of Emulator; the class is needed",
    },
    "documented = (": {
        "documentd = (": "'documentd', which means nothing: did you mean 'documented'?",
        "documented = Documented(Purpose.POLL, 200, {}, Running, 'echo-1'); _ = (": "is one Documented; a tuple is",
        "documented = (7,": "TestEcho.documented is a tuple of Documented",
    },
}


@pytest.mark.parametrize(
    ("index", "sentence"),
    list(enumerate(sentence for made in MISTAKES.values() for sentence in made.values())),
    ids=str,
)
def test_a_mistake_of_the_author_is_one_sentence(mistaken: Sequence[str], index: int, sentence: str) -> None:
    assert sentence in mistaken[index]
    assert "Traceback" not in mistaken[index]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """What one run of pytest says of a module with each of the mistakes."""
    folder = tmp_path_factory.mktemp("mistaken")
    changes = [(old, new) for old, made in MISTAKES.items() for new in made]
    (folder / "strange.py").write_text(A_STRANGERS_ADAPTER, encoding="utf-8")
    for index, (old, new) in enumerate(changes):
        text = A_STRANGERS_TESTS.replace(old, new)
        assert text != A_STRANGERS_TESTS
        (folder / f"test_{index:02}.py").write_text(f"from anykontext_bfl.emulator import Emulator as Bfl\n{text}")
    run = strangers(folder, "-q")
    head, *told = re.split(r"^_+ ERROR collecting test_[0-9]+\.py _+$", run.stdout, flags=re.MULTILINE)

    assert f"{len(changes)} errors in" in run.stdout
    assert len(changes) == len(told)
    assert "Traceback" not in head
    told[-1] = told[-1].partition("short test summary")[0]
    return told


def strangers(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Plain pytest over what a stranger wrote."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("purpose", "means", "told", "sentence"),
    [
        ("pol", Running, {}, "is a Purpose, such as Purpose.POLL, and not 'pol'"),
        (Purpose.POLL, Failed, {}, "`means` is \\(Failed, Kind"),
        (Purpose.POLL, (Failed, "moderated"), {}, "`means` is \\(Failed, a Kind"),
        (Purpose.POLL, (Running, Kind.MODERATED), {}, "`means` is Running for a Running"),
        (Purpose.POLL, (Failed, Kind.MODERATED, "no"), {}, "True, False or None"),
        (Purpose.POLL, Moderated, {}, "`means` is a type of state"),
        (Purpose.POLL, Running, {"sead": 1}, "`told` names 'sead', and a Running has only task, raw_status"),
    ],
)
def test_a_documented_reply_that_means_nothing_is_refused(purpose: Any, means: Any, told: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        Documented(purpose, 200, {}, means, "echo-1", told=told)


def test_a_strangers_plugin_needs_one_class_and_plain_pytest(tmp_path: Path) -> None:
    (tmp_path / "strange.py").write_text(A_STRANGERS_ADAPTER, encoding="utf-8")
    (tmp_path / "test_strange.py").write_text(A_STRANGERS_TESTS, encoding="utf-8")
    run = strangers(tmp_path, "-q", "-rs")
    reasons = [line for line in run.stdout.splitlines() if line.startswith("SKIPPED")]

    assert run.returncode == 0, run.stdout[-3000:]
    assert reasons
    assert [line for line in reasons if "capability: " not in line] == []
    assert any("sockets: it has no emulator" in line for line in reasons)


def test_a_reply_has_an_id_that_reads_well() -> None:
    one = Documented(Purpose.SUBMIT, 402, {}, (Refused, Kind.OUT_OF_CREDIT), "echo-7 [DOC]")

    assert one.name == "echo-7-submit-402-Refused-out_of_credit"
    assert Documented(Purpose.POLL, 200, {}, Running, "echo-3").name == "echo-3-poll-200-Running"


def test_the_contract_is_not_collected_by_itself() -> None:
    assert not AdapterContract.__name__.startswith("Test")
    assert AdapterContract.emulator is None
    assert test_bfl.TestBfl.emulator is Emulator
    assert isinstance(test_bfl.TestBfl.adapter, Bfl)
