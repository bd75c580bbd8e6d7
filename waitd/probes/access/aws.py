"""Where requests to a service of AWS go and who they are from: a connection and a region become a place."""

import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import structlog
from anyio import to_thread

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.aws import AwsConnection, AwsKeySource, is_region, parse_aws_connection
from waitd.core.connections.connection import Connection, join_url, parse_origin
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.ports import Connections
from waitd.probes.access.aws_credentials import AwsCredentials, environment_defaults
from waitd.probes.transport.client import classify_error

#: Airflow's default connection; where it does not exist, the environment's credentials are used.
DEFAULT_CONN_ID = "aws_default"
#: AWS's own default.
DEFAULT_REGION = "us-east-1"
#: Seconds for which it is remembered that there is no `aws_default`.
_ABSENT = 60.0
_MAX_PLACES = 10_000


UNKNOWN_CONNECTION = Unreachable("unknown_connection", "No resolver knows the connection.")
NO_CREDENTIALS = Unreachable(
    "credentials_unavailable",
    "The credentials cannot be looked up now: the place where they are kept does not answer.",
)

_Found = TypeVar("_Found")

_log = structlog.get_logger()


class AccountRef(NamedTuple):
    """Which account a wait uses: `conn_id`, or None for the environment's; `optional`: where it does not exist, the environment's."""

    conn_id: str | None = DEFAULT_CONN_ID
    optional: bool = True
    region: str | None = None


class AwsEndpoint(NamedTuple):
    """A service and an account in it. `base` None: the service is AWS's own; `keys` None: requests are not signed."""

    base: str | None
    origin: str
    region: str
    style: str
    keys: AwsKeys | None
    verify_tls: bool | ssl.SSLContext


class _Site(NamedTuple):
    """What stays the same while a connection does: the place, and where its keys come from; `source` None: the place has them."""

    connection: Connection | None
    place: AwsEndpoint
    source: AwsKeySource | None


class AwsEndpoints:
    """Finds places of one service."""

    def __init__(
        self,
        connections: Connections,
        *,
        now: Callable[[], float],
        service: str = "s3",
        environment_id: str = "S3",
        credentials: AwsCredentials | None = None,
    ) -> None:
        """For `service`, by boto3's name of it; `environment_id`: the same as `AWS_ENDPOINT_URL_<ID>` has it.

        `now` is a monotonic clock in seconds; `credentials` may be shared by services.
        """
        self._connections = connections
        self._credentials = credentials or AwsCredentials(now=now)
        self._now = now
        self._service = service
        self._environment_id = environment_id
        self._sites: dict[AccountRef, _Site] = {}
        self._absent_until: dict[str, float] = {}

    def origin(self, whose: AccountRef) -> str:
        """The origin of the endpoint where it is known, else the connection's name."""
        site = self._sites.get(whose)
        return (
            site.place.origin if site is not None else f"connection {whose.conn_id or 'of the environment'}"
        )

    def cached_fresh(self, whose: AccountRef) -> AwsEndpoint | None:
        """The place, where that needs no asking; None: `find` it."""
        conn_id, connection = whose.conn_id, None
        if conn_id is not None and not self._is_absent(whose):
            connection = self._connections.cached_fresh(conn_id)
            if connection is None:
                return None
        site = self._sites.get(whose)
        return site.place if site and site.connection is connection and site.source is None else None

    def _is_absent(self, whose: AccountRef) -> bool:
        return whose.optional and self._now() < self._absent_until.get(whose.conn_id or "", 0.0)

    async def look(
        self,
        whose: AccountRef,
        ask: Callable[[AwsEndpoint], Awaitable[_Found | Verdict | CredentialsRefused]],
    ) -> _Found | Verdict:
        """What `ask` finds; where credentials are refused, it is asked once more, with such as were looked up afresh.

        Nothing that goes wrong on the way is raised.
        """
        try:
            place = await self._place(whose, anew=False)
            found = await ask(place) if isinstance(place, AwsEndpoint) else place
            if isinstance(found, CredentialsRefused):
                place = await self._place(whose, anew=True)
                found = await ask(place) if isinstance(place, AwsEndpoint) else place
        except Exception as error:  # noqa: BLE001 - whatever a target brings about is its own wait's verdict
            verdict = classify_error(error)
            if verdict.reason == "probe_error":
                _log.warning("poke_failed", error=type(error).__name__)
            return verdict
        return found.verdict if isinstance(found, CredentialsRefused) else found

    async def _place(self, whose: AccountRef, *, anew: bool) -> AwsEndpoint | Unreachable:
        """Where to ask, with credentials at hand or, `anew`, looked up afresh."""
        try:
            return await (self.find_anew if anew else self.find)(whose)
        except UnknownConnection:
            return UNKNOWN_CONNECTION
        except ConnectionUnavailable:
            return NO_CREDENTIALS
        except ValueError as error:  # these messages name what is wrong, and quote no secret
            return Unreachable("connection_invalid", f"The connection cannot be used for this wait: {error}.")

    async def find(self, whose: AccountRef) -> AwsEndpoint:
        """The place, with keys that are at hand.

        Raises:
            UnknownConnection, ConnectionUnavailable: as `Connections.get`.
            ValueError: the connection cannot be used; the message quotes no secret.
        """
        connection = await self._connection(whose, fresh=False)
        site = self._sites.get(whose)
        if site is None or site.connection is not connection:
            site = await self._new_site(whose, connection)
        if site.source is None:
            return site.place
        return site.place._replace(keys=await self._credentials.keys(site.source))

    async def find_anew(self, whose: AccountRef) -> AwsEndpoint:
        """The place, with keys that were looked up afresh (at most once in 30 s). Raises as `find` does."""
        connection = await self._connection(whose, fresh=True)
        site = await self._new_site(whose, connection)
        if site.source is None:
            return site.place
        return site.place._replace(keys=await self._credentials.refreshed(site.source))

    async def _connection(self, whose: AccountRef, *, fresh: bool) -> Connection | None:
        conn_id = whose.conn_id
        if conn_id is None or self._is_absent(whose):
            return None
        try:
            return await (self._connections.refreshed if fresh else self._connections.get)(conn_id)
        except UnknownConnection:
            if not whose.optional:
                raise
            self._absent_until[conn_id] = self._now() + _ABSENT
            return None

    async def _new_site(self, whose: AccountRef, connection: Connection | None) -> _Site:
        account = AwsConnection() if connection is None else parse_aws_connection(connection, self._service)
        region, endpoint = whose.region or account.region, account.endpoint
        if region is None or (connection is None and endpoint is None):
            profile = account.keys.profile if account.keys else None
            around = await environment_defaults(profile, self._environment_id)
            region = region or around.region or DEFAULT_REGION
            if connection is None and around.endpoint:
                endpoint = join_url(around.endpoint, "").rstrip("/")
        if not is_region(region):
            raise ValueError("the environment's AWS region is no region's name")
        verify = await _certificates(account)
        origin = str(parse_origin(endpoint or f"https://{aws_host(region, self._service)}"))
        if len(self._sites) >= _MAX_PLACES and whose not in self._sites:
            del self._sites[next(iter(self._sites))]
        source = account.keys
        given = source.given if source is not None and source.role is None else None
        place = AwsEndpoint(endpoint, origin, region, account.style, given, verify)
        site = self._sites[whose] = _Site(connection, place, source if given is None else None)
        return site


def aws_host(region: str, service: str = "s3") -> str:
    """The host of AWS's own S3 in a region; for other services it is a good guess."""
    return f"{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


async def _certificates(account: AwsConnection) -> bool | ssl.SSLContext:
    if account.ca_bundle is None or not account.verify_tls:
        return account.verify_tls
    try:
        return await to_thread.run_sync(_context, account.ca_bundle)
    except (OSError, ssl.SSLError):
        raise ValueError("the CA bundle that verify names cannot be read") from None


@lru_cache(maxsize=64)
def _context(path: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)
