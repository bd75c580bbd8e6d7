"""Resolves a connection and a region to the endpoint of an AWS service, with credentials."""

import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import structlog

from waitd.core.aws.signature import AwsKeys
from waitd.core.bounded_dict import BoundedDict
from waitd.core.connections.aws import AwsConnection, AwsKeySource, is_region, parse_aws_connection
from waitd.core.connections.connection import Connection, join_url, parse_origin
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies
from waitd.core.errors import UnknownConnection
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Verdict
from waitd.outgoing import EgressGuard
from waitd.outgoing.tls import client_tls
from waitd.ports import Connections
from waitd.probes.access.aws_credentials import AwsCredentials, environment_defaults, variant_endpoint
from waitd.probes.access.http import CONNECTION_ERRORS, connection_verdict
from waitd.probes.transport.errors import classify_error

#: Airflow's default connection. Where it does not exist, the environment's credentials are used.
DEFAULT_CONN_ID = "aws_default"
#: AWS's own default.
DEFAULT_REGION = "us-east-1"
#: Seconds for which the absence of `aws_default` is cached.
_ABSENCE_SECONDS = 60.0
_MAX_ENDPOINTS = 10_000

_Result = TypeVar("_Result")

_log = structlog.get_logger()


class AccountRef(NamedTuple):
    """Refers to the account that a wait uses.

    Attributes:
        conn_id: its connection; None for the environment's account.
        optional: whether the environment's account is used where the connection does not exist.
        region: overrides the connection's region.
    """

    conn_id: str | None = DEFAULT_CONN_ID
    optional: bool = True
    region: str | None = None


class AwsEndpoint(NamedTuple):
    """The endpoint of a service, and the account that requests are signed for.

    Attributes:
        base: its URL if the connection or the environment sets one; None: AWS's own endpoint.
        style: how S3 buckets are addressed: `auto`, `path` or `virtual`.
        keys: None if requests are not signed.
    """

    base: str | None
    origin: str
    region: str
    style: str
    keys: AwsKeys | None
    verify_tls: bool | ssl.SSLContext
    proxies: Proxies = DEFAULT_PROXIES


#: Sends what a poke needs to an endpoint.
_AwsRequest = Callable[[AwsEndpoint], Awaitable[_Result | Verdict | CredentialsRefused]]


class _CachedEndpoint(NamedTuple):
    """An endpoint, valid as long as its connection is.

    `source` gives its keys if it has none itself.
    """

    connection: Connection | None
    endpoint: AwsEndpoint
    source: AwsKeySource | None


class AwsEndpoints:
    """Resolves accounts to the endpoints of one service."""

    def __init__(
        self,
        connections: Connections,
        *,
        now: Callable[[], float],
        service: str = "s3",
        environment_id: str = "S3",
        credentials: AwsCredentials | None = None,
        egress: EgressGuard | None = None,
    ) -> None:
        """Creates a resolver.

        Args:
            connections: the connections that accounts refer to.
            now: a monotonic clock, in seconds.
            service: boto3's name of the service.
            environment_id: its name in the environment variable `AWS_ENDPOINT_URL_<ID>`.
            credentials: the cache of keys, which services may share.
            egress: for a new cache, if there are no `credentials`.
        """
        self._connections = connections
        self._credentials = credentials or AwsCredentials(now=now, egress=egress)
        self._now = now
        self._service = service
        self._environment_id = environment_id
        self._cache: BoundedDict[AccountRef, _CachedEndpoint] = BoundedDict(_MAX_ENDPOINTS)
        self._absent_until: dict[str, float] = {}

    def origin(self, account: AccountRef) -> str:
        """Returns the endpoint's origin if it is cached, else the connection's name."""
        cached = self._cache.get(account)
        named = f"connection {account.conn_id or 'of the environment'}"
        return named if cached is None else cached.endpoint.origin

    def cached_fresh(self, account: AccountRef) -> AwsEndpoint | None:
        """Returns the endpoint if it is cached, fresh and has keys of its own; None: call `get`."""
        conn_id, connection = account.conn_id, None
        if conn_id is not None and not self._is_absent(account):
            connection = self._connections.cached_fresh(conn_id)
            if connection is None:
                return None
        cached = self._cache.get(account)
        return cached.endpoint if cached and cached.connection is connection and not cached.source else None

    def _is_absent(self, account: AccountRef) -> bool:
        return account.optional and self._now() < self._absent_until.get(account.conn_id or "", 0.0)

    async def call(self, account: AccountRef, request: _AwsRequest[_Result]) -> _Result | Verdict:
        """Calls `request`, and once again with refreshed credentials if they are refused.

        Every error on the way becomes a verdict.
        """
        try:
            result = await self._call_once(account, request, refresh=False)
            if isinstance(result, CredentialsRefused):
                result = await self._call_once(account, request, refresh=True)
        except Exception as error:  # noqa: BLE001 - an error of one target ends only its own poke
            verdict = classify_error(error)
            if verdict.reason == "probe_error":
                _log.warning("poke_failed", error=type(error).__name__)
            return verdict
        return result.verdict if isinstance(result, CredentialsRefused) else result

    async def _call_once(
        self, account: AccountRef, request: _AwsRequest[_Result], *, refresh: bool
    ) -> _Result | Verdict | CredentialsRefused:
        try:
            endpoint = await self.get(account, refresh=refresh)
        except CONNECTION_ERRORS as error:
            return connection_verdict(error)
        return await request(endpoint)

    async def get(self, account: AccountRef, *, refresh: bool = False) -> AwsEndpoint:
        """Returns the endpoint, with cached keys where they are fresh.

        With `refresh`, connection and keys are looked up again, at most once in 30 s.

        Raises:
            UnknownConnection, ConnectionUnavailable: as `Connections.get`.
            ValueError: the connection cannot be used; the message quotes no secret.
        """
        connection = await self._connection(account, refresh=refresh)
        cached = self._cache.get(account)
        if refresh or cached is None or cached.connection is not connection:
            cached = await self._build(account, connection)
        if cached.source is None:
            return cached.endpoint
        get_keys = self._credentials.refresh if refresh else self._credentials.get
        return cached.endpoint._replace(keys=await get_keys(cached.source))

    async def _connection(self, account: AccountRef, *, refresh: bool) -> Connection | None:
        conn_id = account.conn_id
        if conn_id is None or self._is_absent(account):
            return None
        try:
            return await (self._connections.refresh if refresh else self._connections.get)(conn_id)
        except UnknownConnection:
            if not account.optional:
                raise
            self._absent_until[conn_id] = self._now() + _ABSENCE_SECONDS
            return None

    async def _build(self, account: AccountRef, connection: Connection | None) -> _CachedEndpoint:
        settings = AwsConnection() if connection is None else parse_aws_connection(connection, self._service)
        region, base = account.region or settings.region, settings.endpoint
        if region is None or (connection is None and base is None):
            profile = settings.keys.profile if settings.keys else None
            defaults = await environment_defaults(profile, self._environment_id)
            region = region or defaults.region or DEFAULT_REGION
            if connection is None and defaults.endpoint:
                base = join_url(defaults.endpoint, "").rstrip("/")
        if not is_region(region):
            raise ValueError("the AWS region of the environment is not the name of a region")
        style = settings.addressing_style
        if settings.fips or settings.dual_stack:
            base = await variant_endpoint(self._service, region, settings.fips, settings.dual_stack)
            style = "virtual" if style == "auto" else style
        verify_tls = await client_tls(settings.tls)
        origin = str(parse_origin(base or f"https://{aws_host(region, self._service)}"))
        source = settings.keys
        keys = source.static if source is not None and source.role is None else None
        endpoint = AwsEndpoint(base, origin, region, style, keys, verify_tls, settings.proxies)
        cached = self._cache[account] = _CachedEndpoint(connection, endpoint, None if keys else source)
        return cached


def aws_host(region: str, service: str = "s3") -> str:
    """Returns the host of AWS's own S3 in a region. For other services it may differ."""
    return f"{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
