"""Decodes bodies (gzip, deflate) up to a limit, which stops decompression bombs.

aiohttp's own decoding accepts a truncated gzip body as complete; this does not.
"""

import zlib


class Decoder:
    """Decodes a body chunk by chunk.

    It knows gzip (one or more members) and deflate, which some servers send without its zlib
    header.
    """

    #: zlib detects gzip or zlib by the header.
    _EITHER = 32 + zlib.MAX_WBITS

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(self._EITHER)
        self._started = False

    def feed(self, chunk: bytes, limit: int) -> bytes:
        """Decodes a chunk, into `limit` + 1 bytes at most.

        Raises:
            ValueError: the body is malformed.
        """
        if chunk and not self._started:
            self._started = True
            if chunk[0] != 0x1F and chunk[0] & 0x0F != 8:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            out = self._stream.decompress(chunk, limit + 1)
            while self._stream.eof and self._stream.unused_data and len(out) <= limit:
                rest = self._stream.unused_data
                self._stream = zlib.decompressobj(self._EITHER)
                out += self._stream.decompress(rest, limit + 1 - len(out))
        except zlib.error as error:
            raise ValueError("the body does not match its Content-Encoding") from error
        return out

    def finish(self) -> None:
        """Raises ValueError when the body is incomplete."""
        if self._started and not self._stream.eof:
            raise ValueError("the body is truncated")


def decoder_for(content_encoding: str) -> Decoder | None:
    """Returns the decoder of a `Content-Encoding` header; None when the body is not encoded.

    Raises:
        ValueError: waitd does not accept this encoding.
    """
    encoding = content_encoding.strip().lower()
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return Decoder()
    raise ValueError("unknown Content-Encoding")
