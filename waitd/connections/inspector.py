"""Shows the operator how waitd reads a connection, without its secrets."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from waitd.connections.authorizer import AuthorizedConnections
from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.auth import build_credentials
from waitd.core.connections.aws import AwsConnection, parse_aws_connection
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
_NOT_HTTP = frozenset({"postgres", "mysql", "mariadb", "sqlite", "redis", "kafka", "amqp", "amqps", "nats"})
#: The question to AWS's STS which identity a key has: the one that needs no permission.
_WHO_AM_I = b"Action=GetCallerIdentity&Version=2011-06-15"
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

#: Returns a connection as presets use it. Raises ValueError.
Complete = Callable[[Connection], Connection]
#: Asks the target of a connection one question; returns why that fails, or None.
Try = Callable[[Connection], Awaitable[str | None]]


class ConnectionInspector:
    """Looks connections up afresh and describes them; see `waitd.models.ConnectionView`."""

    def __init__(
        self,
        connections: AuthorizedConnections,
        egress: EgressGuard,
        *,
        complete: Complete,
        tries: Mapping[str, Try],
    ) -> None:
        """`tries` are by the type of a connection that is not used over HTTP."""
        self._connections = connections
        self._egress = egress
        self._complete = complete
        self._tries = tries

    async def inspect(self, conn_id: str, path: str | None = None) -> Mapping[str, Any]:
        """How waitd reads a connection. With `path`, its target is also asked one question.

        That is a GET for the path, or what its type allows: `SELECT 1`, AWS's GetCallerIdentity,
        the buckets of an S3-compatible store, a login.

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
        view |= {"fields": _fields(result), "extras": list(_extras(result))}
        try:
            used = self._complete(result)
        except ValueError as error:
            return {**view, "url": _url(result), "problem": f"{error}"}
        view |= {"url": _url(used), "problem": await _problem(used)}
        if path is not None and view["problem"] is None:
            view["tried"] = await self._try(used, path)
        return view

    async def _try(self, connection: Connection, path: str) -> Mapping[str, Any]:
        started = time.monotonic()
        tried: dict[str, Any] = {"status": None, "error": None}
        own = self._tries.get(connection.conn_type)
        try:
            if own is not None:
                tried["error"] = await own(connection)
            elif connection.conn_type == "aws" and "aws_service" not in connection.extra:
                tried["status"] = await self._ask_aws(connection)
            else:
                tried["status"] = await self._get(connection, path)
        except (ConnectionUnavailable, ValueError) as error:
            tried["error"] = str(error)
        return {**tried, "seconds": round(time.monotonic() - started, 3)}

    async def _get(self, connection: Connection, path: str) -> int:
        """Sends one GET, as a poke does, but follows no redirect. Returns the status."""
        url = join_url(connection.base_url(), path)
        authorization = await self._connections.authorize(connection)
        options = parse_http_options(connection.extra)
        return await self._send(
            "GET",
            url,
            service=f"the target of {connection.conn_id}",
            headers=_headers(authorization, url),
            ssl=await client_tls(options.tls),
            proxies=options.proxies,
        )

    async def _ask_aws(self, connection: Connection) -> int:
        """Asks AWS which identity the connection has. Returns the status.

        A compatible store has no such service, so one with an endpoint is asked for its buckets.
        """
        store, account = parse_aws_connection(connection, "s3"), parse_aws_connection(connection, "sts")
        if store.endpoint is not None and account.endpoint in (None, store.endpoint):
            return await self._list_buckets(connection.conn_id, store, store.endpoint)
        if account.keys is None:
            raise ValueError("its requests are not signed, so there is no identity to ask AWS for")
        keys = await self._connections.aws_keys.get(account.keys)
        region = account.region or "us-east-1"
        url = (
            account.endpoint or f"https://sts.{region}.amazonaws.com{'.cn' * region.startswith('cn-')}"
        ) + "/"
        signed = AwsSigner("sts", region, keys).headers("POST", url, _FORM, _WHO_AM_I, now=time.time())
        return await self._send(
            "POST",
            url,
            service="AWS's STS",
            headers={**_FORM, **signed},
            data=_WHO_AM_I,
            ssl=await client_tls(account.tls),
            proxies=account.proxies,
        )

    async def _list_buckets(self, conn_id: str, store: AwsConnection, endpoint: str) -> int:
        """Asks an S3-compatible store for its buckets. Returns the status."""
        url, headers = endpoint.rstrip("/") + "/", {}
        if store.keys is not None:
            keys = await self._connections.aws_keys.get(store.keys)
            signer = AwsSigner("s3", store.region or "us-east-1", keys)
            headers = signer.headers("GET", url, None, None, now=time.time())
        return await self._send(
            "GET",
            url,
            service=f"the S3 endpoint of {conn_id}",
            headers=headers,
            ssl=await client_tls(store.tls),
            proxies=store.proxies,
        )

    async def _send(self, method: str, url: str, **options: Any) -> int:
        async with JsonClient(
            self._egress, ConnectionUnavailable, max_bytes=_MAX_BODY, timeout=_TIMEOUT
        ) as client:
            return (await client.request(method, url, **options)).status


async def _problem(connection: Connection) -> str | None:
    """Why the connection cannot be used; None if nothing is wrong that shows without a request."""
    try:
        check_extras(connection)
        if connection.conn_type == "aws" and "aws_service" not in connection.extra:
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
