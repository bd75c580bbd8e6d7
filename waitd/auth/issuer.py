"""An identity provider's public keys: found by OpenID Connect Discovery, fetched, cached, and fetched anew when a token names one that is
not there.

What is asked goes where the egress rules let the operator's hosts go, follows no redirect, and is bounded in time and size. While the
issuer does not answer, the keys that are known go on being used.
"""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Self

import aiohttp
import orjson
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from waitd import __version__
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import Unavailable
from waitd.outgoing import Outgoing, blocked

log = structlog.get_logger(__name__)

#: Seconds that the issuer has for an answer.
TIMEOUT = 10.0
#: Seconds after which keys are fetched anew, so that one that was withdrawn is not trusted for ever.
MAX_AGE = 600.0
#: Seconds between two fetches, whatever is asked for: unknown key ids cost nothing but a refusal.
REFRESH_INTERVAL = 30.0
#: Seconds for which keys are used while the issuer does not answer.
MAX_STALE = 86_400.0
_MAX_ANSWER = 512 * 1024
_MAX_KEYS = 100
#: Public keys only: a shared secret (`oct`) verifies nothing here.
_KINDS: Mapping[str, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class IssuerUnavailable(Unavailable):
    """The issuer's keys cannot be had now."""


class Issuer:
    """The keys of one issuer. An asynchronous context, in which it holds an HTTP session; `now` is a monotonic clock, seconds."""

    def __init__(
        self, url: str, outgoing: Outgoing, *, now: Callable[[], float], timeout: float = TIMEOUT
    ) -> None:
        self.url = url
        self._outgoing = outgoing
        self._now = now
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._trouble = ""
        self._turn = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=self._outgoing.connector(HostSource.BY_OPERATOR),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            headers={"User-Agent": f"waitd/{__version__}", "Accept": "application/json"},
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def key(self, key_id: str | None) -> Key | None:
        """The key of this id; without an id the only one there is. None: the issuer has no such key.

        Raises:
            IssuerUnavailable: nobody can say.
        """
        found = self._find(key_id)
        if found is not None:
            if self._age() > MAX_AGE:
                self._refresh_soon()  # nobody has to wait for that
            return found
        async with self._turn:
            if self._find(key_id) is None:
                await self._refresh()
        found = self._find(key_id)
        if found is None and self._trouble:
            raise IssuerUnavailable(self._trouble)
        return found

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
        """Fetches the keys, unless that was tried a moment ago. Where it fails, those that are known stay."""
        if self._asked_at is not None and self._now() - self._asked_at < REFRESH_INTERVAL:
            return
        self._asked_at = self._now()
        try:
            self._keys = await self._fetch()
        except IssuerUnavailable as error:
            self._trouble = str(error)
            log.warning("issuer_keys_not_fetched", error=self._trouble, known=len(self._keys))
        else:
            self._trouble, self._fetched_at = "", self._now()
            log.info("issuer_keys_fetched", keys=sorted(self._keys))

    async def _fetch(self) -> dict[str, Key]:
        described = await self._get(self.url.rstrip("/") + "/.well-known/openid-configuration")
        if described.get("issuer") != self.url:
            raise IssuerUnavailable("the issuer's discovery document is of another issuer than oidc_issuer")
        place = described.get("jwks_uri")
        if not isinstance(place, str):
            raise IssuerUnavailable("the issuer's discovery document has no jwks_uri")
        listed = (await self._get(place)).get("keys")
        if not isinstance(listed, list):
            raise IssuerUnavailable("the issuer's jwks_uri gives no set of keys")
        return _usable(listed)

    async def _get(self, url: str) -> Mapping[str, Any]:
        if self._session is None:
            raise RuntimeError("the issuer is used outside its context")
        try:
            whom = f"the issuer at {parse_origin(url)}"
            self._outgoing.judge_url(url, HostSource.BY_OPERATOR)
            async with self._session.get(url, allow_redirects=False) as response:
                body = await response.content.read(_MAX_ANSWER + 1)
                while len(body) <= _MAX_ANSWER and (more := await response.content.read(_MAX_ANSWER)):
                    body += more
        except EgressRefused as error:
            raise IssuerUnavailable(f"{whom} is refused: {error}") from None
        except ValueError:
            raise IssuerUnavailable("the issuer's jwks_uri is no URL") from None
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError, too
            refusal = blocked(error)
            why = f"is refused: {refusal.why}" if refusal else "does not answer"
            raise IssuerUnavailable(f"{whom} {why}") from None
        if response.status != 200 or len(body) > _MAX_ANSWER:
            raise IssuerUnavailable(f"{whom} answered {response.status}, {len(body)} bytes")
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise IssuerUnavailable(f"{whom} answered with no JSON object")
        return answer


def _usable(listed: list[Any]) -> dict[str, Key]:
    """The public keys for signatures, by their ids; one without an id counts under "" and is found by tokens that name none."""
    keys: dict[str, Key] = {}
    for described in listed[:_MAX_KEYS]:
        if not isinstance(described, dict) or described.get("use", "sig") != "sig":
            continue
        kind = _KINDS.get(str(described.get("kty")))
        key_id = described.get("kid", "")
        if kind is None or not isinstance(key_id, str):
            continue
        try:
            keys[key_id] = kind.import_key({k: v for k, v in described.items() if k != "key_ops"})
        except (JoseError, ValueError, TypeError, KeyError):
            log.warning("issuer_key_not_usable", key=key_id[:100])
    return keys
