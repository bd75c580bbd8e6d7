"""Decodes bodies (gzip, deflate) within limits, which stop decompression bombs.

aiohttp's own decoding accepts a truncated gzip body as complete; this does not.
"""

import zlib
from collections.abc import Sequence

#: Feed at most this many bytes at once: they inflate to 1 MiB at most, and the rest of a slice
#: after a gzip member is copied for each member.
SLICE = 1024
#: A gzip body may have this many members. A body of 1 MiB from bgzip has 17.
MAX_MEMBERS = 128
#: A body may be encoded this many times.
MAX_CODINGS = 3
#: The content codings that exist. Servers also write what is none, such as `none` or `utf-8`.
_GZIP = frozenset({"gzip", "x-gzip", "deflate"})
_OTHER_CODINGS = frozenset(
    {"aes128gcm", "br", "bzip2", "compress", "dcb", "dcz", "exi", "lzma", "pack200-gzip", "x-compress", "xz", "zstd"}
)  # fmt: skip
#: An encoded body may be this much larger than the decoded one; encoders stay below 0.1 %.
MAX_EXPANSION = 64 * 1024


class TooManyMembers(ValueError):  # noqa: N818 - reads as a sentence where it is raised
    """A gzip body has more than `MAX_MEMBERS` members."""


class Decoder:
    """Decodes a body slice by slice.

    It knows gzip (one or more members) and deflate, which some servers send without its zlib
    header.
    """

    #: zlib detects gzip or zlib by the header.
    _EITHER = 32 + zlib.MAX_WBITS

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(self._EITHER)
        self._started = False
        self._members = 1

    def feed(self, data: bytes, limit: int) -> bytes:
        """Decodes up to `SLICE` bytes, into `limit` + 1 bytes at most.

        Raises:
            TooManyMembers: the body has too many members.
            ValueError: the body is malformed.
        """
        if data and not self._started:
            self._started = True
            if data[0] != 0x1F and data[0] & 0x0F != 8:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            parts = [self._stream.decompress(data, limit + 1)]
            size = len(parts[0])
            while self._stream.eof and self._stream.unused_data and size <= limit:
                parts.append(self._next_member(self._stream.unused_data, limit + 1 - size))
                size += len(parts[-1])
        except zlib.error as error:
            raise ValueError("the body does not match its Content-Encoding") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next_member(self, data: bytes, limit: int) -> bytes:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise TooManyMembers(f"the body has more than {MAX_MEMBERS} gzip members")
        self._stream = zlib.decompressobj(self._EITHER)
        return self._stream.decompress(data, limit)

    def finish(self) -> None:
        """Raises ValueError when the body is incomplete."""
        if self._started and not self._stream.eof:
            raise ValueError("the body is truncated")


class ChainedDecoder:
    """Decodes a body that was encoded more than once."""

    def __init__(self, outer: "Decoder | ChainedDecoder") -> None:
        """`outer` is the decoder of the codings that were applied last."""
        self._outer = outer
        self._inner = Decoder()
        self._between = self._decoded = 0

    def feed(self, data: bytes, limit: int) -> bytes:
        """See `Decoder.feed`. What is between two codings may be `MAX_EXPANSION` larger, too."""
        encoded = self._outer.feed(data, limit + MAX_EXPANSION)
        self._between += len(encoded)
        if self._between > self._decoded + limit + MAX_EXPANSION:
            return bytes(limit + 1)
        parts, size = [], 0
        for start in range(0, len(encoded), SLICE):
            parts.append(self._inner.feed(encoded[start : start + SLICE], limit - size))
            size += len(parts[-1])
            if size > limit:
                break
        self._decoded += size
        return b"".join(parts)

    def finish(self) -> None:
        """Raises ValueError when the body is incomplete."""
        self._outer.finish()
        self._inner.finish()


def decoder_for(content_encodings: Sequence[str]) -> Decoder | ChainedDecoder | None:
    """Returns the decoder of the `Content-Encoding` headers; None when the body is not encoded.

    Raises:
        ValueError: waitd does not accept this encoding, or so many.
    """
    names = [name.strip().lower() for line in content_encodings for name in line.split(",")]
    encodings = [name for name in names if name in _GZIP or name in _OTHER_CODINGS]
    if not encodings:
        return None
    if len(encodings) > MAX_CODINGS or not _GZIP.issuperset(encodings):
        raise ValueError("unknown Content-Encoding")
    decoder: Decoder | ChainedDecoder = Decoder()
    for _ in encodings[1:]:
        decoder = ChainedDecoder(decoder)
    return decoder
