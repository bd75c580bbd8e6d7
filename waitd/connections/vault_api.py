"""Vault's HTTP API, as far as waitd needs it: one request, one decoded response."""

from typing import Any, Self

from waitd.core.connections.connection import join_url
from waitd.core.connections.http_options import ClientTls
from waitd.core.errors import ConnectionUnavailable
from waitd.outgoing import EgressGuard, JsonClient, JsonResponse, ServiceClient
from waitd.outgoing.tls import client_tls

#: Seconds that Vault has to answer.
TIMEOUT = 10.0
_MAX_RESPONSE = 1024 * 1024


class VaultApi(ServiceClient):
    """The client, used as an asynchronous context manager."""

    def __init__(self, url: str, namespace: str, ca_file: str | None, egress: EgressGuard) -> None:
        """Raises ValueError where `url` is not one."""
        self._base = join_url(url, "v1").rstrip("/") + "/"
        self._tls = ClientTls(verify=ca_file or True)
        self._headers = {"X-Vault-Request": "true"}
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace
        self._client = JsonClient(egress, ConnectionUnavailable, max_bytes=_MAX_RESPONSE, timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        """Opens the session. Raises ValueError where the CA file cannot be read."""
        try:
            await client_tls(self._tls)
        except ValueError as error:
            why = str(error).removeprefix("the extra's verify")
            raise ValueError(f"vault_ca_file{why}") from None
        return await super().__aenter__()

    async def request(
        self, method: str, path: str, *, token: str | None = None, body: dict[str, Any] | None = None
    ) -> JsonResponse:
        """One request below `/v1`.

        Raises:
            ConnectionUnavailable: there was no response. The message quotes nothing.
        """
        headers = self._headers if token is None else {**self._headers, "X-Vault-Token": token}
        try:
            tls = await client_tls(self._tls)
            return await self._client.request(
                method, self._base + path, service="Vault", headers=headers, json=body, ssl=tls
            )
        except ValueError:
            raise ConnectionUnavailable("the request to Vault could not be sent") from None
