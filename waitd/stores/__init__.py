"""The store: waits, their ends and the outbox, durable in SQLite (SQLAlchemy Core over aiosqlite, schema by Alembic).

Every write goes through one task, the group-committing writer (`writer`), which turns what is queued into one transaction; a caller has
its answer when that transaction is on disk. Reads go past it, on connections of their own.

    store                            the face: implements the store Protocols of `waitd.ports`
    writer, operations, transaction  the one task that writes, what may be queued for it, one commit of it
    adding, ending, outbox, anew, jobs, signals, keys, audit, costs, known_values, telling, upkeep
                                     what each kind of operation does inside the transaction
    reading, following, rows         the queries
    codec, progress, text            rows and JSON to values and back
    tables, statements, bulk, link   SQLAlchemy Core, and the short way from it to the driver: many rows a statement, many statements a hop
    database, filelock, migrations   the file: its connections, its lock, its schema

What does not live here: what a wait's next state is (`waitd.core`), when to write (`waitd.engine`).
"""

from waitd.stores.operations.transaction import CostRules
from waitd.stores.store import Store

__all__ = ["CostRules", "Store"]
