"""Checks the head of every request before its body is read; sets the headers of every answer."""

from aiohttp import hdrs, web

from waitd.api.problems import refusal
from waitd.core.api_version import API_VERSION, API_VERSION_HEADER, format_version

#: The largest head, in bytes, and its largest number of headers. aiohttp bounds one line itself.
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100

#: The codings that a body may have, in lower case. A compressed body is never decompressed: a
#: megabyte of it may stand for a gigabyte.
_CODINGS = ((hdrs.CONTENT_ENCODING, "identity"), (hdrs.TRANSFER_ENCODING, "chunked"))
#: The headers of every answer that does not set them itself. A browser must not guess the type,
#: store the answer, or load it into a page of another site. `Server` hides the version.
_ANSWER_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    (hdrs.CACHE_CONTROL, "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (hdrs.SERVER, "waitd"),
    (API_VERSION_HEADER, format_version(API_VERSION)),
)


def check_head(request: web.BaseRequest) -> None:
    """Refuses a head that is too large, and a body that is compressed.

    Raises:
        ProblemError: 431, 415 or 417.
    """
    lines = request.raw_headers
    if len(request.path_qs) + sum(len(name) + len(value) + 4 for name, value in lines) > MAX_HEAD:
        raise refuse_head()
    for header, accepted in _CODINGS:
        for value in request.headers.getall(header, ()):
            if any(coding.strip().lower() not in {"", accepted} for coding in value.split(",")):
                raise refusal("unsupported-media-type", f"send the body without {header}: it is not decoded")
    if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
        raise web.HTTPExpectationFailed


def refuse_head() -> Exception:
    """Returns the refusal of a head that is too large."""
    return refusal("headers-too-large", f"the head of a request has at most {MAX_HEAD} bytes")


def add_answer_headers(response: web.StreamResponse) -> None:
    """Adds the headers of every answer, before it is sent."""
    for name, value in _ANSWER_HEADERS:
        response.headers.setdefault(name, value)
