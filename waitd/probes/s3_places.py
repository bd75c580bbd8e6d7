"""Where an S3 wait's requests go and who they are from: a connection and a region become a place."""

import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from anyio import to_thread

from waitd.core.aws_connection import AwsAccount, aws_account, is_region
from waitd.core.aws_signature import AwsKeys
from waitd.core.connection import Connection, join, origin_of
from waitd.core.errors import UnknownConnection
from waitd.ports import Connections
from waitd.probes.aws_credentials import AwsCredentials, surroundings

#: Airflow's default connection; where it does not exist, the environment's credentials are used.
DEFAULT_CONN_ID = "aws_default"
#: S3's own default.
DEFAULT_REGION = "us-east-1"
#: Seconds for which it is remembered that there is no `aws_default`.
_ABSENT = 60.0
_MAX_PLACES = 10_000


class Whose(NamedTuple):
    """Which account a wait uses: `conn_id`, or None for the environment's; `optional`: where it does not exist, the environment's."""

    conn_id: str | None = DEFAULT_CONN_ID
    optional: bool = True
    region: str | None = None


class Place(NamedTuple):
    """A store and an account in it. `keys` None: requests are not signed."""

    base: str | None
    origin: str
    region: str
    style: str
    keys: AwsKeys | None
    verify_tls: bool | ssl.SSLContext


class _Site(NamedTuple):
    """What stays the same of a place while its connection does."""

    connection: Connection | None
    account: AwsAccount
    base: str | None
    origin: str
    region: str
    verify_tls: bool | ssl.SSLContext


class S3Places:
    """Finds places. `now` is a monotonic clock in seconds."""

    def __init__(self, connections: Connections, *, now: Callable[[], float]) -> None:
        self._connections = connections
        self._credentials = AwsCredentials(now=now)
        self._now = now
        self._sites: dict[Whose, _Site] = {}
        self._absent_until: dict[str, float] = {}

    def origin(self, whose: Whose) -> str:
        """The origin of the endpoint where it is known, else the connection's name."""
        site = self._sites.get(whose)
        return site.origin if site is not None else f"connection {whose.conn_id or 'of the environment'}"

    async def find(self, whose: Whose) -> Place:
        """The place, with keys that are at hand.

        Raises:
            UnknownConnection, ConnectionUnavailable: as `Connections.get`.
            ValueError: the connection cannot be used; the message quotes no secret.
        """
        connection = await self._connection(whose, fresh=False)
        site = await self._site(whose, connection)
        source = site.account.keys
        return _place(site, None if source is None else await self._credentials.keys(source))

    async def find_anew(self, whose: Whose) -> Place:
        """The place, with keys that were looked up afresh (at most once in 30 s). Raises as `find` does."""
        connection = await self._connection(whose, fresh=True)
        site = await self._site(whose, connection)
        source = site.account.keys
        return _place(site, None if source is None else await self._credentials.refreshed(source))

    async def _connection(self, whose: Whose, *, fresh: bool) -> Connection | None:
        conn_id = whose.conn_id
        if conn_id is None or (whose.optional and self._now() < self._absent_until.get(conn_id, 0.0)):
            return None
        try:
            return await (self._connections.refreshed if fresh else self._connections.get)(conn_id)
        except UnknownConnection:
            if not whose.optional:
                raise
            self._absent_until[conn_id] = self._now() + _ABSENT
            return None

    async def _site(self, whose: Whose, connection: Connection | None) -> _Site:
        site = self._sites.get(whose)
        if site is not None and site.connection is connection:
            return site
        account = AwsAccount() if connection is None else aws_account(connection)
        region, endpoint = whose.region or account.region, account.endpoint
        if region is None or (connection is None and endpoint is None):
            around = await surroundings(account.keys.profile if account.keys else None)
            region = region or around.region or DEFAULT_REGION
            if connection is None and around.endpoint:
                endpoint = join(around.endpoint, "").rstrip("/")
        if not is_region(region):
            raise ValueError("the environment's AWS region is no region's name")
        verify = await _certificates(account)
        origin = str(origin_of(endpoint or f"https://{aws_host(region)}"))
        if len(self._sites) >= _MAX_PLACES and whose not in self._sites:
            del self._sites[next(iter(self._sites))]
        site = self._sites[whose] = _Site(connection, account, endpoint, origin, region, verify)
        return site


def aws_host(region: str) -> str:
    """The host of AWS's own S3 in a region."""
    return f"s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _place(site: _Site, keys: AwsKeys | None) -> Place:
    return Place(site.base, site.origin, site.region, site.account.style, keys, site.verify_tls)


async def _certificates(account: AwsAccount) -> bool | ssl.SSLContext:
    if account.ca_bundle is None or not account.verify_tls:
        return account.verify_tls
    try:
        return await to_thread.run_sync(_context, account.ca_bundle)
    except (OSError, ssl.SSLError):
        raise ValueError("the CA bundle that verify names cannot be read") from None


@lru_cache(maxsize=64)
def _context(path: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)
