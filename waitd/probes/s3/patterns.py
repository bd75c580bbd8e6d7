"""Patterns of keys, wildcards and regular expressions, on RE2: linear in time whatever the pattern. `re` never sees them."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import re2  # type: ignore[import-untyped]  # it ships no types

#: The longest program of a pattern, in RE2's instructions: a bound on the work per byte of a key.
MAX_PROGRAM = 2000
#: How many bytes RE2 looks at to find out what a match begins with; a key has at most as many.
_PREFIX_BYTES = 1024
#: Matches no text. RE2 has no lookahead, and this is its own way to write that.
_NEVER, _ANY = r"[^\x00-\x{10FFFF}]", "(?s:.)"


class Pattern:
    """A compiled pattern of keys.

    Attributes:
        prefix: what every match begins with.
        program: how large it is, in RE2's instructions.
    """

    __slots__ = ("_matches", "prefix", "program")

    def __init__(self, expression: str, *, whole: bool) -> None:
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        try:
            compiled = re2.compile(expression, options)
        except re2.error as error:
            raise ValueError(f"RE2 does not take it: {_told(error)}") from None
        self.program: int = compiled.programsize
        if self.program > MAX_PROGRAM:
            raise ValueError("it is too large: fewer or smaller repetitions are needed")
        self._matches = compiled.fullmatch if whole else compiled.match
        self.prefix = _prefix(compiled)

    def matches(self, key: str) -> bool:
        """Whether the pattern takes this key."""
        return self._matches(key.encode("utf-8", "surrogatepass")) is not None


@lru_cache(maxsize=1024)
def wildcard(text: str) -> Pattern:
    """A Unix wildcard over the whole key, case-sensitive, as Python's `fnmatch` reads it (`*` matches slashes, too).

    Raises:
        ValueError: it is too large.
    """
    return Pattern("".join(_translated(text)), whole=True)


@lru_cache(maxsize=1024)
def regex(text: str) -> Pattern:
    """A regular expression that matches from the key's beginning on, as `re.match` does.

    Raises:
        ValueError: RE2 does not take it, or it is too large.
    """
    return Pattern(text, whole=False)


def _prefix(compiled: "re2._Regexp") -> str:
    low, high = compiled.possiblematchrange(_PREFIX_BYTES)
    common = next(
        (at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low)
    )
    beginning: bytes = low[:common]
    return beginning.decode("utf-8", "ignore")  # a character cut in two is left out


def _told(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _translated(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "*":
            yield "(?s:.*)"
            while text[at : at + 1] == "*":
                at += 1
        elif character == "?":
            yield _ANY
        elif character == "[" and (end := _closing(text, at)) > 0:
            yield _class(text[at:end])
            at = end + 1
        else:
            yield re2.escape(character)


def _closing(text: str, at: int) -> int:
    """Where the set that begins at `at` ends; a bracket right at its beginning belongs to it. -1: nowhere."""
    start = at + (text[at : at + 1] == "!")
    return text.find("]", start + (text[start : start + 1] == "]"))


def _class(inside: str) -> str:
    negated = inside.startswith("!")
    ranges = "".join(
        rf"\x{{{ord(low):X}}}-\x{{{ord(high):X}}}"
        for low, high in _ranges(inside[negated:])
        if low <= high  # a range the wrong way round is empty
    )
    if not ranges:
        return _ANY if negated else _NEVER
    return f"[{'^' if negated else ''}{ranges}]"


def _ranges(characters: Sequence[str]) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(characters):
        if at + 2 < len(characters) and characters[at + 1] == "-":
            yield characters[at], characters[at + 2]
            at += 3
        else:
            yield characters[at], characters[at]
            at += 1
