"""Marks the revision from which specifications are stored without fields that have their default.

The schema does not change, and specifications stored in full stay readable. The new revision keeps
an older waitd, which cannot read the shorter form, from opening the database.
"""

from collections.abc import Sequence

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Changes nothing."""


def downgrade() -> None:
    """Changes nothing: specifications in the shorter form stay."""
