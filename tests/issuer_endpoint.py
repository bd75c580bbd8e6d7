"""A fake identity provider: a discovery document, public keys, and signed tokens."""

import base64
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson
from aiohttp import web
from daemon import serving
from joserfc import jws
from joserfc.jwk import ECKey, Key, RSAKey

AUDIENCE = "waitd"


@cache
def rsa(name: str) -> RSAKey:
    """The key of this name, cached because generating one is slow."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


@cache
def ec(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name, "use": "sig"})


@dataclass
class IssuerEndpoint:
    """Publishes `keys`; a `status` other than 200 replaces every answer.

    `discovered` overrides fields of the discovery document.
    """

    keys: list[Key] = field(default_factory=lambda: [rsa("k1")])
    extra_keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    discovered: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        if self.status != 200:
            return web.Response(status=self.status, headers={"Location": f"{self.url}/elsewhere"})
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | self.discovered)
        if request.path == "/jwks":
            return web.json_response(
                {"keys": [*(key.as_dict(private=False) for key in self.keys), *self.extra_keys]}
            )
        return web.Response(status=404)

    def claims(self, now: float, **changed: Any) -> dict[str, Any]:
        """The claims of a valid token, with these changes."""
        valid = {"iss": self.url, "aud": AUDIENCE, "sub": "u1", "exp": now + 300, "roles": ["waitd-users"]}
        return valid | changed

    def token(self, claims: dict[str, Any], key: Key | None = None, **header: Any) -> str:
        """A token signed as its `alg` says; default: RS256 with the first key."""
        key = key or self.keys[0]
        header = {"alg": "RS256" if isinstance(key, RSAKey) else "ES256", "kid": key.kid} | header
        fields = {name: value for name, value in header.items() if value is not None}
        return jws.serialize_compact(fields, orjson.dumps(claims), key, algorithms=[fields["alg"]])

    def unsigned(self, claims: dict[str, Any], alg: str = "none") -> str:
        """A token without a signature."""
        return f"{_encoded({'alg': alg, 'kid': self.keys[0].kid})}.{_encoded(claims)}."

    def confused(self, claims: dict[str, Any], alg: str = "HS256") -> str:
        """A token whose HMAC uses the public key as its secret."""
        public = self.keys[0].as_pem(private=False)  # type: ignore[union-attr]  # every key but an OctKey has it
        signed = f"{_encoded({'alg': alg, 'kid': self.keys[0].kid})}.{_encoded(claims)}"
        digest = hmac.digest(public, signed.encode(), alg.replace("HS", "sha"))
        return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@asynccontextmanager
async def issuer_endpoint() -> AsyncIterator[IssuerEndpoint]:
    """The provider on a free port."""
    endpoint = IssuerEndpoint()
    async with serving("GET", "/{path:.*}", endpoint.answer) as endpoint.url:
        yield endpoint
