"""Secrets that a test plants, and the search for them in every form in which they could come out."""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus


def forms_of(secret: str) -> frozenset[bytes]:
    """How a secret could be written: plain, JSON-escaped, percent-encoded, as hex, as base64 of it alone or of anything around it."""
    plain = secret.encode()
    found = {plain, json.dumps(secret)[1:-1].encode(), repr(secret)[1:-1].encode(), plain.hex().encode()}
    for encoded in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        found |= {encoded.encode(), encoded.lower().encode()}
        found |= set(_base64_of(encoded.encode()))
    return frozenset(found | set(_base64_of(plain)))


def _base64_of(text: bytes) -> Iterable[bytes]:
    """What base64 makes of it, whatever stands before it: the characters that do not depend on its neighbours."""
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + text)
        inner = encoded[(before * 8 + 5) // 6 : -4]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")


@dataclass
class Planted:
    """All secrets of one test, by where they were planted."""

    secrets: dict[str, str] = field(default_factory=dict)

    def new(self, where: str, *, plain: bool = False) -> str:
        """A secret of its own; `plain`: of characters that every header and token may have."""
        unique = secrets.token_hex(12)
        self.secrets[where] = f"pl{unique}" if plain else f"pl/{unique}+&=%:ü{unique[:4]}"
        return self.secrets[where]

    def also(self, where: str, secret: str) -> None:
        """One that was made elsewhere."""
        self.secrets[where] = secret

    def found_in(self, places: Mapping[str, bytes]) -> list[str]:
        """Which secret is where; empty where none is anywhere."""
        return [
            f"the secret of {where} is in {place}"
            for where, secret in self.secrets.items()
            for place, text in places.items()
            if any(form in text for form in forms_of(secret))
        ]
