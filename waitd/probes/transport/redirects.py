"""What a redirect asks for: where it leads, and with which cookies."""

import re
from collections.abc import Sequence
from http.cookies import Morsel
from urllib.parse import quote

import aiohttp
from yarl import URL

from waitd.core.connections.connection import Origin, parse_origin

REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: What a URL consists of. Servers also send other characters, which are percent-encoded.
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def resolve_location(url: str, location: str) -> tuple[str, Origin]:
    """Resolves a location that an answer from `url` names; returns its URL and origin.

    Path and query stay as the server wrote them, since it may have signed them. Only a relative
    path is joined to that of `url`.

    Raises:
        ValueError: the location is malformed, or parsers may disagree about it.
    """
    if "\\" in location:
        raise ValueError("it contains a backslash")
    written = quote(location.partition("#")[0].strip(), safe=_PRINTABLE, errors="surrogateescape")
    base = URL(url, encoded=True)
    if written.startswith("//"):
        resolved = f"{base.scheme}:{written}"
    elif written.startswith("/"):
        resolved = f"{base.scheme}://{base.raw_authority}{written}"
    elif _SCHEME.match(written):
        resolved = written
    else:
        resolved = str(base.join(URL(written, encoded=True)).with_fragment(None))
    return resolved, parse_origin(resolved)


class ChainCookies:
    """The cookies that answers of a chain of redirects set, for later requests of the chain."""

    def __init__(self, own: str | None) -> None:
        """`own` is the first request's `Cookie` header; a cookie set later replaces one of it."""
        self._own = [pair.strip() for pair in (own or "").split(";") if pair.strip()]
        self._jar = aiohttp.CookieJar(unsafe=True, quote_cookie=False)  # unsafe: of IP addresses, too

    def keep(self, fields: Sequence[str], url: str) -> None:
        """Keeps the cookies that the `Set-Cookie` fields of an answer from this URL set."""
        # For aiohttp, a cookie that expires in the first second of 1970 never does.
        dated = [field.replace("1970 00:00:00", "1970 00:00:01") for field in fields]
        self._jar.update_cookies_from_headers(dated, URL(url, encoded=True))

    def header(self, url: str) -> str:
        """The `Cookie` header for a request to this URL."""
        matching = self._jar.filter_cookies(URL(url, encoded=True))
        own = [pair for pair in self._own if pair.partition("=")[0] not in matching]
        return "; ".join([*own, *(f"{name}={self._written(each)}" for name, each in matching.items())])

    def _written(self, cookie: Morsel[str]) -> str:
        """A value as the server wrote it; the jar gives what is between quotes."""
        stored = (morsels[cookie.key] for morsels in self._jar.cookies.values() if cookie.key in morsels)
        return next(each.coded_value for each in stored if each.value == cookie.value)
