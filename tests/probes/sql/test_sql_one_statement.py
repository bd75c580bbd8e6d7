"""A query is one statement that reads: the protocol and the database see to it, not the text."""

from collections.abc import Iterator

import pytest
from databases import MariaDb, Postgres
from sql_pokes import Database, SqlPoker, all_databases

from waitd.core.waits.verdict import Failure, Success, Verdict

SEVERAL = [
    "SELECT 1; COMMIT; DELETE FROM loads",
    "SELECT 1); COMMIT; DELETE FROM loads WHERE id = 5; COMMIT; SELECT (1",
    "SELECT 1) LIMIT 0; COMMIT; DELETE FROM loads; COMMIT; SELECT 1 FROM (SELECT (1",
    "SELECT 1 /* ; */; COMMIT; DELETE FROM loads",
    "SELECT 1 -- x\n; COMMIT; DELETE FROM loads",
    "SELECT 1; -- x\n; DELETE FROM loads;",
    "COMMIT; DELETE FROM loads",
    "COMMIT AND CHAIN; DELETE FROM loads; COMMIT",
    "ROLLBACK; DELETE FROM loads; COMMIT",
    "DELIMITER //\nSELECT 1; COMMIT; DELETE FROM loads//",
    "BEGIN; DELETE FROM loads; COMMIT",
    "WITH gone AS (DELETE FROM loads RETURNING id) SELECT id FROM gone",
    "EXPLAIN ANALYZE DELETE FROM loads",
    "SET @x = 1",
    "ROLLBACK",
    "BEGIN",
    "-- nothing",
    ";",
    " ",
    "SAVEPOINT x",
]
MORE = {
    "postgres": [
        "SELECT forget()",
        "CALL forget_all()",
        "SELECT query_to_xml('DELETE FROM loads', true, true, '')",
        "SELECT set_config('transaction_read_only', 'off', true), forget()",
        "SELECT $$a$$; COMMIT; DELETE FROM loads",
        "SELECT E'\\''; COMMIT; DELETE FROM loads; -- '",
        "SELECT id FROM loads FOR UPDATE",
        "SELECT lo_create(0)",
        "EXECUTE waitd",
        "FETCH ALL FROM waitd",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "MERGE INTO loads USING loads AS l ON true WHEN MATCHED THEN DELETE",
        "SELECT * INTO TEMP other FROM loads",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "DISCARD ALL",
    ],
    "mysql": [
        "SELECT forget()",
        "CALL forget_all()",
        "SELECT 1 /*! ); COMMIT; DELETE FROM loads; SELECT (1 */",
        "SELECT 1 /*M! ; COMMIT */ /*!; DELETE FROM loads */",
        "/*! DELETE FROM loads */",
        "SELECT 1 # x\n; COMMIT; DELETE FROM loads",
        "SELECT 1 INTO OUTFILE 'never'",
        "SELECT 1 INTO DUMPFILE 'never'",
        "SELECT 1) INTO OUTFILE 'never' -- ",
        "SELECT (SELECT 1 INTO OUTFILE 'never')",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE loads",
        "BEGIN NOT ATOMIC COMMIT; DELETE FROM loads; END",
        "EXECUTE IMMEDIATE 'DELETE FROM loads'",
        "PREPARE x FROM 'DELETE FROM loads'",
        "SET STATEMENT max_statement_time = 0 FOR SELECT 1",
        "SELECT NEXTVAL(counter)",
        "SELECT SETVAL(counter, 9)",
        "SHOW TABLES",
        "(SELECT 1) INTO OUTFILE 'never'",
        "WITH x AS (SELECT 1) SELECT * FROM x INTO OUTFILE 'never'",
        "SELECT 1 /*! INTO OUTFILE 'never'",
        "SELECT * FROM loads FOR UPDATE",
        "DELETE FROM loads RETURNING id",
        "HANDLER loads OPEN",
    ],
    "sqlite": [
        "SELECT writefile('/tmp/waitd-never', 'x')",
        "SELECT * FROM pragma_table_info('loads')",
        "SELECT * FROM pragma_database_list",
        "PRAGMA writable_schema = ON",
        "PRAGMA table_info(loads)",
        "DETACH main",
        "CREATE TEMP TABLE other AS SELECT 1",
        "ANALYZE",
        "REINDEX",
        "EXPLAIN DELETE FROM loads",
    ],
}  # fmt: skip
#: Each is one statement or several, as the database reads a backslash.
BACKSLASHES = [
    "SELECT '\\'; COMMIT; DELETE FROM loads; -- '",
    "SELECT '\\''; COMMIT; DELETE FROM loads; -- '",
]
#: These look alike and only read. The first cell is true.
READING = [
    "SELECT ';' AS a",
    "SELECT '); COMMIT; DELETE FROM loads; --' AS a",
    "SELECT 1 AS a /* ; DELETE FROM loads */",
    "SELECT 1 AS a -- ; DELETE FROM loads",
    "SELECT 'it''s; fine' AS a;",
    "SELECT 1 AS a;  \n",
    "WITH one AS (SELECT 1 AS a) SELECT a FROM one",
    'SELECT 1 AS "a;b"',
    "SELECT 1 AS a UNION SELECT 1",
]


@pytest.fixture
def routines(database: Database) -> None:
    """Creates a function `forget` and a procedure `forget_all` that delete rows, and a sequence."""
    if database.name == "postgres":
        database.sql(
            "CREATE OR REPLACE FUNCTION forget() RETURNS int LANGUAGE sql AS 'DELETE FROM loads RETURNING 1';"
            "CREATE OR REPLACE PROCEDURE forget_all() LANGUAGE plpgsql AS 'BEGIN COMMIT; DELETE FROM loads; END'"
        )
    elif database.name == "mysql":
        database.sql(
            "DROP FUNCTION IF EXISTS forget; DROP PROCEDURE IF EXISTS forget_all;"
            "DROP SEQUENCE IF EXISTS counter; CREATE SEQUENCE counter;\nDELIMITER //\n"
            "CREATE FUNCTION forget() RETURNS int BEGIN DELETE FROM loads; RETURN 1; END//\n"
            "CREATE PROCEDURE forget_all() BEGIN COMMIT; DELETE FROM loads; COMMIT; END//\nDELIMITER ;\n"
            "GRANT EXECUTE ON jobs.* TO reader"
        )


def assert_refused(statement: str, verdict: Verdict) -> None:
    assert isinstance(verdict, Failure), (statement, verdict)
    assert (verdict.reason, verdict.silenceable) == ("sql_error", True), (statement, verdict)


@all_databases
@pytest.mark.usefixtures("routines")
async def test_nothing_but_one_reading_statement_runs(database: Database, poke: SqlPoker) -> None:
    database.sql("INSERT INTO loads (id) VALUES (5)")
    for statement in SEVERAL + MORE[database.name]:
        assert_refused(statement, await poke(database.connection, sql=statement))
        assert database.sql("SELECT count(*) FROM loads") == "1", statement
    for statement in BACKSLASHES:
        await poke(database.connection, sql=statement)
        assert database.sql("SELECT count(*) FROM loads") == "1", statement
    for statement in READING:
        verdict = await poke(database.connection, sql=statement)
        assert isinstance(verdict, Success), (statement, verdict)


@pytest.fixture(params=["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,PIPES_AS_CONCAT", "ORACLE"])
def mariadb_mode(request: pytest.FixtureRequest, mariadb: MariaDb) -> Iterator[MariaDb]:
    before = mariadb.sql("SELECT @@GLOBAL.sql_mode")
    mariadb.sql(
        f"SET GLOBAL sql_mode = '{request.param}'; DELETE FROM loads; INSERT INTO loads (id) VALUES (5)"
    )
    yield mariadb
    mariadb.sql(f"SET GLOBAL sql_mode = '{before}'")


@pytest.mark.parametrize(
    "value", ["\\", "\\'", "'; COMMIT; DELETE FROM loads; -- ", "\\'; DELETE FROM loads; -- ", "\0'\"%:x"]
)
async def test_a_parameter_stays_a_value_in_every_sql_mode(
    mariadb_mode: MariaDb, poke: SqlPoker, value: str
) -> None:  # fmt: skip
    connection = mariadb_mode.connection("mysql")
    verdict = await poke(connection, {"sql": "SELECT :value AS a", "parameters": {"value": value}})
    assert verdict == Success([{"a": value}], "success", "1 row")
    for statement in (
        "SELECT 1); COMMIT; DELETE FROM loads; COMMIT; SELECT (1",
        "SELECT '\\'; DELETE FROM loads; -- '",
    ):
        await poke(connection, sql=statement)
    assert mariadb_mode.sql("SELECT count(*) FROM loads") == "1"


async def test_postgres_takes_one_statement_by_its_protocol(postgres: Postgres, poke: SqlPoker) -> None:
    """The extended protocol refuses a second statement before it runs the first."""
    verdict = await poke(postgres.connection("postgres"), sql="SELECT 1; SELECT 2")
    assert "42601" in verdict.message


async def test_mysql_takes_one_statement_by_its_protocol(mariadb: MariaDb, poke: SqlPoker) -> None:
    """What the proof is put around makes no difference: the server parses one statement only."""
    verdict = await poke(mariadb.connection("mysql"), sql="SELECT 1) LIMIT 0; SELECT 2; SELECT (1")
    assert "1064" in verdict.message
