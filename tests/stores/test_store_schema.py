"""The schema, who may read the file, and that the queries use their indexes."""

import asyncio
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from store_values import add_one, ended, opened

from waitd.core.errors import StoreUnusable
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import WaitState
from waitd.ports import WaitFilter
from waitd.stores import migrations
from waitd.stores.codec import DeliveryRow, WaitRow
from waitd.stores.migrations import newest_revision
from waitd.stores.operations import airflow_index, costs, maintenance, redelivery
from waitd.stores.operations.insert import COLUMNS
from waitd.stores.queries import airflow_waits as airflow_queries
from waitd.stores.queries import costs as cost_queries
from waitd.stores.queries import deliveries as delivery_queries
from waitd.stores.queries import event_log
from waitd.stores.queries import waits as wait_queries
from waitd.stores.schema import deliveries, metadata, waits
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.statements import Statement

MIGRATIONS = Path(str(migrations.__file__)).parent


async def test_a_new_file_is_migrated_and_opening_it_again_changes_nothing(database: Path) -> None:
    async with opened(database) as store:
        wait = await add_one(store)
    before = schema(database)
    async with opened(database) as store:
        assert await store.get(wait.id) == wait
    assert schema(database) == before


async def test_a_file_of_this_waitd_is_opened_without_loading_what_migrates(database: Path) -> None:
    assert newest_revision() == ScriptDirectory(str(MIGRATIONS)).get_current_head()
    async with opened(database):
        pass
    program = f"""
import asyncio, sys
from waitd.stores import Database
async def main():
    database = await Database.open("sqlite+aiosqlite:///{database}")
    await database.close()
asyncio.run(main())
sys.exit("alembic" in sys.modules)
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0


async def test_the_migrations_make_the_tables_that_the_queries_know(database: Path) -> None:
    async with opened(database):
        pass
    with closing(sqlite3.connect(database)) as plain:
        for table in metadata.sorted_tables:
            made = [
                (name, kind, bool(not_null or key))
                for _, name, kind, not_null, _, key in plain.execute(f"PRAGMA table_info({table.name})")
            ]
            known = [(c.name, str(c.type), not c.nullable) for c in table.columns]
            assert made == known


def test_rows_are_read_in_the_order_of_their_columns() -> None:
    assert list(WaitRow._fields) == waits.c.keys()
    assert list(DeliveryRow._fields) == deliveries.c.keys()
    assert set(COLUMNS) <= set(waits.c.keys())


async def test_a_file_of_a_newer_waitd_is_refused(database: Path) -> None:
    async with opened(database):
        pass
    with closing(sqlite3.connect(database)) as plain, plain:
        plain.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnusable, match="newer waitd"):
        async with opened(database):
            pass


async def test_only_its_owner_may_read_the_database(database: Path) -> None:
    async with opened(database) as store:
        await add_one(store)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.parent.iterdir()}
    assert modes == dict.fromkeys(["waitd.db", "waitd.db-wal", "waitd.db-shm", "waitd.db.lock"], 0o600)
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


async def test_every_commit_is_flushed_to_the_disk(database: Path) -> None:
    async with opened(database) as store, store._database.writing() as connection:
        found = [await connection.fetch_all(f"PRAGMA {name}") for name in ("journal_mode", "synchronous")]
    assert found == [[("wal",)], [(2,)]]


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
        (event_log.EVENTS_AFTER, "waits_finished_seq (finished_seq>?)"),
        (event_log.EXISTS, "waits_finished_seq (finished_seq=?)"),
        (redelivery.BY_ID, "deliveries_by_wait (wait_id=?)"),
        (cost_queries.LABEL_VALUES, "sqlite_autoindex_costs_1 (label=? AND namespace=? AND day=?)"),
        (costs.PRUNE, "costs_by_day (day<?)"),
        (airflow_queries.CONNECTIONS, "SEARCH a USING PRIMARY KEY (conn_id>?)"),
        (airflow_queries.BY_CONNECTION, "SEARCH airflow_waits USING PRIMARY KEY (conn_id=? AND wait_id>?)"),
    ],
)
async def test_queries_go_by_their_index(database: Path, statement: Statement, index: str) -> None:
    assert index in await plan(database, statement.sql)


@pytest.mark.parametrize("state", [None, "success"])
async def test_a_namespace_is_listed_without_looking_at_the_others(database: Path, state: str | None) -> None:
    statement = Statement(wait_queries.matching(WaitFilter(limit=10, namespace="team_a", state=state)))
    assert "waits_by_namespace (namespace=?)" in await plan(database, statement.sql)


async def test_updates_of_many_rows_look_each_up_by_its_id(database: Path) -> None:
    update = bulk.update("waits", ("id", "progress"), "waits.state = 'waiting'")
    assert "SEARCH waits" in await plan(database, bulk.sql_of(update, 3))


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 63, 64, 65, 511, 512, 513, 1500])
async def test_any_number_of_rows_is_written(database: Path, number: int) -> None:
    insert = bulk.insert_into("watermarks", ("name", "value"))
    async with opened(database) as store, store._database.writing() as connection:
        bulk.defer(connection, insert, [(f"n{n}", n) for n in range(number)])
    with closing(sqlite3.connect(database)) as plain:
        written = "SELECT count(*), coalesce(sum(value), 0) FROM watermarks WHERE name LIKE 'n%'"
        assert plain.execute(written).fetchone() == (number, sum(range(number)))


def schema(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as plain:
        return [sql for (sql,) in plain.execute("SELECT sql FROM sqlite_master ORDER BY name")]


async def plan(database: Path, sql: str) -> str:
    async with opened(database):
        pass
    with closing(sqlite3.connect(database)) as plain:
        steps = plain.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?")).fetchall()
    return "\n".join(step[3] for step in steps)


def test_every_migration_can_be_taken_back_and_made_again(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", "waitd.stores:migrations")
    engine = create_engine(f"sqlite:///{tmp_path / 'waitd.db'}")
    made = []
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        for target, act in [
            ("head", command.upgrade),
            ("base", command.downgrade),
            ("head", command.upgrade),
        ]:
            act(config, target)
            tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
            made.append({name: [c["name"] for c in inspect(connection).get_columns(name)] for name in tables})
    engine.dispose()
    assert made[0] == made[2] == {table.name: table.c.keys() for table in metadata.sorted_tables}
    assert made[1] == {}


def sink(conn_id: str | None, kind: str = "airflow") -> dict[str, str]:
    return {"kind": kind, "url": "https://a.example"} | ({"conn_id": conn_id} if conn_id else {})


async def test_who_will_be_told_by_which_connection_is_found_page_by_page(database: Path) -> None:
    async with opened(database) as store:
        one = await add_one(store, sinks=[sink("a"), sink("b")])
        two = await add_one(store, sinks=[sink("a"), sink(None), sink("c", "webhook")])
        over = await ended(store, sinks=[sink("d")])
        assert await store.airflow_connections() == ["a", "b"]
        first = await store.find_airflow_waits("a", None, 1)
        rest = await store.find_airflow_waits("a", first[-1].wait_id, 10)
        assert [told.wait_id for told in (*first, *rest)] == [one.id, two.id]
        assert first[0].sink == sink("a")
        assert await store.find_airflow_waits("d", None, 10) == []
        assert over.id not in {told.wait_id for told in rest}


async def test_what_has_ended_will_tell_nobody_any_more(database: Path) -> None:
    async with opened(database) as store:
        first = await add_one(store, sinks=[sink("a"), sink("a"), sink("b")])
        second = await add_one(store, sinks=[sink("a")], supersede_key="s")
        await store.cancel(first.id, cancelled_outcome())
        assert await store.airflow_connections() == ["a"]
        third = await add_one(store, sinks=[sink("c")], supersede_key="s")
        assert (await store.get(second.id)).state is WaitState.CANCELLED
        assert await store.airflow_connections() == ["c"]
        assert [told.wait_id for told in await store.find_airflow_waits("c", None, 10)] == [third.id]
    forgetting = await plan(database, bulk.sql_of(airflow_index.DELETE, 2))
    assert "SEARCH airflow_waits USING PRIMARY KEY (conn_id=? AND wait_id=?)" in forgetting


async def test_who_waits_already_is_found_after_the_migration(database: Path) -> None:
    async with opened(database) as store:
        await ended(store, sinks=[sink("over")])
        waiting = await add_one(store, sinks=[sink("z", "webhook"), sink("b"), sink("a"), sink("b")])
    with closing(sqlite3.connect(database)) as plain:
        plain.executescript("DROP TABLE airflow_waits; UPDATE alembic_version SET version_num = '0005'")
    async with opened(database) as store:
        assert await store.airflow_connections() == ["a", "b"]
        assert [told.wait_id for told in await store.find_airflow_waits("b", None, 1)] == [waiting.id]
