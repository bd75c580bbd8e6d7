"""Adds who submitted or sent what, and how many bytes it keeps, to count it against limits."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ENDED = sa.text("finished_at IS NOT NULL")
_REDELIVERED = sa.text("state = 'queued' AND redelivered_by IS NOT NULL")


def upgrade() -> None:
    """Adds the columns and fills in the sizes; the two indexes by age also have what is counted."""
    for table in ("waits", "signals"):
        op.add_column(table, sa.Column("principal", sa.Text))
        op.add_column(table, sa.Column("kept_bytes", sa.Integer))
    op.add_column("deliveries", sa.Column("redelivered_by", sa.Text))
    op.execute(
        "UPDATE waits SET kept_bytes = length(spec) + coalesce(length(event), 0) + coalesce(length(progress), 0)"
        " WHERE finished_at IS NOT NULL"
    )
    op.execute("UPDATE signals SET kept_bytes = length(payload) + length(key)")
    op.drop_index("waits_finished_at", "waits")
    _index("waits_finished_at", "waits", ["finished_at", "namespace", "principal", "kept_bytes"], _ENDED)
    op.drop_index("signals_received_at", "signals")
    op.create_index("signals_received_at", "signals", ["received_at", "namespace", "principal", "kept_bytes"])
    _index("deliveries_redelivered", "deliveries", ["namespace", "redelivered_by", "state"], _REDELIVERED)


def downgrade() -> None:
    """Drops the columns, and makes the indexes as they were."""
    op.drop_index("deliveries_redelivered", "deliveries")
    op.drop_index("waits_finished_at", "waits")
    _index("waits_finished_at", "waits", ["finished_at"], _ENDED)
    op.drop_index("signals_received_at", "signals")
    op.create_index("signals_received_at", "signals", ["received_at"])
    op.drop_column("deliveries", "redelivered_by")
    for table in ("signals", "waits"):
        op.drop_column(table, "kept_bytes")
        op.drop_column(table, "principal")


def _index(name: str, table: str, columns: Sequence[str], where: sa.TextClause) -> None:
    op.create_index(name, table, list(columns), sqlite_where=where, postgresql_where=where)
