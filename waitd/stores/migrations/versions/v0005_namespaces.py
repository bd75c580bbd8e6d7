"""Adds indexes by namespace, and the secret that makes event ids opaque to a namespace."""

import secrets
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TABLES = ("waits", "deliveries")
_WATERMARKS = sa.table("watermarks", sa.column("name", sa.Text), sa.column("value", sa.Integer))


def upgrade() -> None:
    """Creates two indexes and draws the secret."""
    for table in _TABLES:
        op.create_index(f"{table}_by_namespace", table, ["namespace", "id"])
    op.bulk_insert(_WATERMARKS, [{"name": "event_secret", "value": secrets.randbits(63)}])


def downgrade() -> None:
    """Deletes the secret and drops the indexes."""
    op.execute(_WATERMARKS.delete().where(_WATERMARKS.c.name == "event_secret"))
    for table in _TABLES:
        op.drop_index(f"{table}_by_namespace", table)
