"""Guards an API without authentication: only programs on this machine may call it, no web pages.

A browser lets any page send simple requests to 127.0.0.1, and DNS can make any name point there. So
the Host must be a loopback name, an Origin must be the API's own, and a body must be of a type that
no HTML form can send. Where callers authenticate, a page has no token: any Host and Origin is
accepted.
"""

import re

from aiohttp import hdrs, web

from waitd.api.problems import refusal

METHODS = frozenset({"GET", "HEAD", "POST"})
JSON = "application/json"
NDJSON = "application/x-ndjson"
#: The Content-Type of a request without a body: none, or bytes, as aiohttp's client sends it.
#: Browsers send the second only after a preflight request.
_NO_TYPE = frozenset({None, "application/octet-stream"})

#: The values of Sec-Fetch-Site that the API's own pages and typed addresses have.
_OWN_SITES = frozenset({"same-origin", "none"})
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


def check_method(request: web.Request) -> None:
    """Refuses methods that no route has.

    Raises:
        ProblemError: 405.
    """
    if request.method not in METHODS and not isinstance(
        request.match_info.http_exception, web.HTTPMethodNotAllowed
    ):
        allowed = ", ".join(sorted(METHODS))
        raise refusal(
            "method-not-allowed", f"the allowed methods are: {allowed}", headers={hdrs.ALLOW: allowed}
        )


def check_origin(request: web.Request) -> None:
    """Refuses requests that a page of another site may have sent.

    Browsers name the site of the page in Sec-Fetch-Site, also where they send no Origin. A page of
    another port is of the same site.

    Raises:
        ProblemError: 421 or 403.
    """
    host = request.headers.get(hdrs.HOST, "")
    # A target in absolute form names a host as well, and takes precedence over the header.
    names_host = not request.raw_path.startswith("/")
    if not _LOOPBACK.fullmatch(host) or (names_host and not _LOOPBACK.fullmatch(request.url.raw_authority)):
        raise refusal("misdirected", "without authentication the Host must be localhost, 127.0.0.1 or [::1]")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin.lower() not in {f"http://{host.lower()}", f"https://{host.lower()}"}:
        raise refusal("forbidden-origin", "the Origin must be that of the Host")
    if not all(site.lower() in _OWN_SITES for site in request.headers.getall("Sec-Fetch-Site", ())):
        raise refusal(
            "forbidden-origin",
            "the header Sec-Fetch-Site says that a page of another origin sent this; without authentication"
            " only programs and the API's own pages may call it",
        )


def check_content_type(request: web.Request, expected: str, *, required: bool) -> None:
    """Refuses a POST whose body is not of the type `expected`.

    A request without a body needs no type, unless a body is `required`.

    Raises:
        ProblemError: 415.
    """
    header = request.headers.get(hdrs.CONTENT_TYPE)
    content_type = None if header is None else header.partition(";")[0].strip().lower()
    if content_type in _NO_TYPE and not required and not request.body_exists:
        return
    if content_type != expected:
        raise refusal("unsupported-media-type", f"send it as Content-Type: {expected}")
