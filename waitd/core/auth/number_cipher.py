"""Numbers that tell nothing to those who see them: a secret permutation of the 64-bit numbers (a Feistel network over BLAKE2b).

The ends of all waits are counted on; somebody who may see some of them must not learn from the gaps how many the others are. A sealed
number carries salt as well, so that the same number looks another way each time.
"""

from hashlib import blake2b

#: What can be sealed is below this, and so is the salt below `SALTS`.
NUMBERS, SALTS = 1 << 48, 1 << 16
#: A sealed number is below this.
CIPHERTEXTS = NUMBERS * SALTS
#: Luby and Rackoff: four rounds make a permutation that nobody tells from a random one, even where they may ask in both directions.
_ROUNDS = 4
_HALF = 32
_MASK = (1 << _HALF) - 1


class NumberCipher:
    """The permutation that belongs to a secret number below 2⁶⁴."""

    def __init__(self, secret: int) -> None:
        self._keys = [bytes([turn]) + secret.to_bytes(8) for turn in range(_ROUNDS)]

    def sealed(self, number: int, salt: int) -> int:
        """`number` as strangers may see it."""
        left, right = divmod(number * SALTS + salt, 1 << _HALF)
        for key in self._keys:
            left, right = right, left ^ _mixed(key, right)
        return left << _HALF | right

    def opened(self, sealed: int) -> int:
        """The number in `sealed`; where nobody sealed it, some number."""
        left, right = sealed >> _HALF, sealed & _MASK
        for key in reversed(self._keys):
            left, right = right ^ _mixed(key, left), left
        return (left << _HALF | right) // SALTS


def _mixed(key: bytes, half: int) -> int:
    return int.from_bytes(blake2b(half.to_bytes(4), digest_size=4, key=key).digest())
