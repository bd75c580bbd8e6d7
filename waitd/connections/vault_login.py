"""How waitd proves itself to Vault: with a token, as an AppRole, or as a Kubernetes service account. A table at the end names them."""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from waitd.connections.vault_api import VaultApi
from waitd.core.connections.connection import encode_segment
from waitd.core.errors import ConnectionUnavailable

#: A token is renewed when so much of its life is over.
_RENEW_AT = 2 / 3
#: How long a token that never ends is used before Vault is asked about it again, seconds.
_ENDLESS = 86_400.0


class Session(NamedTuple):
    """A token, and for how long it holds, in seconds. `repr` shows no token."""

    token: str
    lifetime: float
    renewable: bool

    @property
    def renew_after(self) -> float:
        """After how many seconds it is renewed, or a new login made."""
        return min(self.lifetime * _RENEW_AT, _ENDLESS)

    def __repr__(self) -> str:
        return f"Session(lifetime={self.lifetime}, renewable={self.renewable})"


class VaultCredentials(NamedTuple):
    """Everything that one of the ways may need. `repr` shows none of it."""

    token: str | None = None
    role_id: str | None = None
    secret_id: str | None = None
    kubernetes_role: str | None = None
    kubernetes_jwt_path: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    #: Where the way is mounted; None: under its own name.
    mount_point: str | None = None

    def __repr__(self) -> str:
        return "VaultCredentials()"


class Login(Protocol):
    """A way in."""

    async def enter(self, api: VaultApi) -> Session:
        """A new session. Raises ConnectionUnavailable, or ValueError where something is not set."""

    async def renew(self, api: VaultApi, session: Session) -> Session | None:
        """The same session for longer; None where that cannot be done. Raises ConnectionUnavailable."""


async def _renewed(api: VaultApi, session: Session) -> Session | None:
    if not session.renewable:
        return None
    status, answer = await api.ask("POST", "auth/token/renew-self", token=session.token, body={})
    return _session(answer) if status == 200 else None


class TokenLogin:
    """A token that somebody else made. It is renewed as long as Vault does that."""

    def __init__(self, credentials: VaultCredentials) -> None:
        self._token = _needed(credentials.token, "vault_token")

    async def enter(self, api: VaultApi) -> Session:
        """See `Login`."""
        status, answer = await api.ask("GET", "auth/token/lookup-self", token=self._token)
        if status != 200:
            raise ConnectionUnavailable(f"Vault answered {status} to the token")
        data = answer.get("data")
        ttl = data.get("ttl") if isinstance(data, dict) else None
        renewable = isinstance(data, dict) and data.get("renewable") is True
        return Session(self._token, _lifetime(ttl), renewable)

    async def renew(self, api: VaultApi, session: Session) -> Session | None:
        """See `Login`."""
        return await _renewed(api, session)


class MountedLogin:
    """A way that is mounted below `auth/` and takes a body."""

    def __init__(self, mount_point: str, body: Callable[[], Mapping[str, Any]]) -> None:
        """`body` may block; it is called in a thread, at each login."""
        self._path = "/".join(["auth", *map(encode_segment, mount_point.strip("/").split("/")), "login"])
        self._body = body

    async def enter(self, api: VaultApi) -> Session:
        """See `Login`."""
        body = dict(await asyncio.to_thread(self._body))
        status, answer = await api.ask("POST", self._path, body=body)
        session = _session(answer)
        if status != 200 or session is None:
            raise ConnectionUnavailable(f"Vault answered {status} to the login")
        return session

    async def renew(self, api: VaultApi, session: Session) -> Session | None:
        """See `Login`."""
        return await _renewed(api, session)


def _session(answer: Mapping[str, Any]) -> Session | None:
    auth = answer.get("auth")
    token = auth.get("client_token") if isinstance(auth, dict) else None
    if not isinstance(auth, dict) or not isinstance(token, str):
        return None
    return Session(token, _lifetime(auth.get("lease_duration")), auth.get("renewable") is True)


def _lifetime(seconds: object) -> float:
    """Vault says 0 of a token that never ends."""
    if isinstance(seconds, (int, float)) and seconds > 0:
        return float(seconds)
    return inf


def _approle(credentials: VaultCredentials) -> Login:
    body = {"role_id": _needed(credentials.role_id, "vault_role_id")}
    if credentials.secret_id is not None:
        body["secret_id"] = credentials.secret_id
    return MountedLogin(credentials.mount_point or "approle", lambda: body)


def _kubernetes(credentials: VaultCredentials) -> Login:
    role = _needed(credentials.kubernetes_role, "vault_kubernetes_role")

    def body() -> Mapping[str, Any]:
        try:
            jwt = credentials.kubernetes_jwt_path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise ConnectionUnavailable(
                f"{credentials.kubernetes_jwt_path} cannot be read: {type(error).__name__}"
            ) from None
        return {"role": role, "jwt": jwt}

    return MountedLogin(credentials.mount_point or "kubernetes", body)


def _needed(value: str | None, setting: str) -> str:
    if not value:
        raise ValueError(f"the setting {setting} is needed for this vault_auth")
    return value


#: Every way in, by its name in the setting `vault_auth`.
LOGINS: Mapping[str, Callable[[VaultCredentials], Login]] = {
    "token": TokenLogin,
    "approle": _approle,
    "kubernetes": _kubernetes,
}
