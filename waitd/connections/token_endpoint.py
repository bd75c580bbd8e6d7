"""The client of token endpoints: sends a `TokenRequest`, returns an `IssuedToken`.

`waitd.core.connections.token_requests` decides what is sent and parses the response. Tokens and the
credentials that they are requested with are never stored or logged.
"""

import asyncio
import time
from collections.abc import Callable

from waitd.core.connections.auth import basic_authorization
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.token_requests import IssuedToken, JwtAssertion, TokenRequest, parse_token
from waitd.core.errors import ConnectionUnavailable
from waitd.metrics import Instruments
from waitd.outgoing import EgressGuard, JsonClient, ServiceClient
from waitd.outgoing.tls import client_tls

#: Seconds that a token endpoint has to answer.
TIMEOUT = 10.0
_MAX_RESPONSE = 64 * 1024
#: The error codes of RFC 6749, 5.2; nothing else of a response is quoted.
_KNOWN_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


class TokenEndpointClient(ServiceClient):
    """Requests tokens. Used as an asynchronous context manager; `now` gives Unix seconds."""

    def __init__(
        self,
        egress: EgressGuard,
        *,
        instruments: Instruments,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = JsonClient(egress, ConnectionUnavailable, max_bytes=_MAX_RESPONSE, timeout=timeout)
        self._lookups = instruments.secret_lookups
        self._now = now

    async def fetch(self, grant: TokenRequest) -> IssuedToken:
        """The token that the endpoint issues for this grant.

        Raises:
            ConnectionUnavailable: it issues none. The message names the endpoint's origin
                and quotes nothing of the request.
            ValueError: the signing key cannot be used.
        """
        try:
            token = await self._fetch(grant)
        except ConnectionUnavailable:
            self._lookups.labels("token_endpoint", "unavailable").inc()
            raise
        self._lookups.labels("token_endpoint", "found").inc()
        return token

    async def _fetch(self, grant: TokenRequest) -> IssuedToken:
        endpoint = f"the token endpoint at {parse_origin(grant.url)}"
        fields = dict(grant.fields)
        if grant.assertion is not None:
            fields["assertion"] = await asyncio.to_thread(_sign, grant.assertion, self._now())
        response = await self._client.request(
            "POST",
            grant.url,
            service=endpoint,
            headers={}
            if grant.basic_auth is None
            else {"Authorization": basic_authorization(*grant.basic_auth)},
            json=fields if grant.as_json else None,
            data=None if grant.as_json else fields,
            ssl=await client_tls(grant.tls),
            proxies=grant.proxies,
        )
        if response.status not in {200, 201}:
            code = response.fields.get("error")
            known = f" {code}" if isinstance(code, str) and code in _KNOWN_ERRORS else ""
            raise ConnectionUnavailable(f"{endpoint} answered {response.status}{known}")
        try:
            return parse_token(grant, response.body)
        except ValueError as error:
            raise ConnectionUnavailable(f"{endpoint}: {error}") from None


def _sign(assertion: JwtAssertion, now: float) -> str:
    """The JWT of an assertion. Takes milliseconds, so call it in a thread."""
    try:
        from joserfc import jwt  # noqa: PLC0415 - an optional dependency
        from joserfc.errors import JoseError  # noqa: PLC0415
        from joserfc.jwk import RSAKey  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "google_service_account needs a library that is not installed: pip install 'waitd[google]'"
        ) from None
    header = {"alg": "RS256", "typ": "JWT"}
    if assertion.key_id:
        header["kid"] = assertion.key_id
    try:
        return jwt.encode(header, assertion.payload(now), RSAKey.import_key(assertion.private_key))
    except (JoseError, ValueError, TypeError):
        raise ValueError("the private_key of keyfile_dict is not an RSA key in PEM format") from None
