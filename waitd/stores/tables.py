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

#: Numbers that outlive the rows they were counted from.
watermarks = Table(
    "watermarks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)

# Constants in the SQL, not parameters: SQLite uses a partial index only where it can prove its condition from the text.
IS_WAITING = waits.c.state == literal_column("'waiting'", Text)
HAS_ENDED = waits.c.finished_at.is_not(None)
HOLDS_ITS_KEY = waits.c.supersede_key.is_not(None) & (waits.c.superseded == literal_column("0", Boolean))
IS_QUEUED = deliveries.c.state == literal_column("'queued'", Text)
