"""The ids of events as a reader sees them: the sequence numbers of outcomes, or opaque ids.

Outcomes are numbered across all namespaces. A reader that sees one namespace gets opaque ids,
because gaps would reveal how many outcomes the other namespaces have.
"""

import re
import secrets

from waitd.core.auth.number_cipher import CIPHERTEXTS, SALTS, NumberCipher

#: The form of an id: opaque ids have up to 20 digits.
EVENT_ID = re.compile(r"[0-9]{1,20}")


class EventIds:
    """The ids for readers of all namespaces: the sequence numbers."""

    def encode(self, seq: int) -> int:
        """Returns the id of the outcome number `seq`."""
        return seq

    def decode(self, event_id: str) -> int | None:
        """Returns the number behind an id: 0 before the first, None for what is not an id."""
        # The store's numbers are below 2⁶³.
        return int(event_id) if EVENT_ID.fullmatch(event_id) and int(event_id) < 1 << 63 else None


class OpaqueEventIds(EventIds):
    """The ids for readers of one namespace: encrypted numbers."""

    def __init__(self, secret: int) -> None:
        self._cipher = NumberCipher(secret)

    def encode(self, seq: int) -> int:
        """Returns an id of the outcome number `seq`, a different one each time."""
        return self._cipher.encrypt(seq, secrets.randbelow(SALTS))

    def decode(self, event_id: str) -> int | None:
        """See `EventIds`."""
        if not EVENT_ID.fullmatch(event_id) or int(event_id) >= CIPHERTEXTS:
            return None
        return self._cipher.decrypt(int(event_id)) if int(event_id) else 0
