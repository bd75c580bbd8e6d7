"""`waitd migrate`: migrate the database without starting the daemon."""

import asyncio
from typing import TYPE_CHECKING

import typer

from waitd.cli.console import fail, print_json, stdout_console
from waitd.cli.options import Config, Json, examples, help_text, load_settings

if TYPE_CHECKING:
    from waitd.settings import Settings


def migrate(config: Config = None, as_json: Json = False) -> None:
    """Migrate the database to this version's schema, while no daemon uses it.

    The daemon does the same when it starts. A missing database is created.
    """
    from waitd.core.errors import WaitdError

    settings = load_settings(config)
    name = displayed_database_url(settings)
    try:
        before, after = asyncio.run(_migrate(settings))
    except (WaitdError, OSError) as error:
        fail(f"cannot migrate {name}: {error}")
    if as_json:
        print_json({"database": name, "from": before, "to": after})
    else:
        stdout_console().print(f"{name} {describe_migration(before, after)}.", soft_wrap=True, markup=False)


def describe_migration(before: str | None, after: str | None) -> str:
    """What the migration did, from the revisions before (None: no database) and after it."""
    if before is None:
        return f"was created at revision {after}"
    if before == after:
        return f"is already at revision {after}"
    return f"was migrated from revision {before} to {after}"


def displayed_database_url(settings: "Settings") -> str:
    """The database's URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(settings.store_url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the database"


async def _migrate(settings: "Settings") -> tuple[str | None, str | None]:
    from waitd.stores.opening import open_database

    database = await open_database(settings.store_url)
    await database.close()
    return database.revisions


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(migrate),
        epilog=examples("waitd migrate", "waitd migrate --config config/waitd.toml --json"),
    )(migrate)
