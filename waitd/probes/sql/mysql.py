"""A connection to MySQL or MariaDB on which each query is one statement.

Imported when the first query needs it: aiomysql is optional.
"""

from typing import Any

import aiomysql
from pymysql.constants import CLIENT

#: The command that resets a session, of MySQL 5.7 and MariaDB 10.2; pymysql has no name for it.
_COM_RESET_CONNECTION = 0x1F


class SingleStatementConnection(aiomysql.Connection):  # type: ignore[misc]  # aiomysql has no types
    """Does not announce `CLIENT_MULTI_STATEMENTS`, so the server refuses a second statement.

    aiomysql announces it always, and no argument of `connect` prevents that.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS

    async def reset(self) -> None:
        """Makes the session as it is after the login: its variables, tables, locks, transaction."""
        await self._execute_command(_COM_RESET_CONNECTION, "")
        await self._read_ok_packet()


async def connect(**kwargs: Any) -> SingleStatementConnection:
    """Logs in. The arguments are those of `aiomysql.connect`."""
    connection = SingleStatementConnection(**kwargs)
    try:
        await connection.ping()  # connects
    except BaseException:
        connection.close()
        raise
    return connection
