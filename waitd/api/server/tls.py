"""The API over TLS: a certificate that is reloaded when its files change, and a site with it."""

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import structlog
from aiohttp import web

from waitd.core.errors import WaitdError

log = structlog.get_logger(__name__)

#: How long a TLS handshake and a TLS shutdown may take, in seconds.
HANDSHAKE_SECONDS = 10.0
#: How many handshakes may run; at the limit, the oldest is cancelled for a new one.
MAX_HANDSHAKES = 512
#: How often the files are checked at most, in seconds.
CHECK_SECONDS = 1.0
#: How long accepting pauses after it failed, in seconds.
ACCEPT_PAUSE_SECONDS = 1.0

_FileVersion = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate and its key, from two PEM files; new connections use their current content.

    If a new pair does not load (half-written, a key that does not match, encrypted), that is logged
    and the previous pair stays in use. Loading blocks for less than a millisecond, after a change.
    """

    def __init__(self, certificate: Path, key: Path, *, now: Callable[[], float]) -> None:
        """`now`: a monotonic clock, in seconds.

        Raises:
            WaitdError: the pair does not load.
        """
        self._files = (certificate, key)
        self._now = now
        self._checked_at = now()
        self._error = ""
        try:
            self._version = self._read_version()
            self._context = self._load()
        except (OSError, ValueError) as error:
            raise WaitdError(f"the TLS certificate cannot be used: {self._describe(error)}") from None

    def context(self) -> ssl.SSLContext:
        """Returns the TLS context for a new connection."""
        now = self._now()
        if now >= self._checked_at + CHECK_SECONDS:
            self._checked_at = now
            self._reload_if_changed()
        return self._context

    def _reload_if_changed(self) -> None:
        try:
            version = self._read_version()
            if version == self._version and not self._error:
                return
            self._version = version
            self._context = self._load()
        except (OSError, ValueError) as error:
            self._log_error(self._describe(error))
        else:
            self._error = ""
            log.info("tls_certificate_loaded", certificate=str(self._files[0]))

    def _log_error(self, error: str) -> None:
        """Logs each error once, because loading is tried again at every check."""
        if error != self._error:
            self._error = error
            log.error("tls_certificate_not_loaded", error=error, consequence="the previous one stays in use")

    def _read_version(self) -> _FileVersion:
        """Returns what changes with the files, even if they are replaced through symbolic links."""
        stats = [file.stat() for file in self._files]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files, password=_refuse_to_decrypt)
        return context

    def _describe(self, error: Exception) -> str:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error
        return f"{self._files[0]} and {self._files[1]}: {reason}"


def _refuse_to_decrypt() -> NoReturn:
    """Keeps OpenSSL from asking for the password on the terminal."""
    raise ValueError("the key is encrypted; store it without a password")


class TlsSite(web.BaseSite):
    """Listens on an address like `web.TCPSite`, with a certificate that may change."""

    def __init__(
        self, runner: web.BaseRunner, host: str, port: int, certificate: Certificate, *, backlog: int
    ) -> None:
        super().__init__(runner, backlog=backlog)
        self._address = (host, port)
        self._certificate = certificate

    @property
    def name(self) -> str:
        """The URL that it listens on."""
        host, port = self._address
        return f"https://{host}:{port}"

    async def start(self) -> None:
        """Starts to listen. Raises OSError if the address cannot be used."""
        await super().start()
        host, port = self._address
        addresses = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = _Listener(self._runner.server, self._certificate)
        for family, address in {(family, address[:2]) for family, *_, address in addresses}:
            listener.listen(socket.create_server(address, family=family, backlog=self._backlog))
        self._server = cast(asyncio.AbstractServer, listener)  # it has the attributes that aiohttp uses


class _Listener:
    """Accepts connections on its sockets, and runs their TLS handshakes.

    asyncio's own server neither limits the number of handshakes nor changes its certificate.
    """

    def __init__(self, protocol: Any, certificate: Certificate) -> None:
        self.sockets: list[socket.socket] = []
        self._protocol = protocol
        self._certificate = certificate
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: OrderedDict[asyncio.Task[None], None] = OrderedDict()

    def listen(self, listening: socket.socket) -> None:
        """Accepts connections on one more socket."""
        listening.setblocking(False)
        self.sockets.append(listening)
        self._accepting.append(asyncio.create_task(self._accept(listening), name="tls accept"))

    def close(self) -> None:
        """Stops accepting; open connections stay open."""
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        for listening in self.sockets:
            listening.close()
        self.sockets = []

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:  # no file descriptors are left, or the client has disconnected
                log.warning("connection_not_accepted", error=str(error))
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self._handshakes) >= MAX_HANDSHAKES:
                self._handshakes.popitem(last=False)[0].cancel()
            handshake = asyncio.create_task(self._handshake(accepted), name="tls handshake")
            self._handshakes[handshake] = None
            handshake.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _handshake(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=self._certificate.context(),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=HANDSHAKE_SECONDS,
            )
        except OSError as error:  # includes ssl.SSLError and TimeoutError
            accepted.close()
            log.debug("tls_handshake_failed", reason=type(error).__name__)
        except asyncio.CancelledError:
            accepted.close()
            raise
