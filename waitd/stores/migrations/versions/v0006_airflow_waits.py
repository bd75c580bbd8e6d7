"""Adds an index of waiting waits by the Airflow connection that they call back."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Creates the table and fills it with the waits that are waiting now."""
    op.create_table(
        "airflow_waits",
        sa.Column("conn_id", sa.Text, primary_key=True),
        sa.Column("wait_id", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO airflow_waits (conn_id, wait_id) "
        "SELECT DISTINCT json_extract(sink.value, '$.conn_id'), waits.id "
        "FROM waits, json_each(waits.spec, '$.sinks') AS sink "
        "WHERE waits.state = 'waiting' AND json_extract(sink.value, '$.kind') = 'airflow' "
        "AND json_extract(sink.value, '$.conn_id') IS NOT NULL"
    )


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("airflow_waits")
