"""TLS for outgoing connections: contexts whose connections resume the sessions of earlier ones.

A resumed handshake verifies no certificate and costs less. asyncio and uvloop have no argument for
a session, but both call `wrap_bio` of the context for each connection: that is where a session
goes in. It comes out when a connection closes, for a server of TLS 1.3 sends tickets after the
handshake. A context resumes only its own sessions, so connections that trust other authorities or
present another certificate share none: `tls` has the contexts of those.
"""

import ssl
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

#: The most sessions of one context; each holds the server's certificates, about 5 KiB.
MAX_SESSIONS = 4096
#: Seconds after which the certificates of a server are verified again.
MAX_SESSION_AGE = 3600.0

TrustStore = Literal["system", "certifi"]
MinimumVersion = Literal["1.2", "1.3"]

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsFiles(NamedTuple):
    """Paths of PEM files, and the key's password."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    password: str | None = None


class TlsContexts:
    """What all TLS of a daemon has in common, and contexts for connections without certificates."""

    def __init__(self, trust_store: TrustStore = "system", minimum_version: MinimumVersion = "1.2") -> None:
        """Sets what holds for all connections.

        Args:
            trust_store: the authorities where a connection names none: the system's, or those of
                the package certifi.
            minimum_version: the oldest version of TLS that is spoken.

        Raises:
            ValueError: certifi is not installed.
        """
        self._ca_file = _certifi_file() if trust_store == "certifi" else None
        self._minimum_version = _VERSIONS[minimum_version]
        self._contexts: dict[bool, ssl.SSLContext] = {}

    @property
    def ca_file(self) -> str | None:
        """The authorities for a library that takes no context; None: they are in no file."""
        return self._ca_file or ssl.get_default_verify_paths().cafile

    @property
    def minimum_version(self) -> ssl.TLSVersion:
        """The oldest version of TLS that is spoken."""
        return self._minimum_version

    def for_library(
        self, files: TlsFiles, *, verify: bool = True, check_hostname: bool = True
    ) -> ssl.SSLContext:
        """Returns a new context for a library that does not speak HTTP. Blocks: it reads files.

        Raises:
            OSError, TypeError, ValueError: a file cannot be read. The message may quote the
                password.
        """
        context = ssl.create_default_context(cafile=files.ca or self._ca_file)
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key, files.password)
        context.minimum_version = self._minimum_version
        context.check_hostname = verify and check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        return context

    def get(self, *, verify: bool) -> ssl.SSLContext:
        """Returns the context of connections without certificates; loads it at its first use."""
        context = self._contexts.get(verify)
        if context is None:
            context = self._contexts[verify] = self.adopt(ResumingContext(verify=verify))
        return context

    def adopt(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Returns a context with what all have in common.

        That is the version, the protocol, and the authorities if the context names none.
        """
        if context.minimum_version != self._minimum_version:
            context.minimum_version = self._minimum_version
        context.set_alpn_protocols(["http/1.1"])
        if isinstance(context, ResumingContext) and context.lacks_authorities:
            if self._ca_file is not None:
                context.load_verify_locations(cafile=self._ca_file)
            else:
                context.load_default_certs()
            context.lacks_authorities = False
        return context


def _certifi_file() -> str:
    try:
        import certifi  # noqa: PLC0415 - optional
    except ImportError:
        raise ValueError(
            "the trust store certifi needs a package that is not installed: pip install certifi"
        ) from None
    return certifi.where()


_OriginKey = tuple[str | bytes | None, int | None]

#: The port that a connection is opened to; the event loops give the context only the host.
PORT: ContextVar[int | None] = ContextVar("PORT", default=None)


class _Session(NamedTuple):
    """A session, when the certificates were verified, and whether it can be used only once."""

    session: ssl.SSLSession
    verified_at: float
    once: bool


class _ResumableObject(ssl.SSLObject):
    """A connection's TLS, whose session its context keeps when it closes."""

    #: Set by the context: the peer, when it opened, the session it offers, and what keeps its own.
    origin: _OriginKey
    opened_at: float
    offered: _Session | None
    keep_session: Callable[["_ResumableObject"], None]

    def getpeercert(self, binary_form: bool = False) -> Any:
        """Decodes no certificate: the event loops would keep it (3 KiB), and nothing reads it."""
        return super().getpeercert(binary_form=True) if binary_form else {}

    def unwrap(self) -> None:
        """Closes; both event loops call this when either side closes the connection in order."""
        self.keep_session(self)
        super().unwrap()


class ResumingContext(ssl.SSLContext):
    """A client's context that keeps the newest session of each origin."""

    def __new__(cls, *_: object, **__: object) -> Self:
        """Creates the context, as strict as `ssl.create_default_context`."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        if sys.version_info >= (3, 13):
            self.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        return self

    def __init__(
        self, ca: str | None = None, *, verify: bool = True, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Creates the context.

        Args:
            ca: a file or directory of the authorities; None: those that `TlsContexts` loads.
            verify: whether to verify certificates.
            monotonic: the clock by which sessions grow old.

        Raises:
            OSError: `ca` has no certificates.
        """
        self.lacks_authorities = verify and ca is None
        if not verify:
            self.check_hostname = False
            self.verify_mode = ssl.CERT_NONE
        elif ca is not None:
            self.load_verify_locations(**{"capath" if Path(ca).is_dir() else "cafile": ca})
        self.sslobject_class = _ResumableObject
        self._monotonic = monotonic
        self._sessions: OrderedDict[_OriginKey, _Session] = OrderedDict()

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Starts a connection with the session of the origin's last one, unless that is old."""
        origin = server_hostname, PORT.get()
        now = self._monotonic()
        known = self._sessions.get(origin)
        if known is not None and now - known.verified_at >= MAX_SESSION_AGE:
            known = None
        if known is not None:
            session = known.session
        made = cast(
            "_ResumableObject",
            super().wrap_bio(incoming, outgoing, server_side, server_hostname, session),
        )
        made.origin, made.opened_at, made.offered = origin, now, known
        made.keep_session = self._keep_session
        return made

    def _keep_session(self, made: _ResumableObject) -> None:
        """Keeps a new session. To copy it costs 100 µs, so one that works is used again.

        A server that refuses the second use of a session gets a new one each time.
        """
        offered, reused = made.offered, made.session_reused
        if reused and offered is not None and not offered.once:
            return
        session = made.session
        if session is None:
            return
        if reused and offered is not None:
            kept = offered._replace(session=session)
        else:
            kept = _Session(session, made.opened_at, once=offered is not None)
        self._sessions[made.origin] = kept
        self._sessions.move_to_end(made.origin)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
