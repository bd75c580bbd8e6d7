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


def decoder_for(content_encodings: Sequence[str]) -> Decoder | None:
    """Returns the decoder of the `Content-Encoding` headers; None when the body is not encoded.

    Raises:
        ValueError: waitd does not accept this encoding. Several encodings are one of those.
    """
    names = [name.strip().lower() for line in content_encodings for name in line.split(",")]
    encodings = [name for name in names if name in _GZIP or name in _OTHER_CODINGS]
    if not encodings:
        return None
    if len(encodings) == 1 and encodings[0] in _GZIP:
        return Decoder()
    raise ValueError("unknown Content-Encoding")
