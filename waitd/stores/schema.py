"""The tables as the queries see them. What makes them, indexes included, are the migrations; a test holds the two together."""

from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, MetaData, Table, Text, literal_column

metadata = MetaData()

waits = Table(
    "waits",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("deadline", Float, nullable=False),
    Column("spec", Text, nullable=False),
    Column("progress", Text),
    #: The event's bytes; the outcome is read from them, so that there is one truth.
    Column("event", LargeBinary),
    Column("finished_at", Float),
    #: Given by the writer in commit order, never twice.
    Column("finished_seq", Integer),
    Column("idempotency_key", Text),
    Column("body_digest", LargeBinary),
    Column("supersede_key", Text),
    #: A newer wait has taken the key: nothing of this one is delivered any more.
    Column("superseded", Boolean, nullable=False),
    #: What is known of the job that it submits itself; NULL where nothing is yet.
    Column("submission", Text),
    #: How far the cancelling of that job has come, and when it is tried next (NULL: it is over, or was never wanted).
    Column("job_cancel", Text),
    Column("job_cancel_at", Float),
    #: What waitd used for it until its end, as it was measured; NULL where it was not.
    Column("cpu_seconds", Float),
    Column("byte_seconds", Float),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("wait_id", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("sink", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("next_attempt_at", Float),
    Column("last_attempt_at", Float),
    Column("last_error", Text),
)

#: Which Airflow a waiting wait will tell; see `waitd.stores.operations.airflow_index`.
airflow_waits = Table(
    "airflow_waits",
    metadata,
    Column("conn_id", Text, primary_key=True),
    Column("wait_id", Text, primary_key=True),
    sqlite_with_rowid=False,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("used_at", Float),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("principal", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("remote", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text),
    Column("subjects", Integer, nullable=False),
    Column("result", Text, nullable=False),
)

signals = Table(
    "signals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("key", Text, nullable=False),
    #: Of the payload: the same one under the same key is kept once.
    Column("digest", LargeBinary, nullable=False),
    Column("payload", Text, nullable=False),
    Column("received_at", Float, nullable=False),
)

#: Numbers that outlive the rows they were counted from.
watermarks = Table(
    "watermarks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)

#: What waits that ended on a day have cost, added up; see `waitd.stores.operations.costs`.
costs = Table(
    "costs",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("label", "namespace", "day", "value", "kind")),
    *(
        Column(name, Float, nullable=False)
        for name in ("waits", "seconds", "pokes", "parked", "resumed", "cpu_seconds", "byte_seconds")
    ),
)

# Constants in the SQL, not parameters: SQLite uses a partial index only where it can prove its condition from the text.
IS_WAITING = waits.c.state == literal_column("'waiting'", Text)
HAS_ENDED = waits.c.finished_at.is_not(None)
HAS_JOB_TO_CANCEL = waits.c.job_cancel_at.is_not(None)
HOLDS_ITS_KEY = waits.c.supersede_key.is_not(None) & (waits.c.superseded == literal_column("0", Boolean))
IS_QUEUED = deliveries.c.state == literal_column("'queued'", Text)
