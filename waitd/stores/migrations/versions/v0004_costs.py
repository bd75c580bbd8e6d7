"""Adds the cost of each wait and the sums by day."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEY = ("label", "namespace", "day", "value", "kind")
_SUMS = ("waits", "seconds", "pokes", "parked", "resumed", "cpu_seconds", "byte_seconds")
_WAIT_COLUMNS = ("cpu_seconds", "byte_seconds")


def upgrade() -> None:
    """Creates the table, and adds two columns that are set when a wait ends."""
    for name in _WAIT_COLUMNS:
        op.add_column("waits", sa.Column(name, sa.Float))
    # The key's columns are in the order in which a query narrows them.
    op.create_table(
        "costs",
        *(sa.Column(name, sa.Text, primary_key=True) for name in _KEY),
        *(sa.Column(name, sa.Float, nullable=False) for name in _SUMS),
    )
    op.create_index("costs_by_day", "costs", ["day"])


def downgrade() -> None:
    """Drops the table and the columns."""
    op.drop_table("costs")
    for name in _WAIT_COLUMNS:
        op.drop_column("waits", name)
