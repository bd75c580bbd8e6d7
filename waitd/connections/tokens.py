"""The client of token endpoints: a `TokenRequest` goes out, a `IssuedToken` comes back. What is asked and how the answer is read is core's.

A token is never stored and never logged, nor is what it was got with.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

import aiohttp
import orjson

from waitd import __version__
from waitd.core.connections.auth import basic_authorization
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.connections.token_requests import IssuedToken, JwtAssertion, TokenRequest, parse_token
from waitd.core.errors import ConnectionUnavailable
from waitd.metrics import Instruments
from waitd.outgoing import Outgoing, blocked

#: Seconds that a token endpoint has to answer.
TIMEOUT = 10.0
_MAX_ANSWER = 64 * 1024
#: The errors of RFC 6749, 5.2; no other word of an answer is repeated.
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


class TokenClient:
    """Asks token endpoints. An asynchronous context, in which it holds one HTTP session; `now` gives Unix seconds."""

    def __init__(
        self,
        outgoing: Outgoing,
        *,
        instruments: Instruments,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._outgoing = outgoing
        self._lookups = instruments.secret_lookups
        self._timeout = timeout
        self._now = now
        self._session: aiohttp.ClientSession | None = None

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
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, grant: TokenRequest) -> IssuedToken:
        """The token that the endpoint gives for this grant.

        Raises:
            ConnectionUnavailable: it gives none; the message names its origin and quotes nothing of question or answer.
            ValueError: the key that is to sign cannot be used.
        """
        try:
            token = await self._fetch(grant)
        except ConnectionUnavailable:
            self._lookups.labels("token_endpoint", "unavailable").inc()
            raise
        self._lookups.labels("token_endpoint", "found").inc()
        return token

    async def _fetch(self, grant: TokenRequest) -> IssuedToken:
        origin = parse_origin(grant.url)
        whom = f"the token endpoint at {origin}"
        fields = dict(grant.fields)
        if grant.assertion is not None:
            fields["assertion"] = await asyncio.to_thread(_signed, grant.assertion, self._now())
        try:
            self._outgoing.judge_url(grant.url, HostSource.BY_OPERATOR)
            status, body = await self._post(grant, fields)
        except EgressRefused as error:
            raise ConnectionUnavailable(f"{whom} is refused: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            refusal = blocked(error)
            why = f"is refused: {refusal.why}" if refusal else "does not answer"
            raise ConnectionUnavailable(f"{whom} {why}") from None
        answer = _decoded(body)
        if status not in {200, 201}:
            code = answer.get("error") if isinstance(answer, dict) else None
            known = f" {code}" if isinstance(code, str) and code in _KNOWN_ERRORS else ""
            raise ConnectionUnavailable(f"{whom} answered {status}{known}")
        try:
            return parse_token(grant, answer)
        except ValueError as error:
            raise ConnectionUnavailable(f"{whom}: {error}") from None

    async def _post(self, grant: TokenRequest, fields: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("the token client is used outside its context")
        body: dict[str, Any] = {"json": fields} if grant.as_json else {"data": fields}
        headers = {} if grant.login is None else {"Authorization": basic_authorization(*grant.login)}
        async with self._session.post(
            grant.url, headers=headers, allow_redirects=False, ssl=grant.verify_tls, **body
        ) as response:
            return response.status, await response.content.read(_MAX_ANSWER)


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _signed(assertion: JwtAssertion, now: float) -> str:
    """The JWT of an assertion. It takes milliseconds, so call it in a thread."""
    try:
        from joserfc import jwt  # noqa: PLC0415 - of an extra, and not needed by all
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
        raise ValueError("the private_key of keyfile_dict is no RSA key in PEM") from None
