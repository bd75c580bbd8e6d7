"""Values of every type, and rows of every shape, from real databases: a clear verdict for each."""

from databases import Postgres
from sql_pokes import Database, SqlPoker, all_databases

from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable

#: By database: expressions of odd values.
VALUES = {
    "postgres": [
        "'NaN'::float8", "'-Infinity'::float4", "'NaN'::numeric", "'Infinity'::numeric", "10::numeric ^ 20000", "repeat('9', 5000)::numeric",
        "1e-16000::numeric", "'infinity'::timestamptz", "'-infinity'::date", "'294276-01-01'::timestamp", "'4713-01-01 BC'::date",
        "'24:00:00'::time", "'23:59:59.5+14'::timetz", "'178000000 years'::interval", "'1 mon -2 days'::interval",
        "ARRAY[1, NULL, 3]", "ARRAY[ARRAY[1.5, 'NaN'], ARRAY[0, 1]]::numeric[]", "ARRAY[]::text[]", "'{\"a\": [1, null]}'::json",
        "'{\"a\": 1e400}'::jsonb", "'\\xff00fe'::bytea", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "B'0101'", "B'1'::bit varying",
        "'10.0.0.1/8'::inet", "'08:00:2b:01:02:03'::macaddr", "point(1, 'NaN')", "'((0,0),(1,1))'::polygon", "'<(0,0),1>'::circle",
        "int4range(1, 5)", "'empty'::int4range", "'{[1,2),[5,9)}'::int4multirange", "row(1, 'a', row(2))", "'a b'::tsvector", "'$.a'::jsonpath",
        "'12.5'::money", "pg_current_snapshot()", "'0/1'::pg_lsn", "'pg_class'::regclass", "'x'::\"char\"", "'abc'::char(9)", "NULL",
        "(SELECT array_agg(i) FROM generate_series(1, 200000) AS i)", "array_fill(1.5::numeric, ARRAY[300, 300])",
        "pg_sleep(0)", "xmlelement(name a)",
    ],
    "mysql": [
        "CAST(x'ff00fe' AS BINARY)", "CAST(x'ff' AS CHAR)", "_latin1 x'ff'", "b'101'", "CAST('0000-00-00' AS DATE)", "CAST('838:59:59' AS TIME)",
        "CAST('-838:59:59.999999' AS TIME(6))", "CAST('9999-12-31 23:59:59.999999' AS DATETIME(6))", "18446744073709551615", "-9223372036854775808",
        "CAST(1.5 AS DECIMAL(65, 30))", "REPEAT('9', 65) + 0.0", "1e308 * 10", "1 / 0", "POINT(1, 2)", "ST_GeomFromText('LINESTRING(0 0, 1 1)')",
        "JSON_OBJECT('a', 1)", "TRUE", "NULL", "CHAR(0)", "_utf8mb4 x'F09F9880'", "CAST(REPEAT('9', 65) AS DECIMAL(65, 0))",
        "CAST(2155 AS YEAR)", "INET6_ATON('::1')", "UUID()",
    ],
    "sqlite": [
        "CAST(x'ff' AS text)", "CAST(x'eda080' AS text)", "x'ff00'", "zeroblob(10)", "9e999", "-9e999", "9223372036854775807", "9e999 - 9e999",
        "char(0)", "char(55296)", "char(1114111)", "json('[1]')", "NULL", "CAST('x' AS numeric)", "'a' || char(0) || 'b'", "date('now')",
    ],
}  # fmt: skip
CONDITIONS = {"success_when": "rows[0].a == 1", "message": "string(rows[0].a)", "result": "rows[0].a"}


@all_databases
async def test_every_value_has_a_clear_verdict(database: Database, poke: SqlPoker) -> None:
    for value in VALUES[database.name]:
        for conditions in ({}, CONDITIONS, {"success_when": "size(rows) == 1"}):
            verdict = await poke(database.connection, {"sql": f"SELECT {value} AS a", **conditions})
            assert isinstance(verdict, Success | Pending | Failure | Unreachable)
            assert verdict.reason in {
                "success", "pending", "bad_answer", "too_large", "result_omitted", "sql_error",
            }, (value, verdict)  # fmt: skip
            if verdict.reason == "sql_error":  # this server's version lacks the type
                assert isinstance(verdict, Failure)
    assert isinstance(await poke(database.connection, sql="SELECT 1"), Success)


@all_databases
async def test_every_shape_of_rows_has_a_clear_verdict(database: Database, poke: SqlPoker) -> None:
    endless = {
        "postgres": "SELECT generate_series(1, 1000000000) AS a",
        "mysql": "SELECT seq AS a FROM seq_1_to_1000000000 LIMIT 1000000000",
        "sqlite": "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n LIMIT 1000000000) SELECT a FROM n",
    }[database.name]
    shapes = {
        endless: "too_many_rows",
        f"SELECT {', '.join('1' for _ in range(1500))}": "pending",  # columns of one name
        f"SELECT {', '.join(f'1 AS c{n}' for n in range(1000))}": "pending",
        f"SELECT {','.join('1' for _ in range(7000))}": "pending" if database.name == "mysql" else "sql_error",
        "SELECT 1 AS a, 2 AS a": "pending",
        f'SELECT 1 AS {"`" if database.name == "mysql" else chr(34)}{"x" * 60}{"`" if database.name == "mysql" else chr(34)}': "pending",
    }  # fmt: skip
    for sql, reason in shapes.items():
        verdict = await poke(database.connection, {"sql": sql, "success_when": "size(rows) > 1"})
        assert verdict.reason == reason, (sql[:60], verdict)
    assert await poke(database.connection, sql="SELECT 1 AS a, 0 AS a") == Success(
        [{"a": 0}], "success", "1 row"
    )


async def test_deeply_nested_rows_are_refused(postgres: Postgres, poke: SqlPoker) -> None:
    connection = postgres.connection("postgres")
    for depth in (10, 200, 300, 900):
        verdict = await poke(connection, sql=f"SELECT {'row(' * depth}1{')' * depth}")
        assert verdict.reason in {"success", "bad_answer", "sql_error", "database_unavailable"}, (
            depth,
            verdict,
        )
    assert isinstance(await poke(connection, sql="SELECT 1"), Success)


async def test_rows_are_decoded_by_their_own_types(postgres: Postgres, poke: SqlPoker) -> None:
    """Queries on one connection: no row is read as one of an earlier query."""
    connection = postgres.connection("postgres")
    for _ in range(2):
        for value, expected in (
            ("1.5::float8", 1.5),
            ("4609434218613702656::int8", 4609434218613702656),
            ("'x'::text", "x"),
        ):
            verdict = await poke(connection, sql=f"SELECT {value} AS a")
            assert verdict == Success([{"a": expected}], "success", "1 row")
