"""`jobs`: jobs that one invocation made and that others find, resume, collect, settle and forget."""

import asyncio
import contextlib
import io
import json
import os
import re
import shlex
import signal
import sqlite3
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.cli.jobs.words import moment
from anykontext.client.core import Core
from anykontext.ledger import NewJob
from anykontext.model.errors import InvalidRequest
from anykontext.sandbox import Emulator, Sandbox

pytestmark = pytest.mark.sandbox
Cli = Callable[..., Any]
LISTED = {"id", "provider", "model", "state", "maybe_charged", "cost", "created_at", "handle"}


@pytest.fixture
def bfl(work: Path) -> Iterator[Emulator]:
    """A sandbox that outlives the commands, and an anykontext.toml that points at its bfl."""
    with Sandbox(providers=["bfl", "fal"], seconds=0.05) as sandbox:
        text = sandbox.config_toml()
        (work / "anykontext.toml").write_text(re.sub(r"(\[providers\.\w+\])", r"\1\npoll_interval_s = 0.05", text))
        yield sandbox.emulators["bfl"]


@pytest.fixture
def made(cli: Cli, bfl: Emulator) -> str:
    """A job that succeeded."""
    return str(
        cli("edit", "photo.jpg", "make it blue", "--provider", "bfl", "-o", "first.jpg", "--json").json["job_id"]
    )


def edit(cli: Cli, *words: str) -> Any:
    return cli("edit", "photo.jpg", "make it\n  blue", "--provider", "bfl", "--json", *words)


@pytest.fixture
def late(cli: Cli, bfl: Emulator) -> str:
    """A job that runs on at the provider after its deadline."""
    bfl.inject("never-ends")
    ended = edit(cli, "--deadline", "0.3")
    assert ended.code == 7
    bfl.clear()
    return str(ended.error["job_id"])


@pytest.fixture
def lost(cli: Cli, bfl: Emulator) -> str:
    """A job of which nobody knows whether the provider has it."""
    bfl.inject("submit-lost")
    ended = edit(cli)
    assert ended.code == 6
    bfl.clear()
    return str(ended.error["job_id"])


@pytest.fixture
def moderated(cli: Cli, bfl: Emulator) -> str:
    """A job that has ended, and surely cost nothing."""
    bfl.inject("moderated")
    ended = edit(cli)
    assert ended.code == 4
    bfl.clear()
    return str(ended.error["job_id"])


def only(cli: Cli, *words: str) -> Any:
    (found,) = cli("jobs", "list", "--json", *words).json
    return found


class TestList:
    def test_an_empty_ledger_is_said(self, cli: Cli, bfl: Emulator) -> None:
        assert cli("jobs", "list").out == "No job is in the ledger yet.\n"
        assert cli("jobs", "list", "--state", "unknown").out == "No such job is in the ledger.\n"
        assert cli("jobs", "list", "--json").json == []

    def test_the_json_of_a_success(self, cli: Cli, made: str) -> None:
        found = only(cli)
        assert set(found) == LISTED
        assert (found["id"], found["provider"], found["model"]) == (made, "bfl", "flux-kontext-pro")
        assert (found["state"], found["maybe_charged"]) == ("succeeded", True)
        assert set(found["cost"]) == {"amount", "currency", "basis"}
        assert found["cost"]["currency"] == "USD"
        begun = datetime.fromisoformat(found["created_at"])
        assert begun.utcoffset() == UTC.utcoffset(None)
        assert abs((datetime.now(UTC) - begun).total_seconds()) < 60
        assert (found["handle"]["job_id"], len(found["handle"]["tasks"])) == (made, 1)

    def test_the_json_of_one_that_surely_cost_nothing(self, cli: Cli, moderated: str) -> None:
        found = only(cli)
        assert (found["state"], found["maybe_charged"], found["cost"]) == ("moderated", False, None)

    def test_the_json_of_an_unknown_one(self, cli: Cli, lost: str) -> None:
        found = only(cli)
        assert (found["state"], found["maybe_charged"]) == ("unknown", True)
        assert (found["cost"], found["handle"]) == (None, None)

    def test_the_table_has_the_newest_first_and_the_prompt_on_one_line(self, cli: Cli, made: str, lost: str) -> None:
        ended = cli("jobs", "list")
        head, first, second = ended.out.splitlines()
        assert (ended.code, ended.err, head.split()[0]) == (0, "", "id")
        assert first.split()[0] == lost
        assert "bfl/flux-kontext-pro" in first
        assert "at risk" in first
        assert first.endswith("make it blue")
        assert second.split()[0] == made

    def test_it_is_filtered_by_state_time_tag_and_number(self, cli: Cli, made: str, lost: str) -> None:
        assert only(cli, "--state", "unknown")["id"] == lost
        assert only(cli, "--limit", "1")["id"] == lost
        assert len(cli("jobs", "list", "--since", "1h", "--json").json) == 2
        assert cli("jobs", "list", "--since", "2199-01-01", "--json").json == []
        assert cli("jobs", "list", "--tag", "customer", "--json").json == []
        assert "--limit" in cli("jobs", "list", "--limit", "1").err
        assert "--limit" in cli("jobs", "list", "--limit", "1", "--json").err

    def test_a_tag_finds_its_jobs(self, cli: Cli, bfl: Emulator, work: Path) -> None:
        with ak.Client("anykontext.toml") as client:
            result = client.edit("photo.jpg", "x", provider="bfl", tags={"customer": "a"})
        assert only(cli, "--tag", "customer")["id"] == result.job_id
        assert only(cli, "--tag", "customer=a")["id"] == result.job_id
        assert cli("jobs", "list", "--tag", "customer=b", "--json").json == []

    def test_on_a_terminal_the_prompt_fits(self, cli: Cli, bfl: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        cli("edit", "photo.jpg", "very " * 200 + "blue", "--provider", "bfl")
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr("anykontext.cli.say.on_terminal", lambda stream: stream is sys.stdout)
        monkeypatch.setattr("anykontext.cli.tables.on_terminal", lambda stream: stream is sys.stdout)
        lines = cli("jobs", "list").out.splitlines()
        assert max(map(len, lines)) <= 160
        assert len([line for line in lines if "very" in line]) == 1
        assert "…" in lines[-1]

    def test_a_ledger_in_memory_is_told(self, cli: Cli, bfl: Emulator, work: Path) -> None:
        with (work / "anykontext.toml").open("a") as file:
            file.write('\n[ledger]\nurl = "memory"\n')
        assert "in memory" in cli("jobs", "list").err


class TestShow:
    def test_a_success_tells_where_its_images_are(self, cli: Cli, made: str, work: Path) -> None:
        told = cli("jobs", "show", made, "--json").json
        assert told.keys() > LISTED
        assert told["prompt"] == "make it blue"
        (image,) = told["images"]
        assert Path(image["path"]).read_bytes() == (work / "first.jpg").read_bytes()
        assert [(one["outcome"], one["money"]) for one in told["sends"]] == [("accepted", "spent")]
        assert (told["at_risk"], told["charged"], told["in_work"]) == (False, True, False)
        ended = cli("jobs", "show", made)
        assert ended.out.startswith(f"Job {made}: succeeded\n")
        for words in (
            "make it blue",
            image["path"],
            "money: spent",
            '"tasks":[',
            "intent",
            f"jobs resume {made} -o OUT",
        ):
            assert words in ended.out

    @pytest.mark.parametrize(
        ("which", "words"),
        [
            ("lost", ("unknown", "outcome_unknown", "AT RISK", "bfl's own list", "jobs resolve", "--not-charged")),
            ("late", ("running", "AT RISK", "by nobody now", "jobs resume", "jobs collect")),
            ("moderated", ("moderated", "Moderated: ", "nothing was charged")),
        ],
    )
    def test_what_to_do_next_is_told(
        self, which: str, words: tuple[str, ...], cli: Cli, request: pytest.FixtureRequest
    ) -> None:
        ended = cli("jobs", "show", request.getfixturevalue(which))
        assert (ended.code, ended.err) == (0, "")
        for word in words:
            assert word in ended.out

    def test_one_that_was_never_sent_can_be_asked_for_again(self, cli: Cli, bfl: Emulator) -> None:
        core = Core("anykontext.toml", "httpx", None).store
        new = NewJob("job_1", "digest", "x", "flux-kontext-pro", "edit", time.time(), core.owner)
        core.ledger.begin(new).result()
        assert "A process works on it" in cli("jobs", "show", "job_1").out
        core.close()
        assert "ask again for what you want" in cli("jobs", "show", "job_1").out

    def test_a_handle_that_cannot_be_read_hides_nothing_else(self, cli: Cli, late: str, tmp_path: Path) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "home/ledger.sqlite3")) as db, db:
            db.execute("UPDATE handles SET handle = '{}'")
        told = cli("jobs", "show", late, "--json").json
        assert told["handles"] == []
        assert told["at_risk"]
        assert [one["provider"] for one in told["sends"]] == ["bfl"]
        assert "attempt 0 part 0: this is not a job handle" in told["events"][-1]["detail"]
        assert "AT RISK" in cli("jobs", "show", late).out
        assert only(cli)["id"] == late

    def test_a_spool_that_was_emptied_is_told(self, cli: Cli, made: str) -> None:
        Path(cli("jobs", "show", made, "--json").json["images"][0]["path"]).unlink()
        ended = cli("jobs", "show", made)
        assert "not in the spool" in ended.out
        cli("jobs", "resume", made, "-o", "x.jpg").refused(
            "not in the spool any more", "nothing was sent", "jobs resume '{", code=5
        )

    def test_a_trace_is_lines_that_can_be_read_back(self, cli: Cli, made: str) -> None:
        ended = cli("jobs", "show", made, "--trace")
        lines = [json.loads(line) for line in ended.out.splitlines()]
        ledger = [one for one in lines if one["path"] == "ledger"]
        assert [one["send"]["provider"] for one in ledger if "send" in one] == ["bfl"]
        assert next(one["event"]["what"] for one in ledger if "event" in one) == "begun"
        assert [one for one in lines if one["path"] != "ledger"] == lines[: -len(ledger)]
        assert next(one["effect"]["purpose"] for one in lines if "purpose" in one.get("effect", ())) == "submit"
        assert "base64" not in ended.out

    def test_words_cannot_drive_the_terminal(self, cli: Cli, bfl: Emulator) -> None:
        job_id = cli("edit", "photo.jpg", "a \x1b[2J b", "--provider", "bfl", "--json").json["job_id"]
        for words in (("show", job_id), ("list",)):
            assert "\\x1b[2J" in cli("jobs", *words).out

    def test_the_words_are_not_shown_where_only_their_digest_is_kept(self, cli: Cli, bfl: Emulator, work: Path) -> None:
        with (work / "anykontext.toml").open("a") as file:
            file.write('\n[ledger]\nprompts = "digest"\n')
        job_id = edit(cli).json["job_id"]
        assert "its SHA-256 is" in cli("jobs", "show", job_id).out
        assert "sha256:" in cli("jobs", "list").out
        assert cli("jobs", "show", job_id, "--json").json["prompt"] is None


class TestResume:
    def test_a_success_is_written_from_the_spool_without_sending_anything(
        self, cli: Cli, made: str, bfl: Emulator, work: Path
    ) -> None:
        before = dict(bfl.counters)
        ended = cli("jobs", "resume", made, "-o", "again.jpg", "--json")
        assert (ended.code, ended.json["job_id"]) == (0, made)
        assert ended.json["images"][0]["path"] == "again.jpg"
        assert (work / "again.jpg").read_bytes() == (work / "first.jpg").read_bytes()
        assert before == dict(bfl.counters)

    def test_one_that_runs_is_waited_for_and_paid_once(self, cli: Cli, late: str, bfl: Emulator) -> None:
        ended = cli("jobs", "resume", late, "-o", "late.jpg")
        assert (ended.code, ended.out) == (0, "late.jpg\n")
        assert bfl.counters["submits"] == 1
        assert only(cli)["state"] == "succeeded"

    def test_one_that_runs_on_past_the_deadline_is_7_and_tells_how_to_go_on(
        self, cli: Cli, late: str, bfl: Emulator
    ) -> None:
        bfl.inject("never-ends")
        ended = cli("jobs", "resume", late, "-o", "late.jpg", "--deadline", "0.3", "--json")
        assert (ended.code, ended.error["job_id"]) == (7, late)
        assert f"anykontext jobs resume {late} -o late.jpg" in ended.err

    def test_an_unknown_one_is_6(self, cli: Cli, lost: str, bfl: Emulator) -> None:
        ended = cli("jobs", "resume", lost, "--json")
        assert (ended.code, ended.error["class"], ended.error["maybe_charged"]) == (6, "OutcomeUnknown", True)
        assert f"jobs resolve {lost} --charged" in ended.err
        assert bfl.counters["submits"] == 1

    def test_a_moderated_one_is_4_again(self, cli: Cli, moderated: str, bfl: Emulator) -> None:
        ended = cli("jobs", "resume", moderated, "--json")
        assert (ended.code, ended.error["class"], ended.error["maybe_charged"]) == (4, "Moderated", False)
        assert bfl.counters["submits"] == 1

    def test_one_whose_replies_could_not_be_used_is_asked_for_once_more(self, cli: Cli, bfl: Emulator) -> None:
        bfl.inject("not-an-image")
        ended = edit(cli)
        assert (ended.code, ended.error["class"]) == (5, "ProtocolError")
        bfl.clear()
        (command,) = [line for line in ended.err.splitlines() if line.startswith("Go on with it: ")]
        words = shlex.split(command.removeprefix("Go on with it: anykontext "))
        assert words[:3] == ["jobs", "resume", ended.error["job_id"]]
        assert cli(*words).code == 0
        assert bfl.counters["submits"] == 1

    def test_an_id_may_come_from_a_file_or_from_what_json_printed(
        self, cli: Cli, made: str, lost: str, work: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (work / "id").write_text(f"{made}\n")
        assert cli("jobs", "resume", "@id", "-o", "a.jpg").out == "a.jpg\n"
        monkeypatch.setattr("sys.stdin", io.StringIO(made))
        assert cli("jobs", "resume", "-", "-o", "b.jpg").out == "b.jpg\n"
        (work / "error.json").write_text(json.dumps({"error": {"job": None, "job_id": lost}}))
        assert cli("jobs", "resume", "@error.json").code == 6

    def test_a_handle_of_a_job_that_this_ledger_does_not_know_goes_on(
        self, cli: Cli, late: str, bfl: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        handle = only(cli)["handle"]
        monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "elsewhere"))
        bfl.inject("never-ends")
        ended = cli("jobs", "resume", json.dumps(handle), "-o", "x.jpg", "--deadline", "0.3")
        assert "anykontext jobs resume '{" in ended.err
        bfl.clear()
        assert cli("jobs", "resume", json.dumps(handle), "-o", "x.jpg").out == "x.jpg\n"

    def test_a_name_that_exists_is_refused_before_anything_is_asked(self, cli: Cli, made: str) -> None:
        cli("jobs", "resume", made, "-o", "first.jpg").refused("'first.jpg' exists")

    def test_ctrl_c_while_waiting_tells_the_same_command(
        self, start: Cli, late: str, bfl: Emulator, work: Path
    ) -> None:
        bfl.inject("never-ends")
        running = start("jobs", "resume", late, "-o", "late.jpg")
        running.said("bfl/flux-kontext-pro: ")
        running.send(signal.SIGINT)
        running.end().refused("it runs on there", f"anykontext jobs resume {late} -o late.jpg", code=130)

    def test_one_process_edits_and_another_resumes(self, start: Cli, cli: Cli, bfl: Emulator, work: Path) -> None:
        bfl.inject("never-ends")
        editing = start("edit", "photo.jpg", "x", "--provider", "bfl", "-o", "one.jpg")
        editing.said("accepted by bfl")
        editing.process.kill()
        editing.process.wait()
        bfl.clear()
        job_id = only(cli)["id"]
        again = start("jobs", "resume", job_id, "-o", "two.jpg")
        again.said("is taken up when that one has ended")
        expire_leases()
        again = again.end()
        assert (again.code, again.out) == (0, "two.jpg\n"), again.err
        assert bfl.counters["submits"] == 1


class TestCancel:
    def test_a_provider_that_cannot_is_2(self, cli: Cli, late: str) -> None:
        cli("jobs", "cancel", late).refused("bfl cannot cancel", "runs on")

    def test_fal_is_asked_and_it_may_end_well_all_the_same(self, cli: Cli, bfl: Emulator) -> None:
        words = ("edit", "photo.jpg", "x", "--provider", "fal", "--seconds", "30")
        with Sandbox(providers=["fal"], seconds=30) as sandbox:
            Path("slow.toml").write_text(sandbox.config_toml())
            ended = cli(*words[:5], "--deadline", "0.5", "--config", "slow.toml", "--json")
            assert ended.code == 7
            job_id = ended.error["job_id"]
            asked = cli("jobs", "cancel", job_id, "--config", "slow.toml")
            assert (asked.code, asked.out) == (0, f"fal was asked to cancel {job_id}.\n")
            assert "may end well all the same" in asked.err

    def test_what_has_ended_or_was_never_accepted_is_refused(self, cli: Cli, made: str, lost: str) -> None:
        cli("jobs", "cancel", made).refused("has ended (succeeded)")
        cli("jobs", "cancel", lost).refused("no task at a provider")


class TestCollect:
    def test_nothing_to_collect_is_0(self, cli: Cli, made: str) -> None:
        ended = cli("jobs", "collect")
        assert (ended.code, ended.out, ended.err) == (0, "There is nothing to collect.\n", "")
        assert cli("jobs", "collect", "--json").json == []

    def test_a_job_whose_process_was_there_a_moment_ago_is_told_of(self, cli: Cli, late: str, work: Path) -> None:
        with sqlite3.connect(Path(os.environ["ANYKONTEXT_HOME"]) / "ledger.sqlite3") as ledger:
            ledger.execute("UPDATE jobs SET lease_until = ?", (time.time() + 60,))
        ledger.close()

        ended = cli("jobs", "collect")

        assert (ended.code, ended.out) == (7, "There is nothing to collect now.\n")
        assert "another process works on it, or one that ended less than a minute ago" in ended.err

    def test_what_nobody_waits_for_lands_in_the_spool(self, cli: Cli, late: str, bfl: Emulator) -> None:
        ended = cli("jobs", "collect", "--json")
        (found,) = ended.json
        assert set(found) == {"id", "state", "images", "maybe_charged", "error"}
        assert (ended.code, found["id"], found["state"], found["error"]) == (0, late, "succeeded", None)
        assert Path(found["images"][0]).stat().st_size > 0
        assert "spool" in found["images"][0]
        assert bfl.counters["submits"] == 1

    def test_it_is_written_to_a_folder(self, cli: Cli, late: str, work: Path) -> None:
        (work / "found").mkdir()
        ended = cli("jobs", "collect", "-o", "found")
        assert (ended.code, ended.out) == (0, f"{late}  succeeded  found/{late}-1.jpg\n")
        assert (work / "found" / f"{late}-1.jpg").is_file()

    def test_a_folder_that_is_none_is_refused_before_anything_is_asked(self, cli: Cli, late: str) -> None:
        cli("jobs", "collect", "-o", "nowhere").refused("'nowhere' is none")
        assert only(cli)["state"] == "running"

    def test_one_that_still_runs_is_7(self, cli: Cli, late: str, bfl: Emulator, work: Path) -> None:
        with (work / "anykontext.toml").open("a") as file:
            file.write('\n[routes.default]\ncandidates = ["bfl"]\ndeadline_s = 0.3\n')
        bfl.inject("never-ends")
        ended = cli("jobs", "collect", "--json")
        assert (ended.code, ended.json[0]["state"]) == (7, "running")
        assert ended.json[0]["error"]["class"] == "DeadlineExceeded"
        assert f"jobs resume {late}" in ended.err

    def test_one_that_was_killed_in_its_submit_is_6(self, start: Cli, cli: Cli, bfl: Emulator) -> None:
        bfl.inject("submit-slow")
        editing = start("edit", "photo.jpg", "x", "--provider", "bfl")
        editing.said("sending to bfl")
        time.sleep(0.3)
        editing.process.kill()
        editing.process.wait()
        expire_leases()
        ended = cli("jobs", "collect", "--json")
        (found,) = ended.json
        assert (ended.code, found["state"], found["error"]["class"]) == (6, "unknown", "OutcomeUnknown")
        assert f"jobs resolve {found['id']}" in ended.err
        assert "1 more: outcome unknown" in cli("jobs", "collect").err

    def test_a_provider_that_is_not_configured_any_more_is_3(self, cli: Cli, late: str, work: Path) -> None:
        sections = tomllib.loads((work / "anykontext.toml").read_text())["providers"]["fal"]
        (work / "anykontext.toml").write_text("[providers.fal]\n" + f"api_key = {sections['api_key']!r}\n")
        ended = cli("jobs", "collect", "--json")
        assert (ended.code, ended.json[0]["error"]["class"]) == (3, "UnknownProvider")
        assert ended.json[0]["maybe_charged"] is True  # it was accepted, whoever cannot be asked now
        assert ended.json[0]["state"] == "running"


def expire_leases() -> None:
    """As after a minute in which nobody prolonged them."""
    db = sqlite3.connect(Path(os.environ["ANYKONTEXT_HOME"]) / "ledger.sqlite3")
    with db:
        db.execute("UPDATE jobs SET lease_until = 0")
    db.close()


class TestResolve:
    def test_exactly_one_word_is_needed(self, cli: Cli, lost: str) -> None:
        cli("jobs", "resolve", lost).refused("exactly one of --charged and --not-charged")
        cli("jobs", "resolve", lost, "--charged", "--not-charged").refused("exactly one")

    def test_charged_money_is_spent(self, cli: Cli, lost: str) -> None:
        ended = cli("jobs", "resolve", lost, "--charged")
        assert ended.code == 0
        assert "unknown before, failed now; 0.04 USD was spent" in ended.out
        found = only(cli)
        assert (found["state"], found["maybe_charged"]) == ("failed", True)
        assert found["cost"] == {"amount": "0.04", "currency": "USD", "basis": "listed"}
        assert "resolved by a person as charged" in cli("jobs", "show", lost).out

    def test_not_charged_frees_it(self, cli: Cli, lost: str) -> None:
        found = cli("jobs", "resolve", lost, "--not-charged", "--json").json
        assert set(found) == LISTED
        assert (found["state"], found["maybe_charged"], found["cost"]) == ("failed", False, None)

    def test_what_has_nothing_to_resolve_is_2(self, cli: Cli, made: str) -> None:
        cli("jobs", "resolve", made, "--charged").refused("nothing to resolve")
        assert only(cli)["state"] == "succeeded"

    def test_one_that_a_process_works_on_is_not_resolved(self, cli: Cli, late: str) -> None:
        store = Core("anykontext.toml", "httpx", None).store
        assert store.claims.take(late)
        cli("jobs", "resolve", late, "--charged").refused("a process works on it", f"jobs resume {late}")
        store.close()
        assert only(cli)["state"] == "running"

    def test_one_that_runs_for_ever_and_that_nobody_works_on_is_resolved(self, cli: Cli, late: str) -> None:
        ended = cli("jobs", "resolve", late, "--charged")
        assert "running before, failed now; 0.04 USD was spent" in ended.out


class TestSandbox:
    def test_what_a_sandbox_made_is_in_no_ledger_of_the_users(self, cli: Cli, bfl: Emulator) -> None:
        assert cli("edit", "photo.jpg", "make it blue", "--sandbox", "-o", "out.jpg").code == 0
        assert cli("jobs", "list", "--json").json == []


class TestForget:
    def test_one_that_ended_is_gone(self, cli: Cli, made: str) -> None:
        assert cli("jobs", "forget", made).out == "Forgot 1 job.\n"
        cli("jobs", "show", made).refused("knows no job")
        assert cli("jobs", "show", made, "--trace").code == 2

    def test_its_trace_goes_with_it(self, cli: Cli, made: str, tmp_path: Path) -> None:
        trace = tmp_path / "home" / "traces" / f"{made}.jsonl"
        trace.parent.mkdir(exist_ok=True)
        trace.touch()
        cli("jobs", "forget", made)
        assert not trace.exists()

    @pytest.mark.parametrize(("which", "why"), [("lost", "money at risk"), ("late", "not ended yet")])
    def test_what_is_open_is_kept(self, which: str, why: str, cli: Cli, request: pytest.FixtureRequest) -> None:
        job_id = request.getfixturevalue(which)
        cli("jobs", "forget", job_id).refused("is kept", why)
        assert only(cli)["id"] == job_id

    def test_many_are_forgotten_and_the_open_ones_are_counted(self, cli: Cli, made: str, lost: str, late: str) -> None:
        ended = cli("jobs", "forget", "--older-than", "0")
        assert (ended.code, ended.out) == (0, "Forgot 1 job.\n")
        assert "2 were kept: 1 not ended yet" in ended.err
        assert "1 with money at risk" in ended.err
        assert {one["id"] for one in cli("jobs", "list", "--json").json} == {lost, late}

    def test_young_ones_stay(self, cli: Cli, made: str) -> None:
        assert cli("jobs", "forget", "--older-than", "1", "--json").json == {"forgotten": 0, "kept": 0}
        assert cli("jobs", "forget", "--before", "2020-01-01").out == "Forgot 0 jobs.\n"
        assert only(cli)["id"] == made

    @pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("y\n", 0)])
    def test_a_person_is_asked(
        self, answer: str, left: int, cli: Cli, made: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal = io.StringIO(answer)
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", terminal)
        ended = cli("jobs", "forget", made)
        assert "Forget job_" in ended.err
        assert len(cli("jobs", "list", "--json").json) == left

    def test_nobody_is_asked_with_force(self, cli: Cli, made: str, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = io.StringIO("")
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", terminal)
        assert cli("jobs", "forget", made, "--force").out == "Forgot 1 job.\n"

    def test_exactly_one_choice_is_needed(self, cli: Cli, made: str) -> None:
        cli("jobs", "forget").refused("exactly one of an ID, --before and --older-than")
        cli("jobs", "forget", made, "--older-than", "1").refused("exactly one")


class TestBadInput:
    @pytest.mark.parametrize(
        "words",
        [("show",), ("resume",), ("cancel",), ("resolve", "--charged"), ("forget",)],
    )
    def test_an_unknown_id_says_how_to_list(self, words: tuple[str, ...], cli: Cli, bfl: Emulator) -> None:
        command, *options = words
        cli("jobs", command, "job_nobody", *options).refused("no job 'job_nobody'", "`anykontext jobs list`")

    def test_a_wrong_state_names_the_nearest(self, cli: Cli, bfl: Emulator) -> None:
        cli("jobs", "list", "--state", "unknwon").refused("did you mean 'unknown'")

    @pytest.mark.parametrize("word", ["yesterday", "3x", "2026-13-01", "", "-1d", "999999w"])
    def test_a_wrong_time_is_refused(self, word: str, cli: Cli, bfl: Emulator) -> None:
        cli("jobs", "list", f"--since={word}").refused("is no time", "2026-11-20")
        cli("jobs", "forget", f"--before={word}").refused("is no time")

    def test_a_number_of_days_before_all_time_is_refused(self, cli: Cli, bfl: Emulator) -> None:
        cli("jobs", "forget", "--older-than", "1e9").refused("before all time")

    def test_a_tag_without_a_name_is_refused(self, cli: Cli, bfl: Emulator) -> None:
        cli("jobs", "list", "--tag", "=x").refused("NAME=VALUE")

    @pytest.mark.parametrize(
        "words",
        [
            ("list",),
            ("show", "job_1"),
            ("resume", "job_1"),
            ("cancel", "job_1"),
            ("collect",),
            ("resolve", "job_1", "--charged"),
            ("forget", "job_1"),
        ],
    )
    def test_a_ledger_that_cannot_be_opened_is_3(
        self, words: tuple[str, ...], cli: Cli, bfl: Emulator, tmp_path: Path
    ) -> None:
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / "ledger.sqlite3").write_text("this is no database, and long enough to be seen as none" * 9)
        cli("jobs", *words).refused("ledger.sqlite3", "is not a database", code=3)
        ended = cli("jobs", *words, "--json")
        assert (ended.code, ended.error["class"]) == (3, "ConfigurationError")

    def test_a_configuration_that_cannot_be_used_is_3(self, cli: Cli, work: Path) -> None:
        (work / "bad.toml").write_text("[")
        cli("jobs", "list", "--config", "bad.toml").refused("bad.toml", code=3)

    def test_listing_needs_no_key(self, cli: Cli, work: Path) -> None:
        assert cli("jobs", "list").code == 0
        assert cli("jobs", "collect").code == 0

    def test_a_success_is_resumed_without_a_key(self, cli: Cli, made: str, work: Path) -> None:
        (work / "anykontext.toml").unlink()
        assert cli("jobs", "resume", made, "-o", "x.jpg").out == "x.jpg\n"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("2026-11-20", "2026-11-20T00:00:00+00:00"),
        ("2026-11-20T14:30", "2026-11-20T14:30:00+00:00"),
        ("2026-11-20T14:30:00+02:00", "2026-11-20T14:30:00+02:00"),
        ("2026-11-20T14:30:00Z", "2026-11-20T14:30:00+00:00"),
        ("30m", "2026-11-20T23:30:00+00:00"),
        ("3h", "2026-11-20T21:00:00+00:00"),
        ("2D", "2026-11-19T00:00:00+00:00"),
        ("1w", "2026-11-14T00:00:00+00:00"),
    ],
)
def test_a_moment_is_a_date_a_time_or_how_long_ago(word: str, expected: str) -> None:
    assert expected == moment(word, datetime(2026, 11, 21, tzinfo=UTC)).isoformat()


class TestClient:
    """`resolve` and `forget` of both clients."""

    def test_the_sync_client_settles_and_forgets(self, lost: str) -> None:
        with ak.Client("anykontext.toml") as client:
            assert client.resolve(lost, charged=True).state is ak.JobState.FAILED
            assert client.forget(before=datetime(2020, 1, 1, tzinfo=UTC)) == 0
            assert client.forget(lost) == 1
            with pytest.raises(InvalidRequest, match="say which jobs"):
                client.forget()
            with pytest.raises(InvalidRequest, match="before is a datetime"):
                client.forget(before="yesterday")

    def test_the_async_client_does_the_same(self, lost: str) -> None:
        async def main() -> None:
            async with ak.AsyncClient("anykontext.toml") as client:
                assert (await client.resolve(lost, charged=False)).at_risk is False
                assert await client.forget(before=time.time() + 1) == 1

        asyncio.run(main())
