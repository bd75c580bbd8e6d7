"""`GET /v1/events`: outcomes as they happen, resumed by event id, without slowing anything down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import orjson
import pytest
from aiohttp import ClientResponse
from api_answers import problem_of
from api_fakes import NOW, Api, bearer, until

from waitd.api.follow import feed
from waitd.api.handlers import events
from waitd.core.errors import StoreUnavailable
from waitd.core.waits.wait import Outcome, WaitState

SUCCESS = Outcome(WaitState.SUCCESS, {"rows": 3, "text": "a\nb\r\n\u2028"}, "done", "success")
BIG = Outcome(WaitState.SUCCESS, {"text": "x" * 60_000}, "", "success")


async def end_wait(api: Api, outcome: Outcome = SUCCESS) -> str:
    """Ends a wait and notifies the readers; returns its id."""
    wait_id = await api.submit()
    await api.store.end(wait_id, outcome)
    api.dependencies.feed.notify(api.store.finished_seq)
    return wait_id


@asynccontextmanager
async def following(api: Api, **headers: str) -> AsyncIterator[ClientResponse]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    before = len(api.dependencies.feed)
    async with api.client.get("/v1/events", headers=named) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        assert len(api.dependencies.feed) == before + 1
        yield response
    await until(lambda: len(api.dependencies.feed) <= before)


async def next_block(stream: ClientResponse) -> dict[str, str]:
    """Returns the fields of the next block of the stream."""
    text = (await stream.content.readuntil(b"\n\n")).decode()
    return dict(cast("tuple[str, str]", line.split(": ", 1)) for line in text.split("\n") if ": " in line)


async def next_outcome(stream: ClientResponse) -> tuple[int, Any]:
    """Returns the event id and the event of the next outcome."""
    fields = await next_block(stream)
    return int(fields["id"]), orjson.loads(fields["data"])


async def test_outcomes_are_sent_with_the_bytes_that_are_delivered(api: Api) -> None:
    await end_wait(api)
    async with following(api) as stream:
        assert await next_block(stream) == {"retry": "1000", "id": "1"}
        ids = [await end_wait(api), await end_wait(api)]
        sent = [await next_outcome(stream) for _ in ids]
        ids.append(await end_wait(api))
        sent.append(await next_outcome(stream))
        assert [(number, event["id"]) for number, event in sent] == list(enumerate(ids, start=2))
        _, event = sent[-1]
        [stored] = await api.store.events_after(3, None, 10)
        assert orjson.dumps(event) == stored.event
        assert event["type"] == "waitd.wait.success"
        assert event["data"]["payload"] == SUCCESS.payload


async def test_a_reader_that_resumes_gets_everything_it_missed_in_order(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE_SIZE", 2)
    ids = [await end_wait(api) for _ in range(7)]
    async with following(api, Last_Event_ID="2") as stream:
        assert await next_block(stream) == {"retry": "1000", "id": "2"}
        seen = [await next_outcome(stream) for _ in range(5)]
        assert [(number, event["id"]) for number, event in seen] == list(enumerate(ids, start=1))[2:]
        ids.append(await end_wait(api))
        assert (await next_outcome(stream))[1]["id"] == ids[-1]


async def test_a_reader_can_resume_before_the_first_outcome(api: Api) -> None:
    async with following(api) as stream:
        assert await next_block(stream) == {"retry": "1000", "id": "0"}
    wait_id = await end_wait(api)
    async with following(api, Last_Event_ID="0") as stream:
        await next_block(stream)
        assert (await next_outcome(stream))[1]["id"] == wait_id


@pytest.mark.parametrize("last", ["1", "2", "4", "0", "-1", "1.0", "x", "", "9" * 18, "9" * 30, "٣"])
async def test_an_id_that_was_pruned_or_never_sent_is_gone(api: Api, last: str) -> None:
    for _ in range(2):
        await end_wait(api)
    assert await api.store.prune(NOW + 61, 10) == 2
    await end_wait(api)
    response = await api.client.get("/v1/events", headers={"Last-Event-ID": last})
    await problem_of(response, 410, "events-gone")
    assert len(api.dependencies.feed) == 0


async def test_a_reader_resumes_after_the_outcomes_it_has_seen_were_pruned(api: Api) -> None:
    await end_wait(api)
    async with following(api) as stream:
        await next_block(stream)
        await end_wait(api)
        await next_outcome(stream)
        assert await api.store.prune(NOW + 61, 10) == 2
        later = await end_wait(api)
        number, event = await next_outcome(stream)
        assert (number, event["id"]) == (3, later)


async def test_a_new_reader_of_a_pruned_store_gets_no_id_that_it_could_not_resume_from(api: Api) -> None:
    await end_wait(api)
    await api.store.prune(NOW + 61, 10)
    async with following(api) as stream:
        assert await next_block(stream) == {"retry": "1000"}


async def test_a_reader_that_would_miss_a_pruned_outcome_is_closed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE_SIZE", 1)
    for _ in range(3):
        await end_wait(api)
    await api.store.prune(NOW + 61, 10)
    stream = Mock(ended=False, reader=feed.EventReader(1), may_go_on=AsyncMock(return_value=True))
    await events._follow(stream, api.store, "default")
    stream.send.assert_not_called()


async def test_two_last_event_ids_are_refused(api: Api) -> None:
    headers = [("Last-Event-ID", "0"), ("Last-Event-ID", "0")]
    response = await api.client.get("/v1/events", headers=headers)
    await problem_of(response, 422, "invalid-input")


async def test_a_quiet_stream_gets_comments(api: Api) -> None:
    api.dependencies.feed.heartbeat = 0.02
    async with following(api) as stream:
        await next_block(stream)
        assert await stream.content.readuntil(b"\n\n") == b":\n\n"
        assert await stream.content.readuntil(b"\n\n") == b":\n\n"
        wait_id = await end_wait(api)
        fields: dict[str, str] = {}
        while not fields:
            fields = await next_block(stream)
        assert orjson.loads(fields["data"])["id"] == wait_id


async def test_a_reader_too_far_behind_is_closed_and_resumes(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_BEHIND", 5)
    async with following(api) as stream:
        await next_block(stream)
        await end_wait(api)
        number, _ = await next_outcome(stream)
        for _ in range(6):
            await api.store.end(await api.submit(), SUCCESS)
        api.dependencies.feed.notify(api.store.finished_seq)
        assert await stream.content.read() == b"", "a clean end"
    async with following(api, Last_Event_ID=str(number)) as stream:
        await next_block(stream)
        assert [(await next_outcome(stream))[0] for _ in range(6)] == [2, 3, 4, 5, 6, 7]
        await end_wait(api)
        assert (await next_outcome(stream))[0] == 8


async def test_a_reader_that_reads_nothing_is_cut_off_when_it_falls_behind(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_BEHIND", 200)
    api.dependencies.feed.heartbeat = 3600
    async with following(api) as stream:
        await next_block(stream)
        async with asyncio.timeout(20):
            while len(api.dependencies.feed):
                await end_wait(api, BIG)
        with pytest.raises(Exception, match=r"[Pp]ayload|[Cc]onnection"):
            await stream.content.read()


async def test_a_reader_that_leaves_data_unread_is_disconnected(api: Api) -> None:
    api.dependencies.feed.heartbeat = 0.05
    async with following(api) as stream:
        await next_block(stream)
        for _ in range(300):
            await end_wait(api, BIG)
        await until(lambda: len(api.dependencies.feed) == 0)
        with pytest.raises(Exception, match=r"[Pp]ayload|[Cc]onnection"):
            await stream.content.read()


async def test_a_drain_ends_every_stream_and_takes_no_new_one(api: Api) -> None:
    async with following(api) as one, following(api) as other:
        await next_block(one)
        await next_block(other)
        api.health.draining = True
        api.dependencies.feed.drain()
        assert [await one.content.read(), await other.content.read()] == [b"", b""]
    await problem_of(await api.client.get("/v1/events"), 503, "draining")


async def test_too_many_readers_are_a_429_until_one_disconnects(api: Api) -> None:
    async with following(api), following(api):
        async with following(api):
            response = await api.client.get("/v1/events")
            await problem_of(response, 429, "too-many-readers")
        async with following(api):
            pass


async def test_head_answers_with_the_type_and_ends(api: Api) -> None:
    response = await api.client.head("/v1/events")
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert len(api.dependencies.feed) == 0


async def test_a_store_that_cannot_be_read_ends_only_the_stream(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(api) as stream:
        await next_block(stream)
        locked = AsyncMock(side_effect=StoreUnavailable("the file is locked"))
        monkeypatch.setattr(api.store, "events_after", locked)
        await end_wait(api)
        assert await stream.content.read() == b""


async def test_the_stream_of_a_revoked_key_ends_at_the_next_heartbeat(guarded: Api) -> None:
    guarded.dependencies.feed.heartbeat = 0.02
    created = await guarded.post("/v1/keys", {"role": "viewer"}, **bearer("admin"))
    key = await created.json()
    async with guarded.client.get("/v1/events", headers=bearer(key["key"])) as stream:
        for _ in range(3):  # the greeting, and the comments of heartbeats
            await stream.content.readuntil(b"\n\n")
        await guarded.post(f"/v1/keys/{key['id']}:revoke", **bearer("admin"))
        async with asyncio.timeout(60):
            await stream.content.read()
    assert not len(guarded.dependencies.feed)
