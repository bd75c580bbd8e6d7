"""What an operation or a query needs of a connection to the database."""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import Dialect

from waitd.ports import ListPart
from waitd.stores.bulk import BulkStatement


class StoreConnection(Protocol):
    """An open connection. Its statements run one after the other, in the order of the calls.

    An error is that of the database's driver; the `Database` says what it blames.

    Attributes:
        dialect: how statements are written for this database.
    """

    dialect: Dialect

    def defer(self, sql: str, values: Sequence[Any] = (), must_change: int = 0) -> None:
        """Runs a statement together with the next one that is fetched or committed.

        That fails if it changes fewer rows than `must_change`.
        """

    def defer_rows(self, statement: BulkStatement, rows: Sequence[Sequence[Any]]) -> None:
        """The same for a statement that writes many rows; no rows are no statement."""

    async def fetch_all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Runs the deferred statements, then this one, and returns its rows."""

    async def fetch_part(
        self, sql: str, values: Sequence[Any], most_bytes: float
    ) -> ListPart[tuple[Any, ...]]:
        """The rows of a query, until they have `most_bytes`; they are never more in memory."""

    def is_damage(self, error: BaseException) -> bool:
        """Whether the error blames what is stored: a page or a value that cannot be read."""
