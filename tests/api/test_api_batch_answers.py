"""The answers to batches: not far larger than the batch, and not kept for those who do not read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
from api_answers import lines_of
from api_fakes import Api, bearer, connected, until, wait
from structlog.testing import capture_logs

from waitd.api.handlers import batch, lists
from waitd.core.auth.quotas import Resource

#: A line of 400 bytes whose problems in full have ten times as many.
WRONG = orjson.dumps({f"field_{n}": 1 for n in range(32)})
#: Enough of them for an answer that does not fit into the buffers of a connection.
MANY = 5000


async def test_later_lines_get_only_their_first_problem(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_REFUSALS", 10_000)
    long = wait(**{"x" * 5000: 1})
    response = await api.batch(*[WRONG] * 20, wait(), long, wait(poke_interval=True))
    answer = await response.read()
    answers = [orjson.loads(line) for line in answer.splitlines()]
    assert [each["status"] for each in answers] == [422] * 20 + [201, 422, 422]
    errors = [each["problem"]["errors"] for each in answers if "problem" in each]
    assert [len(each) for each in errors[:2] + errors[10:]] == [32, 32] + [1] * 12
    assert errors[10][0] == errors[0][0]
    assert errors[-2][0]["pointer"] == ""
    assert errors[-1][0]["pointer"] == "/poke_interval"
    assert len(answer) < 10_000 + 5000 + 22 * (300 + 2 * batch.MAX_BRIEF)


async def test_an_answer_is_the_same_in_any_number_of_pieces(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [wait(idempotency_key="a"), b"{]", wait(idempotency_key="b"), WRONG, wait(idempotency_key="a")]
    await api.batch(*lines)
    whole = await (await api.batch(*lines)).read()
    monkeypatch.setattr(lists, "SENT_BYTES", 1)
    for number in (1, 2, 5):
        monkeypatch.setattr(batch, "LINES_PER_PIECE", number)
        response = await api.batch(*lines)
        assert response.content_type == "application/x-ndjson"
        assert await response.read() == whole


@asynccontextmanager
async def unread(api: Api, *lines: bytes) -> AsyncIterator[Any]:
    """A connection of admin whose batch is answered, but which does not read the answer."""
    body = b"\n".join(lines)
    head = (
        b"POST /v1/waits:batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b"Authorization: %b\r\nContent-Length: %d\r\n\r\n"
    ) % (bearer("admin")["Authorization"].encode(), len(body))
    async with connected(api, limit=1) as (reader, writer):
        transport: Any = writer.transport
        transport.pause_reading()
        writer.write(head + body)
        yield reader, transport


async def test_an_answer_that_is_not_read_takes_the_callers_share_for_a_while(
    guarded: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_REFUSALS", 1 << 40)
    held: asyncio.Event = asyncio.Event()
    sent = lists.StreamedAnswer.send

    async def send(self: Any, *arguments: Any) -> Any:
        held.set()
        return await sent(self, *arguments)

    monkeypatch.setattr(lists.StreamedAnswer, "send", send)
    monkeypatch.setattr(lists, "LIST_SECONDS", 1.0)
    batches = guarded.dependencies.throttle._quotas[Resource.BATCHES]
    async with unread(guarded, *[WRONG] * MANY) as (reader, transport):
        await held.wait()
        assert batches._held == 1
        [answer] = await lines_of(await guarded.batch(wait(), **bearer("a_submitter")))
        assert answer["status"] == 201, "no slot is held"
        await until(lambda: batches._held == 0)
        transport.resume_reading()
        answers = b""
        with suppress(ConnectionError):
            while more := await reader.read(65_536):
                answers += more
        assert answers.count(b'"problem"') < MANY


async def test_a_batch_whose_client_leaves_is_logged(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_REFUSALS", 1 << 40)
    with capture_logs() as logs:
        async with unread(guarded, orjson.dumps(wait()), *[WRONG] * MANY) as (_, transport):
            await until(lambda: bool(guarded.store.commits))
            transport.abort()
        await until(lambda: any(line["event"] == "audit" for line in logs))
    [line] = [line for line in logs if line["event"] == "audit"]
    assert (line["subjects"], line["result"], line["principal"]) == (1, "done", "key:admin")
