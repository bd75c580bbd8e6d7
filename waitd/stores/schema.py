"""The tables and shared conditions, as the queries use them.

The migrations create the tables and their indexes; a test compares the two.
"""

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    exists,
    false,
    literal_column,
)

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
    #: The event's bytes. The outcome is read from them, so that it is stored once.
    Column("event", LargeBinary),
    Column("finished_at", Float),
    #: The event's number, which the writer assigns in commit order; never used twice.
    Column("finished_seq", Integer),
    Column("idempotency_key", Text),
    Column("body_digest", LargeBinary),
    Column("supersede_key", Text),
    #: A newer wait has taken the supersede key; this one's event is not delivered any more.
    Column("superseded", Boolean, nullable=False),
    #: The state of the job that the wait submits; NULL before the first attempt.
    Column("submission", Text),
    #: The state of cancelling that job, and when it is tried next (NULL: done, or not requested).
    Column("job_cancel", Text),
    Column("job_cancel_at", Float),
    #: What the wait used until its end; NULL where that was not measured.
    Column("cpu_seconds", Float),
    Column("byte_seconds", Float),
    #: Who submitted it; NULL: not known.
    Column("principal", Text),
    #: How many bytes an ended wait keeps: those of its specification, its event and its progress.
    Column("kept_bytes", Integer),
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
    #: Who queued it again; NULL: the end of its wait queued it.
    Column("redelivered_by", Text),
)

#: Waiting waits by the Airflow connection that they call back; see `operations.airflow_index`.
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
    #: SHA-256 of the payload; the same payload under the same key is one row.
    Column("digest", LargeBinary, nullable=False),
    Column("payload", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    #: Who sent it first; NULL: not known.
    Column("principal", Text),
    #: The length of its key and payload.
    Column("kept_bytes", Integer),
)

#: One row: the id of this database, how often a daemon has used it, and where it was then.
instance = Table(
    "instance",
    metadata,
    Column("id", Text, primary_key=True),
    Column("starts", Integer, nullable=False),
    Column("place", Text),
)

#: Numbers that are kept when the rows that they came from are deleted.
watermarks = Table(
    "watermarks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)

#: Watermark: the last event number, stored when rows are deleted.
FINISHED_SEQ = "finished_seq"
#: Watermark: the highest event number whose row was deleted. A reader below it has missed events.
PRUNED_SEQ = "pruned_seq"
#: Watermark: the secret drawn when the database was created; it makes event ids opaque.
EVENT_SECRET = "event_secret"  # noqa: S105 - a name
#: Watermark: when `check_writable` last wrote.
LAST_CHECK = "last_check"
#: Watermarks: which boot of the machine it was when the schedules last moved, and when that boot
#: was by the wall clock of then, in Unix milliseconds; see `restart_clock`.
BOOT, CLOCK_OFFSET = "boot", "clock_offset"

#: The namespace of costs that belong to no wait.
NO_NAMESPACE = ""

COST_KEY = ("label", "namespace", "day", "value", "kind")
COST_SUMS = ("waits", "seconds", "pokes", "parked", "resumed", "cpu_seconds", "byte_seconds")
#: Sums of what ended waits have cost, by day; see `operations.costs`.
costs = Table(
    "costs",
    metadata,
    *(Column(name, Text, primary_key=True) for name in COST_KEY),
    *(Column(name, Float, nullable=False) for name in COST_SUMS),
)

# Constants in the SQL, not parameters: SQLite uses a partial index only where the text of the
# statement implies the index's condition.
IS_WAITING = waits.c.state == literal_column("'waiting'", Text)
HAS_ENDED = waits.c.finished_at.is_not(None)
HAS_JOB_TO_CANCEL = waits.c.job_cancel_at.is_not(None)
HOLDS_SUPERSEDE_KEY = waits.c.supersede_key.is_not(None) & (waits.c.superseded == false())
_newer_delivery = deliveries.alias("newer")
#: Whether the wait has a newer delivery to the same sink. Of several dead deliveries only the
#: newest is redelivered, so that repeating the request does not multiply deliveries.
HAS_NEWER_DELIVERY: ColumnElement[bool] = exists().where(
    _newer_delivery.c.wait_id == deliveries.c.wait_id,
    _newer_delivery.c.sink == deliveries.c.sink,
    _newer_delivery.c.id > deliveries.c.id,
)
IS_QUEUED = deliveries.c.state == literal_column("'queued'", Text)
