"""Suggests the name that a mistyped one resembles."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Returns `; did you mean X?`, or "" if none of the names is alike."""
    alike = get_close_matches(str(name)[:100], list(names), 1)
    return f"; did you mean {alike[0]}?" if alike else ""
