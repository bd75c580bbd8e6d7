"""Bounds of an answer besides its body's size, over real sockets, on every transport."""

import asyncio
import gzip
import zlib
from typing import Any, NamedTuple

import pytest
from job_api import CHUNKED, IS_DONE
from raw_server import ENDLESS, HANG, RawServer, Script, Transport, answer, poke, probe, raw_server

from waitd.core.connections.http_options import DEFAULT_REDIRECTS
from waitd.core.http.decoding import MAX_MEMBERS
from waitd.core.waits.verdict import Success, Unreachable, Verdict
from waitd.outgoing.answer_limits import MAX_FIELDS, MAX_HEAD, MAX_INTERIM

pytestmark = pytest.mark.usefixtures("every_transport")

DONE_BODY = b'{"state": "done"}'
CHUNK = b"11\r\n" + DONE_BODY + b"\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 \r\n\r\n"
MIB = 1 << 20
EMPTY_MEMBER = gzip.compress(b"")


def chunked(body: bytes, size: int = 65536) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def gzip_chunks(body: bytes) -> bytes:
    return CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + chunked(body)


def head_of(size: int) -> bytes:
    """An answer whose head has `size` bytes, in fields that aiohttp accepts."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n"
    while size - len(head) > 4000:
        head += b"X-Pad: " + b"x" * 2000 + b"\r\n"
    return head + b"X-Pad: " + b"x" * (size - len(head) - 11) + b"\r\n\r\n" + DONE_BODY


def fields_of(count: int) -> bytes:
    return answer(200, DONE_BODY, *(f"X-{n}: 1" for n in range(count - 1)))


class Case(NamedTuple):
    name: str
    script: Script
    reason: str
    params: dict[str, Any] = IS_DONE


CASES = [
    Case("1xx without end", [CONTINUE * 500_000, HANG], "bad_answer"),
    Case("1xx in 1000 parts", [*[CONTINUE] * 1000, HANG], "bad_answer"),
    Case("too many 1xx before an answer", [INTERIM * (MAX_INTERIM + 1) + answer(200, DONE_BODY)], "bad_answer"),
    Case("as many 1xx as allowed", [INTERIM * MAX_INTERIM + answer(200, DONE_BODY)], "success"),
    Case("large 1xx", [answer(103, b"", "X: " + "x" * 7000) * 10, HANG], "bad_answer"),
    Case("blank lines without end", [b"\r\n" * 4_000_000, HANG], "bad_answer"),
    Case("a head as large as allowed", [head_of(MAX_HEAD)], "success"),
    Case("a head over the limit", [head_of(MAX_HEAD + 1)], "bad_answer"),
    Case("a head over the limit in two parts", [head_of(MAX_HEAD + 1)[:9000], head_of(MAX_HEAD + 1)[9000:]], "bad_answer"),
    Case("as many fields as allowed", [fields_of(MAX_FIELDS)], "success"),
    Case("too many fields", [fields_of(MAX_FIELDS + 1)], "bad_answer"),
    Case("a field name without end", [b"HTTP/1.1 200 OK\r\n" + b"x" * MIB, HANG], "bad_answer"),
    Case("a status line without end", [b"HTTP/1.1 200 " + b"x" * MIB, HANG], "bad_answer"),
    Case("a chunk extension without end", [CHUNKED + b"5;" + b"x" * 8 * MIB, HANG], "too_large"),
    Case("chunk extensions without end", [CHUNKED + (b"1;" + b"x" * 500 + b"\r\nx\r\n") * 20_000, HANG], "too_large"),
    Case("extensions of an answer", [CHUNKED + b"11;a=b;c\r\n" + DONE_BODY + b"\r\n0\r\n\r\n"], "success"),
    Case("zeros of a chunk size", [CHUNKED + b"0" * 8 * MIB, HANG], "too_large"),
    Case("a trailer without end", [CHUNKED + CHUNK + b"0\r\n" + b"X: y\r\n" * 1_000_000, HANG], "too_large or bad_answer"),
    Case("a large trailer", [CHUNKED + CHUNK + b"0\r\nX: " + b"x" * 8 * MIB, HANG], "too_large or bad_answer"),
    Case("a trailer", [CHUNKED + CHUNK + b"0\r\nX: y\r\n\r\n"], "success"),
    Case("one-byte chunks without end", [CHUNKED + b"1\r\nx\r\n" * 1_500_000, HANG], "too_large"),
    Case("one-byte chunks", [CHUNKED + chunked(DONE_BODY.rjust(20_000), 1) + b"0\r\n\r\n"], "success"),
    Case("eight-byte chunks", [CHUNKED + chunked(DONE_BODY.rjust(900_000), 8) + b"0\r\n\r\n"], "result_omitted"),
    Case("empty gzip members without end", [gzip_chunks(EMPTY_MEMBER * 400_000), HANG], "too_large"),
    Case("empty gzip members in parts", [gzip_chunks(EMPTY_MEMBER), *[chunked(EMPTY_MEMBER)] * 200, HANG], "too_large"),
    Case("many gzip members", [answer(200, EMPTY_MEMBER * (MAX_MEMBERS - 1) + gzip.compress(DONE_BODY), "Content-Encoding: gzip")], "success"),
    Case("empty deflate blocks without end", [gzip_chunks(gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 1_000_000), HANG], "too_large"),
    Case("a gzip header without end", [gzip_chunks(b"\x1f\x8b\x08\x08" + b"x" * 8 * MIB), HANG], "too_large"),
    Case("a gzip bomb in gzip", [answer(200, gzip.compress(gzip.compress(bytes(2 * MIB))), "Content-Encoding: gzip", "Content-Encoding: gzip")], "too_large"),
    Case("garbage after gzip", [answer(200, gzip.compress(DONE_BODY) + b"x", "Content-Encoding: gzip")], "truncated"),
    Case("deflate in two streams", [answer(200, zlib.compress(DONE_BODY) * 2, "Content-Encoding: deflate")], "http_200"),
]  # fmt: skip


async def poked(server: RawServer, params: dict[str, Any]) -> Verdict:
    async with probe() as http, asyncio.timeout(60):
        [verdict] = await poke(http, {"endpoint": server.url, **params})
    return verdict


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_answer_has_bounds(case: Case) -> None:
    async with raw_server(case.script) as server:
        verdict = await poked(server, case.params)
    assert verdict.reason in case.reason.split(" or "), verdict
    assert isinstance(verdict, Unreachable) or verdict.reason in {"success", "result_omitted", "http_200"}


async def test_a_wait_that_needs_no_body_ignores_its_framing() -> None:
    async with raw_server([CHUNKED + b"5;" + b"x" * 8 * MIB, HANG]) as server:
        assert isinstance(await poked(server, {"success_when": "status == 200", "result": "status"}), Success)


async def test_a_redirect_chain_is_bounded_in_total() -> None:
    """Each hop has a large head and a body without end."""
    hop = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nTransfer-Encoding: chunked\r\n"
    hop += b"X: " + b"x" * 8000 + b"\r\n\r\n"
    async with raw_server([hop, ENDLESS]) as server:
        verdict = await poked(server, {})
        received = server.sent
    assert verdict.reason == "too_large"
    assert received < 3 * 8 * MIB, "a socket buffers some megabytes"


@pytest.mark.parametrize(
    ("interim", "fields", "body", "reason"),
    [
        (0, 0, 8_000, "success"),
        (0, 60_000, 0, "success"),
        (0, 60_000, 8_000, "too_large"),
        (60_000, 0, 8_000, "too_large"),
    ],
)
async def test_the_redirects_of_a_chain_share_one_bound(
    interim: int, fields: int, body: int, reason: str
) -> None:
    before = answer(103, b"", "X: " + "x" * (interim // MAX_INTERIM)) * MAX_INTERIM if interim else b""
    padding = [f"X-{n}: {'x' * 2000}" for n in range(fields // 2000)]

    def hop(_: str, request: int) -> Script:
        if request > DEFAULT_REDIRECTS:
            return [answer(200, DONE_BODY)]
        return [before + answer(302, b"x" * body, f"Location: /{request}", *padding)]

    async with raw_server(hop) as server:
        verdict = await poked(server, IS_DONE)
    if interim and not Transport.pooled:
        reason = "success"  # aiohttp does not say how many bytes its interim answers have
    assert verdict.reason == reason
