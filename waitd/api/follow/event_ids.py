"""The ids of the event stream, as whoever follows it sees them: the numbers of the ends, or what stands for them.

Ends are counted over all namespaces. One who sees a single one gets sealed numbers: gaps would tell how many ends there are in the others.
"""

import re
import secrets
from typing import Protocol

from waitd.core.auth.number_cipher import CIPHERTEXTS, SALTS, NumberCipher

_NUMBER = re.compile(r"[0-9]{1,20}")


class EventIds(Protocol):
    """One reader's way to number the ends."""

    def shown(self, seq: int) -> int:
        """The id under which the end `seq` is shown."""

    def meant(self, shown: str) -> int | None:
        """The number behind an id that a reader comes back with, 0 for 0 (before the first); None where the text cannot be one."""


class PlainEventIds:
    """For those who see everything."""

    def shown(self, seq: int) -> int:
        """See `EventIds`."""
        return seq

    def meant(self, shown: str) -> int | None:
        """See `EventIds`. Below 2⁶³, as the store's numbers are."""
        return int(shown) if _NUMBER.fullmatch(shown) and int(shown) < 1 << 63 else None


class OpaqueEventIds:
    """For those who see one namespace."""

    def __init__(self, secret: int) -> None:
        self._seal = NumberCipher(secret)

    def shown(self, seq: int) -> int:
        """See `EventIds`. Another one each time."""
        return self._seal.encrypt(seq, secrets.randbelow(SALTS))

    def meant(self, shown: str) -> int | None:
        """See `EventIds`."""
        if not _NUMBER.fullmatch(shown) or int(shown) >= CIPHERTEXTS:
            return None
        return self._seal.decrypt(int(shown)) if int(shown) else 0
