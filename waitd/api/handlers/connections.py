"""What waitd makes of a connection, for the operator who sets it up."""

from urllib.parse import unquote

from aiohttp import web

from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies
from waitd.api.queries import check_known
from waitd.api.server.bodies import json_response
from waitd.api.server.seats import leave_seat
from waitd.core.connections.connection import check_endpoint, is_conn_id
from waitd.core.errors import InvalidInput, NotFound, UnknownConnection

#: The path of a connection, before its conn_id.
CONNECTION_PATH = "/v1/connections/"
#: The query parameter with the path to ask for once.
TRY = "try"


class ConnectionHandlers:
    """The handler of `/v1/connections/{conn_id}`."""

    def __init__(self, dependencies: ApiDependencies) -> None:
        self._inspector = dependencies.inspector
        self._namespaces = dependencies.namespaces

    async def get(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/connections/{conn_id}`; with `?try=`, its target is asked for that path once.

        A connection that the caller's namespace may not use does not exist for the caller.
        """
        check_known(request, frozenset({TRY}))
        conn_id, path = _conn_id(request), request.query.get(TRY)
        rules = self._namespaces.rules(request[PRINCIPAL].namespace)
        if not is_conn_id(conn_id) or (rules is not None and not rules.allows_connection(conn_id)):
            raise NotFound(f"there is no connection {conn_id!r}")
        if path is not None:
            try:
                check_endpoint(path)
            except ValueError as error:
                raise InvalidInput.at(f"/{TRY}", str(error)) from None
        leave_seat(request)  # the target may take long to answer
        try:
            return json_response(dict(await self._inspector.inspect(conn_id, path)))
        except UnknownConnection as error:
            raise NotFound(str(error)) from None


def _conn_id(request: web.Request) -> str:
    """The conn_id in the path, which may have slashes, encoded or not."""
    return unquote(request.rel_url.raw_path.removeprefix(CONNECTION_PATH))
