"""Compiles wildcards and regular expressions over keys with RE2.

RE2 takes linear time, whatever the pattern. Python's `re` only splits wildcards into tokens.
"""

import re
from functools import lru_cache

import re2  # type: ignore[import-untyped]  # it ships no types

#: The longest program of a pattern, in RE2's instructions. It bounds the work for each byte of a
#: key.
MAX_PROGRAM = 2000
#: The most bytes that a prefix can have: the longest key.
_PREFIX_BYTES = 1024
#: Matches nothing, as RE2 has no lookahead to say so; and any one character.
_NEVER, _ANY = r"[^\x00-\x{10FFFF}]", "(?s:.)"
#: A token of a wildcard. A bracket at the start of a set is a member of it; a bracket that nothing
#: closes is a character like any other.
_TOKEN = re.compile(r"\*+|\?|\[(?P<set>!?+\]?+[^\]]*)\]|.", re.DOTALL)
#: A member of a set: a range or a single character.
_MEMBER = re.compile(r"(.)-(.)|(.)", re.DOTALL)


class Pattern:
    """A compiled pattern of keys.

    Attributes:
        prefix: the literal prefix of every match.
        program: its size, in RE2's instructions.
    """

    __slots__ = ("_matches", "prefix", "program")

    def __init__(self, expression: str, *, whole: bool) -> None:
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        try:
            compiled = re2.compile(expression, options)
        except re2.error as error:
            raise ValueError(f"the pattern is not valid in RE2: {_message(error)}") from None
        self.program: int = compiled.programsize
        if self.program > MAX_PROGRAM:
            raise ValueError("the pattern is too large: use fewer or smaller repetitions")
        self._matches = compiled.fullmatch if whole else compiled.match
        self.prefix = _prefix(compiled)

    def matches(self, key: str) -> bool:
        """Whether the pattern matches this key."""
        return self._matches(key.encode("utf-8", "surrogatepass")) is not None


@lru_cache(maxsize=1024)
def wildcard(text: str) -> Pattern:
    """Compiles a Unix wildcard over the whole key, case-sensitive, as Python's `fnmatch` reads it.

    `*` also matches slashes.

    Raises:
        ValueError: the pattern is too large.
    """
    return Pattern(_TOKEN.sub(_translated, text), whole=True)


@lru_cache(maxsize=1024)
def regex(text: str) -> Pattern:
    """Compiles a regular expression that matches at the beginning of the key, like `re.match`.

    Raises:
        ValueError: the pattern is not valid in RE2, or too large.
    """
    return Pattern(text, whole=False)


def _prefix(compiled: "re2._Regexp") -> str:
    low, high = compiled.possiblematchrange(_PREFIX_BYTES)
    different = (at for at, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1])
    prefix: bytes = low[: next(different, len(low))]
    return prefix.decode("utf-8", "ignore")  # drops a character that was cut in two


def _message(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _translated(token: re.Match[str]) -> str:
    """Translates one token of a wildcard to a regular expression."""
    if token[0].startswith("*"):
        return "(?s:.*)"
    if token[0] == "?":
        return _ANY
    return _class(token["set"]) if token["set"] else re2.escape(token[0])


def _class(inside: str) -> str:
    negated = inside.startswith("!")
    ranges = "".join(
        rf"\x{{{ord(low or single):X}}}-\x{{{ord(high or single):X}}}"
        for low, high, single in _MEMBER.findall(inside[negated:])
        if low <= high  # a reversed range is empty
    )
    if not ranges:
        return _ANY if negated else _NEVER
    return f"[{'^' if negated else ''}{ranges}]"
