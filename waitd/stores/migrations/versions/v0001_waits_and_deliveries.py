"""Creates the tables of waits, deliveries (the outbox) and watermarks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Creates the tables and their indexes."""
    _waits()
    _deliveries()
    op.create_table(
        "watermarks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Drops the tables."""
    for table in ("watermarks", "deliveries", "waits"):
        op.drop_table(table)


def _waits() -> None:
    op.create_table(
        "waits",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="waiting"),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("deadline", sa.Float, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("progress", sa.Text),
        sa.Column("event", sa.LargeBinary),
        sa.Column("finished_at", sa.Float),
        sa.Column("finished_seq", sa.Integer),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("body_digest", sa.LargeBinary),
        sa.Column("supersede_key", sa.Text),
        sa.Column("superseded", sa.Boolean, nullable=False, server_default=sa.text("0")),
    )
    # Pages of one state in the order of ids, for the start and for lists.
    op.create_index("waits_by_state", "waits", ["state", "id"])
    # Counts by state and kind without reading rows.
    op.create_index("waits_by_state_and_kind", "waits", ["state", "kind"])
    _partial_index(
        "waits_idempotency_key",
        "waits",
        ["namespace", "idempotency_key"],
        "idempotency_key IS NOT NULL",
        unique=True,
    )
    # At most one wait holds a supersede key. It keeps the key after its end until a newer wait
    # takes it, because its deliveries may still be queued then. The lookup reads one row, however
    # many older waits had the key.
    _partial_index(
        "waits_supersede_key",
        "waits",
        ["namespace", "supersede_key"],
        "supersede_key IS NOT NULL AND superseded = 0",
        unique=True,
    )
    _partial_index("waits_finished_at", "waits", ["finished_at"], "finished_at IS NOT NULL")
    _partial_index("waits_finished_seq", "waits", ["finished_seq"], "finished_seq IS NOT NULL", unique=True)


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("wait_id", sa.Text, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("sink", sa.Text, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("next_attempt_at", sa.Float),
        sa.Column("last_attempt_at", sa.Float),
        sa.Column("last_error", sa.Text),
    )
    op.create_index("deliveries_by_wait", "deliveries", ["wait_id"])
    op.create_index("deliveries_by_state", "deliveries", ["state", "id"])
    _partial_index("deliveries_due", "deliveries", ["destination", "next_attempt_at"], "state = 'queued'")


def _partial_index(
    name: str, table: str, columns: Sequence[str], condition: str, *, unique: bool = False
) -> None:
    where = sa.text(condition)
    op.create_index(name, table, list(columns), unique=unique, sqlite_where=where, postgresql_where=where)
