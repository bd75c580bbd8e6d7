"""The API over TLS: a certificate that is loaded anew when its files change, and the site that greets each connection with it."""

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

#: How long a handshake may take, and the farewell after the last answer, in seconds.
HANDSHAKE_SECONDS = 10.0
#: How many handshakes may be under way; who comes then takes the place of the one that has taken longest.
MAX_HANDSHAKES = 512
#: How often the files are looked at, at most, in seconds; and how long nothing is accepted where that fails.
LOOK_SECONDS = 1.0

_Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate and its key, of two files in PEM. Each connection gets those that the files hold when it comes.

    A pair that does not load (half-written, of two different keys, encrypted) changes nothing: it is logged, and the one before
    stays in use. Reading blocks for less than a millisecond, and only when the files have changed.
    """

    def __init__(self, certificate: Path, key: Path, *, now: Callable[[], float]) -> None:
        """`now`: monotonic, seconds.

        Raises:
            WaitdError: the pair does not load.
        """
        self._files = (certificate, key)
        self._now = now
        self._looked_at = now()
        self._trouble = ""
        try:
            self._seen = self._stamp()
            self._context = self._load()
        except (OSError, ValueError) as error:
            raise WaitdError(f"the TLS certificate cannot be used: {self._why(error)}") from None

    def context(self) -> ssl.SSLContext:
        """What a new connection is greeted with."""
        now = self._now()
        if now >= self._looked_at + LOOK_SECONDS:
            self._looked_at = now
            self._look()
        return self._context

    def _look(self) -> None:
        try:
            stamp = self._stamp()
            if stamp == self._seen and not self._trouble:
                return
            self._seen = stamp
            self._context = self._load()
        except (OSError, ValueError) as error:
            self._complain(self._why(error))
        else:
            self._trouble = ""
            log.info("tls_certificate_loaded", certificate=str(self._files[0]))

    def _complain(self, why: str) -> None:
        """Once for each reason: it is tried again with every look."""
        if why != self._trouble:
            self._trouble = why
            log.error("tls_certificate_not_loaded", why=why, consequence="the one before stays in use")

    def _stamp(self) -> _Stamp:
        """What changes when the files do; a mounted secret is a symbolic link that is led elsewhere."""
        found = [file.stat() for file in self._files]
        return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files, password=_refuse_to_decrypt)
        return context

    def _why(self, error: Exception) -> str:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error
        return f"{self._files[0]} and {self._files[1]}: {reason}"


def _refuse_to_decrypt() -> NoReturn:
    """OpenSSL would ask for the password on the terminal otherwise."""
    raise ValueError("the key is encrypted; give it without a password")


class TlsSite(web.BaseSite):
    """Listens on an address as `web.TCPSite` does, and greets each connection with the certificate of that moment."""

    def __init__(
        self, runner: web.BaseRunner, host: str, port: int, certificate: Certificate, *, backlog: int
    ) -> None:
        super().__init__(runner, backlog=backlog)
        self._place = (host, port)
        self._certificate = certificate

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = self._place
        return f"https://{host}:{port}"

    async def start(self) -> None:
        """Begins to listen. Raises OSError: the address cannot be listened on."""
        await super().start()
        host, port = self._place
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = _Listener(self._runner.server, self._certificate)
        for family, address in {(family, address[:2]) for family, *_, address in found}:
            listener.listen(socket.create_server(address, family=family, backlog=self._backlog))
        self._server = cast(asyncio.AbstractServer, listener)  # it has what aiohttp asks one for


class _Listener:
    """Sockets that are accepted on, and the handshakes that are under way.

    asyncio's own server would do the handshakes too, but neither count them nor take another certificate for the next.
    """

    def __init__(self, protocol: Any, certificate: Certificate) -> None:
        self.sockets: list[socket.socket] = []
        self._protocol = protocol
        self._certificate = certificate
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: OrderedDict[asyncio.Task[None], None] = OrderedDict()

    def listen(self, listening: socket.socket) -> None:
        """Accepts on one more socket."""
        listening.setblocking(False)
        self.sockets.append(listening)
        self._accepting.append(asyncio.create_task(self._accept(listening), name="tls accept"))

    def close(self) -> None:
        """Accepts no more; connections that are open stay."""
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
            except OSError as error:  # no file descriptors left, or the caller has gone already
                log.warning("connection_not_accepted", why=str(error))
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if len(self._handshakes) >= MAX_HANDSHAKES:
                self._handshakes.popitem(last=False)[0].cancel()
            handshake = asyncio.create_task(self._greet(accepted), name="tls handshake")
            self._handshakes[handshake] = None
            handshake.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _greet(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=self._certificate.context(),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=HANDSHAKE_SECONDS,
            )
        except OSError as error:  # ssl.SSLError and TimeoutError are of its kind
            accepted.close()
            log.debug("tls_handshake_failed", reason=type(error).__name__)
        except asyncio.CancelledError:
            accepted.close()
            raise
