"""The history of the schema, one Alembic revision a file; a released migration never changes.

`waitd.stores.database` runs `upgrade` when it opens a database.
"""

from importlib.resources import files

from sqlalchemy import Connection

from waitd.core.errors import StoreUnusable


def newest_revision() -> str:
    """The newest revision; the file v0001_….py holds revision 0001."""
    names = [entry.name for entry in files("waitd.stores.migrations.versions").iterdir()]
    return max(name for name in names if name.startswith("v"))[1:5]


def revision_of(connection: Connection) -> str | None:
    """The revision of a database; None where it has no schema yet."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").first():
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return version


def upgrade(connection: Connection, name: str) -> tuple[str | None, str | None]:
    """Migrates the database `name` to the newest revision; returns the revisions before and after.

    Raises:
        StoreUnusable: a newer waitd has migrated the database.
    """
    before = revision_of(connection)
    if before == newest_revision():
        return before, before
    # Loading Alembic takes a sixth of a start, and nearly no start needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "waitd.stores:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnusable(f"the database {name} belongs to a newer waitd: {error}") from error
    return before, revision_of(connection)
