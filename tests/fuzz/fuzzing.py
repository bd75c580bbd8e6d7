"""Random inputs for a fuzz target, each from a seed that repeats it."""

from collections.abc import Iterator, Sequence
from random import Random
from time import monotonic

#: Bytes and lengths at which parsers tend to break.
_EDGES = (b"\x00", b"\xff", b"\r\n", b"\n", b" ", b"%", b'"', b"\\", b"\xe2\x80\xae", b"\xed\xa0\x80")
_LENGTHS = (1, 2, 7, 255, 256, 4096, 65_537)


class Fuzz:
    """The rounds of one target.

    Attributes:
        seed: of the current round; `WAITD_FUZZ_SEED` repeats it.
        count: how many rounds began.
    """

    def __init__(self, seconds: float, seed: int | None = None) -> None:
        """Runs for `seconds`, or one round with the given `seed`."""
        self._seconds = seconds
        self._repeated = seed
        self.seed = 0
        self.count = 0

    def rounds(self) -> Iterator[Random]:
        """Yields the source of randomness of each round, until the time is over."""
        until, first = monotonic() + self._seconds, Random().getrandbits(48)
        while not self.count or (self._repeated is None and monotonic() < until):
            self.seed = first + self.count if self._repeated is None else self._repeated
            self.count += 1
            yield Random(self.seed)


def mutated(random: Random, data: bytes, corpus: Sequence[bytes] = ()) -> bytes:
    """Returns `data` after some random edits: flips, cuts, copies, and pieces of `corpus`."""
    text = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(text))
        end = min(len(text), at + random.choice((1, 1, 2, 8, 64)))
        match random.randrange(6):
            case 0 if at < len(text):
                text[at] ^= 1 << random.randrange(8)
            case 1:
                del text[at:end]
            case 2:
                text[at:at] = random.choice(_EDGES)
            case 3:
                text[at:at] = text[at:end] * random.choice((1, 1, 2, 100))
            case 4 if corpus:
                piece = random.choice(corpus)
                start = random.randint(0, len(piece))
                text[at:end] = piece[start : start + random.choice(_LENGTHS)]
            case _:
                text[at:end] = random.randbytes(end - at)
    return bytes(text)
