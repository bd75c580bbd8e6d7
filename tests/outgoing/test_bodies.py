"""Reading bodies: hostile encoded ones cost little, and never hold the loop."""

import gzip
import random
import time
import zlib
from contextlib import suppress

import aiohttp
import pytest
from turns import counted_turns

from waitd.core.http.decoding import MAX_EXPANSION
from waitd.outgoing import AnswerTooLarge, drain_body, read_body

MIB = 1 << 20
HEADER = gzip.compress(b"")[:10]


class Content:
    """A body that arrives in parts."""

    def __init__(self, body: bytes, part: int = 256 * 1024) -> None:
        self._parts = [body[start : start + part] for start in range(0, len(body), part)]

    async def readany(self) -> bytes:
        return self._parts.pop(0) if self._parts else b""

    def at_eof(self) -> bool:
        return not self._parts


async def turns_while_reading(body: bytes, limit: int = MIB) -> int:
    """Returns how many turns the loop had while an encoded body was read."""
    async with counted_turns() as turns:
        with suppress(aiohttp.ClientPayloadError):
            await read_body(Content(body), ["gzip"], limit)
    return turns.count


def dynamic_blocks() -> bytes:
    """A mebibyte of deflate blocks that carry little and each have tables of their own."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    noise = bytes(random.Random(1).choices(range(60), k=100))
    block = compressor.compress(noise) + compressor.flush(zlib.Z_FULL_FLUSH)
    return HEADER + block * (MIB // len(block))


@pytest.mark.parametrize(
    "body",
    [HEADER + b"\0\0\0\xff\xff" * (MIB // 5), dynamic_blocks(), gzip.compress(random.randbytes(MIB))],
    ids=["empty blocks", "dynamic blocks", "noise"],
)
async def test_the_loop_has_a_turn_for_every_16_kib(body: bytes) -> None:
    assert await turns_while_reading(body) >= len(body) // (16 * 1024)


async def test_the_loop_has_a_turn_while_much_is_inflated() -> None:
    assert await turns_while_reading(gzip.compress(bytes(8 * MIB)), 8 * MIB) >= 8


async def test_empty_members_without_end_are_refused_at_little_cost() -> None:
    started = time.process_time()
    with pytest.raises(AnswerTooLarge):
        await read_body(Content(gzip.compress(b"") * 2_000_000), ["gzip"], MIB)
    assert time.process_time() - started < 0.5, "seconds if each member copied what follows it"


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (HEADER + b"\0\0\0\xff\xff" * (MIB // 5), 1000),
        (HEADER + b"\0\0\0\xff\xff" * (MAX_EXPANSION // 5 + 400), 1000),
        (gzip.compress(b"x" * 1001), 1000),
    ],
    ids=["much sent", "a little more sent than allowed", "much decoded"],
)
async def test_the_bytes_sent_are_limited_as_those_decoded(body: bytes, limit: int) -> None:
    assert await read_body(Content(body), ["gzip"], limit) is None


async def test_a_drained_body_is_read_up_to_the_limit() -> None:
    content = Content(bytes(10_000), part=1000)
    await drain_body(content, 3500)
    assert not content.at_eof()
    await drain_body(content, 10_000)
    assert content.at_eof()
