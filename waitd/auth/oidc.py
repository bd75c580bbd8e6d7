"""Tokens of the identity provider: JWTs, verified by its public keys, and remembered until they expire.

Verifying takes 50 to 170 µs of the event loop with the usual keys (RSA 2048, P-256), under a millisecond with the dearest (P-521); a
thread would cost as much as it saved. A token that was verified a moment ago costs its digest.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key
from joserfc.util import urlsafe_b64decode

from waitd.auth.issuer import Issuer
from waitd.core.auth.claims import ClaimRules, VerifiedToken, verify_claims
from waitd.core.auth.principal import Principal
from waitd.core.errors import Unauthenticated

#: For how long a verified token is believed without another look, in seconds: a key that its issuer withdrew is not trusted longer.
REMEMBERED_SECONDS = 300.0
#: How many verified tokens are remembered.
REMEMBERED = 10_000
#: The longest token, in characters; a header line has no room for more.
_MAX_TOKEN = 8192
_MALFORMED = "the token is neither an API key nor a JWT that is signed as oidc_algorithms allows"


class OidcTokens:
    """Verifies tokens of one issuer. `now` gives Unix seconds."""

    def __init__(
        self, issuer: Issuer, rules: ClaimRules, algorithms: Sequence[str], *, now: Callable[[], float]
    ) -> None:
        self._issuer = issuer
        self._rules = rules
        self._algorithms = tuple(algorithms)
        # Providers put words of their own into the header; none of them is read here.
        self._registry = jws.JWSRegistry(algorithms=list(algorithms), strict_check_header=False)
        self._registry.max_header_length = _MAX_TOKEN
        self._now = now
        self._verified: dict[bytes, VerifiedToken] = {}

    def cached_fresh(self, token: str) -> Principal | None:
        """Whoever comes with a token that was verified before; None: it has to be verified."""
        bearer = self._verified.get(_digest(token))
        return bearer.principal if bearer is not None and self._now() < bearer.expires_at else None

    async def principal(self, token: str) -> Principal:
        """Whoever comes with this token.

        Raises:
            Unauthenticated: it is not good.
            Forbidden: it is, and gives no role or namespace here.
            IssuerUnavailable: the issuer's keys cannot be had.
        """
        key_id = self._key_id(token)
        key = await self._issuer.key(key_id)
        if key is None:
            raise Unauthenticated(
                "unknown_signing_key", "the token is signed by a key that its issuer does not have"
            )
        now = self._now()
        bearer = verify_claims(self._claims(token, key), self._rules, now)
        self._remember(token, bearer._replace(expires_at=min(bearer.expires_at, now + REMEMBERED_SECONDS)))
        return bearer.principal

    def _key_id(self, token: str) -> str | None:
        """Which key the token says it is signed with. Its header is believed in nothing else, and not before its algorithm is allowed."""
        parts = token.split(".")
        if len(token) > _MAX_TOKEN or len(parts) != 3:
            raise Unauthenticated("malformed_token", _MALFORMED)
        header = _json(parts[0])
        if header.get("alg") not in self._algorithms:
            raise Unauthenticated("algorithm_not_allowed", _MALFORMED)
        key_id = header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise Unauthenticated("malformed_token", _MALFORMED)
        return key_id

    def _claims(self, token: str, key: Key) -> dict[str, Any]:
        try:
            # The key's own kind has to fit the algorithm: an RSA key verifies no ES256, and none of them an HMAC.
            payload = jws.deserialize_compact(token, key, registry=self._registry).payload
        except (JoseError, ValueError, TypeError):
            raise Unauthenticated("wrong_signature", "the token's signature is wrong") from None
        try:
            claims = orjson.loads(payload)
        except orjson.JSONDecodeError:
            claims = None
        if not isinstance(claims, dict):
            raise Unauthenticated("malformed_token", _MALFORMED)
        return claims

    def _remember(self, token: str, bearer: VerifiedToken) -> None:
        if len(self._verified) >= REMEMBERED:
            del self._verified[next(iter(self._verified))]  # the oldest
        digest = _digest(token)
        self._verified.pop(digest, None)
        self._verified[digest] = bearer


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _json(part: str) -> dict[str, Any]:
    try:
        decoded = orjson.loads(urlsafe_b64decode(part.encode("ascii")))
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise Unauthenticated("malformed_token", _MALFORMED)
    return decoded
