"""Connections in HashiCorp Vault's KV engine, version 2, laid out as Airflow's `VaultBackend` has them: `<mount>/<path>/<conn_id>`.

A secret holds `conn_uri`, or Airflow's fields. Vault is spoken to by its HTTP API. How waitd proves itself there is `vault_login`'s.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

from waitd.connections.airflow_forms import connection_of, parse_connection
from waitd.connections.lease import CachedToken, TokenCache
from waitd.connections.vault_api import VaultApi
from waitd.connections.vault_login import Login, Session
from waitd.core.connections.connection import Connection, encode_segment
from waitd.core.connections.egress import HostSource
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import Outgoing


class VaultPlace(NamedTuple):
    """Where a Vault is, and where in it the connections are. `namespace` is that of Vault Enterprise; "" for none."""

    url: str
    mount_point: str = "secret"
    connections_path: str = "connections"
    namespace: str = ""
    ca_file: str | None = None


class VaultResolver:
    """Looks a conn_id up in Vault. An asynchronous context, in which it holds one HTTP session; `now` is a monotonic clock in seconds."""

    backend = "vault"

    def __init__(
        self, place: VaultPlace, login: Login, outgoing: Outgoing, *, now: Callable[[], float]
    ) -> None:
        """Raises ValueError where the place is none."""
        self._path = "/".join(
            encode_segment(part) for part in place.connections_path.strip("/").split("/") if part
        )
        self._mount = "/".join(encode_segment(part) for part in place.mount_point.strip("/").split("/"))
        self._login = login
        self._outgoing = outgoing
        self._api = VaultApi(place.url, place.namespace, place.ca_file)
        self._session: Session | None = None
        self._token: TokenCache[str] = TokenCache(self._prove, now=now, name="vault login")

    async def __aenter__(self) -> Self:
        await self._api.open(self._outgoing.connector(HostSource.BY_OPERATOR))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._token.aclose()
        await self._api.aclose()

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that Vault holds.

        Raises:
            UnknownConnection: Vault answered, and has none of this name.
            ConnectionUnavailable: it does not answer, lets waitd not in, or what it holds cannot be read.
        """
        try:
            below = "/".join(encode_segment(part) for part in conn_id.split("/"))
        except ValueError:
            raise UnknownConnection(f"there is no connection {conn_id}: it is no path in Vault") from None
        if "\\" in conn_id:
            raise UnknownConnection(f"there is no connection {conn_id}: it is no path in Vault")
        path = "/".join(part for part in (self._mount, "data", self._path, below) if part)
        secret = await self._read(path)
        if secret is None:
            raise UnknownConnection(f"there is no connection {conn_id} in Vault")
        try:
            if isinstance(secret.get("conn_uri"), str):
                return parse_connection(conn_id, secret["conn_uri"])
            return connection_of(conn_id, secret)
        except ValueError as error:
            raise ConnectionUnavailable(
                f"the connection {conn_id} in Vault cannot be read: {error}"
            ) from None

    async def _read(self, path: str) -> dict[str, Any] | None:
        """The newest version of a secret; None where there is none, or it was deleted."""
        token = await self._proven(None)
        status, answer = await self._api.ask("GET", path, token=token)
        if status == 403:  # the token has ended or was revoked; or it never had the right
            token = await self._proven(token)
            status, answer = await self._api.ask("GET", path, token=token)
        if status == 404:
            return None
        if status != 200:
            raise ConnectionUnavailable(f"Vault answered {status}")
        secret = answer.get("data", {}).get("data") if isinstance(answer.get("data"), dict) else None
        if not isinstance(secret, dict):
            raise ConnectionUnavailable("Vault's answer is none of a KV engine of version 2")
        return secret

    async def _proven(self, refused: str | None) -> str:
        try:
            return await self._token.get(refused)
        except ValueError as error:
            raise ConnectionUnavailable(f"the login at Vault failed: {error}") from None

    async def _prove(self, anew: bool) -> CachedToken[str]:
        """A token: the one at hand renewed where that can be done, else by a new login."""
        session = None if anew or self._session is None else await self._login.renew(self._api, self._session)
        if session is None:
            session = await self._login.enter(self._api)
        self._session = session
        return CachedToken(session.token, session.renew_after, session.lifetime)
