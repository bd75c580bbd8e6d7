"""The public keys of an OpenID Connect provider, found by discovery and cached.

They are fetched again when they are old, or when a token names an unknown key. While the issuer
does not answer, the cached keys stay in use.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from waitd.core.connections.connection import parse_origin
from waitd.core.errors import Unavailable
from waitd.outgoing import EgressGuard, JsonClient, ServiceClient

log = structlog.get_logger(__name__)

#: Seconds that the issuer has to answer.
TIMEOUT = 10.0
#: Seconds after which keys are fetched again, so that a withdrawn key is not trusted forever.
MAX_AGE = 600.0
#: Seconds between two fetches, so that tokens with unknown key ids cause no flood of requests.
REFRESH_INTERVAL = 30.0
#: Seconds for which keys are used while the issuer does not answer.
MAX_STALE = 86_400.0
_MAX_RESPONSE = 512 * 1024
_MAX_KEYS = 100
#: Public keys only: a shared secret (`oct`) is never used to verify.
_KEY_TYPES: Mapping[str, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class IssuerUnavailable(Unavailable):
    """The issuer's keys are not available now."""


class IssuerKeys(ServiceClient):
    """The keys of one issuer.

    Used as an asynchronous context manager; `now` is a monotonic clock in seconds.
    """

    def __init__(
        self, url: str, egress: EgressGuard, *, now: Callable[[], float], timeout: float = TIMEOUT
    ) -> None:
        self.url = url
        self._client = JsonClient(egress, IssuerUnavailable, max_bytes=_MAX_RESPONSE, timeout=timeout)
        self._now = now
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._error = ""
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def __aexit__(self, *error: object) -> None:
        """Cancels a running fetch and closes the session."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        await super().__aexit__(*error)

    async def key(self, key_id: str | None) -> Key | None:
        """The key with this id; without an id the only key there is.

        None: the issuer has no such key.

        Raises:
            IssuerUnavailable: the keys cannot be fetched.
        """
        key = self._find(key_id)
        if key is not None:
            if self._age() > MAX_AGE:
                self._refresh_soon()  # in the background: the caller gets the cached key
            return key
        async with self._lock:
            if self._find(key_id) is None:
                await self._refresh()
        key = self._find(key_id)
        if key is None and self._error:
            raise IssuerUnavailable(self._error)
        return key

    def _find(self, key_id: str | None) -> Key | None:
        if self._age() > MAX_STALE:
            return None
        if key_id is not None:
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _age(self) -> float:
        return inf if self._fetched_at is None else self._now() - self._fetched_at

    def _refresh_soon(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="issuer keys")

    async def _refresh(self) -> None:
        """Fetch the keys unless a fetch was just tried; a failure keeps the cached keys."""
        if self._tried_at is not None and self._now() - self._tried_at < REFRESH_INTERVAL:
            return
        self._tried_at = self._now()
        try:
            self._keys = await self._fetch()
        except IssuerUnavailable as error:
            self._error = str(error)
            log.warning("issuer_keys_not_fetched", error=self._error, known=len(self._keys))
        else:
            self._error, self._fetched_at = "", self._now()
            log.info("issuer_keys_fetched", keys=sorted(self._keys))

    async def _fetch(self) -> dict[str, Key]:
        discovery = await self._get(self.url.rstrip("/") + "/.well-known/openid-configuration")
        if discovery.get("issuer") != self.url:
            raise IssuerUnavailable(
                "the discovery document names another issuer than the setting oidc_issuer"
            )
        jwks_uri = discovery.get("jwks_uri")
        if not isinstance(jwks_uri, str):
            raise IssuerUnavailable("the issuer's discovery document has no jwks_uri")
        keys = (await self._get(jwks_uri)).get("keys")
        if not isinstance(keys, list):
            raise IssuerUnavailable("the issuer's jwks_uri returns no key set")
        return _import_keys(keys)

    async def _get(self, url: str) -> Mapping[str, Any]:
        try:
            service = f"the issuer at {parse_origin(url)}"
        except ValueError:
            raise IssuerUnavailable("the issuer's jwks_uri is not a URL") from None
        response = await self._client.request("GET", url, service=service)
        if response.status != 200:
            raise IssuerUnavailable(f"{service} answered {response.status}")
        if not isinstance(response.body, dict):
            raise IssuerUnavailable(
                f"{service} did not answer with a JSON object of at most {_MAX_RESPONSE} bytes"
            )
        return response.body


def _import_keys(jwks: Sequence[Any]) -> dict[str, Key]:
    """The public signature keys by their ids.

    A key without an id has the id "". A token without `kid` finds it if it is the only key.
    """
    keys: dict[str, Key] = {}
    for jwk in jwks[:_MAX_KEYS]:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
            continue
        key_type = _KEY_TYPES.get(str(jwk.get("kty")))
        key_id = jwk.get("kid", "")
        if key_type is None or not isinstance(key_id, str):
            continue
        try:
            keys[key_id] = key_type.import_key({k: v for k, v in jwk.items() if k != "key_ops"})
        except (JoseError, ValueError, TypeError, KeyError):
            log.warning("issuer_key_not_usable", key=key_id[:100])
    return keys
