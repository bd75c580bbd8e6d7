"""A hand-written HTTP client: a load generator must cost less than the daemon that it loads."""

import asyncio
from typing import Any
from urllib.parse import urlsplit


class MinimalClient(asyncio.Protocol):
    """One connection, for one request at a time."""

    _response: asyncio.Future[bytes] | None = None

    @classmethod
    async def connect(cls, url: str) -> "MinimalClient":
        """Opens a connection to the host and port of a URL."""
        host, _, port = urlsplit(url).netloc.rpartition(":")
        _, client = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport: Any = transport
        self._received = b""

    def request(self, request: bytes) -> asyncio.Future[bytes]:
        """Sends a request; the future gets the complete response, which must have a length."""
        self._response = response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return response

    def data_received(self, data: bytes) -> None:
        """Finds the end of the response and reads nothing else."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if self._response is None or self._response.done() or end < 0:
            return
        length = self._received[:end].lower().partition(b"content-length:")[2].partition(b"\r")[0]
        if len(self._received) >= end + 4 + int(length):
            self._response.set_result(self._received)
            self._received = b""

    def connection_lost(self, error: Exception | None) -> None:
        """Fails the request that has no response."""
        if self._response is not None and not self._response.done():
            self._response.set_exception(error or ConnectionResetError("the server closed the connection"))

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()
