"""Opens the database that a URL names."""

from waitd.stores.database import Database
from waitd.stores.sqlite.database import SqliteDatabase


async def open_database(url: str) -> Database:
    """Opens and migrates the database; creates the file and its directory if missing.

    Args:
        url: a SQLAlchemy URL, `sqlite+aiosqlite:///PATH`; without a path the database is in
            memory.

    Raises:
        StoreUnusable: this waitd cannot use the database; the message says why.
        StoreUnavailable: another program holds the file, or the disk is full.
    """
    return await SqliteDatabase.open(url)
