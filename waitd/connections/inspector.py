"""Shows the operator how waitd reads a connection, without its secrets."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from waitd.connections.authorizer import AuthorizedConnections
from waitd.core.connections.auth import build_credentials
from waitd.core.connections.aws import parse_aws_connection
from waitd.core.connections.connection import Connection, join_url
from waitd.core.connections.extras import (
    RULES,
    check_extras,
    header_extras,
    ignored_extras,
)
from waitd.core.connections.http_options import parse_http_options
from waitd.core.connections.masking import MASK
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import EgressGuard, JsonClient
from waitd.outgoing.tls import client_tls
from waitd.ports import Authorization

#: Seconds that a tried request may take, and the largest body that is read of its answer.
_TIMEOUT = 10.0
_MAX_BODY = 64 * 1024
#: Types of connections that no request over HTTP uses.
_NOT_HTTP = frozenset({"postgres", "mysql", "sqlite", "redis", "kafka", "amqp", "nats"})


class ConnectionInspector:
    """Looks connections up afresh and describes them; see `waitd.models.ConnectionView`."""

    def __init__(self, connections: AuthorizedConnections, egress: EgressGuard) -> None:
        self._connections = connections
        self._egress = egress

    async def inspect(self, conn_id: str, path: str | None = None) -> Mapping[str, Any]:
        """How waitd reads a connection. With `path`, also sends its target one GET for that path.

        Raises:
            UnknownConnection: no resolver has it.
        """
        resolver, result = await self._connections.locate(conn_id)
        if isinstance(result, UnknownConnection):
            raise result
        view: dict[str, Any] = {
            "conn_id": conn_id,
            "resolver": resolver,
            "fields": {},
            "extras": [],
            "tried": None,
        }
        if isinstance(result, ConnectionUnavailable):
            return {**view, "url": None, "problem": str(result)}
        problem = await _problem(result)
        view |= {
            "fields": _fields(result),
            "extras": list(_extras(result)),
            "url": _url(result),
            "problem": problem,
        }
        if path is not None and problem is None:
            view["tried"] = await self._try(result, path)
        return view

    async def _try(self, connection: Connection, path: str) -> Mapping[str, Any]:
        """Sends one request, as a poke does, but follows no redirect."""
        started = time.monotonic()
        tried: dict[str, Any] = {"status": None, "error": None}
        try:
            url = join_url(connection.base_url(), path)
            authorization = await self._connections.authorize(connection)
            options = parse_http_options(connection.extra)
            async with JsonClient(
                self._egress, ConnectionUnavailable, max_bytes=_MAX_BODY, timeout=_TIMEOUT
            ) as client:
                response = await client.request(
                    "GET",
                    url,
                    service=f"the target of {connection.conn_id}",
                    headers=_headers(authorization, url),
                    ssl=await client_tls(options.tls),
                    proxies=options.proxies,
                )
            tried["status"] = response.status
        except (ConnectionUnavailable, ValueError) as error:
            tried["error"] = str(error)
        return {**tried, "seconds": round(time.monotonic() - started, 3)}


async def _problem(connection: Connection) -> str | None:
    """Why the connection cannot be used; None if nothing is wrong that shows without a request."""
    try:
        check_extras(connection)
        if connection.conn_type == "aws":
            await client_tls(parse_aws_connection(connection).tls)
        elif connection.conn_type not in _NOT_HTTP:
            if connection.host or connection.conn_type not in RULES:  # presets know vendors' hosts
                connection.base_url()
            build_credentials(connection)
            await client_tls(parse_http_options(connection.extra).tls)
    except ValueError as error:
        return f"{error}"
    return None


def _headers(authorization: Authorization, url: str) -> Mapping[str, str]:
    headers = dict(authorization.headers)
    if authorization.signer is not None:
        headers |= authorization.signer.headers("GET", url, headers, None, now=time.time())
    return headers


def _fields(connection: Connection) -> Mapping[str, Any]:
    """The fields that are set; those that may be secrets are masked."""
    shown = {name: getattr(connection, name) for name in ("conn_type", "host", "port", "schema")}
    secrets = {name: MASK for name in ("login", "password") if getattr(connection, name)}
    return {name: value for name, value in shown.items() if value not in (None, "")} | secrets


def _extras(connection: Connection) -> Iterator[Mapping[str, str]]:
    """What is done with each extra, without its value."""
    ignored = ignored_extras(connection)
    try:
        headers = {name for name, _ in header_extras(connection)}
    except ValueError:
        headers = set()
    for name in sorted({*connection.extra, *ignored}):
        if name in ignored:
            yield {"name": name, "use": "ignored", "why": ignored[name]}
        else:
            yield {"name": name, "use": "header" if name in headers else "read", "why": ""}


def _url(connection: Connection) -> str | None:
    try:
        return None if connection.conn_type in _NOT_HTTP else connection.base_url()
    except ValueError:
        return None
