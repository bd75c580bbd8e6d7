"""A connection to MySQL or MariaDB on which each query is one statement.

Imported when the first query needs it: aiomysql is optional.
"""

from typing import Any

import aiomysql
from pymysql.constants import CLIENT


class SingleStatementConnection(aiomysql.Connection):  # type: ignore[misc]  # aiomysql has no types
    """Does not announce `CLIENT_MULTI_STATEMENTS`, so the server refuses a second statement.

    aiomysql announces it always, and no argument of `connect` prevents that.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS


async def connect(**kwargs: Any) -> SingleStatementConnection:
    """Logs in. The arguments are those of `aiomysql.connect`."""
    connection = SingleStatementConnection(**kwargs)
    try:
        await connection.ping()  # connects
    except BaseException:
        connection.close()
        raise
    return connection
