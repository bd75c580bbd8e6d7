"""Request credentials for connections: fixed headers, and cached tokens and AWS keys."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from waitd.connections.cache import CachedConnections, Resolver
from waitd.connections.token_cache import CachedToken, TokenCache
from waitd.core.aws.signature import AwsSigner
from waitd.core.bounded_dict import BoundedDict
from waitd.core.connections.auth import AwsSigning, Credentials, build_credentials, check_header
from waitd.core.connections.connection import Connection
from waitd.core.connections.sent_secrets import grant_secrets
from waitd.core.connections.token_requests import IssuedToken, TokenRequest
from waitd.core.errors import ConnectionUnavailable
from waitd.metrics import Instruments
from waitd.ports import Authorization, AwsKeyProvider

#: How many connections, and how many token caches, are kept; the oldest is dropped first.
MAX_KEPT = 10_000
#: Seconds for which AWS keys are used before their provider, which caches them too, is called
#: again.
KEYS_LIFETIME = 60.0

log = structlog.get_logger(__name__)


class TokenSource(Protocol):
    """Requests tokens from token endpoints."""

    async def fetch(self, grant: TokenRequest) -> IssuedToken:
        """A new token. Raises ConnectionUnavailable, ValueError."""


class _Authorizable(NamedTuple):
    """A connection with either a fixed authorization or a cache of changing ones."""

    connection: Connection
    fixed: Authorization | None
    cache: TokenCache[Authorization] | None


class Authorizer:
    """Makes authorizations. `now` is a monotonic clock in seconds."""

    def __init__(self, tokens: TokenSource, keys: AwsKeyProvider, *, now: Callable[[], float]) -> None:
        self.aws_keys = keys
        self._tokens = tokens
        self._now = now
        self._known: BoundedDict[str, _Authorizable] = BoundedDict(MAX_KEPT)
        self._caches: BoundedDict[Credentials, TokenCache[Authorization]] = BoundedDict(MAX_KEPT)

    def cached_authorization(self, connection: Connection) -> Authorization | None:
        """See `waitd.ports.HttpConnections`."""
        known = self._known.get(connection.conn_id)
        if known is None or known.connection is not connection:
            known = self._remember(connection)
        return known.fixed or (known.cache.cached_fresh() if known.cache else None)

    async def authorize(
        self, connection: Connection, *, refused: Authorization | None = None
    ) -> Authorization:
        """See `waitd.ports.HttpConnections`."""
        known = self._remember(connection)
        if known.cache is not None:
            return await known.cache.get(refused)
        return known.fixed or Authorization()

    async def aclose(self) -> None:
        """Cancels running fetches."""
        for cache in self._caches.values():
            await cache.aclose()

    def _remember(self, connection: Connection) -> _Authorizable:
        """The connection's entry; an equal connection that was looked up again keeps its entry."""
        known = self._known.get(connection.conn_id)
        if known is not None and known.connection == connection:
            known = known._replace(connection=connection)
        else:
            known = self._build(connection)
        self._known[connection.conn_id] = known
        return known

    def _build(self, connection: Connection) -> _Authorizable:
        credentials = build_credentials(connection)
        signing, headers = credentials.signing, credentials.headers
        if signing is not None and signing.keys.static is not None and signing.keys.role is None:
            signer = AwsSigner(signing.service, signing.region, signing.keys.static)
            return _Authorizable(connection, Authorization(headers, signer), None)
        if credentials.shared_key is not None:
            return _Authorizable(connection, Authorization(headers, credentials.shared_key), None)
        if signing is None and credentials.token_request is None:
            return _Authorizable(connection, Authorization(headers), None)
        cache = self._caches.get(credentials)
        if cache is None:
            fetch = self._fetcher(connection.conn_id, credentials)
            cache = TokenCache(fetch, now=self._now, name="fetch credentials")
            self._caches[credentials] = cache
        return _Authorizable(connection, None, cache)

    def _fetcher(
        self, conn_id: str, credentials: Credentials
    ) -> Callable[[bool], Awaitable[CachedToken[Authorization]]]:
        async def fetch(refresh: bool) -> CachedToken[Authorization]:
            try:
                if credentials.token_request is not None:
                    return await self._fetch_token(credentials.token_request, credentials)
                assert credentials.signing is not None  # noqa: S101 - `_build` caches only these two
                return await self._fetch_signer(credentials.signing, credentials, refresh)
            except (ConnectionUnavailable, ValueError) as error:
                log.warning("credentials_not_fetched", conn_id=conn_id, why=str(error))
                raise

        return fetch

    async def _fetch_token(self, grant: TokenRequest, credentials: Credentials) -> CachedToken[Authorization]:
        token = await self._tokens.fetch(grant)
        name, value = credentials.token_header, f"Bearer {token.value}"
        check_header(name, value)
        headers = {n: v for n, v in credentials.headers if n.lower() != name.lower()} | {name: value}
        authorization = Authorization(tuple(headers.items()), grant_secrets=grant_secrets(grant))
        return CachedToken(authorization, token.renew_after, token.lifetime)

    async def _fetch_signer(
        self, signing: AwsSigning, credentials: Credentials, refresh: bool
    ) -> CachedToken[Authorization]:
        keys = await (self.aws_keys.refresh if refresh else self.aws_keys.get)(signing.keys)
        signer = AwsSigner(signing.service, signing.region, keys)
        return CachedToken(Authorization(credentials.headers, signer), KEYS_LIFETIME, 2 * KEYS_LIFETIME)


class AuthorizedConnections(CachedConnections):
    """The `HttpConnections` port: cached connections and their authorizations."""

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
        self.aws_keys = authorizer.aws_keys
