"""Decides whether a set of keys has stayed the same, by Airflow's rules, in at most 1 KiB of state.

The state holds the set's size and the sum of its keys' 128-bit hashes. Where a deletion must be
distinguished from an addition, it also holds short hashes of up to `INLINE_KEYS` keys. For a larger
set, the caller keeps the short hashes in memory (`known`). After a restart they are gone, and a
changed set is classified by its size and the times of its keys:

- A set that did not grow has lost keys: `SHRUNK`.
- A set that grew, and without its newest keys is the previous set, has lost none: `GROWN`.
- Any other set is `UNCLEAR`: a key was deleted, or overwritten, which makes it one of the newest.
  The caller treats this as a change and not as a deletion: a wait must not fail on a guess.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple

#: The largest set whose short hashes are stored in the state: 880 characters at 6 bytes each in
#: base64.
INLINE_KEYS = 110
_SHORT_BYTES = 6
_SHORT_BITS = 8 * _SHORT_BYTES
_MODULUS = 1 << 128
CONTENTS_MODULUS = 1 << 64


def key_hash(key: str) -> int:
    """A 128-bit hash of a key."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big")


def content_hash(key: str, etag: str, size: int) -> int:
    """A 64-bit hash of what an object contains, as far as a list of keys tells."""
    return key_hash(f"{size} {etag} {key}") % CONTENTS_MODULUS


def short_hash(hashed: int) -> int:
    """The upper 48 bits of a key's hash, which are stored for single keys."""
    return hashed >> (128 - _SHORT_BITS)


class KeySetDigest(NamedTuple):
    """The size of a set of keys and the sum of their hashes, modulo 2¹²⁸."""

    size: int = 0
    total: int = 0


def key_set_digest(hashes: Collection[int]) -> KeySetDigest:
    """The digest of a set with these 128-bit hashes."""
    return KeySetDigest(len(hashes), sum(hashes) % _MODULUS)


@dataclass(frozen=True, slots=True)
class RememberedKeySet:
    """What a wait stores about the set it saw last.

    Attributes:
        digest: the set's digest.
        since: since when the set has been the same, in Unix seconds.
        keys: the short hashes of its keys, if they are stored.
        contents: the hash of its objects' contents, if they are watched.
    """

    digest: KeySetDigest
    since: float
    keys: frozenset[int] | None = None
    contents: int | None = None

    def to_text(self) -> str:
        """The value as a wait's probe state (JSON)."""
        fields: dict[str, object] = {
            "size": self.digest.size,
            "total": f"{self.digest.total:032x}",
            "since": round(self.since, 3),
        }
        if self.keys is not None:
            packed = b"".join(key.to_bytes(_SHORT_BYTES, "big") for key in sorted(self.keys))
            fields["keys"] = b64encode(packed).decode()
        if self.contents is not None:
            fields["contents"] = f"{self.contents:x}"
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> "RememberedKeySet":
        """Parses what `to_text` returned.

        Raises:
            ValueError: the text is not such a state.
        """
        try:
            fields = json.loads(text)
            digest = KeySetDigest(int(fields["size"]), int(fields["total"], 16))
            since, packed, contents = float(fields["since"]), fields.get("keys"), fields.get("contents")
            keys = None if packed is None else frozenset(_unpacked(packed))
            return cls(digest, since, keys, None if contents is None else int(contents, 16))
        except (KeyError, TypeError) as error:
            raise ValueError("this is not the state of a set of keys") from error


def _unpacked(packed: str) -> Iterable[int]:
    data = b64decode(packed, validate=True)
    return (int.from_bytes(data[at : at + _SHORT_BYTES], "big") for at in range(0, len(data), _SHORT_BYTES))


class KeySet(NamedTuple):
    """A set of keys as one poke saw it.

    Attributes:
        digest: the digest of all keys.
        keys: for each key its hash and the time of its last write, if deletions matter; else empty.
        contents: the sum of the objects' `content_hash`, modulo 2⁶⁴; None if nobody watches them.
    """

    digest: KeySetDigest
    keys: tuple[tuple[int, float], ...] = ()
    contents: int | None = None

    def short_hashes(self) -> frozenset[int]:
        """The short hashes of the keys."""
        return frozenset(short_hash(hashed) for hashed, _ in self.keys)


class KeySetChange(Enum):
    """How a set differs from the previous one."""

    NONE = "none"
    GROWN = "grown"
    SHRUNK = "shrunk"
    #: It has the same keys, but not the same contents.
    REWRITTEN = "rewritten"
    #: It has grown, and it is unknown whether keys were deleted as well.
    UNCLEAR = "unclear"


def compare_key_sets(before: KeySetDigest, known: Collection[int] | None, seen: KeySet) -> KeySetChange:
    """How a set has changed. Without `seen.keys`, only the sizes are compared.

    Args:
        before: the digest of the previous set.
        known: the short hashes of the previous set's keys, or None if they are unknown.
        seen: the set as it is now.
    """
    if seen.digest == before:
        return KeySetChange.NONE
    if seen.digest.size <= before.size:
        return KeySetChange.SHRUNK
    if known is not None:
        return KeySetChange.GROWN if seen.short_hashes().issuperset(known) else KeySetChange.SHRUNK
    return KeySetChange.GROWN if _only_added(before, seen) else KeySetChange.UNCLEAR


def _only_added(before: KeySetDigest, seen: KeySet) -> bool:
    """Whether the previous set is left if as many keys as were added are removed.

    One added key may be any key; several are the newest.
    """
    added = seen.digest.size - before.size
    difference = (seen.digest.total - before.total) % _MODULUS
    if added == 1:
        return any(hashed == difference for hashed, _ in seen.keys)
    newest = sorted(seen.keys, key=lambda key: key[1], reverse=True)[:added]
    return sum(hashed for hashed, _ in newest) % _MODULUS == difference
