"""Who may come in without authentication: programs on this machine, and no web page of another site.

A browser lets any page send simple requests to 127.0.0.1, and DNS can make any name point there. So the Host must be a loopback
name, an Origin must be our own, and a body must be of a type that no HTML form can send.

Where callers have to authenticate, no page can do that for them: then any Host and any Origin will do.
"""

import re

from aiohttp import hdrs, web

from waitd.api.problems import refusal

METHODS = frozenset({"GET", "HEAD", "POST"})
JSON = "application/json"
NDJSON = "application/x-ndjson"
#: What clients say of no body: nothing, or (aiohttp) that it is bytes. No page may send the second without asking first.
_NO_TYPE = frozenset({None, "application/octet-stream"})

_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


def check_method(request: web.Request) -> None:
    """Refuses methods that no route knows.

    Raises:
        ProblemError: 405.
    """
    if request.method not in METHODS and not isinstance(
        request.match_info.http_exception, web.HTTPMethodNotAllowed
    ):
        allowed = ", ".join(sorted(METHODS))
        raise refusal("method-not-allowed", f"allowed are: {allowed}", headers={hdrs.ALLOW: allowed})


def check_caller(request: web.Request) -> None:
    """Refuses what did not come from this machine's own programs or pages.

    Raises:
        ProblemError: 421 or 403.
    """
    host = request.headers.get(hdrs.HOST, "")
    # A target in absolute form names a host as well, and says more than the header.
    names_host = not request.raw_path.startswith("/")
    if not _LOOPBACK.fullmatch(host) or (names_host and not _LOOPBACK.fullmatch(request.url.raw_authority)):
        raise refusal("misdirected", "without authentication the Host must be localhost, 127.0.0.1 or [::1]")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin.lower() not in {f"http://{host.lower()}", f"https://{host.lower()}"}:
        raise refusal("forbidden-origin", "the Origin is another than the Host's own")


def check_content_type(request: web.Request, wanted: str, *, needs_body: bool) -> None:
    """Refuses a POST whose body is not of the type `wanted`. Without a body the type may be left out, where none is needed.

    Raises:
        ProblemError: 415.
    """
    given = request.headers.get(hdrs.CONTENT_TYPE)
    bare = None if given is None else given.partition(";")[0].strip().lower()
    if bare in _NO_TYPE and not needs_body and not request.body_exists:
        return
    if bare != wanted:
        raise refusal("unsupported-media-type", f"send it as Content-Type: {wanted}")
