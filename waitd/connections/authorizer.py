"""What requests to a connection carry: fixed headers are made once, tokens and keys are leased; the hot path only looks at what is at hand."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import structlog

from waitd.connections.cache import CachedConnections, Resolver
from waitd.connections.lease import CachedToken, TokenCache
from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.auth import AwsSigning, Credentials, build_credentials, check_header
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.connection import Connection
from waitd.core.connections.token_requests import IssuedToken, TokenRequest
from waitd.core.errors import ConnectionUnavailable
from waitd.metrics import Instruments
from waitd.ports import Authorization

#: How many connections, and how many leases, are kept; the ones that were there first give way.
MAX_KEPT = 10_000
#: Seconds for which AWS keys are used before their source is asked whether they are still the ones; it keeps them itself.
KEYS_KEPT = 60.0

log = structlog.get_logger(__name__)

Key = TypeVar("Key")
Kept = TypeVar("Kept")


class Tokens(Protocol):
    """Who asks token endpoints."""

    async def fetch(self, grant: TokenRequest) -> IssuedToken:
        """A new token. Raises ConnectionUnavailable, ValueError."""


class Keys(Protocol):
    """Who knows AWS keys that a connection does not hold itself."""

    async def keys(self, source: AwsKeySource) -> AwsKeys:
        """The keys. Raises ConnectionUnavailable, ValueError."""

    async def refreshed(self, source: AwsKeySource) -> AwsKeys:
        """The keys, looked up afresh. Raises as `keys` does."""


class _Known(NamedTuple):
    connection: Connection
    #: Never changes; or is leased.
    fixed: Authorization | None
    lease: TokenCache[Authorization] | None


class Authorizer:
    """Makes authorizations. `now` is a monotonic clock in seconds."""

    def __init__(self, tokens: Tokens, keys: Keys, *, now: Callable[[], float]) -> None:
        self._tokens = tokens
        self._keys = keys
        self._now = now
        self._known: dict[str, _Known] = {}
        self._leases: dict[Credentials, TokenCache[Authorization]] = {}

    def cached_authorization(self, connection: Connection) -> Authorization | None:
        """See `waitd.ports.HttpConnections`."""
        known = self._known.get(connection.conn_id)
        if known is None or known.connection is not connection:
            known = self._learn(connection)
        return known.fixed or (known.lease.cached_fresh() if known.lease else None)

    async def authorize(
        self, connection: Connection, *, refused: Authorization | None = None
    ) -> Authorization:
        """See `waitd.ports.HttpConnections`."""
        known = self._learn(connection)
        if known.lease is not None:
            return await known.lease.get(refused)
        return known.fixed or Authorization()

    async def aclose(self) -> None:
        """Ends all fetches."""
        for lease in self._leases.values():
            await lease.aclose()

    def _learn(self, connection: Connection) -> _Known:
        """What is known of a connection; what was looked up anew and is the same as before changes nothing."""
        known = self._known.get(connection.conn_id)
        if known is not None and known.connection == connection:
            known = known._replace(connection=connection)
        else:
            known = self._made(connection)
        _keep(self._known, connection.conn_id, known)
        return known

    def _made(self, connection: Connection) -> _Known:
        credentials = build_credentials(connection)
        signing, headers = credentials.signing, credentials.headers
        if signing is not None and signing.keys.given is not None and signing.keys.role is None:
            signer = AwsSigner(signing.service, signing.region, signing.keys.given)
            return _Known(connection, Authorization(headers, signer), None)
        if credentials.shared_key is not None:
            return _Known(connection, Authorization(headers, credentials.shared_key), None)
        if signing is None and credentials.grant is None:
            return _Known(connection, Authorization(headers), None)
        lease = self._leases.get(credentials)
        if lease is None:
            lease = TokenCache(self._source(connection.conn_id, credentials), now=self._now, name="lease")
            _keep(self._leases, credentials, lease)
        return _Known(connection, None, lease)

    def _source(
        self, conn_id: str, credentials: Credentials
    ) -> Callable[[bool], Awaitable[CachedToken[Authorization]]]:
        async def fetch(anew: bool) -> CachedToken[Authorization]:
            try:
                if credentials.grant is not None:
                    return await self._token(credentials.grant, credentials)
                assert credentials.signing is not None  # noqa: S101 - `_made` sees to it
                return await self._signer(credentials.signing, credentials, anew)
            except (ConnectionUnavailable, ValueError) as error:
                log.warning("credentials_not_fetched", conn_id=conn_id, why=str(error))
                raise

        return fetch

    async def _token(self, grant: TokenRequest, credentials: Credentials) -> CachedToken[Authorization]:
        token = await self._tokens.fetch(grant)
        name, value = credentials.token_header, f"Bearer {token.value}"
        check_header(name, value)
        headers = {n: v for n, v in credentials.headers if n.lower() != name.lower()} | {name: value}
        return CachedToken(Authorization(tuple(headers.items())), token.renew_after, token.lifetime)

    async def _signer(
        self, signing: AwsSigning, credentials: Credentials, anew: bool
    ) -> CachedToken[Authorization]:
        keys = await (self._keys.refreshed if anew else self._keys.keys)(signing.keys)
        signer = AwsSigner(signing.service, signing.region, keys)
        return CachedToken(Authorization(credentials.headers, signer), KEYS_KEPT, 2 * KEYS_KEPT)


class AuthorizedConnections(CachedConnections):
    """The `HttpConnections` port: connections from a cache, and what requests to them carry."""

    def __init__(
        self,
        resolvers: Sequence[Resolver],
        authorizer: Authorizer,
        *,
        ttl: float,
        now: Callable[[], float],
        instruments: Instruments,
    ) -> None:
        super().__init__(resolvers, ttl=ttl, now=now, instruments=instruments)
        self.cached_authorization = authorizer.cached_authorization
        self.authorize = authorizer.authorize


def _keep(held: dict[Key, Kept], key: Key, value: Kept) -> None:
    held[key] = value
    if len(held) > MAX_KEPT:
        del held[next(iter(held))]
