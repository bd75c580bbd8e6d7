"""Content decoding with a limit: a small answer may be a bomb, and one cut off must not pass for whole.

aiohttp's own decoding takes a truncated gzip for a complete one, hence this.
"""

import zlib
from typing import Protocol


class Decoder(Protocol):
    """Takes a body apart as it comes."""

    def feed(self, chunk: bytes, limit: int) -> bytes:
        """What `chunk` adds, but not more than `limit` + 1 bytes. Raises ValueError where it cannot be decoded."""

    def finish(self) -> None:
        """Raises ValueError where the body has not come to its end."""


class Identity:
    """A body as it is."""

    def feed(self, chunk: bytes, limit: int) -> bytes:
        """See `Decoder`."""
        return chunk if len(chunk) <= limit else chunk[: limit + 1]

    def finish(self) -> None:
        """See `Decoder`."""


class Inflate:
    """gzip (of one or more members) and deflate, with its zlib header or, as some servers send it, without."""

    #: Lets zlib see by the header whether it is gzip or zlib.
    _EITHER = 32 + zlib.MAX_WBITS

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(self._EITHER)
        self._begun = False

    def feed(self, chunk: bytes, limit: int) -> bytes:
        """See `Decoder`."""
        if chunk and not self._begun:
            self._begun = True
            if chunk[0] != 0x1F and chunk[0] & 0x0F != 8:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            out = self._stream.decompress(chunk, limit + 1)
            while self._stream.eof and self._stream.unused_data and len(out) <= limit:
                rest = self._stream.unused_data
                self._stream = zlib.decompressobj(self._EITHER)
                out += self._stream.decompress(rest, limit + 1 - len(out))
        except zlib.error as error:
            raise ValueError("not what its Content-Encoding says") from error
        return out

    def finish(self) -> None:
        """See `Decoder`."""
        if self._begun and not self._stream.eof:
            raise ValueError("cut off")


_INFLATED = frozenset({"gzip", "x-gzip", "deflate"})


def decoder_of(content_encoding: str) -> Decoder:
    """The decoder of a `Content-Encoding` header.

    Raises:
        ValueError: it is not one that was asked for.
    """
    encoding = content_encoding.strip().lower()
    if encoding in {"", "identity"}:
        return Identity()
    if encoding in _INFLATED:
        return Inflate()
    raise ValueError("an unknown Content-Encoding")
