"""Encrypts numbers so that they reveal nothing: a Feistel network over BLAKE2b (64-bit blocks).

Finished waits of all namespaces share one sequence. A caller who sees only some of them must not
learn from the gaps how many others there are. Each encryption adds a salt, so that equal numbers
have different ciphertexts.
"""

from hashlib import blake2b

#: Plaintexts are below `NUMBERS`, salts below `SALTS`.
NUMBERS, SALTS = 1 << 48, 1 << 16
#: Ciphertexts are below this.
CIPHERTEXTS = NUMBERS * SALTS
#: Four rounds make a strong pseudorandom permutation (Luby and Rackoff, 1988).
_ROUNDS = 4
_HALF = 32
_MASK = (1 << _HALF) - 1


class NumberCipher:
    """The permutation that belongs to a secret number below 2⁶⁴."""

    def __init__(self, secret: int) -> None:
        self._keys = [bytes([turn]) + secret.to_bytes(8) for turn in range(_ROUNDS)]

    def encrypt(self, number: int, salt: int) -> int:
        """The ciphertext of `number` with this salt."""
        left, right = divmod(number * SALTS + salt, 1 << _HALF)
        for key in self._keys:
            left, right = right, left ^ _mixed(key, right)
        return left << _HALF | right

    def decrypt(self, ciphertext: int) -> int:
        """The number in `ciphertext`; an arbitrary number if `encrypt` did not make it."""
        left, right = ciphertext >> _HALF, ciphertext & _MASK
        for key in reversed(self._keys):
            left, right = right ^ _mixed(key, left), left
        return (left << _HALF | right) // SALTS


def _mixed(key: bytes, half: int) -> int:
    return int.from_bytes(blake2b(half.to_bytes(4), digest_size=4, key=key).digest())
