import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from databases import MariaDb, Postgres, has_mariadb, running_server
from installation import require_apt_package
from sql_pokes import Database, SqlPoker

from waitd.core.connections.connection import Connection


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_server(Postgres) as server:
        assert isinstance(server, Postgres)
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    require_apt_package("mariadb-server", has_mariadb)
    with running_server(MariaDb) as server:
        assert isinstance(server, MariaDb)
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        path = tmp_path / "jobs.db"

        def execute(statement: str) -> str:
            with closing(sqlite3.connect(path)) as connection:
                rows = connection.execute(statement).fetchall()
                connection.commit()
            return "\n".join(str(row[0]) for row in rows)

        execute("CREATE TABLE loads (id int, state text, done boolean, at text, rows numeric)")
        return Database("sqlite", Connection("db", "sqlite", host=str(path)), execute)
    server: Postgres | MariaDb = request.getfixturevalue(
        "postgres" if request.param == "postgres" else "mariadb"
    )
    server.sql("DELETE FROM loads")
    return Database(request.param, server.connection(request.param), server.sql)


@pytest.fixture
async def poke() -> AsyncIterator[SqlPoker]:
    poker = SqlPoker()
    yield poker
    await poker.close()
