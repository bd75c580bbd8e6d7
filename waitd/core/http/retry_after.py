"""`Retry-After` in both its forms (RFC 9110, 10.2.3)."""

from datetime import UTC
from email.utils import parsedate_to_datetime

#: More than this, in seconds, is read as this: nobody can mean it, and sums with it stay finite.
LONGEST_RETRY_AFTER = 366 * 86_400.0


def parse_retry_after(value: str | None, now: float, date: str | None = None) -> float | None:
    """How many seconds a server asks to be left alone; None where it does not say, or not so that it can be read.

    Args:
        value: the `Retry-After` header: seconds, or an HTTP date.
        now: Unix seconds, used where `date` is missing.
        date: the same answer's `Date` header. An HTTP date is read against it, so that the server's clock may be wrong.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:12]), LONGEST_RETRY_AFTER)
    until = _unix_seconds(value)
    if until is None:
        return None
    since = _unix_seconds(date) if date is not None else None
    return min(max(until - (now if since is None else since), 0.0), LONGEST_RETRY_AFTER)


def _unix_seconds(http_date: str) -> float | None:
    try:
        at = parsedate_to_datetime(http_date)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
