"""What waits have cost, and the sums by day."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEY = ("label", "namespace", "day", "value", "kind")
_SUMS = ("waits", "seconds", "pokes", "parked", "resumed", "cpu_seconds", "byte_seconds")
_OF_A_WAIT = ("cpu_seconds", "byte_seconds")


def upgrade() -> None:
    """Makes the table, and two columns that a wait gets at its end."""
    for name in _OF_A_WAIT:
        op.add_column("waits", sa.Column(name, sa.Float))
    # In the order of its key: what a question names first, stands first.
    op.create_table(
        "costs",
        *(sa.Column(name, sa.Text, primary_key=True) for name in _KEY),
        *(sa.Column(name, sa.Float, nullable=False) for name in _SUMS),
    )
    op.create_index("costs_by_day", "costs", ["day"])


def downgrade() -> None:
    """Takes both back."""
    op.drop_table("costs")
    for name in _OF_A_WAIT:
        op.drop_column("waits", name)
