"""How the kind `http` comes to its target: a connection becomes an address and headers, or the verdict that it cannot be had now."""

from copy import copy
from typing import NamedTuple

from waitd.core.connections.connection import Connection, origin_of
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.waits.verdict import Unreachable
from waitd.ports import Authorization, HttpConnections

UNKNOWN_CONNECTION = Unreachable("unknown_connection", "No resolver knows the connection.")
NO_CREDENTIALS = Unreachable(
    "credentials_unavailable",
    "The credentials cannot be looked up now: the place where they are kept does not answer, or refuses.",
)


class HttpEndpoint:
    """Where a connection is.

    Raises:
        ValueError: it has no URL.
    """

    __slots__ = ("base", "connection", "origin", "verify_tls")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.base = connection.base_url()
        self.origin = str(origin_of(self.base))
        self.verify_tls = connection.verifies_tls()

    def at_root(self) -> "HttpEndpoint":
        """The same place without its path: where an answer's own URLs of the same origin lie."""
        root = copy(self)
        root.base = self.origin
        return root


class Access(NamedTuple):
    """Where requests go, and what they carry."""

    place: HttpEndpoint
    authorization: Authorization


class Accesses:
    """Accesses by conn_id. What is made of a connection is kept while the cache hands out the same object."""

    def __init__(self, connections: HttpConnections) -> None:
        self._connections = connections
        self._places: dict[str, HttpEndpoint] = {}
        self._known: dict[str, Access] = {}

    def cached_any(self, conn_id: str | None) -> Connection | None:
        """The connection, if it is at hand without asking anybody."""
        return None if conn_id is None else self._connections.cached_any(conn_id)

    def origin(self, conn_id: str) -> str:
        """The connection's origin where it is known, else `connection <conn_id>`."""
        connection = self._connections.cached_any(conn_id)
        try:
            return f"connection {conn_id}" if connection is None else self._place(connection).origin
        except ValueError:
            return f"connection {conn_id}"

    def cached_fresh(self, conn_id: str) -> Access | None:
        """The access, where nobody has to be asked; None: `get` it."""
        connections = self._connections
        connection = connections.cached_fresh(conn_id)
        if connection is None:
            return None
        known = self._known.get(conn_id)
        try:
            authorization = connections.cached_authorization(connection)
            if authorization is None:
                return None
            if (
                known is not None
                and known.authorization is authorization
                and known.place.connection is connection
            ):
                return known
            known = self._known[conn_id] = Access(self._place(connection), authorization)
        except ValueError:
            return None
        return known

    async def get(self, conn_id: str, refused: Authorization | None = None) -> Access | Unreachable:
        """The access; what the target `refused` is looked up, or fetched, afresh (each at most once in 30 s)."""
        connections = self._connections
        try:
            connection = await (connections.refreshed if refused else connections.get)(conn_id)
            place = self._place(connection)
            authorization = None if refused else connections.cached_authorization(connection)
            if authorization is None:
                authorization = await connections.authorize(connection, refused=refused)
            return Access(place, authorization)
        except UnknownConnection:
            return UNKNOWN_CONNECTION
        except ConnectionUnavailable:
            return NO_CREDENTIALS
        except ValueError as error:
            return unusable(error)

    def _place(self, connection: Connection) -> HttpEndpoint:
        place = self._places.get(connection.conn_id)
        if place is None or place.connection is not connection:
            place = self._places[connection.conn_id] = HttpEndpoint(connection)
        return place


def unusable(error: ValueError) -> Unreachable:
    """What is said where connection and target do not fit. Core's messages quote neither secrets nor queries."""
    return Unreachable("connection_invalid", f"The connection cannot be used so: {error}.")
