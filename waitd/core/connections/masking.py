"""Masks secrets: replaces what a request carried wherever an answer or an error repeats it.

`SecretMask` finds a secret as it is, in base64 of any longer text, and behind escapes of JSON, URLs
and HTML, also nested ones. `waitd.core.connections.sent_secrets` says which
parts of a request are secrets. What is masked is shown as `***`, as Airflow does.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import cached_property, lru_cache
from html import unescape
from json import dumps

MASK = "***"
#: Shorter secrets are not searched: other texts have such a piece by chance, and would lose their
#: meaning.
MIN_SECRET = 4
#: Shorter secrets are not searched in base64 of a longer text: only the characters of whole bytes
#: are the same at each position, and these would be too few.
_MIN_INSIDE_BASE64 = 6
#: JSON has these outside of strings.
_JSON_WORDS = frozenset({"true", "false", "null"})
#: How many bytes of a secret are searched at first: a longer search costs more to prepare.
_PROBE = 8
#: Characters that few answers in JSON have, and others, the rarest first.
_RARE = "~^`|$#!@*+=XJYKWHzqjVBQ"
_LESS_RARE = "GPFMDxkULOCvNIARESwybgpfhmudlcnoirstaeZT/_-.9876543210 "
_STARS = MASK.encode()
#: How many escapes, one within the other, are decoded.
_LAYERS = 3
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[\"'\\/]"
    rb"|%[0-9a-fA-F]{2}|&(?:#[0-9]{2,7}|#[xX][0-9a-fA-F]{2,6}|quot|amp|apos|lt|gt);"
)
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?[0-9][0-9.eE+-]*+')

#: The start and the end of a piece of a text.
_Span = tuple[int, int]


class _Needles:
    """The written forms of secrets, prepared for a search in text.

    Python's search in bytes costs four times as much.
    """

    def __init__(self, forms: Sequence[bytes], words: Sequence[bytes]) -> None:
        self.forms = tuple(sorted(forms, key=len, reverse=True))
        self.words = tuple(words)
        #: A text with a form has one of those that contain no other.
        least = [form for form in forms if not any(each in form for each in forms if each != form)]
        self.filters = _filters([each.decode("latin-1") for each in (*least, *words)])

    def adding(self, form: str) -> "_Needles":
        """Returns the same with one more form; it costs little to prepare."""
        needles = copy(self)
        needles.forms = (form.encode(), *self.forms)
        needles.filters = (("", (form[-_PROBE:],)), *self.filters)
        return needles

    def lower(self) -> "_Needles":
        """Returns the same for a text in lower case."""
        forms, words = ([*{each.lower() for each in group}] for group in (self.forms, self.words))
        return _Needles(forms, words)

    def in_text(self, text: str) -> bool:
        """Whether a text, decoded as Latin-1, may have one of these."""
        for rare, probes in self.filters:
            if rare in text:
                for probe in probes:
                    if probe in text:
                        return True
        return False


def _filters(needles: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Pairs of a character and the ends of the needles that contain it.

    A few rare characters that all needles have are searched ten times as fast as the needles.
    """
    filters: list[tuple[str, tuple[str, ...]]] = []
    left = needles
    while left:
        rare = max(_RARE, key=lambda each: sum(each in needle for needle in left))
        if not any(rare in needle for needle in left):
            rare = next((each for each in _LESS_RARE if each in left[0]), "")
        filters.append((rare, tuple({needle[-_PROBE:] for needle in left if rare in needle})))
        left = [needle for needle in left if rare not in needle]
    return tuple(filters)


class SecretMask:
    """Masks the secrets of a request. Its `repr` shows none of them."""

    def __init__(self, secrets: Iterable[str], words: Iterable[str] = ()) -> None:
        """Prepares the search.

        Args:
            secrets: masked everywhere.
            words: user names: masked as whole words that are no keys of JSON, because many of them
                are words that other texts have.
        """
        self.secrets = tuple(filter(_is_searched, secrets))
        self.words = tuple(filter(_is_searched, words))
        forms = {form for secret in self.secrets for form in _forms(secret)}
        names = {word.encode("utf-8", "surrogatepass") for word in self.words}
        self._needles = _Needles([*forms], [*names])

    def __bool__(self) -> bool:
        """Whether there is anything to search for."""
        return bool(self._needles.filters)

    def adding(self, signature: str) -> "SecretMask":
        """Returns a mask of the signature of one request, too.

        Only the plain form is masked, which is cheap: a signature cannot be used again.
        """
        mask = copy(self)
        mask._needles = self._needles.adding(signature)  # noqa: SLF001 - its own copy
        mask.__dict__.pop("_lower", None)
        return mask

    def joined(self, other: "SecretMask") -> "SecretMask":
        """Returns a mask of what either masks."""
        if not other:
            return self
        return SecretMask((*self.secrets, *other.secrets), (*self.words, *other.words))

    def mask_bytes(self, raw: bytes) -> bytes:
        """Masks a body; JSON stays JSON. A body without a secret is returned as it is."""
        text, needles = raw.decode("latin-1"), self._needles
        if not needles.in_text(text) and (
            not ("\\" in text or "%" in text or "&" in text) or not _has_escaped(raw, needles)
        ):
            return raw
        for form in needles.forms:
            if form.isdigit() and form in raw and raw.lstrip()[:1] in b'{["-0123456789':
                raw = _STRING_OR_NUMBER.sub(_mask_number(form), raw)
        return _mask(raw, raw, needles)

    def mask_text(self, text: str) -> str:
        """Masks a text, in which the case of letters may have been changed."""
        raw, needles = text.encode("utf-8", "surrogatepass"), self._lower
        lower = raw.lower()
        if not needles.in_text(lower.decode("latin-1")) and not _has_escaped(lower, needles):
            return text
        return _mask(raw, lower, needles).decode("utf-8", "surrogatepass")

    @cached_property
    def _lower(self) -> _Needles:
        return self._needles.lower()

    def finds_secret(self, text: str) -> bool:
        """Whether a text has a secret; user names do not count."""
        raw = text.encode("utf-8", "surrogatepass")
        return any(form in layer for layer in (raw, *_decoded(raw)) for form in self._needles.forms)

    def mask_headers(self, headers: dict[str, str]) -> dict[str, str]:
        """Masks names and values."""
        joined = "\n".join((*headers, *headers.values()))
        if self.mask_text(joined) == joined:
            return headers
        return {self.mask_text(name): self.mask_text(value) for name, value in headers.items()}


def _is_searched(secret: str) -> bool:
    return len(secret) >= MIN_SECRET and secret not in _JSON_WORDS


@lru_cache(maxsize=1024)
def _forms(secret: str) -> tuple[bytes, ...]:
    """How a secret is written, apart from escapes.

    These are the ways in which servers repeat a request: as it is, as JSON in base64, as bytes in
    hex. A server that wants to hide a secret from the mask can always do so, since it knows the
    secret. So none is searched in other alphabets, in parts, backwards, compressed, or in base64
    that is broken into lines or encoded again: each search would make every poke dearer.
    """
    raw = secret.encode("utf-8", "surrogatepass")
    forms = [raw, raw.replace(b" ", b"+"), raw.hex().encode(), raw.hex().upper().encode()]
    if not secret.isascii():
        forms.append(secret.encode("latin-1", "replace"))
    encoded = [b64encode(raw)]
    if len(raw) >= _MIN_INSIDE_BASE64:
        json = (
            dumps(secret)[1:-1].encode(),
            dumps(secret, ensure_ascii=False)[1:-1].encode("utf-8", "replace"),
        )
        encoded += [_inside_base64(each, before) for each in {raw, *json} for before in range(3)]
    encoded += [form.translate(_URL_SAFE) for form in encoded]
    return tuple(dict.fromkeys((*forms, *encoded)))


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _inside_base64(raw: bytes, before: int) -> bytes:
    """The characters in base64 of any text with `raw` after 3 n + `before` bytes."""
    encoded = b64encode(bytes(before) + raw)
    return encoded[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]


def _mask_number(digits: bytes) -> Callable[[re.Match[bytes]], bytes]:
    """Makes a number of JSON that contains these digits a masked string."""

    def replace(token: re.Match[bytes]) -> bytes:
        text = token[0]
        return text if text.startswith(b'"') or digits not in text else b'"' + _STARS + b'"'

    return replace


def _mask(raw: bytes, text: bytes, needles: _Needles) -> bytes:
    """Replaces the pieces of `raw` where `text`, which is as long, has a form or a word."""
    spans = [*_find(text, needles), *_find_escaped(text, needles)]
    pieces, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            pieces += [raw[end:start], _STARS]
        end = max(end, stop)
    return b"".join((*pieces, raw[end:])) if spans else raw


def _find(text: bytes, needles: _Needles) -> Iterator[_Span]:
    for form in needles.forms:
        at = text.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = text.find(form, at + len(form))
    for word in needles.words:
        if word in text:
            yield from (match.span() for match in _whole_word(word).finditer(text))


@lru_cache(maxsize=1024)
def _whole_word(word: bytes) -> re.Pattern[bytes]:
    """Matches a word that is not part of a longer one, and is no key of JSON."""
    literal = re.escape(word)
    return re.compile(rb"%b(?<![\w-]%b)(?![\w-])(?!\"\s*:)" % (literal, literal))


def _decoded(text: bytes) -> Iterator[bytes]:
    """The text without one layer of escapes, without two, and so on."""
    for _ in range(_LAYERS):
        decoded = _ESCAPE.sub(_character, text)
        if decoded == text:
            return
        yield (text := decoded)


def _has_escaped(text: bytes, needles: _Needles) -> bool:
    """Whether decoding escapes gives a text that may have one of `needles`."""
    return any(needles.in_text(layer.decode("latin-1")) for layer in _decoded(text))


def _find_escaped(text: bytes, needles: _Needles) -> Iterator[_Span]:
    """Finds what only the decoded text has; returns where it is in `text`."""
    if not _has_escaped(text, needles):
        return
    origins: Sequence[int] = range(len(text) + 1)
    for _ in range(_LAYERS):
        decoded, positions, end = bytearray(), list[int](), 0
        for escape in _ESCAPE.finditer(text):
            character = _character(escape)
            decoded += text[end : escape.start()] + character
            positions += origins[end : escape.start()]
            positions += [origins[escape.start()]] * len(character)
            end = escape.end()
        text, origins = bytes(decoded + text[end:]), [*positions, *origins[end:]]
        yield from ((origins[start], origins[stop]) for start, stop in _find(text, needles))


def _character(escape: re.Match[bytes]) -> bytes:
    """The bytes that an escape stands for."""
    text = escape[0]
    if text.startswith(b"%"):
        return bytes.fromhex(text[1:].decode())
    if text.startswith(b"&"):
        return unescape(text.decode()).encode("utf-8", "replace")
    if text[1:2] == b"x":
        return bytes.fromhex(text[2:].decode())
    if text[1:2] != b"u":
        return text[1:]
    code = int(text[2:6], 16)
    if len(text) > 6:  # a pair of surrogates
        code = 0x10000 + ((code - 0xD800) << 10) + int(text[8:], 16) - 0xDC00
    return chr(code).encode("utf-8", "surrogatepass")
