"""Adds the jobs that waits submit, and signals."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Adds the columns of a wait's job and creates the table of signals."""
    for column in (
        sa.Column("submission", sa.Text),
        sa.Column("job_cancel", sa.Text),
        sa.Column("job_cancel_at", sa.Float),
    ):
        op.add_column("waits", column)
    # Ended waits whose jobs have yet to be cancelled: few, and found without reading other waits.
    where = sa.text("job_cancel_at IS NOT NULL")
    op.create_index("waits_job_cancel", "waits", ["id"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "signals",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
    )
    # The same payload under the same key is one signal.
    op.create_index("signals_by_key", "signals", ["namespace", "key", "digest"], unique=True)
    op.create_index("signals_received_at", "signals", ["received_at"])


def downgrade() -> None:
    """Drops the table and the columns."""
    op.drop_table("signals")
    op.drop_index("waits_job_cancel", "waits")
    for column in ("job_cancel_at", "job_cancel", "submission"):
        op.drop_column("waits", column)
