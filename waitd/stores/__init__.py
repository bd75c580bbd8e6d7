"""The store: waits, their outcomes and the outbox, durable in one SQLite file.

`Store` implements the store protocols of `waitd.ports`. All writes go through one task, the
`writer`, which commits what is queued as one transaction; a caller gets its answer when that is on
disk. Reads run beside it on connections of their own. Statements are SQLAlchemy Core, the schema is
migrated by Alembic, and what only SQLite needs is in `sqlite`. The next state of a wait is decided
in `waitd.core`, and when to write in `waitd.engine`.
"""

from waitd.stores.database import Database
from waitd.stores.operations.transaction import CostRules
from waitd.stores.store import Store

__all__ = ["CostRules", "Database", "Store"]
