"""Which Airflow a waiting wait will tell, found without reading what all waits are about."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Makes the table, with those that wait already."""
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
    """Drops it."""
    op.drop_table("airflow_waits")
