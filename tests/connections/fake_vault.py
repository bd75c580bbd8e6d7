"""A fake of HashiCorp Vault's HTTP API, for the calls that waitd makes.

It follows the documentation (KV secrets engine version 2; token, AppRole and Kubernetes auth
methods), not a running Vault: where the two differ, the tests prove nothing.
"""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from daemon import serving


@dataclass
class IssuedToken:
    """A token that the server issued."""

    ends_at: float
    renewable: bool
    period: float


@dataclass
class FakeVault:
    """Secrets by mount and path, the accepted credentials, and the calls made."""

    now: Callable[[], float]
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    role_id: str = "role-id"
    secret_id: str = "secret-id"
    kubernetes_role: str = "waitd"
    kubernetes_jwt: str = "service-account-jwt"
    namespace: str = ""
    lease: float = 3600.0
    renewable: bool = True
    sealed: bool = False
    tokens: dict[str, IssuedToken] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    url: str = ""
    _names: "itertools.count[int]" = field(default_factory=itertools.count)

    def issue(self) -> str:
        """A new token."""
        token = f"hvs.issued-{next(self._names)}"
        self.tokens[token] = IssuedToken(self.now() + self.lease, self.renewable, self.lease)
        return token

    def revoke_all(self) -> None:
        """Revokes every token."""
        self.tokens.clear()

    async def answer(self, request: web.Request) -> web.Response:
        path = request.raw_path.removeprefix("/v1/")
        self.calls.append(f"{request.method} {path}")
        if self.sealed:
            return _errors(503, "Vault is sealed")
        if self.namespace and request.headers.get("X-Vault-Namespace") != self.namespace:
            return _errors(404, "route not found")
        if path == "auth/approle/login":
            body = await request.json()
            accepted = (body.get("role_id"), body.get("secret_id")) == (self.role_id, self.secret_id)
            return self._login() if accepted else _errors(400, "invalid role or secret ID")
        if path == "auth/kubernetes/login":
            body = await request.json()
            accepted = (body.get("role"), body.get("jwt")) == (self.kubernetes_role, self.kubernetes_jwt)
            return self._login() if accepted else _errors(403, "permission denied")
        token = request.headers.get("X-Vault-Token", "")
        issued = self.tokens.get(token)
        if issued is None or issued.ends_at <= self.now():
            return _errors(403, "permission denied")
        return self._authenticated(request.method, path, token, issued)

    def _authenticated(self, method: str, path: str, token: str, issued: IssuedToken) -> web.Response:
        if path == "auth/token/lookup-self":
            ttl = int(issued.ends_at - self.now())
            return web.json_response({"data": {"id": token, "ttl": ttl, "renewable": issued.renewable}})
        if path == "auth/token/renew-self" and method == "POST":
            if not issued.renewable:
                return _errors(400, "lease is not renewable")
            issued.ends_at = self.now() + issued.period
            return web.json_response({"auth": _auth(token, issued)})
        secret = self.secrets.get(path)
        if secret is None:
            return _errors(404)
        return web.json_response({"data": {"data": secret, "metadata": {"version": 1}}})

    def _login(self) -> web.Response:
        token = self.issue()
        return web.json_response({"auth": _auth(token, self.tokens[token])})


def _auth(token: str, issued: IssuedToken) -> dict[str, Any]:
    return {
        "client_token": token,
        "lease_duration": int(issued.period),
        "renewable": issued.renewable,
        "policies": ["default"],
    }


def _errors(status: int, *words: str) -> web.Response:
    return web.json_response({"errors": list(words)}, status=status)


@asynccontextmanager
async def vault_server(now: Callable[[], float]) -> AsyncIterator[FakeVault]:
    """The server on a free port; `now` is the clock of its leases."""
    vault = FakeVault(now)
    async with serving("*", "/{path:.*}", vault.answer) as vault.url:
        yield vault
