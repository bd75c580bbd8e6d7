"""Resolves a conn_id to an HTTP endpoint and its authorization."""

import ssl
from copy import copy
from dataclasses import replace
from typing import NamedTuple

from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.http_options import HttpOptions, parse_http_options
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.local_trouble import SUSPECT_VERDICTS, local_trouble, local_verdict, suspect_verdict
from waitd.core.waits.verdict import Unreachable
from waitd.outgoing.tls import client_tls
from waitd.ports import Authorization, HttpConnections

#: The errors on which `connection_verdict` decides.
CONNECTION_ERRORS = (UnknownConnection, ConnectionUnavailable, ValueError)

_UNKNOWN_CONNECTION = Unreachable("unknown_connection", "No connection backend knows the connection.")
_NO_CREDENTIALS = Unreachable(
    "credentials_unavailable",
    "The credentials cannot be looked up now: their backend does not answer, or refuses.",
)
#: The same, where the daemon's own trouble may be the reason: it ends with the suspect's message.
_NO_CREDENTIALS_BECAUSE = {
    suspect: replace(_NO_CREDENTIALS, message=f"{_NO_CREDENTIALS.message} {suspect.message}")
    for suspect in SUSPECT_VERDICTS
}


class HttpEndpoint:
    """The base URL of a connection, and how requests are sent there.

    Attributes:
        options: the connection's TLS files, proxies and redirects, as plain values.
        verify_tls: whether to verify certificates, or the context that `options.tls` describes.

    Raises:
        ValueError: the connection has no URL.
    """

    __slots__ = ("base", "connection", "options", "origin", "verify_tls")

    def __init__(
        self, connection: Connection, options: HttpOptions, verify_tls: bool | ssl.SSLContext
    ) -> None:
        self.connection = connection
        self.options = options
        self.verify_tls = verify_tls
        self.base = connection.base_url()
        self.origin = str(parse_origin(self.base))

    def at_root(self) -> "HttpEndpoint":
        """Returns the endpoint without its path, for URLs of the same origin in a response."""
        root = copy(self)
        root.base = self.origin
        return root


class HttpAccess(NamedTuple):
    """Where requests of a connection go, and how they are authorized."""

    endpoint: HttpEndpoint
    authorization: Authorization


class HttpAccessResolver:
    """Resolves conn_ids.

    An access is cached as long as the connection cache returns the same object.
    """

    def __init__(self, connections: HttpConnections) -> None:
        self._connections = connections
        self._endpoints: dict[str, HttpEndpoint] = {}
        self._accesses: dict[str, HttpAccess] = {}

    def cached_any(self, conn_id: str | None) -> Connection | None:
        """Returns the connection if it is cached, even if stale."""
        return None if conn_id is None else self._connections.cached_any(conn_id)

    def origin(self, conn_id: str) -> str:
        """Returns the connection's origin if it is cached, else `connection <conn_id>`."""
        connection = self._connections.cached_any(conn_id)
        if connection is None:
            return f"connection {conn_id}"
        endpoint = self._cached_endpoint(connection)
        try:
            return str(parse_origin(connection.base_url())) if endpoint is None else endpoint.origin
        except ValueError:
            return f"connection {conn_id}"

    def cached_fresh(self, conn_id: str) -> HttpAccess | None:
        """Returns the access if all of it is cached and fresh; None: call `get`."""
        connection = self._connections.cached_fresh(conn_id)
        if connection is None:
            return None
        access = self._accesses.get(conn_id)
        try:
            authorization = self._connections.cached_authorization(connection)
            if authorization is None:
                return None
            if (
                access is None
                or access.authorization is not authorization
                or access.endpoint.connection is not connection
            ):
                endpoint = self._cached_endpoint(connection)
                if endpoint is None:
                    return None
                access = self._accesses[conn_id] = HttpAccess(endpoint, authorization)
        except ValueError:
            return None
        return access

    async def get(self, conn_id: str, refused: Authorization | None = None) -> HttpAccess | Unreachable:
        """Looks up the access.

        If the target `refused` an authorization, connection and authorization are refreshed, each
        at most once in 30 s.
        """
        connections = self._connections
        try:
            connection = await (connections.refresh if refused else connections.get)(conn_id)
            endpoint = self._cached_endpoint(connection) or await self._endpoint(connection)
            authorization = None if refused else connections.cached_authorization(connection)
            if authorization is None:
                authorization = await connections.authorize(connection, refused=refused)
            return HttpAccess(endpoint, authorization)
        except CONNECTION_ERRORS as error:
            return connection_verdict(error)

    def _cached_endpoint(self, connection: Connection) -> HttpEndpoint | None:
        endpoint = self._endpoints.get(connection.conn_id)
        return endpoint if endpoint is not None and endpoint.connection is connection else None

    async def _endpoint(self, connection: Connection) -> HttpEndpoint:
        options = parse_http_options(connection.extra)
        endpoint = HttpEndpoint(connection, options, await client_tls(options.tls))
        self._endpoints[connection.conn_id] = endpoint
        return endpoint


def connection_verdict(error: Exception) -> Unreachable:
    """Returns the verdict where a connection cannot be looked up, or not be used.

    Core's messages quote no secrets and no queries.
    """
    if isinstance(error, UnknownConnection):
        return _UNKNOWN_CONNECTION
    if trouble := local_trouble(error):
        return local_verdict(trouble)
    if isinstance(error, ConnectionUnavailable):
        suspect = suspect_verdict(error)
        return _NO_CREDENTIALS if suspect is None else _NO_CREDENTIALS_BECAUSE[suspect]
    return Unreachable("connection_invalid", f"The connection cannot be used for this wait: {error}.")
