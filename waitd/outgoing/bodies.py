"""Reads bodies of answers within limits, and without holding the event loop."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import aiohttp

from waitd.core.http.decoding import (
    MAX_EXPANSION,
    SLICE,
    ChainedDecoder,
    Decoder,
    TooManyMembers,
    decoder_for,
)
from waitd.outgoing.errors import AnswerTooLarge

#: The loop gets a turn after about a millisecond of decoding: after this many bytes of input, each
#: of which costs as much as `_OUTPUT_PER_INPUT` bytes of output at most.
_INPUT_PER_TURN = 16 * 1024
_OUTPUT_PER_INPUT = 32


class BodyContent(Protocol):
    """The body of an aiohttp response, or of one that reads like it."""

    async def readany(self) -> bytes:
        """Waits for a part of the body; returns b"" at its end."""

    def at_eof(self) -> bool:
        """Whether the whole body has been read."""


async def read_body(content: BodyContent, encodings: Sequence[str], limit: int) -> bytes | None:
    """Reads a body and decodes it; None when it has more than `limit` bytes, sent or decoded.

    Args:
        content: the body; its connection may not decode it.
        encodings: the values of all `Content-Encoding` headers.
        limit: the largest body, in bytes; an encoded one may be `MAX_EXPANSION` larger.

    Raises:
        AnswerTooLarge: it has more gzip members than are decoded.
        aiohttp.ClientPayloadError: it is incomplete or cannot be decoded.
        aiohttp.ClientError, OSError: the connection failed.
    """
    try:
        decoder = decoder_for(encodings)
        if decoder is None:
            return await _read(content, limit)
        return await _read_encoded(content, decoder, limit)
    except TooManyMembers as error:
        raise AnswerTooLarge(str(error)) from error
    except ValueError as error:
        raise aiohttp.ClientPayloadError(str(error)) from error


async def drain_body(content: BodyContent, limit: int) -> None:
    """Reads a body that is not needed, and stops after `limit` bytes."""
    while limit >= 0 and not content.at_eof():
        limit -= len(await content.readany())


async def _read(content: BodyContent, limit: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while True:
        chunk = await content.readany()
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if content.at_eof():
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _read_encoded(content: BodyContent, decoder: Decoder | ChainedDecoder, limit: int) -> bytes | None:
    chunks: list[bytes] = []
    received = size = work = 0
    while not content.at_eof():
        encoded = await content.readany()
        received += len(encoded)
        if received > limit + MAX_EXPANSION:
            return None
        for start in range(0, len(encoded), SLICE):
            chunk = decoder.feed(encoded[start : start + SLICE], limit - size)
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
            work += SLICE + len(chunk) // _OUTPUT_PER_INPUT
            if work >= _INPUT_PER_TURN:
                work = 0
                await asyncio.sleep(0)
    decoder.finish()
    return b"".join(chunks)
