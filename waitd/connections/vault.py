"""Connections in HashiCorp Vault's KV engine, version 2, laid out as Airflow's `VaultBackend` does.

The secret `<mount>/<path>/<conn_id>` holds `conn_uri`, or Airflow's fields. Authentication is
`waitd.connections.vault_auth`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

from waitd.connections.airflow_formats import parse_stored
from waitd.connections.token_cache import CachedToken, TokenCache
from waitd.connections.vault_api import VaultApi
from waitd.connections.vault_auth import VaultAuthMethod, VaultToken
from waitd.core.connections.connection import Connection, encode_segment
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import EgressGuard


class VaultLocation(NamedTuple):
    """A Vault server, and where it keeps the connections.

    `namespace` is that of Vault Enterprise; "" for none.
    """

    url: str
    mount_point: str = "secret"
    connections_path: str = "connections"
    namespace: str = ""
    ca_file: str | None = None


class VaultResolver:
    """Looks a conn_id up in Vault.

    Used as an asynchronous context manager; `now` is a monotonic clock in seconds.
    """

    backend = "vault"

    def __init__(
        self,
        location: VaultLocation,
        auth_method: VaultAuthMethod,
        egress: EgressGuard,
        *,
        now: Callable[[], float],
    ) -> None:
        """Raises ValueError where the URL or a path is malformed."""
        self._path = "/".join(
            encode_segment(part) for part in location.connections_path.strip("/").split("/") if part
        )
        self._mount = "/".join(encode_segment(part) for part in location.mount_point.strip("/").split("/"))
        self._auth_method = auth_method
        self._api = VaultApi(location.url, location.namespace, location.ca_file, egress)
        self._last_token: VaultToken | None = None
        self._token: TokenCache[str] = TokenCache(self._obtain_token, now=now, name="vault login")

    async def __aenter__(self) -> Self:
        await self._api.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._token.aclose()
        await self._api.__aexit__(*error)

    async def lookup(self, conn_id: str) -> Connection:
        """The connection that the secret describes.

        Raises:
            UnknownConnection: Vault answered that there is no such secret.
            ConnectionUnavailable: Vault does not answer or refuses, or the secret cannot be parsed.
        """
        try:
            if "\\" in conn_id:
                raise ValueError("a backslash")  # noqa: TRY301 - handled as every other bad path
            name = "/".join(encode_segment(part) for part in conn_id.split("/"))
        except ValueError:
            raise UnknownConnection(
                f"there is no connection {conn_id}: it is not a valid path in Vault"
            ) from None
        secret = await self._read("/".join(part for part in (self._mount, "data", self._path, name) if part))
        if secret is None:
            raise UnknownConnection(f"there is no connection {conn_id} in Vault")
        uri = secret.get("conn_uri")
        value = uri if isinstance(uri, str) else secret
        return parse_stored(conn_id, value, f"the connection {conn_id} in Vault")

    async def _read(self, path: str) -> dict[str, Any] | None:
        """The newest version of a secret; None where there is none, or it was deleted."""
        token = await self._get_token(None)
        response = await self._api.request("GET", path, token=token)
        if response.status == 403:  # the token has expired or was revoked, or lacks the permission
            token = await self._get_token(token)
            response = await self._api.request("GET", path, token=token)
        if response.status == 404:
            return None
        if response.status != 200:
            raise ConnectionUnavailable(f"Vault answered {response.status}")
        data = response.fields.get("data")
        secret = data.get("data") if isinstance(data, dict) else None
        if not isinstance(secret, dict):
            raise ConnectionUnavailable(
                "Vault's answer is not that of a KV engine of version 2; check vault_mount_point"
            )
        return secret

    async def _get_token(self, refused: str | None) -> str:
        try:
            return await self._token.get(refused)
        except ValueError as error:
            raise ConnectionUnavailable(f"the login at Vault failed: {error}") from None

    async def _obtain_token(self, refresh: bool) -> CachedToken[str]:
        """A token: the last one, renewed where possible, else one from a new login."""
        token = None
        if self._last_token is not None and not refresh:
            token = await self._auth_method.renew(self._api, self._last_token)
        if token is None:
            token = await self._auth_method.login(self._api)
        self._last_token = token
        return CachedToken(token.value, token.renew_after, token.lifetime)
