"""Which request headers a submitter may set. Shared by every kind and sink that sends HTTP."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from waitd.core.errors import Problem

#: Headers that frame the message or belong to the hop; the HTTP client alone sets them (RFC 9110, 7.6.1).
FRAMING_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
    }
)
MAX_HEADERS = 64
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def header_problems(headers: Mapping[str, str], patterns: Sequence[str]) -> list[Problem]:
    """What is wrong with these request headers; an empty list where nothing is.

    `patterns` are names with `*` (the `secret_headers` setting), compared without regard to case, and to `_` for `-`, which many servers
    take for the same. Pointers are relative to `headers`; no message quotes a value.
    """
    problems = [
        Problem("/" + name.replace("~", "~0").replace("/", "~1"), detail)
        for name, value in headers.items()
        if (detail := _refusal(name, value, patterns))
    ]
    if len(headers) > MAX_HEADERS:
        problems.append(Problem("", f"{len(headers)} headers are more than {MAX_HEADERS}"))
    return problems


def _refusal(name: str, value: str, patterns: Sequence[str]) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "a header name is one or more letters, digits and !#$%&'*+-.^_`|~"
    plain = name.lower().replace("_", "-")
    if plain in FRAMING_HEADERS:
        return "this header belongs to the HTTP client and cannot be set"
    if any(fnmatchcase(plain, pattern.lower().replace("_", "-")) for pattern in patterns):
        return "secrets do not belong in a wait; put this header into a connection and name it by its conn_id"
    if not value.replace("\t", " ").isprintable():
        return "control characters are not allowed in a header"
    return None
