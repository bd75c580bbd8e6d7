"""Vault's HTTP API, as far as waitd needs it: one request, one decoded response."""

import asyncio
import ssl
from typing import Any, Self

from waitd.core.connections.connection import join_url
from waitd.core.errors import ConnectionUnavailable
from waitd.outgoing import EgressGuard, JsonClient, JsonResponse, ServiceClient

#: Seconds that Vault has to answer.
TIMEOUT = 10.0
_MAX_RESPONSE = 1024 * 1024


class VaultApi(ServiceClient):
    """The client, used as an asynchronous context manager."""

    def __init__(self, url: str, namespace: str, ca_file: str | None, egress: EgressGuard) -> None:
        """Raises ValueError where `url` is not one."""
        self._base = join_url(url, "v1").rstrip("/") + "/"
        self._ca_file = ca_file
        self._headers = {"X-Vault-Request": "true"}
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace
        self._tls: ssl.SSLContext | bool = True
        self._client = JsonClient(egress, ConnectionUnavailable, max_bytes=_MAX_RESPONSE, timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        """Opens the session. Raises OSError where the CA file cannot be read."""
        if self._ca_file:
            self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
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
            return await self._client.request(
                method, self._base + path, service="Vault", headers=headers, json=body, ssl=self._tls
            )
        except ValueError:
            raise ConnectionUnavailable("the request to Vault could not be sent") from None
