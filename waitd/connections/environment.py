"""Connections in environment variables named `AIRFLOW_CONN_<CONN_ID>`, as in Airflow."""

from collections.abc import Mapping

from waitd.connections.airflow_formats import parse_connection
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection

PREFIX = "AIRFLOW_CONN_"


class EnvironmentResolver:
    """Looks a conn_id up in `environ`."""

    backend = "environment"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the variable describes.

        Raises:
            UnknownConnection: the variable is not set, or empty.
            ConnectionUnavailable: it cannot be parsed. The operator can fix that, so waits go on.
        """
        variable = PREFIX + conn_id.upper()
        value = self._environ.get(variable)
        if not value:
            raise UnknownConnection(f"there is no connection {conn_id}: {variable} is not set")
        try:
            return parse_connection(conn_id, value)
        except ValueError as error:
            raise ConnectionUnavailable(f"{variable} cannot be read: {error}") from None
