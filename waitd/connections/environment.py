"""Connections in environment variables named `AIRFLOW_CONN_<CONN_ID>`, as in Airflow."""

from collections.abc import Mapping

from waitd.connections.airflow_formats import parse_stored
from waitd.core.connections.connection import Connection
from waitd.core.errors import UnknownConnection

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
            ConnectionUnavailable: it cannot be parsed.
        """
        variable = PREFIX + conn_id.upper()
        value = self._environ.get(variable)
        if not value:
            raise UnknownConnection(f"there is no connection {conn_id}: {variable} is not set")
        return parse_stored(conn_id, value, variable)
