"""HTTP header values: which request headers a submitter may set, and what `Retry-After` means."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase

from waitd.core.errors import Problem

#: Headers that frame the message or belong to the connection (RFC 9110, section 7.6.1). Only the
#: HTTP client sets them.
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
#: Longer `Retry-After` values are capped to this many seconds, so that sums with them stay finite.
LONGEST_RETRY_AFTER = 366 * 86_400.0
_KEEP_ALIVE = re.compile(r"\btimeout=(\d{1,9})\b", re.IGNORECASE | re.ASCII)
#: An idle connection is closed this much earlier than the server would, in seconds: that is noticed
#: up to a second late, and a request takes a moment to get there.
_KEEP_ALIVE_MARGIN = 2.0
#: The pause after a rate limit that does not say when it ends, in seconds.
DEFAULT_RATE_LIMIT_PAUSE = 60.0
#: Larger resets of a rate limit are Unix seconds, smaller ones are relative.
_UNIX_RESET = 1e9
#: Larger ones are Unix milliseconds.
_UNIX_MILLISECONDS = 1e11
#: A longer value of a header that says when to ask again is malformed, in characters.
_LONGEST_VALUE = 500
#: The seconds of `Retry-After`, perhaps with a unit or followed by other values.
_SECONDS = re.compile(
    r"\s*\+?([0-9]{1,400}(?:\.[0-9]{0,9})?)(?:\s*(?:s|sec|seconds))?\s*(?:$|[,;])", re.IGNORECASE
)
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{0,9})?")
_NOTHING = re.compile(r"0(\.0*)?|-[0-9.]+")
#: The field RateLimit, in the forms of its drafts: `"a";r=0;t=30` and `remaining=0, reset=30`.
_NONE_LEFT = re.compile(r"(?:^|[;,\s])(?:r|remaining)=0(?:$|[;,\s])")
_RESET = re.compile(r"(?:^|[;,\s])(?:t|reset)=([0-9]+)")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def header_problems(headers: Mapping[str, str], patterns: Sequence[str]) -> list[Problem]:
    """What is wrong with a submitter's request headers; an empty list if nothing is.

    Args:
        headers: header names and values.
        patterns: names of secret headers with `*` (the setting `secret_headers`). Case is ignored,
            and `_` equals `-`, because many servers treat the two alike.

    Returns:
        Problems whose pointers are relative to `headers`. No message quotes a value.
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
    normalized = name.lower().replace("_", "-")
    if normalized in FRAMING_HEADERS:
        return "this header is set by the HTTP client and cannot be changed"
    if any(fnmatchcase(normalized, pattern.lower().replace("_", "-")) for pattern in patterns):
        return "secrets do not belong in a wait; put this header into a connection and name it by its conn_id"
    if not value.replace("\t", " ").isprintable():
        return "control characters are not allowed in a header"
    return None


def parse_retry_after(value: str | None, now: float, date: str | None = None) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110, section 10.2.3).

    Args:
        value: the header: a number of seconds, or an HTTP date. Fractions, Unix times and dates of
            ISO 8601 are accepted, too; of several values, the first counts.
        now: Unix seconds; an HTTP date is relative to this time if `date` is missing.
        date: the `Date` header of the same response. A date in `value` is relative to it, so that a
            server whose clock is wrong is still understood.

    Returns:
        Seconds, at most `LONGEST_RETRY_AFTER`; None if the header is missing or malformed.
    """
    if value is None or len(value) > _LONGEST_VALUE:
        return None
    number = _SECONDS.match(value)
    if number:
        return _pause(float(number[1]), now)
    until = parse_date(value.strip())
    if until is None:
        return None
    since = parse_date(date) if date is not None else None
    return min(max(until - (now if since is None else since), 0.0), LONGEST_RETRY_AFTER)


def parse_keep_alive(value: bytes | str) -> float:
    """The seconds that a `Keep-Alive` header lets a connection be idle; inf without a limit."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    match = _KEEP_ALIVE.search(text)
    if match is None:
        return math.inf
    seconds = float(match[1])
    return seconds - min(_KEEP_ALIVE_MARGIN, seconds / 2)


def parse_rate_limit(headers: Mapping[str, str], now: float) -> float | None:
    """The pause in seconds that an exhausted rate limit asks for; None if none is exhausted.

    Args:
        headers: `X-RateLimit-Remaining` and `-Reset`, the same without `X-`, or `RateLimit`. Their
            names are found in any case.
        now: Unix seconds.
    """
    for prefix in ("X-RateLimit-", "RateLimit-", "X-Rate-Limit-"):
        if _NOTHING.fullmatch(headers.get(f"{prefix}Remaining", "").strip()):
            return _reset_pause(headers.get(f"{prefix}Reset", "").strip(), now)
    combined = headers.get("RateLimit", "")
    exhausted = _NONE_LEFT.search(combined)
    if exhausted is None:
        return None
    reset = _RESET.search(combined, exhausted.start()) or _RESET.search(combined)
    return _reset_pause(reset[1] if reset else "", now)


def _reset_pause(reset: str, now: float) -> float:
    if not _NUMBER.fullmatch(reset):
        return DEFAULT_RATE_LIMIT_PAUSE
    return _pause(float(reset), now)


def _pause(seconds: float, now: float) -> float:
    """The seconds from now: `seconds` are that, or a Unix time."""
    if seconds > _UNIX_MILLISECONDS:
        seconds /= 1000
    pause = seconds - now if seconds > _UNIX_RESET else seconds
    return min(max(pause, 0.0), LONGEST_RETRY_AFTER)


def parse_date(date: str) -> float | None:
    """The Unix seconds of an HTTP date or an ISO 8601 date; None if it is neither."""
    try:
        iso = date[:4].isdecimal() and date[4:5] == "-"
        moment = datetime.fromisoformat(date) if iso else parsedate_to_datetime(date)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
