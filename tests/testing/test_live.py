"""The logic of the live run, with emulators on loopback that play the real services."""

import base64
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anykontext as ak
from anykontext.adapting import Purpose, Task, get
from anykontext.model.money import Cost
from anykontext.sandbox import Emulator
from anykontext.sandbox.discovery import find_emulators
from anykontext.sandbox.server import ServerThread
from anykontext.testing.live import Cannot, Leaked, Live, OverCap, Purse, Settings, Subject, Unexpected, run
from anykontext.testing.live.scenes import FREE, SCENES, other_key
from anykontext.testing.live.settings import variable
from anykontext.testing.live.shapes import Exchange, Look, differences, exchanges, pattern
from anykontext.testing.live.tape import encodings, hide_balance, inspect, load, secrets_of
from anykontext_bfl.emulator import Emulator as BflEmulator

ROOT = Path(__file__).parents[2]
SECONDS = 0.3
SUBJECTS = {
    "bfl": Subject("bfl", invalid={"seed": "no number"}),
    "fal": Subject(
        "fal",
        unknown=Task("00000000-0000-4000-8000-000000000000", data={"app": "fal-ai/flux-pro"}),
        early=lambda task: get(Purpose.FETCH, task.data["response_url"], origin=None),
    ),
    "kie": Subject("kie", invalid={"safetyTolerance": 9}),
    "together": Subject("together"),
}
# What a provider cannot do: the scenes that are skipped there.
WITHOUT = {"fal": {"rejected"}, "together": {"key", "unknown-task", "rejected", "resume"}}
COST = {"bfl": "0.12", "fal": "0.09", "kie": "0.075", "together": "0.08"}
Change = Callable[[str, int, Any], tuple[int, Any]]


class ChangedBfl(BflEmulator):
    """BFL as it may be tomorrow: each JSON reply goes through `change`."""

    change: ClassVar[Change]

    def app(self, origin_name: str) -> Any:
        inner = super().app(origin_name)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            sent: list[Any] = []

            async def keep(message: Any) -> None:
                sent.append(message)

            await inner(scope, receive, keep)
            start, *bodies = sent
            raw = b"".join(one.get("body", b"") for one in bodies)
            headers = dict(start["headers"])
            if headers.get(b"content-type") == b"application/json":
                status, body = type(self).change(scope["path"], start["status"], json.loads(raw))
                raw = json.dumps(body).encode()
                headers[b"content-length"] = str(len(raw)).encode()
                start = {**start, "status": status, "headers": list(headers.items())}
            await send(start)
            await send({"type": "http.response.body", "body": raw})

        return app


@contextmanager
def serving(kind: type[Emulator]) -> Iterator[Emulator]:
    emulator = kind(seconds=SECONDS)
    emulator.megapixels = 0.02
    server = ServerThread()
    try:
        emulator.origins = {name: server.bind(emulator, name) for name in emulator.origin_names}
        server.start()
        yield emulator
    finally:
        server.stop()


def environment(emulator: Emulator, **more: str) -> dict[str, str]:
    told = {("key" if name == "api_key" else name): str(value) for name, value in emulator.config().items()}
    return {**{variable(emulator.name, name): value for name, value in told.items()}, "ANYKONTEXT_LIVE": "1", **more}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    monkeypatch.setattr(Live, "emulated_s", SECONDS)


@pytest.fixture
def cassettes(tmp_path: Path) -> Path:
    return tmp_path / "cassettes"


@contextmanager
def visiting(emulator: Emulator, cassettes: Path, **more: str) -> Iterator[Live]:
    settings = Settings.from_env(environment(emulator, **more))
    with Live(settings, [SUBJECTS[emulator.name]], cassettes) as live:
        yield live


@pytest.fixture
def bfl() -> Iterator[Emulator]:
    with serving(BflEmulator) as emulator:
        yield emulator


@pytest.fixture
def live(bfl: Emulator, cassettes: Path) -> Iterator[Live]:
    with visiting(bfl, cassettes) as found:
        yield found


# The whole run.


@pytest.mark.parametrize("provider", SUBJECTS)
def test_every_scene_ends_as_expected_and_nothing_differs_from_the_same_emulator(
    provider: str, cassettes: Path
) -> None:
    without = set()
    with serving(find_emulators([provider])[provider]) as emulator, visiting(emulator, cassettes) as live:
        for scene in live.scenes(provider):
            try:
                report = live.play(provider, scene)
            except Cannot:
                without.add(scene)
                continue
            assert (None, []) == (report.error, report.differences), scene
            text = report.cassette.read_text()
            assert text.startswith("# origin: recorded-from-emulator\n"), scene
            assert "sandbox" not in text
            bodies = [one["response"]["body"]["string"] for one in load(report.cassette)]
            assert all(len(one) < 800 for one in bodies if isinstance(one, bytes)), "tiny stand-ins"
            assert not re.search(r"[A-Za-z0-9+/]{200}", text)

        assert WITHOUT.get(provider, set()) == without
        assert Decimal(COST[provider]) == live.purse.spent
        assert emulator.counters["accepted"] == (2 if provider == "together" else 3)


def test_the_early_question_is_on_the_tape(cassettes: Path) -> None:
    with serving(find_emulators(["fal"])["fal"]) as emulator, visiting(emulator, cassettes) as live:
        report = live.play("fal", "resume")

        found = exchanges(report.cassette, run.guide(live.stage("fal")))
        assert {400, 200} == {status for one in found if one.role == "fetch" for status, _ in one.looks}


def test_free_scenes_come_first_and_then_the_cheapest(cassettes: Path) -> None:
    with serving(find_emulators(["fal"])["fal"]) as emulator, visiting(emulator, cassettes) as live:
        assert [*FREE, "edit", "resume", "generate"] == live.scenes("fal")


def test_the_balance_of_the_account_is_not_on_the_tape(bfl: Any, live: Live) -> None:
    bfl.credits = 8231.75

    report = live.play("bfl", "key")

    assert report.error is None
    assert "8231" not in report.cassette.read_text()
    assert '{"credits": 1.0}' in report.cassette.read_text()


def test_a_balance_in_a_text_is_hidden_too(tmp_path: Path) -> None:
    path = tape(tmp_path, '{"left":"8231","code":200}')

    hide_balance(path, lambda url: url == "https://a.example/")

    assert '{"left": "1", "code": 200}' in path.read_text()
    assert path.read_text().startswith("# origin")


# Money.


def test_nothing_is_sent_where_the_cap_is_lower_than_the_price(bfl: Emulator, cassettes: Path) -> None:
    with visiting(bfl, cassettes, ANYKONTEXT_LIVE_MAX_USD="0.03") as live:
        for scene in ("rejected", "generate", "edit", "resume"):
            with pytest.raises(OverCap, match=r"0\.03 USD \(ANYKONTEXT_LIVE_MAX_USD\)"):
                live.play("bfl", scene)

        assert Counter() == +bfl.counters
        assert 0 == live.purse.spent


def test_the_cap_holds_for_all_scenes_together(bfl: Emulator, cassettes: Path) -> None:
    with visiting(bfl, cassettes, ANYKONTEXT_LIVE_MAX_USD="0.08") as live:
        live.play("bfl", "generate")
        live.play("bfl", "edit")
        with pytest.raises(OverCap):
            live.play("bfl", "resume")

    assert 2 == bfl.counters["submits"]


def test_what_may_have_been_charged_counts_whole(bfl: Emulator, live: Live) -> None:
    bfl.inject("submit-lost", times=1)

    lost = live.play("bfl", "generate")
    live.play("bfl", "edit")

    assert isinstance(lost.error, ak.OutcomeUnknown)
    assert Decimal("0.08") == live.purse.spent
    assert [
        "bfl: 0.04 USD reported; 0.04 USD may have been charged without a picture",
        "in all: 0.08 USD of at most 0.50 USD",
    ] == live.purse.told()
    assert "live ends in OutcomeUnknown, the emulator as expected" in lost.differences


def test_a_refusal_costs_nothing(bfl: Emulator, live: Live) -> None:
    bfl.inject("out-of-credit")

    assert isinstance(live.play("bfl", "generate").error, ak.OutOfCredit)
    assert 0 == live.purse.spent


def test_the_balance_that_is_asked_for_after_a_402_is_hidden_too(bfl: Any, live: Live) -> None:
    bfl.credits = 8231.75
    bfl.inject("busy-402", times=1)

    report = live.play("bfl", "generate")

    assert '{"credits": 1.0}' in report.cassette.read_text()
    assert "8231" not in report.cassette.read_text()


def test_a_wrong_option_that_is_taken_all_the_same_is_paid_and_fails(bfl: Emulator, cassettes: Path) -> None:
    settings = Settings.from_env(environment(bfl))
    with Live(settings, [Subject("bfl", invalid={"seed": 7})], cassettes) as live:
        report = live.play("bfl", "rejected")

        assert isinstance(report.error, Unexpected)
        assert Decimal("0.04") == live.purse.spent


def test_a_price_that_nobody_knows_is_refused_unless_one_is_assumed() -> None:
    with pytest.raises(OverCap, match="ANYKONTEXT_LIVE_UNKNOWN_PRICE_USD"), Purse(Decimal(1)).paying("x", "y", Cost()):
        pass

    purse = Purse(Decimal(1), unknown=Decimal("0.2"))
    with purse.paying("x", "y", Cost()) as bill:
        bill.paid(Cost())

    assert ["x: 0.2 USD assumed", "in all: 0.2 USD of at most 1 USD"] == purse.told()


def test_a_scene_that_breaks_down_may_have_cost_its_price() -> None:
    purse = Purse(Decimal(1))
    with pytest.raises(KeyboardInterrupt), purse.paying("x", "y", Cost(Decimal("0.3"), basis="listed")):
        raise KeyboardInterrupt

    assert Decimal("0.3") == purse.spent
    assert not purse.bills[0].certain


def test_what_was_found_before_anything_was_sent_costs_nothing() -> None:
    purse = Purse(Decimal(1))
    with pytest.raises(ak.InvalidRequest), purse.paying("x", "y", Cost(Decimal("0.3"), basis="listed")):
        raise ak.InvalidRequest("no")

    assert 0 == purse.spent


def test_an_amount_that_is_none_is_an_error_that_names_its_variable() -> None:
    with pytest.raises(ValueError, match="ANYKONTEXT_LIVE_MAX_USD"):
        Settings.from_env({"ANYKONTEXT_LIVE_MAX_USD": "a lot"})


# Differences.


def visited(change: Change, scene: str, cassettes: Path) -> Any:
    class Changed(ChangedBfl):
        pass

    Changed.change = staticmethod(change)
    with serving(Changed) as emulator, visiting(emulator, cassettes) as live:
        return live.play("bfl", scene)


def more_metrics(path: str, status: int, body: Any) -> tuple[int, Any]:
    metrics = {"metrics": {"inference_time": 1.5}}
    return status, {**body, **metrics} if body.get("status") == "Ready" else body


def no_price(path: str, status: int, body: Any) -> tuple[int, Any]:
    return status, {key: value for key, value in body.items() if key != "cost"}


def created(path: str, status: int, body: Any) -> tuple[int, Any]:
    return (201 if "polling_url" in body else status), body


def textual_seed(path: str, status: int, body: Any) -> tuple[int, Any]:
    result = body.get("result")
    return status, {**body, "result": {**result, "seed": str(result["seed"])}} if result else body


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (more_metrics, "exchange 2 (poll): live has key `metrics.inference_time: number`, the emulator has not"),
        (no_price, "exchange 1 (submit): the emulator has key `cost: null`, live has not"),
        (created, "exchange 1 (submit): the emulator answers HTTP 200, live does not"),
        (textual_seed, "exchange 2 (poll): live has `result.seed: text`, the emulator `number`"),
    ],
)
def test_a_difference_is_told_and_fails_nothing(change: Change, line: str, cassettes: Path) -> None:
    report = visited(change, "generate", cassettes)

    assert report.error is None
    assert line in report.differences
    assert f"bfl/generate: {line}" in report.told()


def test_a_status_word_that_the_adapter_does_not_know_fails_the_scene(cassettes: Path) -> None:
    def thinking(path: str, status: int, body: Any) -> tuple[int, Any]:
        return status, {**body, "status": "Thinking"} if body.get("status") == "Pending" else body

    report = visited(thinking, "generate", cassettes)

    assert isinstance(report.error, Unexpected)
    assert "'Thinking' is unknown to the adapter" in str(report.error)
    assert any("live says `status` 'Thinking'" in one for one in report.differences)


def test_a_missing_field_that_the_adapter_reads_ends_in_its_own_error(cassettes: Path) -> None:
    def renamed(path: str, status: int, body: Any) -> tuple[int, Any]:
        result = body.get("result")
        return status, {**body, "result": {"link": result["sample"]}} if result else body

    report = visited(renamed, "generate", cassettes)

    assert isinstance(report.error, ak.ProtocolError)
    assert "exchange 2 (poll): live has key `result.link: text`, the emulator has not" in report.differences
    assert "exchange 2 (poll): the emulator has key `result.sample: text`, live has not" in report.differences


def test_another_error_for_a_wrong_key_fails_the_scene(cassettes: Path) -> None:
    def limited(path: str, status: int, body: Any) -> tuple[int, Any]:
        return (400 if status == 403 and path != "/v1/credits" else status), body

    report = visited(limited, "wrong-key", cassettes)

    assert isinstance(report.error, ak.RequestRejected)
    assert "live ends in RequestRejected, the emulator as expected" in report.differences


def look(word: str, *keys: str) -> Look:
    return Look({"status": {"text"}, **{key: {"text"} for key in keys}}, {"status": {word}})


def test_a_state_that_only_one_was_heard_in_is_no_difference_where_its_word_is_known() -> None:
    live = [Exchange("poll", "GET", "/x", {(202, "QUEUED"): look("QUEUED", "place"), (200, "DONE"): look("DONE")})]
    emulated = [Exchange("poll", "GET", "/x", {(200, "DONE"): look("DONE")})]

    assert [] == differences(live, emulated, {"QUEUED", "DONE"})
    assert [] == differences(emulated, live, {"QUEUED", "DONE"})
    assert [
        "exchange 1 (poll): live answers HTTP 202 (place: text, status: text), the emulator does not"
    ] == differences(live, emulated)


def test_a_word_under_another_http_status_is_a_difference() -> None:
    live = [Exchange("poll", "GET", "/x", {(202, "DONE"): look("DONE")})]
    emulated = [Exchange("poll", "GET", "/x", {(200, "DONE"): look("DONE")})]

    told = "exchange 1 (poll): live says 'DONE' under HTTP 202, the emulator under 200"
    assert [told] == differences(live, emulated, {"DONE"})


def test_another_path_is_a_difference_on_both_sides() -> None:
    live = [Exchange("poll", "GET", "/v2/x", {})]
    emulated = [Exchange("poll", "GET", "/v1/x", {})]

    assert [
        "exchange 1 (poll): live is asked GET /v2/x, the emulator is not",
        "the emulator is asked GET /v1/x (poll), live is not",
    ] == differences(live, emulated)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/get_result?id=7&zone=eu", "/v1/get_result?id&zone"),
        ("/flux-pro/requests/30bc4aeb-0543-4198-929c-da97da4d14c9/status", "/flux-pro/requests/{id}/status"),
        ("/v1/flux-pro-1.1-ultra", "/v1/flux-pro-1.1-ultra"),
        ("/tasks/short", "/tasks/{id}"),
    ],
)
def test_ids_are_replaced_and_endpoints_are_not(path: str, expected: str) -> None:
    assert expected == pattern(f"https://a.example{path}", {"short"})


# Recordings.


def test_a_clean_recording_of_the_provider_itself_is_kept_where_that_is_asked_for(
    bfl: Emulator, cassettes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "is_local", lambda section: False)
    with visiting(bfl, cassettes, ANYKONTEXT_LIVE_RECORD="1") as live:
        report = live.play("bfl", "rejected")

    assert cassettes / "bfl/live-rejected.yaml" == report.cassette
    text = report.cassette.read_text()
    assert text.startswith("# origin: recorded-live\n")
    assert "https://base.bfl.example/v1/" in text
    assert bfl.origins["api"] not in text


def test_a_recording_from_this_machine_is_never_called_live_nor_kept(bfl: Emulator, cassettes: Path) -> None:
    with visiting(bfl, cassettes, ANYKONTEXT_LIVE_RECORD="1") as live:
        report = live.play("bfl", "rejected")

    assert report.cassette.read_text().startswith("# origin: recorded-from-emulator\n")
    assert not cassettes.exists()


def test_a_scene_that_fails_or_is_not_begun_leaves_an_older_recording_alone(
    bfl: Emulator, cassettes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "is_local", lambda section: False)
    (cassettes / "bfl").mkdir(parents=True)
    for scene in SCENES:
        (cassettes / f"bfl/live-{scene}.yaml").write_text("older")
    bfl.inject("out-of-credit")
    with visiting(bfl, cassettes, ANYKONTEXT_LIVE_RECORD="1", ANYKONTEXT_LIVE_MAX_USD="0.04") as live:
        assert live.play("bfl", "edit").error is not None
        bfl.clear()
        live.purse.cap = Decimal(0)
        with pytest.raises(OverCap):
            live.play("bfl", "generate")

    assert {"older"} == {one.read_text() for one in cassettes.glob("bfl/*")}


KEY = "3f2c-secret~key/0123456789+abcdef"


def tape(folder: Path, body: Any) -> Path:
    import yaml

    request = {"method": "GET", "uri": "https://a.example/", "headers": {}, "body": None}
    response = {"status": {"code": 200, "message": "OK"}, "headers": {}, "body": {"string": body}}
    path = folder / "tape.yaml"
    path.write_text("# origin: x\n" + yaml.safe_dump({"interactions": [{"request": request, "response": response}]}))
    return path


@pytest.mark.parametrize(
    "body",
    [
        f"the key {KEY} was refused, and so on, and so on, in a sentence that is long enough to be folded by YAML",
        base64.b64encode(f"user:{KEY}:".encode()).decode(),
        base64.urlsafe_b64encode(f"u:{KEY}?".encode()).decode(),
        KEY.encode().hex(),
        "https://x.example/?k=3f2c-secret~key%2F0123456789%2Babcdef",
        "QUJD" * 60,
        b"\x89PNG and a picture of somebody",
    ],
)
def test_a_cassette_with_a_secret_or_a_picture_is_deleted(body: Any, tmp_path: Path) -> None:
    path = tape(tmp_path, body)

    with pytest.raises(Leaked) as caught:
        inspect(path, [KEY])

    assert not path.exists()
    assert KEY not in str(caught.value)


def test_a_clean_cassette_stays(tmp_path: Path) -> None:
    path = tape(tmp_path, '{"status":"Ready"}')

    inspect(path, [KEY])

    assert path.exists()


def test_the_half_of_a_key_is_a_secret_too(tmp_path: Path) -> None:
    path = tape(tmp_path, "for 0123456789abcdef")

    assert ["someid:0123456789abcdef", "0123456789abcdef"] == secrets_of(["someid:0123456789abcdef"])
    with pytest.raises(Leaked):
        inspect(path, ["someid:0123456789abcdef"])


PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8)


@given(before=st.binary(max_size=9), key=PRINTABLE, after=st.binary(max_size=9))
def test_base64_of_a_key_is_found_wherever_it_begins(before: bytes, key: str, after: bytes) -> None:
    text = base64.b64encode(before + key.encode() + after).decode()

    assert any(form in text for form in encodings(key))


def test_a_wrong_key_has_the_form_of_the_right_one() -> None:
    wrong = other_key("3fa85f64-5717-4562-b3fc-2c963f66afa6:Zz_19")

    assert re.fullmatch(
        r"\d[a-f]{2}\d{2}[a-f]\d{2}-\d{4}-\d{4}-[a-f]\d[a-f]{2}-\d[a-f]\d{3}[a-f]\d{2}[a-f]{3}\d:[A-F][a-f]_\d\d", wrong
    )
    assert wrong != other_key("3fa85f64-5717-4562-b3fc-2c963f66afa6:Zz_19")


# What pytest does with tests/live.


def pytest_run(environ: Mapping[str, str], *arguments: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANYKONTEXT_LIVE", "PYTEST"))}
    command = [sys.executable, "-m", "pytest", "tests/live", "-q", "-rs", "-p", "no:cacheprovider", *arguments]
    found = subprocess.run(command, cwd=ROOT, env={**clean, **environ}, capture_output=True, text=True, check=False)
    return found.stdout + found.stderr


def test_without_keys_each_provider_is_skipped_by_the_name_of_its_variable() -> None:
    out = pytest_run({"ANYKONTEXT_LIVE": "1"})

    assert "4 skipped" in out
    for provider in SUBJECTS:
        assert variable(provider) in out


def test_without_the_switch_nothing_is_sent(bfl: Emulator) -> None:
    environ = environment(bfl)
    del environ["ANYKONTEXT_LIVE"]

    out = pytest_run({**environ, "CI": "true"})

    assert "4 skipped" in out
    assert "also needs ANYKONTEXT_LIVE=1" in out
    assert Counter() == +bfl.counters


def test_with_both_the_scenes_are_played_and_the_money_is_told(bfl: Emulator) -> None:
    out = pytest_run(environment(bfl, ANYKONTEXT_LIVE_MAX_USD="0.05"), "-k", "bfl and (key or generate or edit)")

    assert "3 passed, 1 skipped" in out
    assert "would pass the cap of 0.05 USD" in out
    assert "in all: 0.04 USD of at most 0.05 USD" in out
    assert 1 == bfl.counters["accepted"]


def test_workers_have_no_common_purse_so_a_live_run_is_one_process(bfl: Emulator, cassettes: Path) -> None:
    settings = Settings.from_env(environment(bfl, PYTEST_XDIST_WORKER="gw0"))

    assert "pytest-xdist" in settings.why_not("bfl")
    with Live(settings, [SUBJECTS["bfl"]], cassettes) as live, pytest.raises(Cannot, match="pytest-xdist"):
        live.play("bfl", "key")
    assert Counter() == +bfl.counters


def test_the_key_is_in_no_repr(bfl: Emulator) -> None:
    assert "sandbox" not in repr(Settings.from_env(environment(bfl)))


def test_a_report_of_a_leak_does_not_show_the_key(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pathlib import Path
        import httpx
        from anykontext.testing.live.tape import inspect

        KEY = "".join(["SECRET", "KEY", "0123456789"])

        def test_leak(tmp_path):
            file = tmp_path / "one.yaml"
            file.write_text("interactions:\\n- request: {uri: 'https://x.example/" + KEY.encode().hex() + "'}\\n")
            inspect(file, [KEY])
        """
    )

    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-l")

    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*Leaked: * held a key, and was deleted*"])
    assert "SECRETKEY0123456789" not in done.stdout.str().replace("KEY        = 'SECRETKEY0123456789'", "")


def test_a_price_of_nothing_for_an_unknown_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ANYKONTEXT_LIVE_UNKNOWN_PRICE_USD: .* more than 0"):
        Settings.from_env({"ANYKONTEXT_LIVE_UNKNOWN_PRICE_USD": "0"})
