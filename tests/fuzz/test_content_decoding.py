"""Encoded bodies: decoded as zlib decodes them, or refused, within bounds of time and size."""

import gzip
import time
import zlib
from random import Random

import aiohttp
from fuzzing import Fuzz, mutated

from waitd.core.http.decoding import MAX_EXPANSION, MAX_MEMBERS
from waitd.outgoing import read_body

LIMIT = 100_000


class Content:
    """A body that arrives in parts of random sizes."""

    def __init__(self, random: Random, body: bytes) -> None:
        self._random, self._rest = random, body
        self.taken = 0

    async def readany(self) -> bytes:
        size = self._random.choice((1, 3, 1023, 1024, 1025, 70_000)) if len(self._rest) < 3000 else 70_000
        part, self._rest = self._rest[:size], self._rest[size:]
        self.taken += len(part)
        return part

    def at_eof(self) -> bool:
        return not self._rest


def some_text(random: Random) -> bytes:
    return random.choice(
        (b"", b"{}", random.randbytes(random.randint(1, 5000)), b"x" * random.randint(1, 200_000))
    )


def some_body(random: Random) -> tuple[bytes, bytes]:
    """Returns a valid encoded body, and what it decodes to."""
    match random.randrange(4):
        case 0:
            text = some_text(random)
            return zlib.compress(text, random.randint(0, 9)), text
        case 1:
            text = some_text(random)
            packed = zlib.compress(text)[2:-4]
            return packed, text
        case _:
            texts = [some_text(random) for _ in range(random.choice((1, 1, 2, 5)))]
            return b"".join(map(gzip.compress, texts)), b"".join(texts)


async def test_a_valid_body_is_decoded_and_any_other_is_refused_within_bounds(fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        body, text = some_body(random)
        if broken := random.random() < 0.6:
            body = mutated(random, body, [body, gzip.compress(b"") * (MAX_MEMBERS + 1)])
        content = Content(random, body)
        started = time.process_time()
        try:
            result = await read_body(content, ["gzip"], LIMIT)
        except aiohttp.ClientPayloadError:
            assert broken
            continue
        finally:
            assert time.process_time() - started < 5
            assert content.taken <= LIMIT + MAX_EXPANSION + 70_000
        if not broken:
            assert result == (text if len(text) <= LIMIT else None)
        assert len(result or b"") <= LIMIT
