"""The store: waits, their outcomes and the outbox, durable in one SQLite file.

`Store` implements the store protocols of `waitd.ports`. All writes go through one task, the
`writer`, which commits what is queued as one transaction; a caller gets its answer when that is on
disk. Reads run beside it on connections of their own. Operations and queries say what they want in
SQLAlchemy Core or as a `BulkStatement`; what only SQLite needs is in `sqlite`. Alembic migrates the
schema. The next state of a wait is decided in `waitd.core`, and when to write in `waitd.engine`.
"""

from waitd.stores.database import Database
from waitd.stores.opening import open_database
from waitd.stores.operations.transaction import CostRules
from waitd.stores.store import Store

__all__ = ["CostRules", "Database", "Store", "open_database"]
