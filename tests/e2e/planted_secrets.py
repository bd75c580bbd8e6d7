"""Plants secrets in a test, and searches outputs for them in every encoding."""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus


def encodings(secret: str) -> frozenset[bytes]:
    """The secret as plain text, JSON, repr, percent-encoded, hex, and in base64 of any text."""
    plain = secret.encode()
    result = {plain, json.dumps(secret)[1:-1].encode(), repr(secret)[1:-1].encode(), plain.hex().encode()}
    for encoded in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        result |= {encoded.encode(), encoded.lower().encode()}
        result |= set(_base64_forms(encoded.encode()))
    return frozenset(result | set(_base64_forms(plain)))


def _base64_forms(text: bytes) -> Iterable[bytes]:
    """The base64 characters that depend only on the text, for each alignment."""
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + text)
        inner = encoded[(before * 8 + 5) // 6 : -4]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")


@dataclass
class PlantedSecrets:
    """The secrets of a test, by the place where they were planted."""

    secrets: dict[str, str] = field(default_factory=dict)

    def new(self, where: str, *, plain: bool = False) -> str:
        """Makes and records a new secret.

        `plain`: only of characters that are valid in headers and tokens.
        """
        unique = secrets.token_hex(12)
        self.secrets[where] = f"pl{unique}" if plain else f"pl/{unique}+&=%:ü{unique[:4]}"
        return self.secrets[where]

    def add(self, where: str, secret: str) -> None:
        """Records a secret that was made elsewhere."""
        self.secrets[where] = secret

    def find_leaks(self, outputs: Mapping[str, bytes]) -> list[str]:
        """A line for each secret that is in one of the outputs."""
        return [
            f"the secret of {where} is in {output}"
            for where, secret in self.secrets.items()
            for output, text in outputs.items()
            if any(form in text for form in encodings(secret))
        ]
