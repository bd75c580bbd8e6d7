"""A session of a database keeps nothing of one query: the next may be another caller's."""

import pytest
from databases import MariaDb, Postgres
from sql_pokes import SqlPoker

from waitd.core.waits.verdict import Success

#: What a query leaves in its session, and whether the next query finds none of it.
MYSQL = [
    ("SELECT @x := 5 AS a", "SELECT @x IS NULL AS a"),
    ("SELECT LAST_INSERT_ID(5) AS a", "SELECT LAST_INSERT_ID() = 0 AS a"),
    ("SELECT GET_LOCK('left', 0) AS a", "SELECT IS_USED_LOCK('left') IS NULL AS a"),
    ("SELECT set_mode() AS a", "SELECT @@sql_mode NOT LIKE '%ANSI%' AS a"),
    ("SELECT set_mode() AS a", 'SELECT "text" = \'text\' AS a'),
    ("SELECT set_names() AS a", "SELECT CHAR_LENGTH('é') = 1 AND @@character_set_client = 'utf8mb4' AS a"),
    ("SELECT set_length() AS a", "SELECT @@group_concat_max_len <> 4 AS a"),
    ("SELECT set_time_zone() AS a", "SELECT @@time_zone <> '+09:00' AS a"),
    ("SELECT 1 AS a", "SELECT @@collation_connection = 'utf8mb4_general_ci' AS a"),
]  # fmt: skip
POSTGRES = [
    ("SELECT set_config('waitd.x', '5', false) <> '' AS a", "SELECT coalesce(current_setting('waitd.x', true), '') = '' AS a"),
    ("SELECT set_config('search_path', 'evil', false) <> '' AS a", "SELECT current_setting('search_path') <> 'evil' AS a"),
    ("SELECT set_config('statement_timeout', '5', false) <> '' AS a", "SELECT pg_sleep(0.05) IS NOT NULL AS a"),
    ("SELECT set_config('TimeZone', 'Asia/Tokyo', false) <> '' AS a", "SELECT current_setting('TimeZone') <> 'Asia/Tokyo' AS a"),
    ("SELECT pg_advisory_lock(9) IS NOT NULL AS a", "SELECT count(*) = 0 AS a FROM pg_locks WHERE locktype = 'advisory'"),
    ("SELECT pg_try_advisory_lock_shared(9) AS a", "SELECT count(*) = 0 AS a FROM pg_locks WHERE locktype = 'advisory'"),
]  # fmt: skip
ROUTINES = {
    "set_mode": "SET SESSION sql_mode = 'ANSI'",
    "set_names": "SET SESSION character_set_client = 'latin1'",
    "set_length": "SET SESSION group_concat_max_len = 4",
    "set_time_zone": "SET SESSION time_zone = '+09:00'",
}


@pytest.fixture
def routines(mariadb: MariaDb) -> None:
    """Creates functions that leave something in their session."""
    for name, statement in ROUTINES.items():
        mariadb.sql(
            f"DROP FUNCTION IF EXISTS {name};\nDELIMITER //\n"
            f"CREATE FUNCTION {name}() RETURNS int BEGIN {statement}; RETURN 1; END//\n"
        )
    mariadb.sql("GRANT EXECUTE ON jobs.* TO reader")


@pytest.mark.usefixtures("routines")
async def test_a_session_of_mysql_keeps_nothing(mariadb: MariaDb, poke: SqlPoker) -> None:
    connection = mariadb.connection("mysql")
    (first,) = (await poke(connection, sql="SELECT CONNECTION_ID() AS a")).payload
    for leave, look in MYSQL:
        for statement in (leave, look):
            verdict = await poke(connection, sql=statement)
            assert isinstance(verdict, Success), (leave, statement, verdict)
    assert (await poke(connection, sql="SELECT CONNECTION_ID() AS a")).payload == [first]


async def test_a_session_of_postgres_keeps_nothing(postgres: Postgres, poke: SqlPoker) -> None:
    connection = postgres.connection("postgres")
    (first,) = (await poke(connection, sql="SELECT pg_backend_pid() <> 0 AS a, pg_backend_pid()")).payload
    for leave, look in POSTGRES:
        for statement in (leave, look):
            verdict = await poke(connection, sql=statement)
            assert isinstance(verdict, Success), (leave, statement, verdict)
    again = await poke(connection, sql="SELECT pg_backend_pid() <> 0 AS a, pg_backend_pid()")
    assert again.payload == [first]
