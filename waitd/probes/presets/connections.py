"""Completes Airflow's connections for a vendor's API with what the preset says.

A preset names its connections `<conn_id>//<kind>` or `<conn_id>//<kind>/<region>`. The result is
made from the connection `conn_id`, and its credentials are sent only to the resulting origin. Other
names are ordinary connections.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from waitd.core.bounded_dict import BoundedDict
from waitd.core.connections.aws import aws_endpoint, is_region, parse_aws_connection
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.extras import check_extras
from waitd.core.errors import UnknownConnection
from waitd.ports import HttpConnections
from waitd.probes.access.aws_credentials import EnvironmentDefaults, environment_defaults, variant_endpoint
from waitd.probes.presets.schema import ConnectionTable

#: Airflow's default connection; if it does not exist, the environment's credentials are used.
AWS_DEFAULT = "aws_default"
_SEPARATOR = "//"
#: How many seconds the absence of `aws_default` is cached.
_MISSING_SECONDS = 60.0
_MAX_COMPLETED = 10_000
_BLANK = re.compile(r"\{([A-Za-z_]+)\}")
#: What may be inserted into a host name.
_LABELS = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
#: The fields of an extra that are credentials.
_CREDENTIALS = (
    *("token", "client_id", "keyfile_dict", "headers", "Authorization", "aws_access_key_id"),
    *("sas_token", "connection_string", "shared_access_key"),
)


NO_DEFAULTS = EnvironmentDefaults(None, None)
#: Service ids that differ from boto3's name.
_SERVICE_IDS = {"STEPFUNCTIONS": "SFN"}


class VendorConnections:
    """`HttpConnections` for presets.

    `tables` are by kind; `now` is a monotonic clock in seconds.
    """

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
        self._completed: BoundedDict[str, tuple[Connection | None, Connection]] = BoundedDict(_MAX_COMPLETED)
        self._missing_until = 0.0
        self.cached_authorization = connections.cached_authorization
        self.authorize = connections.authorize

    async def get(self, conn_id: str) -> Connection:
        """See `Connections.get`.

        Raises ValueError, too: the connection lacks something for this vendor.
        """
        return await self._find(conn_id, fresh=False)

    async def refresh(self, conn_id: str) -> Connection:
        """See `Connections.refresh`."""
        return await self._find(conn_id, fresh=True)

    def cached_any(self, conn_id: str) -> Connection | None:
        """See `Connections.cached_any`."""
        return self._find_cached(conn_id, self._connections.cached_any)

    def cached_fresh(self, conn_id: str) -> Connection | None:
        """See `HttpConnections.cached_fresh`."""
        return self._find_cached(conn_id, self._connections.cached_fresh, accept_missing=False)

    def _find_cached(
        self, conn_id: str, find: Callable[[str], Connection | None], *, accept_missing: bool = True
    ) -> Connection | None:
        """`accept_missing`: whether a connection completed from nothing (`aws_default`) counts."""
        plain, kind, _ = _parts(conn_id)
        if kind not in self._tables:
            return find(conn_id)
        connection, entry = find(plain), self._completed.get(conn_id)
        if entry is None or entry[0] is not connection or (connection is None and not accept_missing):
            return None
        return entry[1]

    def check(self, conn_id: str) -> None:
        """Checks a connection if it is cached.

        Raises:
            ValueError: it cannot be used for this vendor. The message quotes no secret.
        """
        plain, kind, region = _parts(conn_id)
        connection = self._connections.cached_any(plain)
        table = self._tables[kind]
        if connection is not None and (
            table.aws_service is None or region or "region_name" in connection.extra
        ):
            vendor_connection(connection, table, region, NO_DEFAULTS)

    def completed(self, connection: Connection) -> Connection:
        """A connection as the presets of its type use it; itself if there are none.

        Raises:
            ValueError: it cannot be used for this vendor. The message quotes no secret.
        """
        for kind, table in self._tables.items():
            name = (table.default or "").removesuffix("_default")
            if name and table.aws_service is None and connection.conn_type in (name, f"{name}_platform"):
                conn_id = vendor_name(connection.conn_id, kind)
                return replace(vendor_connection(connection, table, None, NO_DEFAULTS), conn_id=conn_id)
        return connection

    async def _find(self, conn_id: str, *, fresh: bool) -> Connection:
        plain, kind, region = _parts(conn_id)
        table = self._tables.get(kind)
        if table is None:
            return await (self._connections.refresh if fresh else self._connections.get)(conn_id)
        connection = await self._ordinary(plain, table, fresh=fresh)
        entry = self._completed.get(conn_id)
        if entry is not None and entry[0] is connection:
            return entry[1]
        base = connection or Connection(plain, conn_type="aws")
        environment = await _environment(connection, table, region)
        completed = replace(vendor_connection(base, table, region, environment), conn_id=conn_id)
        self._completed[conn_id] = (connection, completed)
        return completed

    async def _ordinary(self, conn_id: str, table: ConnectionTable, *, fresh: bool) -> Connection | None:
        """Returns the ordinary connection; None for an `aws_default` that does not exist."""
        may_be_missing = table.aws_service is not None and conn_id == AWS_DEFAULT
        if may_be_missing and not fresh and self._now() < self._missing_until:
            return None
        try:
            return await (self._connections.refresh if fresh else self._connections.get)(conn_id)
        except UnknownConnection:
            if not may_be_missing:
                raise
            self._missing_until = self._now() + _MISSING_SECONDS
            return None


def vendor_name(conn_id: str, kind: str, region: str | None = None) -> str:
    """Returns the name of a completed connection."""
    return f"{conn_id}{_SEPARATOR}{kind}" + (f"/{region}" if region else "")


def _parts(conn_id: str) -> tuple[str, str, str | None]:
    plain, _, kind_and_region = conn_id.rpartition(_SEPARATOR)
    kind, _, region = kind_and_region.partition("/")
    return plain, kind, region or None


def vendor_connection(
    connection: Connection, table: ConnectionTable, region: str | None, environment: EnvironmentDefaults
) -> Connection:
    """Completes a connection.

    Raises:
        ValueError: it lacks something. The message says what, and quotes no secret.
    """
    if table.aws_service is not None:
        return _aws(connection, table, region, environment)
    check_extras(connection)
    host = connection.host or _fill(table.base_url, connection.extra)
    if not host:
        raise ValueError("it has no host")
    completed = _with_auth(replace(connection, host=host, schema=connection.schema or table.scheme), table)
    completed = replace(completed, extra=_without_blanks(completed.extra, table))
    base = completed.base_url()
    if table.api_path is not None and base == str(parse_origin(base)):
        completed = replace(completed, host=base + table.api_path, port=None)
    return completed


def _with_auth(connection: Connection, table: ConnectionTable) -> Connection:
    """Adds an `auth_type` to a connection with credentials that has none."""
    extra = connection.extra
    if table.auth is None or "auth_type" in extra:
        return connection
    credentials = connection.login or connection.password or any(extra.get(name) for name in _CREDENTIALS)
    if not credentials and table.auth_required:
        raise ValueError(f"it has no credentials, and auth_type {table.auth} needs some")
    if not credentials or "Authorization" in extra or "headers" in extra:
        return connection
    defaults = {name: value for name, text in table.extra.items() if (value := _fill(text, extra))}
    completed = replace(connection, extra={**defaults, **extra, "auth_type": table.auth})
    if table.auth_prefix is None:
        return completed
    secret = f"{table.auth_prefix} {extra.get('token') or connection.password}"
    header = {"auth_type": "header", "header_name": "Authorization"}
    return replace(completed, password=secret, extra={**completed.extra, **header})


def _fill(template: str | None, extra: Mapping[str, Any]) -> str | None:
    """Fills in a URL like `https://{account}.example.org`; None without the extra's field."""
    if template is None:
        return None
    values = {name: extra.get(name) for name in _BLANK.findall(template)}
    if any(not isinstance(value, str) or not _LABELS.fullmatch(value) for value in values.values()):
        return None
    return _BLANK.sub(lambda match: str(values[match[1]]), template)


def _without_blanks(extra: Mapping[str, Any], table: ConnectionTable) -> Mapping[str, Any]:
    """The extra without what was filled into URLs, which would be sent as a header."""
    blanks = {name for text in (table.base_url or "", *table.extra.values()) for name in _BLANK.findall(text)}
    return {name: value for name, value in extra.items() if name not in blanks}


def _aws(
    connection: Connection, table: ConnectionTable, region: str | None, environment: EnvironmentDefaults
) -> Connection:
    account, service = parse_aws_connection(connection), table.aws_service or ""
    region = region or account.region or environment.region
    if region is None:
        raise ValueError("no region: set region_name in params or in the connection, or AWS_REGION")
    if not is_region(region):
        raise ValueError("the AWS region of the environment is malformed")
    endpoint = aws_endpoint(connection.extra, table.aws_client or service) or environment.endpoint
    host = endpoint or f"https://{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    auth = "none" if account.keys is None else "aws_sigv4"
    extra = {**connection.extra, "auth_type": auth, "aws_service": service, "region_name": region}
    return replace(connection, conn_type="aws", host=host, port=None, schema=None, extra=extra)


async def _environment(
    connection: Connection | None, table: ConnectionTable, region: str | None
) -> EnvironmentDefaults:
    """Returns the environment's defaults if they are needed: botocore is slow to load."""
    if table.aws_service is None:
        return NO_DEFAULTS
    account = None if connection is None else parse_aws_connection(connection)
    variant = account is not None and (account.fips or account.dual_stack)
    if account is not None and (region or account.region) and not variant:
        return NO_DEFAULTS
    client = table.aws_client or table.aws_service
    service = client.upper().replace("-", "_")
    profile = account.keys.profile if account is not None and account.keys is not None else None
    try:
        defaults = await environment_defaults(profile, _SERVICE_IDS.get(service, service))
    except ImportError:
        raise ValueError("AWS needs a library that is not installed: pip install 'waitd[s3]'") from None
    if account is None:
        return defaults
    region = region or account.region or defaults.region
    if not variant or region is None:
        return defaults._replace(endpoint=None)
    endpoint = await variant_endpoint(client, region, account.fips, account.dual_stack)
    return defaults._replace(endpoint=endpoint)
