"""The tables of the ledger, as the steps that led to them. A file of an older version takes the steps that it lacks.

A step that was released is never edited. Times are seconds of the wall clock; amounts are texts of decimals in USD.
"""

import sqlite3

_TABLES = (
    """CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY,
        request_digest TEXT NOT NULL,
        prompt TEXT,
        prompt_sha256 TEXT,
        model TEXT NOT NULL,
        mode TEXT NOT NULL,
        tags TEXT NOT NULL,
        tenant TEXT NOT NULL,
        idempotency_key TEXT,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        deadline_at REAL,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        owner TEXT NOT NULL,
        submitter TEXT,           -- the only owner that may still submit; nobody after a takeover
        lease_until REAL NOT NULL,
        result TEXT,
        error TEXT,
        ended_by INTEGER,         -- the attempt whose success ended it
        surplus INTEGER NOT NULL DEFAULT 0,
        UNIQUE (tenant, idempotency_key)
    )""",
    """CREATE TABLE tags (
        job_id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (job_id, name)
    )""",
    """CREATE TABLE sends (
        job_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        part INTEGER NOT NULL,
        send INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        price TEXT,
        owner TEXT NOT NULL,
        intent_at REAL NOT NULL,
        outcome TEXT,
        ended_at REAL,
        kind TEXT,
        message TEXT NOT NULL DEFAULT '',
        maybe_charged INTEGER NOT NULL DEFAULT 0,
        cost TEXT,
        basis TEXT,
        resolved TEXT,
        PRIMARY KEY (job_id, attempt, part, send)
    )""",
    """CREATE TABLE handles (
        job_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        part INTEGER NOT NULL,
        handle TEXT NOT NULL,
        added_at REAL NOT NULL,
        added_by TEXT NOT NULL,
        UNIQUE (job_id, attempt, part, handle)
    )""",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id TEXT NOT NULL,
        at REAL NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL,
        from_state TEXT,
        to_state TEXT,
        detail TEXT NOT NULL
    )""",
    "CREATE TABLE ledger_schema (version INTEGER NOT NULL)",
    "INSERT INTO ledger_schema VALUES (0)",
)

# A cost that is known counts before what a person said, and that before what we fear.
_MONEY = (
    """CREATE VIEW money AS SELECT sends.*,
        CASE
            WHEN basis IS NOT NULL OR resolved = 'charged' THEN 'spent'
            WHEN resolved = 'free' THEN 'free'
            WHEN outcome IS NULL OR outcome = 'unknown' OR maybe_charged = 1 THEN 'risk'
            WHEN outcome = 'accepted' AND ended_at IS NULL THEN 'risk'
            ELSE 'free'
        END AS money,
        CASE WHEN basis IS NOT NULL THEN cost ELSE price END AS amount
    FROM sends""",
    "CREATE INDEX jobs_by_state ON jobs (state, lease_until)",
    "CREATE INDEX jobs_by_time ON jobs (created_at)",
    "CREATE INDEX jobs_by_owner ON jobs (owner, state)",
    "CREATE INDEX tags_by_value ON tags (name, value, job_id)",
    "CREATE INDEX sends_by_time ON sends (intent_at)",
    "CREATE INDEX events_by_job ON events (job_id, seq)",
)


def _counted(row: str) -> str:
    """What a row of `sends` counts against budgets: NULL for what is free, or whose amount nobody knows.

    A price that was reserved counts on when it turns out that something was paid, but not how much.
    """
    return f"""CASE
        WHEN {row}.basis IS NOT NULL OR {row}.resolved = 'charged' THEN COALESCE({row}.cost, {row}.price)
        WHEN {row}.resolved = 'free' THEN NULL
        WHEN {row}.outcome IS NULL OR {row}.outcome = 'unknown' OR {row}.maybe_charged = 1 THEN {row}.price
        WHEN {row}.outcome = 'accepted' AND {row}.ended_at IS NULL THEN {row}.price
    END"""


_OWN_TAGS = """SELECT '' AS name, '' AS value
    UNION ALL SELECT name, value FROM tags WHERE job_id = NEW.job_id AND name <> ''"""
_COUNT_NEW = f"""INSERT INTO tally
    SELECT name, value, CAST(NEW.intent_at / 86400 AS INTEGER), {_counted("NEW")}, 1 FROM ({_OWN_TAGS})
    WHERE {_counted("NEW")} IS NOT NULL ON CONFLICT DO UPDATE SET sends = sends + 1"""  # noqa: S608  # our own text

# How many submits of a day (UTC) count which amount, of all and of each value of a tag: a budget is checked in the
# transaction of every submit, and must not read all submits of a month for it. Counts, since sums of texts of decimals
# would go through floats. Deleting a job takes nothing back.
_TALLY = (
    """CREATE TABLE tally (
        name TEXT NOT NULL,       -- of a tag; empty for all
        value TEXT NOT NULL,
        day INTEGER NOT NULL,
        amount TEXT NOT NULL,
        sends INTEGER NOT NULL,
        PRIMARY KEY (name, value, day, amount)
    ) WITHOUT ROWID""",
    f"CREATE TRIGGER tally_new AFTER INSERT ON sends BEGIN {_COUNT_NEW}; END",
    f"""CREATE TRIGGER tally_change AFTER UPDATE ON sends WHEN {_counted("OLD")} IS NOT {_counted("NEW")} BEGIN
        UPDATE tally SET sends = sends - 1 WHERE (name, value) IN ({_OWN_TAGS})
            AND day = CAST(OLD.intent_at / 86400 AS INTEGER) AND amount = {_counted("OLD")};
        {_COUNT_NEW};
    END""",  # noqa: S608  # our own text
    f"""INSERT INTO tally
        SELECT name, value, CAST(intent_at / 86400 AS INTEGER) AS day, {_counted("s")} AS amount, COUNT(*)
        FROM sends s JOIN (SELECT job_id, '' AS name, '' AS value FROM jobs
            UNION ALL SELECT * FROM tags WHERE name <> '') USING (job_id)
        WHERE {_counted("s")} IS NOT NULL GROUP BY name, value, day, amount""",  # noqa: S608  # our own text
    """CREATE INDEX sends_at_risk ON sends (job_id) WHERE basis IS NULL AND resolved IS NULL
        AND (outcome IS NULL OR outcome = 'unknown' OR maybe_charged = 1
            OR (outcome = 'accepted' AND ended_at IS NULL))""",
    """CREATE TABLE balances (
        provider TEXT NOT NULL,
        origin TEXT NOT NULL,     -- the base URL: an emulator has another one
        read_at REAL NOT NULL,
        amount TEXT NOT NULL,
        unit TEXT NOT NULL,
        usd TEXT,
        PRIMARY KEY (provider, origin, read_at)
    )""",
)

_DRAINS = (
    """CREATE TABLE drains (
        provider TEXT PRIMARY KEY, since REAL NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL
    )""",
)
# What the price list says of a submit, where more was reserved for it: such submits were reported to cost more.
_LISTED = (
    "ALTER TABLE sends ADD COLUMN listed TEXT",
    "CREATE INDEX sends_reported ON sends (provider, model, listed, intent_at) WHERE basis = 'reported'",
)

STEPS = (_TABLES, _MONEY, _TALLY, (*_DRAINS, *_LISTED))
VERSION = len(STEPS)


def version_of(db: sqlite3.Connection) -> int | None:
    """The version of what lies in a database: 0 when it is empty, None when another program made it."""
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    if not names:
        return 0
    if "ledger_schema" not in names:
        return None
    return int(db.execute("SELECT version FROM ledger_schema").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    """Take the missing steps in one transaction; of several processes that start at the same time one takes them."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[version_of(db) :]:
            for statement in step:
                db.execute(statement)
        db.execute("UPDATE ledger_schema SET version = ?1 WHERE version < ?1", (VERSION,))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
