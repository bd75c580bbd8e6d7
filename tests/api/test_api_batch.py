"""`POST /v1/waits:batch`: an answer for every line, in order, and all or nothing on disk."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast
from unittest.mock import AsyncMock, Mock

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request
from api_answers import lines_of, problem_of
from api_fakes import Api, PlainProbe, until, wait
from hypothesis import given
from hypothesis import strategies as st

from waitd.api.authentication import PRINCIPAL
from waitd.api.handlers.batch import BatchHandlers
from waitd.api.server.bodies import BatchLines, LineSplitter, is_plain
from waitd.api.server.loopback_guard import NDJSON
from waitd.api.submission.admission import Admission
from waitd.api.submission.validation import Submissions
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL
from waitd.core.errors import StoreUnavailable
from waitd.models import MAX_BATCH_BODY, MAX_BATCH_LINES, MAX_BODY


async def test_each_line_gets_its_own_answer_in_order(api: Api) -> None:
    api.poking.capacity = 5
    response = await api.batch(
        wait(idempotency_key="a"),
        wait(poke_interval=True),
        wait(idempotency_key="a"),
        wait(idempotency_key="a", timeout=1),
        b"{]",
        b"",
        wait(params={"endpoint": "/", "http_conn_id": "unknown"}),
        b'{"kind":"' + b"x" * MAX_BODY + b'"}',
        wait(idempotency_key="b\n"),
        wait(),
        wait(labels={"n": "5"}),
        wait(labels={"n": "6"}),
    )
    answers = await lines_of(response)
    assert (response.status, response.content_type) == (200, "application/x-ndjson")
    assert [a["status"] for a in answers] == [201, 422, 200, 409, 422, 422, 422, 413, 422, 201, 201, 429]
    assert answers[2]["id"] == answers[0]["id"]
    pointers = [a["problem"]["errors"][0]["pointer"] for a in answers if a["status"] == 422]
    assert pointers == ["/poke_interval", "", "", "/params/http_conn_id", "/idempotency_key"]
    assert [a["problem"]["type"] for a in answers if a["status"] in {409, 413, 429}] == [
        "/problems/idempotency-key-reused",
        "/problems/too-large",
        "/problems/over-capacity",
    ]
    assert [len(commit) for commit in api.store.commits] == [5]
    assert (await api.store.get(answers[10]["id"])).spec.labels == {"n": "5"}


async def test_the_key_is_not_stored_with_the_wait(api: Api) -> None:
    [answer] = await lines_of(await api.batch(wait(idempotency_key="a")))
    assert "idempotency_key" not in (await api.store.get(answer["id"])).spec.params
    [[new]] = api.store.commits
    assert (new.idempotency_key, new.namespace) == ("a", "default")


async def test_a_connection_is_looked_up_once_for_all_lines(api: Api) -> None:
    api.connections.known.add("warehouse")
    line = wait(params={"endpoint": "/", "http_conn_id": "warehouse"})
    assert {a["status"] for a in await lines_of(await api.batch(*[line] * 50))} == {201}
    assert api.connections.looked_up == ["warehouse"]


async def test_a_batch_without_lines_has_no_answers_and_line_ends_may_be_crlf_or_missing(api: Api) -> None:
    empty = await api.post("/v1/waits:batch", b"", Content_Type=NDJSON)
    assert (empty.status, await empty.read()) == (200, b"")
    body = orjson.dumps(wait()) + b"\r\n" + orjson.dumps(wait())
    both = await api.post("/v1/waits:batch", body, Content_Type=NDJSON)
    assert [a["status"] for a in await lines_of(both)] == [201, 201]


async def test_one_line_more_than_the_limit_is_a_413_with_nothing_stored(
    api: Api,
) -> None:
    line = orjson.dumps(wait())
    await problem_of(await api.batch(*[line] * (MAX_BATCH_LINES + 1)), 413, "too-large")
    assert api.store.commits == []
    answers = await lines_of(await api.batch(*[line] * MAX_BATCH_LINES))
    assert [a["status"] for a in answers] == [201] * MAX_BATCH_LINES
    assert len(api.store.commits) == 1


async def test_too_many_bytes_are_a_413_with_nothing_stored(api: Api) -> None:
    length = str(MAX_BATCH_BODY + 1)
    response = await api.post("/v1/waits:batch", b"{}", Content_Type=NDJSON, Content_Length=length)
    await problem_of(response, 413, "too-large")
    assert api.store.commits == []


async def test_a_failed_commit_is_a_503_for_the_whole_batch(api: Api) -> None:
    await api.store.set_writable(False)
    response = await api.batch(wait(), wait(kind="nope"))
    await problem_of(response, 503, "unavailable")


async def test_a_key_for_the_whole_batch_is_refused_rather_than_ignored(api: Api) -> None:
    await problem_of(await api.batch(wait(), Idempotency_Key="k"), 422, "invalid-input")
    assert api.store.commits == []


async def test_a_drain_that_begins_while_the_lines_arrive_stores_nothing(api: Api) -> None:
    probe = cast(PlainProbe, api.dependencies.probes["plain"])

    async def chunks() -> AsyncIterator[bytes]:
        yield orjson.dumps(wait()) + b"\n"
        await until(lambda: probe.parsed > 0)
        api.health.draining = True
        yield orjson.dumps(wait()) + b"\n"

    response = await api.client.post("/v1/waits:batch", data=chunks(), headers={"Content-Type": NDJSON})
    await problem_of(response, 503, "draining")
    assert probe.parsed == 2
    assert api.store.commits == []


async def test_a_large_batch_that_has_arrived_does_not_block_the_event_loop(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = orjson.dumps(wait(labels={f"l{i}": "v" * 50 for i in range(20)})) + b"\n"
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    content = Mock(total_bytes=0, readany=AsyncMock(side_effect=[line * 3000, b""]))
    content.is_eof.return_value = False
    batches = BatchHandlers(
        api.dependencies, Submissions(api.dependencies), Admission(api.dependencies.poking)
    )
    request = make_mocked_request("POST", "/v1/waits:batch", payload=content)
    request[PRINCIPAL] = LOOPBACK_PRINCIPAL
    # The reading is what is measured.
    monkeypatch.setattr(api.store, "insert", AsyncMock(side_effect=StoreUnavailable("full")))
    other = asyncio.create_task(others())
    with pytest.raises(StoreUnavailable):
        await batches.submit(request)
    other.cancel()
    assert turns > 10


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_do_not_depend_on_how_they_arrive(size: int) -> None:
    text = b"\nab\n\ntoo long\nxyzab\ncd"
    assert [line for portion in _portions(text, size) for line in portion.lines] == [
        b"",
        b"ab",
        b"",
        None,
        b"xyzab",
        b"cd",
    ]


@given(st.lists(st.sampled_from([b"a", b"\n", b"\n", b"\\", "é".encode()]), min_size=5), st.integers(1, 30))
def test_lines_are_plain_only_if_each_of_them_is(pieces: list[bytes], size: int) -> None:
    for portion in _portions(b"".join(pieces), size):
        assert not portion.plain or all(text is None or is_plain(text) for text in portion.lines)


def test_plain_lines_are_recognized() -> None:
    assert all(portion.plain for portion in _portions(b'{"a": 1}\n{}\n[]', 3))


def _portions(text: bytes, size: int) -> list[BatchLines]:
    splitter = LineSplitter(max_line=5)
    portions = [splitter.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return [*portions, splitter.end()]


def test_an_endless_line_is_not_kept() -> None:
    splitter = LineSplitter(max_line=5)
    assert [line for _ in range(1000) for line in splitter.feed(b"x" * 100).lines] == []
    assert len(splitter._rest) <= 6
    assert list(splitter.end().lines) == [None]
