"""Connections as a vendor's API needs them: what Airflow's connection of that vendor leaves unsaid is filled in from the preset.

A preset names its connections `<conn_id>//<kind>` or `<conn_id>//<kind>/<region>`; what goes out is made of the connection `conn_id`,
whose credentials go to the origin that results, and nowhere else. Every other name is a connection as it is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from waitd.core.connections.aws import aws_endpoint, is_region, parse_aws_connection
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.errors import UnknownConnection
from waitd.ports import HttpConnections
from waitd.probes.access.aws_credentials import EnvironmentDefaults, environment_defaults
from waitd.probes.presets.schema import ConnectionTable

#: Airflow's default connection; where it does not exist, the environment's credentials are used.
AWS_DEFAULT = "aws_default"
_SEPARATOR = "//"
#: Seconds for which it is remembered that there is no `aws_default`.
_ABSENT = 60.0
_MAX_KEPT = 10_000
_BLANK = re.compile(r"\{([A-Za-z_]+)\}")
#: What may be put into a host's name.
_LABELS = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
#: What extra holds where it holds credentials.
_CREDENTIALS = (
    *("token", "client_id", "keyfile_dict", "headers", "Authorization", "aws_access_key_id"),
    *("sas_token", "connection_string", "shared_access_key"),
)


NOTHING_AROUND = EnvironmentDefaults(None, None)
#: Where a service's id is not boto3's name of it.
_SERVICE_IDS = {"STEPFUNCTIONS": "SFN"}


class VendorConnections:
    """The `HttpConnections` port for presets. `tables`: by kind. `now` is a monotonic clock in seconds."""

    def __init__(
        self,
        connections: HttpConnections,
        tables: Mapping[str, ConnectionTable],
        *,
        now: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._tables = tables
        self._now = now
        self._kept: dict[str, tuple[Connection | None, Connection]] = {}
        self._absent_until = 0.0
        self.cached_authorization = connections.cached_authorization
        self.authorize = connections.authorize

    async def get(self, conn_id: str) -> Connection:
        """See `Connections.get`; besides, ValueError where the vendor's API cannot be reached with this connection."""
        if not self._is_vendors(conn_id):
            return await self._connections.get(conn_id)
        return await self._made(conn_id, fresh=False)

    async def refresh(self, conn_id: str) -> Connection:
        """See `Connections.refresh`."""
        if not self._is_vendors(conn_id):
            return await self._connections.refresh(conn_id)
        return await self._made(conn_id, fresh=True)

    def cached_any(self, conn_id: str) -> Connection | None:
        """See `Connections.cached_any`."""
        if not self._is_vendors(conn_id):
            return self._connections.cached_any(conn_id)
        connection, kept = self._connections.cached_any(_parts(conn_id)[0]), self._kept.get(conn_id)
        return kept[1] if kept is not None and kept[0] is connection else None

    def cached_fresh(self, conn_id: str) -> Connection | None:
        """See `HttpConnections.cached_fresh`."""
        if not self._is_vendors(conn_id):
            return self._connections.cached_fresh(conn_id)
        connection, kept = self._connections.cached_fresh(_parts(conn_id)[0]), self._kept.get(conn_id)
        return kept[1] if connection is not None and kept is not None and kept[0] is connection else None

    def _is_vendors(self, conn_id: str) -> bool:
        return _parts(conn_id)[1] in self._tables

    def check(self, conn_id: str) -> None:
        """Says at once what is wrong with a connection that is at hand.

        Raises:
            ValueError: it cannot be used for this vendor; the message quotes no secret.
        """
        plain, kind, region = _parts(conn_id)
        connection = self._connections.cached_any(plain)
        table = self._tables[kind]
        if connection is not None and (
            table.aws_service is None or region or "region_name" in connection.extra
        ):
            vendor_connection(connection, table, region, NOTHING_AROUND)

    async def _made(self, conn_id: str, *, fresh: bool) -> Connection:
        plain, kind, region = _parts(conn_id)
        table = self._tables[kind]
        connection = await self._plain(plain, table, fresh=fresh)
        kept = self._kept.get(conn_id)
        if kept is not None and kept[0] is connection:
            return kept[1]
        base = connection or Connection(plain, conn_type="aws")
        around = await _around(connection, table, region)
        made = replace(vendor_connection(base, table, region, around), conn_id=conn_id)
        if len(self._kept) >= _MAX_KEPT and conn_id not in self._kept:
            del self._kept[next(iter(self._kept))]
        self._kept[conn_id] = (connection, made)
        return made

    async def _plain(self, conn_id: str, table: ConnectionTable, *, fresh: bool) -> Connection | None:
        """The connection itself; None where it is `aws_default`, and there is none."""
        may_be_absent = table.aws_service is not None and conn_id == AWS_DEFAULT
        if may_be_absent and not fresh and self._now() < self._absent_until:
            return None
        try:
            return await (self._connections.refresh if fresh else self._connections.get)(conn_id)
        except UnknownConnection:
            if not may_be_absent:
                raise
            self._absent_until = self._now() + _ABSENT
            return None


def vendor_name(conn_id: str, kind: str, region: str | None = None) -> str:
    """Under which name a preset asks for a connection."""
    return f"{conn_id}{_SEPARATOR}{kind}" + (f"/{region}" if region else "")


def _parts(conn_id: str) -> tuple[str, str, str | None]:
    plain, _, asked = conn_id.rpartition(_SEPARATOR)
    kind, _, region = asked.partition("/")
    return plain, kind, region or None


def vendor_connection(
    connection: Connection, table: ConnectionTable, region: str | None, around: EnvironmentDefaults
) -> Connection:
    """The connection with what it leaves unsaid.

    Raises:
        ValueError: it lacks what the vendor's API needs; the message says what, and quotes no secret.
    """
    if table.aws_service is not None:
        return _aws(connection, table, region, around)
    host = connection.host or _filled(table.base_url, connection.extra)
    if not host:
        raise ValueError("it has no host")
    made = _with_auth(replace(connection, host=host, schema=connection.schema or table.scheme), table)
    base = made.base_url()
    if table.api_path is not None and base == str(parse_origin(base)):
        made = replace(made, host=base + table.api_path, port=None)
    return made


def _with_auth(connection: Connection, table: ConnectionTable) -> Connection:
    """The connection with an `auth_type` where it has credentials and does not say how they are sent."""
    extra = connection.extra
    if table.auth is None or "auth_type" in extra:
        return connection
    if not (connection.login or connection.password or any(extra.get(name) for name in _CREDENTIALS)):
        if table.auth_required:
            raise ValueError(f"it has no credentials, and auth_type {table.auth} needs some")
        return connection
    if "Authorization" in extra or "headers" in extra:
        return connection
    defaults = {name: value for name, text in table.extra.items() if (value := _filled(text, extra))}
    made = replace(connection, extra={**defaults, **extra, "auth_type": table.auth})
    if table.auth_prefix is None:
        return made
    secret = f"{table.auth_prefix} {extra.get('token') or connection.password}"
    header = {"auth_type": "header", "header_name": "Authorization"}
    return replace(made, password=secret, extra={**made.extra, **header})


def _filled(template: str | None, extra: Mapping[str, Any]) -> str | None:
    """An address of a template like `https://{account}.example.org`; None where extra does not say enough."""
    if template is None:
        return None
    values = {name: extra.get(name) for name in _BLANK.findall(template)}
    if any(not isinstance(value, str) or not _LABELS.fullmatch(value) for value in values.values()):
        return None
    return _BLANK.sub(lambda found: str(values[found[1]]), template)


def _aws(
    connection: Connection, table: ConnectionTable, region: str | None, around: EnvironmentDefaults
) -> Connection:
    account, service = parse_aws_connection(connection), table.aws_service or ""
    region = region or account.region or around.region
    if region is None:
        raise ValueError("neither region_name, nor it, nor the environment names a region")
    if not is_region(region):
        raise ValueError("the environment's AWS region is no region's name")
    endpoint = aws_endpoint(connection, table.aws_client or service) or around.endpoint
    host = endpoint or f"https://{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    auth = "none" if account.keys is None else "aws_sigv4"
    extra = {**connection.extra, "auth_type": auth, "aws_service": service, "region_name": region}
    return replace(connection, host=host, port=None, schema=None, extra=extra)


async def _around(
    connection: Connection | None, table: ConnectionTable, region: str | None
) -> EnvironmentDefaults:
    """What the environment says, asked only where the connection says too little: botocore is slow to load."""
    if table.aws_service is None:
        return NOTHING_AROUND
    account = None if connection is None else parse_aws_connection(connection)
    if account is not None and (region or account.region):
        return NOTHING_AROUND
    service = (table.aws_client or table.aws_service).upper().replace("-", "_")
    profile = account.keys.profile if account is not None and account.keys is not None else None
    try:
        found = await environment_defaults(profile, _SERVICE_IDS.get(service, service))
    except ImportError:
        raise ValueError("AWS needs a library that is not installed: pip install 'waitd[s3]'") from None
    return found if connection is None else found._replace(endpoint=None)
