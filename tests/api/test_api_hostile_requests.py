"""Hostile requests: compressed, endless, oversized and slow ones, and pages of other sites."""

import asyncio
import gzip
import re
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from api_answers import problem_of
from api_fakes import Api, bearer, connected, raw, wait
from turns import counted_turns

from waitd.api.server import bodies, connection
from waitd.api.server.connection import FAREWELL_BYTES, MAX_UNREAD
from waitd.api.server.heads import MAX_HEAD

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
NDJSON = b"Content-Type: application/x-ndjson\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
#: What the kernel's buffers between the two ends may take in, besides what the server takes.
IN_BUFFERS = 16 * 1024 * 1024


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FAREWELL_SECONDS", 0.1)


async def send_until_closed(reader: StreamReader, writer: StreamWriter, endless: bytes) -> tuple[bytes, int]:
    """Sends `endless` again and again; returns the answer, and how many bytes were sent."""
    sent = 0

    async def send() -> None:
        nonlocal sent
        with suppress(ConnectionError):
            while True:
                writer.write(endless)
                sent += len(endless)
                await writer.drain()
                await asyncio.sleep(0)

    sending, answer = asyncio.create_task(send()), b""
    with suppress(ConnectionError):
        while more := await reader.read(65_536):
            answer += more
    sending.cancel()
    return answer, sent


async def attack(api: Api, head: bytes, endless: bytes = b"x" * 65_536) -> tuple[list[int], bytes]:
    """Sends a request without end; returns the statuses of all answers, and the answers."""
    async with connected(api) as (reader, writer):
        writer.write(head + b"\r\n")
        answer, sent = await asyncio.wait_for(send_until_closed(reader, writer, endless), 20)
    assert sent < FAREWELL_BYTES + MAX_UNREAD + IN_BUFFERS
    assert (await api.client.get("/livez")).status == 200
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", answer)], answer


# ---------------------------------------------------------------- codings

CODINGS = ["gzip", "GZIP", "deflate", "br", "zstd", "x-gzip", "compress", "identity, gzip", "unheard-of"]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
async def test_a_body_with_a_coding_is_refused_on_every_path(api: Api, method: str, coding: str) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    for path in ("/v1/waits", "/v1/waits:batch", "/v1/signals/key", "/livez", "/docs", "/nowhere", "/"):
        response = await api.client.request(method, path, data=bomb, headers={"Content-Encoding": coding})
        await problem_of(response, 415, "unsupported-media-type")
        # aiohttp's client would encode it itself
        answer = await raw(
            api,
            b"%b %b HTTP/1.1\r\n%bConnection: close\r\nTransfer-Encoding: %b, chunked\r\n\r\n0\r\n\r\n"
            % (method.encode(), path.encode(), HOST, coding.encode()),
        )
        assert answer.split(b" ")[1] in {b"415", b"400"}
    assert api.store.commits == []


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_the_coding_identity_is_accepted(api: Api, coding: str) -> None:
    assert (await api.post("/v1/waits", wait(), Content_Encoding=coding)).status == 201


async def test_a_coding_without_authentication_is_refused_as_well(guarded: Api) -> None:
    response = await guarded.post("/v1/waits", b"x" * 1000, Content_Encoding="gzip")
    await problem_of(response, 415, "unsupported-media-type")


# ---------------------------------------------------------------- bodies that are refused

LENGTH = b"Content-Length: 1000000000000\r\n"
#: By what is refused: the head of the request, and the status.
UNREAD: dict[str, tuple[bytes, int]] = {
    "no token": (b"POST /v1/waits HTTP/1.1\r\n" + JSON, 401),
    "a wrong token": (b"POST /v1/waits HTTP/1.1\r\nAuthorization: Bearer x\r\n" + JSON, 401),
    "a role": (b"POST /v1/keys HTTP/1.1\r\nAuthorization: Bearer %b\r\n" + JSON, 403),
    "a path": (b"POST /nowhere HTTP/1.1\r\n" + JSON, 404),
    "a method": (b"DELETE /v1/waits HTTP/1.1\r\n" + JSON, 405),
    "a type": (
        b"POST /v1/signals/k HTTP/1.1\r\nAuthorization: Bearer %b\r\nContent-Type: text/plain\r\n",
        415,
    ),
    "a coding": (b"POST /v1/waits HTTP/1.1\r\nContent-Encoding: gzip\r\n" + JSON, 415),
    "a size": (b"POST /v1/signals/k HTTP/1.1\r\nAuthorization: Bearer %b\r\n" + JSON, 413),
    "an expectation": (b"POST /v1/waits HTTP/1.1\r\nExpect: 200-ok\r\n" + JSON, 417),
    "nothing, but it has no use for a body": (b"GET /livez HTTP/1.1\r\n", 200),
}


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("what", UNREAD)
async def test_the_body_of_a_refused_request_is_not_read(guarded: Api, what: str, framing: bytes) -> None:
    head, expected = UNREAD[what]
    if b"%b" in head:
        head %= bearer("a_operator")["Authorization"].removeprefix("Bearer ").encode()
    endless = b"x" * 65_536 if framing is LENGTH else b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    statuses, answer = await attack(guarded, head + HOST + framing, endless)
    assert statuses == [expected]
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"}")


async def test_the_connection_stays_open_if_the_body_has_arrived(api: Api) -> None:
    async with connected(api) as (reader, writer):
        for _ in range(3):
            writer.write(b"POST /nowhere HTTP/1.1\r\n%b%bContent-Length: 2\r\n\r\n{}" % (HOST, JSON))
            assert b"Connection: close" not in await reader.readuntil(b"}")


@pytest.mark.parametrize("what", [what for what, (_, status) in UNREAD.items() if status != 417])
async def test_a_refused_request_is_not_asked_for_its_body(guarded: Api, what: str) -> None:
    head, expected = UNREAD[what]
    if b"%b" in head:
        head %= bearer("a_operator")["Authorization"].removeprefix("Bearer ").encode()
    answer = await raw(guarded, head + HOST + LENGTH + b"Expect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % expected)


# ---------------------------------------------------------------- framing

SUBMIT = b"POST /v1/waits HTTP/1.1\r\n" + HOST + JSON + CHUNKED
BATCH = b"POST /v1/waits:batch HTTP/1.1\r\n" + HOST + NDJSON + CHUNKED
LONG_POLL = b"GET /v1/waits/%b?wait=60 HTTP/1.1\r\n" + HOST + CHUNKED
FRAMES = {
    "an extension": (b"1;", b"a" * 65_536),
    "extensions": (b"", b"1;" + b"a" * 1000 + b"\r\n \r\n"),
    "a size": (b"", b"0" * 65_536),
    "tiny chunks": (b"", b"1\r\n \r\n" * 10_000),
    "a trailer": (b"0\r\nX-A: ", b"a" * 65_536),
    "trailers": (b"0\r\n", b"X-A: a\r\n" * 8000),
}


@pytest.mark.parametrize("head", [SUBMIT, BATCH, LONG_POLL], ids=["submit", "batch", "long-poll"])
@pytest.mark.parametrize("frame", FRAMES)
async def test_framing_without_end_ends_the_connection(api: Api, head: bytes, frame: str) -> None:
    start, endless = FRAMES[frame]
    if head is LONG_POLL:
        head %= (await api.submit()).encode()
    statuses, _ = await attack(api, head + b"\r\n" + start, endless)
    assert len(statuses) <= 2  # trailers come after a body that is complete and was answered
    assert max(statuses, default=0) < 500


class Arriving:
    """A body of which there is always more to read at once, until the connection is closed."""

    total_bytes = 1

    def __init__(self, parts: int, error: Exception | None = None) -> None:
        self._left, self._error = parts, error

    def is_eof(self) -> bool:
        return False

    async def readany(self) -> bytes:
        self._left -= 1
        if self._left < 0 and self._error is not None:
            raise self._error
        return b" " if self._left >= 0 else b""


def reading(body: Any, *, is_open: bool = True) -> Any:
    return make_mocked_request(
        "POST", "/", payload=body, protocol=Mock(), transport=Mock() if is_open else None
    )


async def test_a_body_of_tiny_chunks_leaves_turns_of_the_loop_to_others() -> None:
    """Reading a part parses the next one, so that the reader need never wait."""
    async with counted_turns() as turns:
        await bodies.read_body(reading(Arriving(100)))
    assert turns.count >= 100


async def test_a_connection_that_is_closed_while_its_body_is_read_is_no_internal_error() -> None:
    closed = RuntimeError("Connection closed.")  # as aiohttp says it
    with pytest.raises(web.RequestPayloadError):
        await bodies.read_body(reading(Arriving(1, closed), is_open=False))
    with pytest.raises(RuntimeError):
        await bodies.read_body(reading(Arriving(1, closed)))


async def test_requests_without_end_on_one_connection_are_answered_one_by_one(api: Api) -> None:
    async with connected(api) as (reader, writer):
        writer.write(
            b"POST /nowhere HTTP/1.1\r\n%b%bContent-Length: 1000\r\n\r\n" % (HOST, JSON) + b"x" * 1000
        )
        for _ in range(3000):  # 3 MB, which is more than one body may have
            writer.write(
                b"GET /livez HTTP/1.1\r\n%b%bContent-Length: 1000\r\n\r\n" % (HOST, JSON) + b"x" * 1000
            )
        for _ in range(3001):
            await reader.readuntil(b"}")


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("size", [MAX_HEAD + 1, 40_000, 200_000, 1_000_000])
@pytest.mark.parametrize("line", [100, 1000, 8000])
async def test_a_head_over_the_limit_is_refused_even_if_it_arrives_at_once(
    api: Api, size: int, line: int
) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (n, b"a" * line) for n in range(size // line + 1))
    answer = await raw(api, b"GET /livez HTTP/1.1\r\nConnection: close\r\n" + HOST + lines + b"\r\n")
    assert answer.split(b" ")[1] == b"431"


async def test_a_head_at_the_limit_is_accepted(api: Api) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 8000) for n in range(4))
    answer = await raw(api, b"GET /livez HTTP/1.1\r\nConnection: close\r\n" + HOST + lines + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_batch_of_a_few_bytes_a_second_is_a_408(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.05)
    async with connected(api) as (reader, writer):
        writer.write(BATCH + b"\r\n")
        answer = asyncio.create_task(reader.readuntil(b"}"))
        while not answer.done():
            writer.write(b"1\r\n \r\n")
            await asyncio.sleep(0.005)
        assert (await answer).startswith(b"HTTP/1.1 408 ")


# ---------------------------------------------------------------- what every answer says

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "waitd",
    "Waitd-Api-Version": "1.0",
}


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/nowhere",
        "/v1/waits",
        "/v1/waits?limit=0",
        "/v1/deliveries",
        "/v1/keys",
        "/v1/audit",
        "/v1/cost",
        "/v1/events",
        "/v1/waits/x",
    ],
)
async def test_every_answer_forbids_browsers_to_guess_to_store_and_to_share_it(api: Api, path: str) -> None:
    async with api.client.get(path) as response:
        assert {name: response.headers.get(name) for name in SAFE} == SAFE


async def test_what_the_server_answers_itself_says_so_as_well(api: Api) -> None:
    answers = [
        await raw(api, b"nonsense\r\n\r\n"),
        await raw(api, b"GET / HTTP/1.1\r\n\r\n"),
        await raw(api, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\r\n" * 10_000),
        await raw(
            api, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"
        ),
    ]
    for answer in answers:
        assert {name: re.findall(rf"\r\n{name}: ([^\r]+)".encode(), answer) for name in SAFE} == {
            name: [value.encode()] for name, value in SAFE.items()
        }
        assert not re.search(rb"(?i)python|aiohttp", answer)


# ---------------------------------------------------------------- pages of other sites


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "unheard-of", ""])
async def test_a_page_of_another_origin_is_refused_without_authentication(api: Api, site: str) -> None:
    for path in ("/v1/waits", "/livez", "/nowhere"):
        response = await api.client.get(path, headers={"Sec-Fetch-Site": site})
        problem = await problem_of(response, 403, "forbidden-origin")
        assert "Sec-Fetch-Site" in problem["detail"]
    await problem_of(await api.post("/v1/waits", wait(), Sec_Fetch_Site=site), 403, "forbidden-origin")
    assert api.store.commits == []


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_the_apis_own_pages_and_typed_addresses_are_accepted(api: Api, site: str) -> None:
    assert (await api.client.get("/v1/waits", headers={"Sec-Fetch-Site": site})).status == 200


async def test_one_of_two_sites_is_enough(api: Api) -> None:
    two = b"Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n"
    assert (await raw(api, b"GET /livez HTTP/1.1\r\n" + HOST + two + b"\r\n")).startswith(b"HTTP/1.1 403 ")


async def test_with_authentication_any_page_may_call(guarded: Api) -> None:
    headers = {**bearer("viewer"), "Sec-Fetch-Site": "cross-site"}
    assert (await guarded.client.get("/v1/waits", headers=headers)).status == 200
