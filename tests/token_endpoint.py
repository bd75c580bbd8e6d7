"""A token endpoint for every grant that waitd supports, and connections that use it."""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web
from daemon import serving
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from waitd.core.connections.connection import Connection

CLIENT, SECRET = "client:1", "client secret/ü"


@cache
def service_account_key() -> RSAKey:
    return RSAKey.generate_key(2048)


@dataclass
class TokenEndpoint:
    """Issues `token-1`, `token-2`, …; those in `good` are valid."""

    prefix: str = "token"
    expires_in: Any = 3600
    status: int = 200
    issued: int = 0
    good: set[str] = field(default_factory=set)
    requests: list[dict[str, str]] = field(default_factory=list)
    clients: dict[str, str] = field(default_factory=lambda: {CLIENT: SECRET})
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        fields = await _request_fields(request)
        self.requests.append(fields)
        if self.status != 200:
            return web.json_response(
                {"error": "invalid_client", "error_description": f"no {SECRET}"}, status=self.status
            )
        token_field = self._token_field(fields)
        if token_field is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        self.issued += 1
        token = f"{self.prefix}-{self.issued}"
        self.good.add(token)
        return web.json_response({token_field: token, "token_type": "Bearer", "expires_in": self.expires_in})

    def _token_field(self, fields: dict[str, str]) -> str | None:
        """The field of the response for the token; None if the client proved nothing."""
        if fields.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            try:
                claims = jwt.decode(fields["assertion"], service_account_key(), algorithms=["RS256"]).claims
            except (JoseError, ValueError):
                return None
            if claims["aud"] != f"{self.url}/token" or not claims["iat"] <= time.time() < claims["exp"]:
                return None
            return "id_token" if "target_audience" in claims else "access_token"
        right = self.clients.get(fields.get("client_id", "")) == fields.get("client_secret")
        kind = fields.get("grant_type") or fields.get("grant-type")
        return "access_token" if right and kind == "client_credentials" else None

    def connections(self, host: str) -> dict[str, Connection]:
        """A connection for each auth_type that needs a token."""
        key = service_account_key()
        keyfile = {
            "client_email": "waitd@p.example",
            "private_key": key.as_pem(private=True).decode(),
            "private_key_id": "k1",
            "token_uri": f"{self.url}/token",
        }
        oauth2 = {"auth_type": "oauth2_client_credentials", "token_url": f"{self.url}/token"}
        google = {"auth_type": "google_service_account", "keyfile_dict": keyfile}
        airbyte = {"auth_type": "airbyte", "token_url": f"{self.url}/token"}
        extras: dict[str, dict[str, Any]] = {
            "oauth2": oauth2,
            "oauth2_post": {**oauth2, "token_endpoint_auth_method": "client_secret_post"},
            "airbyte": airbyte,
            "google": google,
            "google_id": {**google, "target_audience": "iap", "token_header": "Proxy-Authorization"},
        }
        return {
            name: Connection(name, host=host, login=CLIENT, password=SECRET, extra=extra)
            for name, extra in extras.items()
        }


async def _request_fields(request: web.Request) -> dict[str, str]:
    """The fields of the request, with the client's id and secret."""
    body = await (request.json() if request.content_type == "application/json" else request.post())
    fields = {name: str(value) for name, value in body.items()}
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
        fields |= {"client_id": unquote_plus(name), "client_secret": unquote_plus(secret)}
    return fields


@asynccontextmanager
async def token_endpoint(prefix: str = "token") -> AsyncIterator[TokenEndpoint]:
    """The endpoint on a free port, at /token."""
    endpoint = TokenEndpoint(prefix)
    async with serving("POST", "/token", endpoint.answer) as endpoint.url:
        yield endpoint
