"""The schema, the rights of the file, the indexes of queries, and the index of Airflow waits."""

import asyncio
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from store_values import add_one, ended, opened, url_of

from waitd.core.errors import StoreUnusable
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import WaitId, WaitState
from waitd.ports import WaitFilter
from waitd.stores import Store, bulk, migrations, open_database, usage
from waitd.stores.codec import WaitRow
from waitd.stores.delivery_codec import DeliveryRow
from waitd.stores.migrations import newest_revision
from waitd.stores.operations import airflow_index, audit, costs, maintenance, redelivery
from waitd.stores.operations.insert import COLUMNS
from waitd.stores.queries import airflow_waits as airflow_queries
from waitd.stores.queries import costs as cost_queries
from waitd.stores.queries import deliveries as delivery_queries
from waitd.stores.queries import event_log
from waitd.stores.queries import waits as wait_queries
from waitd.stores.schema import IS_WAITING, deliveries, metadata, waits, watermarks
from waitd.stores.sqlite.bulk import texts
from waitd.stores.sqlite.dialect import DIALECT
from waitd.stores.statements import Statement

MIGRATIONS = Path(str(migrations.__file__)).parent


@pytest.fixture
async def closed(database: Path) -> Path:
    """A database that was created and closed."""
    async with opened(database):
        pass
    return database


async def test_opening_a_database_again_changes_nothing_in_its_schema(database: Path) -> None:
    async with opened(database) as store:
        wait = await add_one(store)
    before = schema(database)
    async with opened(database) as store:
        assert await store.get(wait.id) == wait
    assert schema(database) == before


async def test_a_current_file_is_opened_without_loading_alembic(closed: Path) -> None:
    assert newest_revision() == ScriptDirectory(str(MIGRATIONS)).get_current_head()
    program = f"""
import asyncio, sys
from waitd.stores import Database, open_database
async def main():
    database = await open_database("sqlite+aiosqlite:///{closed}")
    await database.close()
asyncio.run(main())
sys.exit("alembic" in sys.modules)
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0


def test_the_migrations_create_the_tables_of_the_queries(closed: Path) -> None:
    with closing(sqlite3.connect(closed)) as plain:
        for table in metadata.sorted_tables:
            created = [
                (name, kind, bool(not_null or key))
                for _, name, kind, not_null, _, key in plain.execute(f"PRAGMA table_info({table.name})")
            ]
            assert created == [(c.name, str(c.type), not c.nullable) for c in table.columns]


def test_row_types_have_the_columns_in_their_order() -> None:
    assert list(WaitRow._fields) == waits.c.keys()
    assert list(DeliveryRow._fields) == deliveries.c.keys()
    assert set(COLUMNS) <= set(waits.c.keys())


async def test_a_file_of_a_newer_waitd_is_refused(closed: Path) -> None:
    with closing(sqlite3.connect(closed)) as plain, plain:
        plain.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnusable, match="newer waitd"):
        await open_database(url_of(closed))


async def test_only_its_owner_may_read_the_database(store: Store, database: Path) -> None:
    await add_one(store)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.parent.iterdir()}
    assert modes == dict.fromkeys(["waitd.db", "waitd.db-wal", "waitd.db-shm", "waitd.db.lock"], 0o600)
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


async def test_every_commit_is_flushed_to_the_disk(store: Store) -> None:
    async with store._database.writing() as connection:
        assert await connection.fetch_all("PRAGMA journal_mode") == [("wal",)]
        assert await connection.fetch_all("PRAGMA synchronous") == [(2,)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (delivery_queries.DUE_ITEMS, "deliveries_due (destination=? AND next_attempt_at<?)"),
        (delivery_queries.DUE_DESTINATIONS, "deliveries_due (destination>?)"),
        (delivery_queries.NEXT_ATTEMPT_AT, "deliveries_due (destination>?)"),
        (wait_queries.WAITING, "waits_by_state (state=? AND id>?)"),
        (wait_queries.COUNTS, "COVERING INDEX waits_by_state_and_kind"),
        (delivery_queries.COUNTS, "COVERING INDEX deliveries_by_state"),
        (wait_queries.BY_ID, "waits USING INDEX sqlite_autoindex_waits_1 (id=?)"),
        (wait_queries.DELIVERIES, "deliveries_by_wait (wait_id=?)"),
        (maintenance.PRUNABLE, "waits_finished_at"),
        (maintenance.LONGEST_ENDED, "COVERING INDEX waits_finished_at"),
        (maintenance.SETTLED, "INTEGER PRIMARY KEY"),
        (event_log.EVENTS_AFTER, "waits_finished_seq (finished_seq>?)"),
        (event_log.EXISTS, "waits_finished_seq (finished_seq=?)"),
        (redelivery.BY_ID, "deliveries_by_wait (wait_id=?)"),
        (cost_queries.LABEL_VALUES, "sqlite_autoindex_costs_1 (label=? AND namespace=? AND day=?)"),
        (usage.HELD, "waits_by_state (state=?)"),
        (usage.ENDED, "COVERING INDEX waits_finished_at"),
        (usage.SIGNALS, "COVERING INDEX signals_received_at"),
        (usage.REDELIVERIES, "COVERING INDEX deliveries_redelivered (namespace=?"),
        (costs.PRUNE, "costs_by_day (day<?)"),
        (airflow_queries.CONNECTIONS, "SEARCH a USING PRIMARY KEY (conn_id>?)"),
        (airflow_queries.BY_CONNECTION, "SEARCH airflow_waits USING PRIMARY KEY (conn_id=? AND wait_id>?)"),
    ],
)
def test_queries_use_their_index(closed: Path, statement: Statement, index: str) -> None:
    assert index in plan(closed, statement.sql(DIALECT))


@pytest.mark.parametrize("state", [None, "success"])
def test_a_list_of_one_namespace_reads_no_other(closed: Path, state: str | None) -> None:
    statement = Statement(wait_queries.matching(WaitFilter(limit=10, namespace="team_a", state=state)))
    assert "waits_by_namespace (namespace=?)" in plan(closed, statement.sql(DIALECT))


def test_the_search_for_old_audit_entries_sorts_nothing(closed: Path) -> None:
    assert "TEMP B-TREE" not in plan(closed, audit.OLD.sql(DIALECT))


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (bulk.update(waits, ("id", "progress"), IS_WAITING), "SEARCH waits"),
        (airflow_index.DELETE, "SEARCH airflow_waits USING PRIMARY KEY (conn_id=? AND wait_id=?)"),
    ],
)
def test_bulk_statements_search_each_row_by_its_key(
    closed: Path, statement: bulk.BulkStatement, index: str
) -> None:
    assert index in plan(closed, texts(statement, 3)[0])


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 63, 64, 65, 511, 512, 513, 1500])
async def test_a_bulk_insert_writes_any_number_of_rows(store: Store, number: int) -> None:
    insert = bulk.insert_into(watermarks)
    written = "SELECT count(*), coalesce(sum(value), 0) FROM watermarks WHERE name LIKE 'n%'"
    async with store._database.writing() as connection:
        connection.defer_rows(insert, [(f"n{n}", n) for n in range(number)])
        assert await connection.fetch_all(written) == [(number, sum(range(number)))]


def schema(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as plain:
        return [sql for (sql,) in plain.execute("SELECT sql FROM sqlite_master ORDER BY name")]


def plan(database: Path, sql: str) -> str:
    with closing(sqlite3.connect(database)) as plain:
        steps = plain.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?")).fetchall()
    return "\n".join(step[3] for step in steps)


def test_every_migration_can_be_reverted_and_repeated(tmp_path: Path) -> None:
    every_table = {table.name: table.c.keys() for table in metadata.sorted_tables}
    for step, target, expected in (
        (command.upgrade, "head", every_table),
        (command.downgrade, "base", {}),
        (command.upgrade, "head", every_table),
    ):
        assert migrate(tmp_path / "waitd.db", step, target) == expected


def migrate(path: Path, step: Callable[[Config, str], None], target: str) -> dict[str, list[str]]:
    """Migrates a database; returns the columns of each table."""
    config = Config()
    config.set_main_option("script_location", "waitd.stores:migrations")
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            step(config, target)
            names = set(inspect(connection).get_table_names()) - {"alembic_version"}
            return {name: [c["name"] for c in inspect(connection).get_columns(name)] for name in names}
    finally:
        engine.dispose()


def sink(conn_id: str | None, kind: str = "airflow") -> dict[str, str]:
    return {"kind": kind, "url": "https://a.example"} | ({"conn_id": conn_id} if conn_id else {})


async def airflow_waits(
    store: Store, conn_id: str, after: WaitId | None = None, limit: int = 10
) -> list[str]:
    """The ids of waiting waits with an Airflow sink of this connection."""
    return [wait.wait_id for wait in await store.find_airflow_waits(conn_id, after, limit)]


async def test_waiting_waits_are_listed_by_airflow_connection_in_pages(store: Store) -> None:
    first = await add_one(store, sinks=[sink("a"), sink("b")])
    second = await add_one(store, sinks=[sink("a"), sink(None), sink("c", "webhook")])
    await ended(store, sinks=[sink("a"), sink("d")])
    assert await store.airflow_connections() == ["a", "b"]
    assert await airflow_waits(store, "a", limit=1) == [first.id]
    assert await airflow_waits(store, "a", first.id) == [second.id]
    assert await airflow_waits(store, "d") == []
    assert (await store.find_airflow_waits("a", None, 1))[0].sink == sink("a")


async def test_ended_waits_leave_the_airflow_index(store: Store) -> None:
    first = await add_one(store, sinks=[sink("a"), sink("a"), sink("b")])
    second = await add_one(store, sinks=[sink("a")], supersede_key="s")
    await store.cancel(first.id, cancelled_outcome())
    assert await store.airflow_connections() == ["a"]
    third = await add_one(store, sinks=[sink("c")], supersede_key="s")
    assert (await store.get(second.id)).state is WaitState.CANCELLED
    assert await store.airflow_connections() == ["c"]
    assert await airflow_waits(store, "c") == [third.id]


async def test_the_migration_indexes_waits_that_are_waiting(database: Path) -> None:
    async with opened(database) as store:
        await ended(store, sinks=[sink("over")])
        waiting = await add_one(store, sinks=[sink("z", "webhook"), sink("b"), sink("a"), sink("b")])
    migrate(database, command.downgrade, "0005")
    async with opened(database) as store:
        assert await store.airflow_connections() == ["a", "b"]
        assert await airflow_waits(store, "b", limit=1) == [waiting.id]
