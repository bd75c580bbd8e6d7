"""From here on a specification is kept without the fields that have their default.

Nothing is to be changed: those kept in full are read as well. But a daemon from before would stumble over the new ones, and is told by the
number not to open this database.
"""

from collections.abc import Sequence

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Changes nothing."""


def downgrade() -> None:
    """Changes nothing; what was kept meanwhile stays as it is."""
