"""`waitd migrate`: the database's migrations, without a daemon."""

import asyncio
from typing import TYPE_CHECKING

import typer

from waitd.cli.common import Config, Json, described, examples, fail, output, put_json, settings_from

if TYPE_CHECKING:
    from waitd.settings import Settings


def migrate(config: Config = None, as_json: Json = False) -> None:
    """Bring the database to this waitd's revision while no daemon holds it, and say from which one.

    A daemon does the same when it starts; here it can be done before, and seen. A database that is not there is made.
    """
    from waitd.core.errors import WaitdError

    settings = settings_from(config)
    name = database_of(settings)
    try:
        before, after = asyncio.run(_migrated(settings))
    except (WaitdError, OSError) as error:
        fail(f"{name} was not migrated: {error}")
    if as_json:
        put_json({"database": name, "from": before, "to": after})
    else:
        output().print(f"{name} {done(before, after)}.", soft_wrap=True, markup=False)


def done(before: str | None, after: str | None) -> str:
    """What was done, from the revision that was found to the one that is there now."""
    if before is None:
        return f"was made, at revision {after}"
    if before == after:
        return f"is at revision {after} already"
    return f"was migrated from revision {before} to {after}"


def database_of(settings: "Settings") -> str:
    """The database's URL as it can be shown."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(settings.store_url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the database"


async def _migrated(settings: "Settings") -> tuple[str | None, str | None]:
    from waitd.stores.database import Database

    database = await Database.open(settings.store_url)
    await database.close()
    return database.revisions


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(migrate),
        epilog=examples("waitd migrate", "waitd migrate --config config/waitd.toml --json"),
    )(migrate)
