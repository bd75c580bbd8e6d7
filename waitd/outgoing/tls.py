"""TLS contexts of connections that name their own certificates."""

import asyncio
import ssl
from functools import lru_cache
from pathlib import Path

from waitd.core.connections.http_options import ClientTls
from waitd.outgoing.tls_sessions import ResumingContext

#: How many contexts are kept; one with the system's certificates takes 0.5 MB.
_MAX_CONTEXTS = 256

#: A file's inode, time of change and size; a mounted secret is a link, whose inode changes.
_FileVersion = tuple[int, int, int]


async def client_tls(tls: ClientTls) -> bool | ssl.SSLContext:
    """What aiohttp and the probes' transport take as `ssl`: whether to verify, or a context.

    Equal options share one context until one of their files changes, so that they share
    connections.

    Raises:
        ValueError: a file cannot be read, or holds no certificate or key. The message names it.
    """
    if not isinstance(tls.verify, str) and tls.cert is None:
        return tls.verify
    return await asyncio.to_thread(_current_context, tls)


def _current_context(tls: ClientTls) -> ssl.SSLContext:
    """Blocks."""
    ca = tls.verify if isinstance(tls.verify, str) else None
    named = {"verify": ca, "cert": tls.cert, "key of cert": tls.key}
    versions = tuple(_version(extra, path) for extra, path in named.items() if path is not None)
    return _context(tls, versions)


def _version(extra: str, path: str) -> _FileVersion:
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a path"
        raise ValueError(f"the extra's {extra} names {_shown(path)}, which cannot be read: {why}") from None
    return status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=_MAX_CONTEXTS)
def _context(tls: ClientTls, _: tuple[_FileVersion, ...]) -> ssl.SSLContext:
    context = _verifying_context(tls.verify)
    if tls.cert is not None:
        _load_certificate(context, tls.cert, tls.key)
    return context


def _verifying_context(verify: bool | str) -> ssl.SSLContext:
    if not isinstance(verify, str):
        return ResumingContext(verify=verify)
    try:
        return ResumingContext(verify)
    except OSError as error:
        raise ValueError(
            f"the extra's verify names {verify!a}, which has no CA certificates: {_why(error)}"
        ) from None


def _load_certificate(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    try:
        context.load_cert_chain(cert, key, password=_refuse_to_decrypt)
    except (OSError, ValueError) as error:
        files = f"{cert!a} and {key!a}" if key else f"{cert!a}"
        raise ValueError(
            f"the extra's cert names {files}, which must hold a certificate and its unencrypted key: {_why(error)}"
        ) from None


def _shown(path: str) -> str:
    """Returns a path for a message; another text may be the key itself, or another secret."""
    if path.startswith("/") and path.isprintable():
        return f"{path!a}"
    return "what is not an absolute path"


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _refuse_to_decrypt() -> str:
    """Without it, OpenSSL asks for a password on the terminal."""
    raise ValueError("the key is encrypted")
