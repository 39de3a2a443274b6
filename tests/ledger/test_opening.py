import os
import re
import sqlite3
import stat
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from anykontext.ledger import Ledger, LedgerError, New, store
from anykontext.ledger.schema import VERSION
from anykontext.model.errors import ConfigurationError
from anykontext.model.job import JobState

from .conftest import A, intend, new

Open = Callable[..., Ledger]

# A file as the first version wrote it.
FIRST = """
CREATE TABLE jobs (job_id TEXT PRIMARY KEY, request_digest TEXT NOT NULL, prompt TEXT, prompt_sha256 TEXT,
    model TEXT NOT NULL, mode TEXT NOT NULL, tags TEXT NOT NULL, tenant TEXT NOT NULL, idempotency_key TEXT,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, deadline_at REAL, state TEXT NOT NULL,
    version INTEGER NOT NULL, owner TEXT NOT NULL, submitter TEXT, lease_until REAL NOT NULL, result TEXT,
    error TEXT, ended_by INTEGER, surplus INTEGER NOT NULL DEFAULT 0, UNIQUE (tenant, idempotency_key));
CREATE TABLE tags (job_id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (job_id, name));
CREATE TABLE sends (job_id TEXT NOT NULL, attempt INTEGER NOT NULL, part INTEGER NOT NULL, send INTEGER NOT NULL,
    provider TEXT NOT NULL, model TEXT NOT NULL, price TEXT, owner TEXT NOT NULL, intent_at REAL NOT NULL,
    outcome TEXT, ended_at REAL, kind TEXT, message TEXT NOT NULL DEFAULT '',
    maybe_charged INTEGER NOT NULL DEFAULT 0, cost TEXT, basis TEXT, resolved TEXT,
    PRIMARY KEY (job_id, attempt, part, send));
CREATE TABLE handles (job_id TEXT NOT NULL, attempt INTEGER NOT NULL, part INTEGER NOT NULL, handle TEXT NOT NULL,
    added_at REAL NOT NULL, added_by TEXT NOT NULL, UNIQUE (job_id, attempt, part, handle));
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, at REAL NOT NULL,
    who TEXT NOT NULL, what TEXT NOT NULL, from_state TEXT, to_state TEXT, detail TEXT NOT NULL);
CREATE TABLE ledger_schema (version INTEGER NOT NULL);
INSERT INTO ledger_schema VALUES (1);
INSERT INTO jobs VALUES ('old', 'digest', 'a prompt', NULL, 'flux-kontext-pro', 'edit', '{"customer":"acme"}', '', 'k',
    1.0, 1.0, NULL, 'running', 2, 'process-a', 'process-a', 61.0, NULL, NULL, NULL, 0);
INSERT INTO tags VALUES ('old', 'customer', 'acme');
INSERT INTO sends (job_id, attempt, part, send, provider, model, price, owner, intent_at)
    VALUES ('old', 0, 0, 0, 'bfl', 'flux-kontext-pro', '0.04', 'process-a', 1.0);
"""


def script(path: Path, sql: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path)
    db.executescript(sql)
    db.close()
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def test_the_folder_and_files_are_for_the_user_alone(opened: Open, path: Path) -> None:
    before = os.umask(0)
    try:
        opened().begin(new()).result()
    finally:
        os.umask(before)

    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert {"ledger.sqlite3": 0o600, "ledger.sqlite3-wal": 0o600, "ledger.sqlite3-shm": 0o600} == files


def test_a_file_that_others_can_read_is_closed_to_them(opened: Open, path: Path) -> None:
    opened().close()
    path.chmod(0o664)

    opened()

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_commits_are_synced_to_a_write_ahead_log(opened: Open) -> None:
    ledger: Any = opened()
    with ledger._store.writing() as db:
        assert ("wal", 2) == tuple(
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        )


def test_what_was_recorded_is_there_when_it_is_opened_again(opened: Open) -> None:
    first = opened()
    first.begin(new()).result()
    first.close()

    assert opened().job("job") is not None


@pytest.mark.parametrize("form", ["sqlite:///{}", "{}"])
def test_a_path_is_written_as_a_url_too(opened: Open, path: Path, form: str) -> None:
    opened(form.format(path)).begin(new()).result()

    assert path.is_file()


def test_a_name_with_letters_that_mean_something_in_urls_is_a_name(opened: Open, tmp_path: Path) -> None:
    odd = tmp_path / "a?mode=ro#b%20c"
    opened(odd).begin(new()).result()

    assert odd.is_file()


def test_a_ledger_in_memory_is_its_own(opened: Open) -> None:
    opened("memory").begin(new()).result()

    assert opened("memory").job("job") is None


def test_a_file_of_the_first_version_is_migrated_with_all_that_is_in_it(opened: Open, path: Path) -> None:
    script(path, FIRST)

    ledger = opened()

    (job,) = ledger.unfinished()
    assert ("old", "a prompt", JobState.UNKNOWN, "bfl") == (job.job_id, job.prompt, job.state, job.provider)
    assert [Decimal("0.04")] == [row.at_risk for row in ledger.spend()]
    assert not isinstance(ledger.begin(new("second", idempotency_key="k")).result(), New)
    assert New("third") == ledger.begin(new("third")).result()
    db = sqlite3.connect(path)
    assert [(VERSION,)] == db.execute("SELECT version FROM ledger_schema").fetchall()
    db.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(path, FIRST)
    from anykontext.ledger import schema

    monkeypatch.setattr(schema, "STEPS", (schema.STEPS[0], (*schema.STEPS[1], "CREATE TABLE jobs (x)")))
    with pytest.raises(LedgerError, match="already exists"):
        opened()

    db = sqlite3.connect(path)
    assert [(1,)] == db.execute("SELECT version FROM ledger_schema").fetchall()
    assert [] == db.execute("SELECT name FROM sqlite_master WHERE name = 'money'").fetchall()
    db.close()


def test_a_file_of_a_newer_version_is_left_alone(opened: Open, path: Path) -> None:
    opened().close()
    script(path, f"UPDATE ledger_schema SET version = {VERSION + 1}")
    before = content(path.parent)

    with pytest.raises(LedgerError, match=f"version {VERSION + 1}.*newer release"):
        opened()
    assert before == content(path.parent)


def test_a_database_of_another_program_is_left_alone(opened: Open, path: Path) -> None:
    script(path, "CREATE TABLE jobs (id)")
    before = content(path.parent)

    with pytest.raises(LedgerError, match="another program"):
        opened()
    assert before == content(path.parent)


def test_a_file_that_is_no_database_is_left_alone(opened: Open, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("dear diary" * 200)
    before = content(path.parent)

    with pytest.raises(LedgerError, match="is not a database"):
        opened()
    assert before == content(path.parent)


def test_a_damaged_file_is_left_alone(opened: Open, path: Path) -> None:
    opened().close()
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
    before = content(path.parent)

    with pytest.raises(LedgerError, match=r"is damaged|is not a database"):
        opened()
    assert before == content(path.parent)


def test_damage_that_shows_later_is_a_ledger_error(opened: Open, path: Path) -> None:
    with opened() as ledger:
        for number in range(100):
            ledger.begin(new(str(number)))
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))

    with pytest.raises(LedgerError, match="is damaged"):
        opened().jobs()


@pytest.mark.parametrize("place", ["file/ledger.sqlite3", "file/deeper/ledger.sqlite3", "folder"])
def test_a_place_where_no_file_can_be_is_refused(opened: Open, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    before = content(tmp_path)

    with pytest.raises(LedgerError, match=re.escape(str(tmp_path / place))) as caught:
        opened(tmp_path / place)
    assert isinstance(caught.value, ConfigurationError)
    assert before == content(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system where nothing can be made")
def test_a_folder_where_nothing_can_be_made_is_refused(opened: Open) -> None:
    with pytest.raises(LedgerError, match=r"cannot be opened .*ANYKONTEXT_HOME"):
        opened("/proc/ledger.sqlite3")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_cannot_be_written_is_refused(opened: Open, path: Path, what: str) -> None:
    opened().close()
    target = path if what == "file" else path.parent
    target.chmod(0o500)
    try:
        with pytest.raises(LedgerError, match="no right to write it"):
            opened()
    finally:
        target.chmod(0o700)


def test_a_read_only_file_system_is_refused(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened().close()
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(LedgerError, match="read-only file system"):
        opened()


def test_a_file_that_became_read_only_is_refused_when_a_record_is_written(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().close()

    def connect(path: Path, busy_s: float) -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)

    monkeypatch.setattr(store, "connect", connect)
    with pytest.raises(LedgerError, match="is read-only"):
        opened().begin(new()).result()


def test_another_kind_of_ledger_is_refused(opened: Open) -> None:
    with pytest.raises(LedgerError, match="postgresql://"):
        opened("postgresql://host/db")


def test_a_file_that_another_process_holds_is_refused_after_a_while(opened: Open, path: Path) -> None:
    ledger = opened(busy_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    waiting = [ledger.begin(new(str(number))) for number in range(3)]
    for future in waiting:
        with pytest.raises(LedgerError, match="locked by another process"):
            future.result()
    other.execute("ROLLBACK")
    other.close()
    assert New("job") == ledger.begin(new()).result()


def test_a_file_that_is_held_for_a_moment_is_waited_for(opened: Open, path: Path) -> None:
    ledger = opened()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, lambda: other.execute("ROLLBACK"))
    timer.start()

    assert New("job") == ledger.begin(new()).result()
    timer.join()
    other.close()


def test_a_file_that_another_holds_exclusively_cannot_be_opened(opened: Open, path: Path) -> None:
    script(path, "CREATE TABLE x (y)")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(LedgerError, match="locked by another process"):
        opened(busy_s=0.05)
    other.close()


def test_many_can_open_a_new_file_at_the_same_time(opened: Open) -> None:
    failed: list[Exception] = []

    def open_it() -> None:
        try:
            opened()
        except Exception as error:  # noqa: BLE001  # whatever it is
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failed


# F60: stop submitting


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_was_taken_away_takes_no_more_records(opened: Open, path: Path, how: str) -> None:
    ledger = opened()
    ledger.begin(new()).result()
    for file in list(path.parent.iterdir()):
        file.rename(file.with_name("moved" + file.name))
    if how == "replaced":
        opened().close()

    with pytest.raises(LedgerError, match="moved, replaced or deleted"):
        intend(ledger, owner=A)
