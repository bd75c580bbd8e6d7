"""One connection, `jobs`, whose password changes each time it is looked up afresh."""

from fakes import FixedAuthorizations

from waitd.core.connections.connection import Connection
from waitd.core.errors import UnknownConnection


class OneConnection(FixedAuthorizations):
    def __init__(self) -> None:
        self.url = ""
        self.refreshes = 0

    async def get(self, conn_id: str) -> Connection:
        if conn_id != "jobs":
            raise UnknownConnection(conn_id)
        return Connection("jobs", host=self.url, login="u", password=f"password{self.refreshes}")

    async def refresh(self, conn_id: str) -> Connection:
        self.refreshes += 1
        return await self.get(conn_id)

    def cached_any(self, conn_id: str) -> Connection | None:
        return None
