"""A connection to MySQL or MariaDB on which each query is one statement.

Imported when the first query needs it: aiomysql is optional.
"""

from typing import Any

import aiomysql
from pymysql.constants import CLIENT, CR
from pymysql.err import OperationalError

#: The command that resets a session, of MySQL 5.7 and MariaDB 10.2; pymysql has no name for it.
_COM_RESET_CONNECTION = 0x1F


class SingleStatementConnection(aiomysql.Connection):  # type: ignore[misc]  # aiomysql has no types
    """Does not announce `CLIENT_MULTI_STATEMENTS`, so the server refuses a second statement.

    aiomysql announces it always, and no argument of `connect` prevents that.
    """

    def __init__(self, *, tls_required: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self._tls_required = tls_required
        #: Whether the server announced TLS, and the handshake failed.
        self.tls_failed = False

    async def _request_authentication(self) -> None:
        """Logs in. aiomysql itself does so in plain text where a server does not announce TLS."""
        if not self.server_capabilities & CLIENT.SSL:
            if self._tls_required:
                raise OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server does not speak TLS")
            self.client_flag &= ~CLIENT.SSL
        try:
            await super()._request_authentication()
        except OSError:  # what is no TLS, or a connection that the server closed or reset
            self.tls_failed = bool(self.client_flag & CLIENT.SSL) and not self._secure
            raise

    def close(self) -> None:
        """Closes at once: over TLS, a closing transport would wait for the server's goodbye."""
        writer = self._writer
        super().close()
        if writer is not None:
            writer.transport.abort()

    async def reset(self) -> None:
        """Makes the session as it is after the login: its variables, tables, locks, transaction."""
        await self._execute_command(_COM_RESET_CONNECTION, "")
        await self._read_ok_packet()


async def connect(*, tls_required: bool = False, **kwargs: Any) -> SingleStatementConnection:
    """Logs in.

    Args:
        tls_required: do not log in without TLS. Otherwise it is used where it can be.
        kwargs: those of `aiomysql.connect`.
    """
    connection = SingleStatementConnection(tls_required=tls_required, **kwargs)
    try:
        return await _log_in(connection)
    except OperationalError:
        if tls_required or not connection.tls_failed:
            raise
    return await _log_in(SingleStatementConnection(**{**kwargs, "ssl": None}))


async def _log_in(connection: SingleStatementConnection) -> SingleStatementConnection:
    try:
        await connection.ping()  # connects
    except BaseException:
        connection.close()
        raise
    return connection
