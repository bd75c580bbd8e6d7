"""Vault's HTTP API, as far as waitd needs it: one request, one decoded answer."""

import asyncio
import ssl
from typing import Any

import aiohttp
import orjson

from waitd import __version__
from waitd.core.connections.connection import join_url
from waitd.core.errors import ConnectionUnavailable
from waitd.outgoing import blocked

#: Seconds that Vault has to answer.
TIMEOUT = 10.0
_MAX_ANSWER = 1024 * 1024


class VaultApi:
    """The client. Open it before use."""

    def __init__(self, url: str, namespace: str, ca_file: str | None) -> None:
        """Raises ValueError where `url` is none."""
        self._base = join_url(url, "v1").rstrip("/") + "/"
        self._ca_file = ca_file
        self._headers = {"User-Agent": f"waitd/{__version__}", "X-Vault-Request": "true"}
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace
        self._tls: ssl.SSLContext | bool = True
        self._session: aiohttp.ClientSession | None = None

    async def open(self, connector: aiohttp.BaseConnector) -> None:
        """Opens the session over `connector`. Raises OSError where the CA file cannot be read."""
        if self._ca_file:
            self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers=self._headers,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Closes the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self, method: str, path: str, *, token: str | None = None, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and decoded answer; an empty dictionary where the answer is no JSON object.

        Raises:
            ConnectionUnavailable: there was no answer. The message quotes nothing.
        """
        if self._session is None:
            raise RuntimeError("Vault is asked outside its context")
        headers = {} if token is None else {"X-Vault-Token": token}
        try:
            async with self._session.request(
                method, self._base + path, headers=headers, json=body, ssl=self._tls, allow_redirects=False
            ) as response:
                content = await response.content.read(_MAX_ANSWER)
                return response.status, _decoded(content)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refusal = blocked(error)
            why = f"is refused: {refusal.why}" if refusal else "does not answer"
            raise ConnectionUnavailable(f"Vault {why}") from None


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
