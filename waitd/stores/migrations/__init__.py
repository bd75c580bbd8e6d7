"""The schema's history, run by `waitd.stores.database` when the store opens. A released migration is never changed."""

from importlib.resources import files

from sqlalchemy import Connection

from waitd.core.errors import StoreUnusable


def newest() -> str:
    """The newest revision, by the names of the files: v0001_….py makes 0001."""
    names = [entry.name for entry in files("waitd.stores.migrations.versions").iterdir()]
    return max(name for name in names if name.startswith("v"))[1:5]


def revision_of(connection: Connection) -> str | None:
    """The revision of a database; None where it has none."""
    if not _rows(connection, "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"):
        return None
    found = _rows(connection, "SELECT version_num FROM alembic_version")
    return str(found[0][0]) if found else None


def _rows(connection: Connection, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(sql)]


def upgrade(connection: Connection, name: str) -> tuple[str | None, str | None]:
    """Migrates the database `name` where it is not of the newest revision; returns from which to which.

    Raises:
        StoreUnusable: it is of a newer waitd.
    """
    before, wanted = revision_of(connection), newest()
    if before == wanted:
        return before, before
    # Takes a sixth of a start to load, and has nothing to do at nearly all of them.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "waitd.stores:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnusable(f"the database {name} is of a newer waitd: {error}") from error
    return before, revision_of(connection)
