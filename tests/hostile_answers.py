"""Generated answers of hostile or broken HTTP servers, none of which may end a wait.

A wait on them asks for `body.state == 'done'`. The answers contain such a body, but never a whole
one in valid framing: each is broken, endless, too large or says `running`.
"""

import asyncio
import gzip
import socket
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from typing import NamedTuple

from stream_server import stream_server

CONDITIONS = {"success_when": "body.state == 'done'", "failure_when": "body.state == 'failed'"}
DONE = b'{"state": "done"}'
RUNNING = b'{"state": "running"}'
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
GZIP = b"Content-Encoding: gzip\r\n"
CLOSE, RESET, HANG = "close", "reset", "hang"
#: The most that an answer has, in bytes: more than any limit of the daemon. It is sent in pieces of
#: `PIECE` bytes, so that little is sent in vain to a client that reads no further.
MOST = 1 << 20
PIECE = 64 * 1024


class HostileAnswer(NamedTuple):
    """Parts of an answer: bytes, pauses in seconds, and an end."""

    kind: str
    parts: list[bytes | float]
    end: str = HANG


def hostile_answer(random: Random) -> HostileAnswer:
    """Returns an answer of a random kind."""
    make = random.choice(_KINDS)
    answer = make(random)
    if (
        random.random() < 0.2 and len(answer.parts) == 1 and isinstance(answer.parts[0], bytes)
    ):  # arrives in pieces
        return answer._replace(parts=_in_pieces(random, answer.parts[0]))
    return answer


def _in_pieces(random: Random, data: bytes) -> list[bytes | float]:
    cuts = sorted({random.randint(0, len(data)) for _ in range(random.randint(1, 4))})
    pieces: list[bytes | float] = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        pieces += [data[start:end], random.choice((0.0, 0.01))]
    return pieces


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """Returns a chunk of a body."""
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def with_length(body: bytes, head: bytes = b"", length: int | None = None) -> bytes:
    """Returns an answer with a length, by default the true one."""
    return OK + head + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


def _repeated(random: Random, unit: bytes) -> bytes:
    return unit * (random.choice((100_000, 300_000, MOST)) // len(unit))


# ---------------------------------------------------------------- framing


def _truncated(random: Random) -> HostileAnswer:
    whole = random.choice(
        (with_length(DONE), OK + CHUNKED + b"\r\n" + chunk(DONE) + b"0\r\n\r\n", with_length(gzip.compress(DONE), GZIP))
    )  # fmt: skip
    cut = random.randrange(len(whole) - 1)  # a chunked answer without its last byte is broken, too
    return HostileAnswer("truncated", [whole[:cut]], random.choice((CLOSE, RESET, HANG)))


def _wrong_length(random: Random) -> HostileAnswer:
    length = random.choice(
        (b"-1", b"+17", b"0x11", b"17,18", b"17 18", b"1e9", b"99999999999999999999999", b"18", b"\xff", b"17;a")
    )  # fmt: skip
    return HostileAnswer("wrong length", [OK + b"Content-Length: " + length + b"\r\n\r\n" + DONE], CLOSE)


def _two_framings(random: Random) -> HostileAnswer:
    heads = [b"Content-Length: 17\r\n", b"Content-Length: 5\r\n", CHUNKED]
    random.shuffle(heads)
    return HostileAnswer("two framings", [OK + b"".join(heads[:2]) + b"\r\n" + DONE], CLOSE)


def _bad_chunks(random: Random) -> HostileAnswer:
    size = random.choice(
        (b"zz", b"-11", b"0x11", b"11 11", b"ffffffffffffffffff", b"\x00", b"", b"13", b"10")
    )
    end = random.choice((CLOSE, RESET))
    return HostileAnswer(
        "bad chunks", [OK + CHUNKED + b"\r\n" + size + b"\r\n" + DONE + b"\r\n0\r\n\r\n"], end
    )


def _bad_status_line(random: Random) -> HostileAnswer:
    line = random.choice(
        (b"HTTP/1.1 2OO OK", b"HTTP/9.9 200 OK", b"HTTP/1.1", b"HTP/1.1 200 OK", b"200 OK", b"HTTP/1.1 20 OK", b"GET / HTTP/1.1", b"\x16\x03\x01\x02", b"HTTP/1.1 -200 OK")
    )  # fmt: skip
    return HostileAnswer("bad status line", [with_length(DONE).replace(OK, line + b"\r\n")], CLOSE)


def _bad_field(random: Random) -> HostileAnswer:
    field = random.choice(
        (b"no colon", b": no name", b"a b: c", b"a\x00: b", b"\xff: b", b" folded", b"a:\x00b")
    )
    return HostileAnswer("bad field", [with_length(RUNNING, field + b"\r\n")], CLOSE)


def _noise(random: Random) -> HostileAnswer:
    data = random.randbytes(random.choice((1, 100, 10_000)))
    return HostileAnswer("noise", [random.choice((b"", OK, OK + CHUNKED + b"\r\n")) + data], RESET)


def _second_answer(random: Random) -> HostileAnswer:
    surplus = random.choice((with_length(DONE), DONE, b"\r\n" * 1000, b"HTTP/1.1 100 \r\n\r\n" * 1000))
    return HostileAnswer("second answer", [with_length(RUNNING) + surplus])


# ---------------------------------------------------------------- size


def _endless_head(random: Random) -> HostileAnswer:
    unit = random.choice(
        (b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n", b"\r\n", b"\n", OK + b"a: b\r\n", OK + b"a" * 999, b"HTTP/1.1 200 " + b"x" * 999)
    )  # fmt: skip
    if unit.startswith(OK):
        return HostileAnswer("endless head", [OK + _repeated(random, unit.removeprefix(OK))])
    return HostileAnswer("endless head", [_repeated(random, unit)])


def _late_interim(random: Random) -> HostileAnswer:
    return HostileAnswer(
        "many interim answers", [b"HTTP/1.1 102 \r\n\r\n" * random.randint(17, 3000) + with_length(DONE)]
    )


def _large_head(random: Random) -> HostileAnswer:
    field = b"X-%d: " + b"x" * random.choice((10, 500, 4000)) + b"\r\n"
    fields = b"".join(field % n for n in range(random.choice((129, 250, MOST // len(field)))))
    return HostileAnswer("large head", [with_length(DONE if len(fields) > 65536 else RUNNING, fields)])


def _endless_chunks(random: Random) -> HostileAnswer:
    unit = random.choice(
        (b"1\r\nx\r\n", chunk(b"1", b";a=" + b"b" * 200), b"1" + b";a" * 30_000 + b"\r\nx\r\n", chunk(b"x" * 65_536), b"0" * 9000)
    )  # fmt: skip
    return HostileAnswer(
        "endless chunks", [OK + CHUNKED + b"\r\n" + chunk(DONE[:-1]) + _repeated(random, unit)]
    )


def _endless_trailer(random: Random) -> HostileAnswer:
    unit = random.choice((b"X: y\r\n", b"X" * 100, b"X: " + b"y" * 4000 + b"\r\n"))
    return HostileAnswer(
        "endless trailer", [OK + CHUNKED + b"\r\n" + chunk(DONE) + b"0\r\n" + _repeated(random, unit)]
    )


def _large_body(random: Random) -> HostileAnswer:
    body = DONE[:-1] + b', "x": "' + b"x" * (MOST + MOST // 8) + b'"}'
    head = random.choice(
        (with_length(body), OK + CHUNKED + b"\r\n" + chunk(body) + b"0\r\n\r\n", OK + b"\r\n" + body)
    )
    return HostileAnswer("large body", [head], CLOSE)


def _deep_body(random: Random) -> HostileAnswer:
    unit = random.choice((b"[", b'{"a":', b'"\\u0000', b"1,", b"\\", b"\xed\xa0\x80"))
    return HostileAnswer("deep body", [with_length(unit * 100_000)])


# ---------------------------------------------------------------- encoding


def _broken_gzip(random: Random) -> HostileAnswer:
    body = gzip.compress(DONE)
    broken = random.choice(
        (body[:-1], body[:-8] + bytes(8), body[:5] + body[6:], body + b"x", body + body[:12], body[::-1], DONE, gzip.compress(body))
    )  # fmt: skip
    return HostileAnswer("broken gzip", [with_length(broken, GZIP)])


def _other_encoding(random: Random) -> HostileAnswer:
    encoding = random.choice(
        (b"br", b"zstd", b"gzip, gzip", b"compress", b"\xff", b"gzip\r\nContent-Encoding: gzip")
    )
    return HostileAnswer(
        "other encoding", [with_length(gzip.compress(DONE), b"Content-Encoding: " + encoding + b"\r\n")]
    )


@cache
def _bombs() -> tuple[bytes, ...]:
    """Encoded bodies that cost more than they say."""
    noise = bytes(Random(1).choices(range(60), k=100))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    block = deflate.compress(noise) + deflate.flush(zlib.Z_FULL_FLUSH)
    header = gzip.compress(b"")[:10]
    return (
        gzip.compress(bytes(64 << 20)),
        gzip.compress(b"") * 50_000,
        gzip.compress(b" ") * 50_000,
        header + b"\0\0\0\xff\xff" * 300_000,
        header + block * 20_000,
        b"\x1f\x8b\x08\x08" + b"x" * (1 << 20),
        zlib.compress(bytes(64 << 20)),
    )


def _bomb(random: Random) -> HostileAnswer:
    body = random.choice(_bombs())
    if random.random() < 0.5:
        return HostileAnswer("bomb", [with_length(body, GZIP)])
    return HostileAnswer("bomb", [OK + GZIP + CHUNKED + b"\r\n" + chunk(body) + b"0\r\n\r\n"])


# ---------------------------------------------------------------- time


def _drip(random: Random) -> HostileAnswer:
    data = random.choice(
        (with_length(DONE), OK + CHUNKED + b"\r\n" + chunk(DONE), b"HTTP/1.1 100 \r\n\r\n" * 9)
    )
    parts: list[bytes | float] = []
    for byte in data[: random.randint(1, min(60, len(data) - 1))]:
        parts += [bytes([byte]), 0.02]
    return HostileAnswer("drip", parts)


def _redirects(random: Random) -> HostileAnswer:
    body = random.choice((b"", b"x" * 5000, b"x" * 100_000))
    head = b"HTTP/1.1 302 Found\r\nLocation: ?again\r\nX: " + b"x" * 4000 + b"\r\n"
    return HostileAnswer("redirects", [head + b"Content-Length: %d\r\n\r\n" % len(body) + body])


_KINDS: tuple[Callable[[Random], HostileAnswer], ...] = (
    _truncated, _wrong_length, _two_framings, _bad_chunks, _bad_status_line, _bad_field, _noise, _second_answer, _endless_head, _late_interim, _large_head,
    _endless_chunks, _endless_trailer, _large_body, _deep_body, _broken_gzip, _other_encoding, _bomb, _drip, _redirects,
)  # fmt: skip


class HostileServer:
    """Answers a request for `/SEED` with the answer of that seed.

    Attributes:
        kinds: how many answers of each kind were given.
        url: its origin.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seed = head.split(" ")[1].removeprefix("/").partition("?")[0]
        answer = hostile_answer(Random(seed))
        self.kinds[answer.kind] += 1
        try:
            for part in answer.parts:
                if writer.is_closing():
                    return
                if isinstance(part, float):
                    await asyncio.sleep(part)
                    continue
                for start in range(0, len(part), PIECE):
                    writer.write(part[start : start + PIECE])
                    await writer.drain()
            if answer.end == HANG:
                await reader.read(1)  # until the client closes the connection, or asks again
            elif (
                answer.end == RESET and not writer.is_closing()
            ):  # without lingering, the socket is closed with a RST
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
        finally:
            writer.close()


@asynccontextmanager
async def hostile_server(host: str = "127.0.0.1") -> AsyncIterator[HostileServer]:
    """Runs a server on a free port."""
    server = HostileServer()
    async with stream_server(server.serve, host=host) as port:
        server.url = f"http://{host}:{port}"
        yield server
