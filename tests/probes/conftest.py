import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from databases import MariaDb, Postgres, install_mariadb, served
from moto_s3 import S3Server, s3_server
from raw_server import Way
from sql_scene import Database, Looks

from waitd.core.connections.connection import Connection


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def no_aws_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own AWS settings, and no look at the instance metadata service."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with served(Postgres) as server:
        assert isinstance(server, Postgres)
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    if why := install_mariadb():
        pytest.skip(why)
    with served(MariaDb) as server:
        assert isinstance(server, MariaDb)
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        path = tmp_path / "jobs.db"

        def past(statement: str) -> str:
            with closing(sqlite3.connect(path)) as connection:
                found = connection.execute(statement).fetchall()
                connection.commit()
            return "\n".join(str(row[0]) for row in found)

        past("CREATE TABLE loads (id int, state text, done boolean, at text, rows numeric)")
        return Database("sqlite", Connection("db", "sqlite", host=str(path)), past)
    server: Postgres | MariaDb = request.getfixturevalue(
        "postgres" if request.param == "postgres" else "mariadb"
    )
    server.sql("DELETE FROM loads")
    return Database(request.param, server.connection(request.param), server.sql)


@pytest.fixture
async def look() -> AsyncIterator[Looks]:
    looks = Looks()
    yield looks
    await looks.close()


@pytest.fixture(params=[False, True], ids=["in a task", "begun"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pokes have a task of their own, or are begun without one."""
    monkeypatch.setattr(Way, "begun", request.param)
