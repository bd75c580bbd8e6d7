"""Whether a set of keys has stayed the same for long enough, by Airflow's rules, with a memory of at most 1 KiB.

What is remembered of a set is its size and the sum of its keys' 128-bit hashes. Where a deletion must be told from an addition the hashes
of up to `INLINE_KEYS` keys are remembered, too. Of a larger set the caller may know them (`known`); where nobody does, because the daemon
was started anew, a deletion is seen when

- the set has not grown, though it has changed; or
- it has grown, and what is left without its newest keys is not the set that was.

The second says no more than that the set changed in a way that nobody can tell (a key that was overwritten meanwhile counts as new), so
it is taken for a change and not for a deletion: a wait does not fail on a guess.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple

#: How many keys' hashes are remembered in the state; with 6 bytes each in base64 that is 880 characters.
INLINE_KEYS = 110
_SHORT_BYTES = 6
_SHORT = 8 * _SHORT_BYTES
_MODULUS = 1 << 128


def key_hash(key: str) -> int:
    """128 bits of a key."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big")


def short_hash(hashed: int) -> int:
    """The 48 of them that are remembered of single keys."""
    return hashed >> (128 - _SHORT)


class KeySetDigest(NamedTuple):
    """What is always remembered of a set of keys: how many, and the sum of their hashes."""

    size: int = 0
    total: int = 0


def key_set_digest(hashes: Collection[int]) -> KeySetDigest:
    """The digest of these keys' hashes."""
    return KeySetDigest(len(hashes), sum(hashes) % _MODULUS)


@dataclass(frozen=True, slots=True)
class RememberedKeySet:
    """What a wait remembers: the set as it was last seen, and since when it has been so (Unix seconds).

    Attributes:
        keys: the short hashes of its keys, where they are remembered.
    """

    digest: KeySetDigest
    since: float
    keys: frozenset[int] | None = None

    def text(self) -> str:
        """As the wait's state."""
        fields: dict[str, object] = {
            "size": self.digest.size,
            "total": f"{self.digest.total:032x}",
            "since": round(self.since, 3),
        }
        if self.keys is not None:
            packed = b"".join(key.to_bytes(_SHORT_BYTES, "big") for key in sorted(self.keys))
            fields["keys"] = b64encode(packed).decode()
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def of(cls, text: str) -> "RememberedKeySet":
        """Reads a state.

        Raises:
            ValueError: it is none.
        """
        try:
            fields = json.loads(text)
            digest = KeySetDigest(int(fields["size"]), int(fields["total"], 16))
            since, packed = float(fields["since"]), fields.get("keys")
            return cls(digest, since, None if packed is None else frozenset(_unpacked(packed)))
        except (KeyError, TypeError) as error:
            raise ValueError("this is no memory of keys") from error


def _unpacked(packed: str) -> Iterable[int]:
    data = b64decode(packed, validate=True)
    return (int.from_bytes(data[at : at + _SHORT_BYTES], "big") for at in range(0, len(data), _SHORT_BYTES))


class KeySet(NamedTuple):
    """What a look found.

    Attributes:
        digest: of all keys.
        keys: hash and time of the last write of each, where a deletion may have to be judged; else empty.
    """

    digest: KeySetDigest
    keys: tuple[tuple[int, float], ...] = ()

    def shorts(self) -> frozenset[int]:
        """The keys' short hashes."""
        return frozenset(short_hash(hashed) for hashed, _ in self.keys)


class KeySetChange(Enum):
    """How a set differs from what it was."""

    NONE = "none"
    GROWN = "grown"
    SHRUNK = "shrunk"
    #: It has grown; whether keys are gone as well, nobody can tell.
    UNCLEAR = "unclear"


def compare_key_sets(before: KeySetDigest, known: Collection[int] | None, seen: KeySet) -> KeySetChange:
    """How a set has changed; without its keys (`seen.keys`) growth is told from loss by the count alone.

    Args:
        before: the set as it was.
        known: the short hashes of its keys, or None where nobody knows them.
        seen: the set as it is.
    """
    if seen.digest == before:
        return KeySetChange.NONE
    if seen.digest.size <= before.size:
        return KeySetChange.SHRUNK
    if known is not None:
        return KeySetChange.GROWN if seen.shorts().issuperset(known) else KeySetChange.SHRUNK
    return KeySetChange.GROWN if _only_added(before, seen) else KeySetChange.UNCLEAR


def _only_added(before: KeySetDigest, seen: KeySet) -> bool:
    """Whether leaving out as many keys as were added gives the set that was: any one key, or else the newest ones."""
    added = seen.digest.size - before.size
    difference = (seen.digest.total - before.total) % _MODULUS
    if added == 1:
        return any(hashed == difference for hashed, _ in seen.keys)
    newest = sorted(seen.keys, key=lambda key: key[1], reverse=True)[:added]
    return sum(hashed for hashed, _ in newest) % _MODULUS == difference
