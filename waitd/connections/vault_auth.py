"""Vault's auth methods: a token, an AppRole, or a Kubernetes service account."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from waitd.connections.vault_api import VaultApi
from waitd.core.connections.connection import encode_segment
from waitd.core.errors import ConnectionUnavailable

#: A token is renewed after this part of its lifetime.
_RENEW_AT = 2 / 3
#: Seconds between two checks of a token that never expires.
_CHECK_INTERVAL = 86_400.0


class VaultToken(NamedTuple):
    """A token and its lifetime in seconds. `repr` does not show the token."""

    value: str
    lifetime: float
    renewable: bool

    @property
    def renew_after(self) -> float:
        """Seconds until it is renewed, or replaced by a new login."""
        return min(self.lifetime * _RENEW_AT, _CHECK_INTERVAL)

    def __repr__(self) -> str:
        return f"VaultToken(lifetime={self.lifetime}, renewable={self.renewable})"


class VaultCredentials(NamedTuple):
    """The credentials of every auth method. `repr` shows none of them."""

    token: str | None = None
    role_id: str | None = None
    secret_id: str | None = None
    kubernetes_role: str | None = None
    kubernetes_jwt_path: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    #: Where the method is mounted; None: under its own name.
    mount_point: str | None = None

    def __repr__(self) -> str:
        return "VaultCredentials()"


class VaultAuthMethod(ABC):
    """How waitd obtains and renews a token."""

    @abstractmethod
    async def login(self, api: VaultApi) -> VaultToken:
        """A new token. Raises ConnectionUnavailable, or ValueError where a setting is missing."""

    async def renew(self, api: VaultApi, token: VaultToken) -> VaultToken | None:
        """The same token with a new lifetime; None where it cannot be renewed.

        Raises ConnectionUnavailable.
        """
        if not token.renewable:
            return None
        response = await api.request("POST", "auth/token/renew-self", token=token.value, body={})
        return _parse_token(response.fields) if response.status == 200 else None


class TokenAuth(VaultAuthMethod):
    """A token that the operator supplies, renewed as long as Vault allows."""

    def __init__(self, credentials: VaultCredentials) -> None:
        self._token = _required(credentials.token, "vault_token")

    async def login(self, api: VaultApi) -> VaultToken:
        """See `VaultAuthMethod`."""
        response = await api.request("GET", "auth/token/lookup-self", token=self._token)
        if response.status != 200:
            raise ConnectionUnavailable(f"Vault answered {response.status} to the token; check vault_token")
        data = response.fields.get("data")
        data = data if isinstance(data, dict) else {}
        return VaultToken(self._token, _lifetime(data.get("ttl")), data.get("renewable") is True)


class LoginAuth(VaultAuthMethod):
    """A method that is mounted below `auth/` and logs in with a body."""

    def __init__(self, mount_point: str, body: Callable[[], Mapping[str, Any]]) -> None:
        """`body` may block; it is called in a thread at each login."""
        self._path = "/".join(["auth", *map(encode_segment, mount_point.strip("/").split("/")), "login"])
        self._body = body

    async def login(self, api: VaultApi) -> VaultToken:
        """See `VaultAuthMethod`."""
        body = dict(await asyncio.to_thread(self._body))
        response = await api.request("POST", self._path, body=body)
        token = _parse_token(response.fields)
        if response.status != 200 or token is None:
            raise ConnectionUnavailable(f"Vault answered {response.status} to the login")
        return token


def _parse_token(response: Mapping[str, Any]) -> VaultToken | None:
    auth = response.get("auth")
    token = auth.get("client_token") if isinstance(auth, dict) else None
    if not isinstance(auth, dict) or not isinstance(token, str):
        return None
    return VaultToken(token, _lifetime(auth.get("lease_duration")), auth.get("renewable") is True)


def _lifetime(seconds: object) -> float:
    """Vault answers 0 for a token that never expires."""
    if isinstance(seconds, (int, float)) and seconds > 0:
        return float(seconds)
    return inf


def _approle(credentials: VaultCredentials) -> VaultAuthMethod:
    body = {"role_id": _required(credentials.role_id, "vault_role_id")}
    if credentials.secret_id is not None:
        body["secret_id"] = credentials.secret_id
    return LoginAuth(credentials.mount_point or "approle", lambda: body)


def _kubernetes(credentials: VaultCredentials) -> VaultAuthMethod:
    role = _required(credentials.kubernetes_role, "vault_kubernetes_role")

    def body() -> Mapping[str, Any]:
        try:
            jwt = credentials.kubernetes_jwt_path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise ConnectionUnavailable(
                f"{credentials.kubernetes_jwt_path} cannot be read: {type(error).__name__}"
            ) from None
        return {"role": role, "jwt": jwt}

    return LoginAuth(credentials.mount_point or "kubernetes", body)


def _required(value: str | None, setting: str) -> str:
    if not value:
        raise ValueError(f"this vault_auth needs the setting {setting}")
    return value


#: Every auth method, by its name in the setting `vault_auth`.
AUTH_METHODS: Mapping[str, Callable[[VaultCredentials], VaultAuthMethod]] = {
    "token": TokenAuth,
    "approle": _approle,
    "kubernetes": _kubernetes,
}
