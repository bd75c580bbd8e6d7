"""Adds the instance id of the database, and where the file was when a daemon last used it."""

import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Creates the table with its one row."""
    instance = op.create_table(
        "instance",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.Column("place", sa.Text),
    )
    op.bulk_insert(instance, [{"id": str(uuid.uuid4()), "starts": 0, "place": None}])


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("instance")
