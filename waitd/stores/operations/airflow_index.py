"""Keeps the index of waiting waits by the Airflow connection that they call back.

The connections are part of each wait's specification, too. The sweep for tasks that are gone asks
for them every minute, and without the index it would read every waiting wait.
"""

from collections.abc import Iterable

from waitd.ports import StoredWait
from waitd.stores import bulk
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import airflow_waits

_INSERT = bulk.insert_into(airflow_waits)
DELETE = bulk.delete_from(airflow_waits, ("conn_id", "wait_id"))


def insert(transaction: Transaction, waits: Iterable[StoredWait]) -> None:
    """Adds waits that are waiting from now on."""
    transaction.connection.defer_rows(_INSERT, _rows(waits))


def delete(transaction: Transaction, waits: Iterable[StoredWait]) -> None:
    """Removes waits that have ended."""
    transaction.connection.defer_rows(DELETE, _rows(waits))


def _rows(waits: Iterable[StoredWait]) -> list[tuple[str, str]]:
    """One row for each wait and Airflow connection."""
    pairs = [
        (sink.get("conn_id"), wait.id)
        for wait in waits
        for sink in wait.spec.sinks
        if sink.get("kind") == "airflow"
    ]
    return list(dict.fromkeys((conn_id, wait_id) for conn_id, wait_id in pairs if isinstance(conn_id, str)))
