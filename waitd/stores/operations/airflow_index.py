"""Keeps the index of waiting waits by the Airflow connection that they call back.

The connections are part of each wait's specification, too. The sweep for tasks that are gone asks
for them every minute, and without the index it would read every waiting wait.
"""

from collections.abc import Iterable

from waitd.ports import StoredWait
from waitd.stores.operations.transaction import Transaction
from waitd.stores.sqlite import bulk

_INSERT = bulk.insert_into("airflow_waits", ("conn_id", "wait_id"))
# From a SELECT, SQLite looks each pair up by the key; from VALUES alone it scans the table.
DELETE = bulk.BulkStatement(
    "DELETE FROM airflow_waits WHERE (conn_id, wait_id) IN (SELECT column1, column2 FROM (VALUES ", 2, "))"
)


def insert(transaction: Transaction, waits: Iterable[StoredWait]) -> None:
    """Adds waits that are waiting from now on."""
    bulk.defer(transaction.connection, _INSERT, _rows(waits))


def delete(transaction: Transaction, waits: Iterable[StoredWait]) -> None:
    """Removes waits that have ended."""
    bulk.defer(transaction.connection, DELETE, _rows(waits))


def _rows(waits: Iterable[StoredWait]) -> list[tuple[str, str]]:
    """One row for each wait and Airflow connection."""
    pairs = [
        (sink.get("conn_id"), wait.id)
        for wait in waits
        for sink in wait.spec.sinks
        if sink.get("kind") == "airflow"
    ]
    return list(dict.fromkeys((conn_id, wait_id) for conn_id, wait_id in pairs if isinstance(conn_id, str)))
