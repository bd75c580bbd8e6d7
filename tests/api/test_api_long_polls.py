"""Long-polls: `GET /v1/waits/{id}?wait=` is answered when the wait ends."""

import asyncio

import anyio
import pytest
from api_answers import pointers_of, problem_of
from api_fakes import Api, bearer, until, wait
from uuid_utils import uuid7

from waitd.api import LongPolls
from waitd.core.waits.wait import WaitState
from waitd.ports import StoredWait


async def test_a_long_poll_is_answered_when_the_wait_ends(api: Api) -> None:
    wait_id = await api.submit()
    polls = [asyncio.create_task(api.get(f"/v1/waits/{wait_id}", wait="60")) for _ in range(2)]
    await until(lambda: len(api.dependencies.long_polls) == 2)
    api.dependencies.long_polls.notify(str(uuid7()))
    await api.store.end(wait_id)
    api.dependencies.long_polls.notify(wait_id)
    assert {(await poll)["state"] for poll in polls} == {"success"}
    assert len(api.dependencies.long_polls) == 0


async def test_an_outcome_between_reading_and_waiting_is_not_missed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_id = await api.submit()
    read = api.store.get

    async def get_before_the_end(wait_id: str, namespace: str | None = None) -> StoredWait:
        stored = await read(wait_id, namespace)
        if stored.state is WaitState.WAITING:
            await api.store.end(wait_id)
            api.dependencies.long_polls.notify(wait_id)
        return stored

    monkeypatch.setattr(api.store, "get", get_before_the_end)
    assert (await api.get(f"/v1/waits/{wait_id}", wait="60"))["state"] == "success"


@pytest.mark.parametrize("seconds", ["0", "0.01"])
async def test_a_long_poll_is_answered_when_its_time_is_over(api: Api, seconds: str) -> None:
    wait_id = await api.submit()
    assert (await api.get(f"/v1/waits/{wait_id}", wait=seconds))["state"] == "waiting"


async def test_a_wait_that_has_ended_is_answered_at_once(api: Api) -> None:
    wait_id = await api.submit()
    await api.store.end(wait_id)
    assert (await api.get(f"/v1/waits/{wait_id}", wait="60"))["state"] == "success"


async def test_a_drain_answers_every_long_poll_and_those_that_come_after(api: Api) -> None:
    wait_id = await api.submit()
    poll = asyncio.create_task(api.get(f"/v1/waits/{wait_id}", wait="60"))
    await until(lambda: len(api.dependencies.long_polls) == 1)
    api.dependencies.long_polls.drain()
    assert (await poll)["state"] == "waiting"
    assert (await api.get(f"/v1/waits/{wait_id}", wait="60"))["state"] == "waiting"


async def test_too_many_long_polls_are_a_429_until_a_caller_disconnects(api: Api) -> None:
    wait_id = await api.submit()
    polls = [asyncio.create_task(api.client.get(f"/v1/waits/{wait_id}?wait=60")) for _ in range(10)]
    await until(lambda: len(api.dependencies.long_polls) == 10)
    response = await api.client.get(f"/v1/waits/{wait_id}?wait=1")
    await problem_of(response, 429, "too-many-long-polls")
    polls[0].cancel()
    await until(lambda: len(api.dependencies.long_polls) == 9)
    assert (await api.client.get(f"/v1/waits/{wait_id}?wait=0.01")).status == 200
    api.dependencies.long_polls.drain()
    await asyncio.gather(*polls[1:])


@pytest.mark.parametrize("text", ["61", "-1", "abc", "", "1e1", "nan", "60.5"])
async def test_wait_is_a_number_of_seconds_up_to_60(api: Api, text: str) -> None:
    response = await api.client.get(f"/v1/waits/{await api.submit()}?wait={text}")
    assert await pointers_of(response) == ["/wait"]


async def test_long_polls_are_forgotten_when_they_are_over() -> None:
    long_polls = LongPolls()
    with long_polls.watch("w") as ended:
        assert not ended.is_set()
    del ended
    assert dict(long_polls._watched) == {}
    with long_polls.watch("w") as ended:
        long_polls.notify("w")
        long_polls.notify("w")
        assert ended.is_set()
    assert len(long_polls) == 0


@pytest.mark.parametrize("ends", [True, False])
async def test_a_long_poll_of_a_revoked_key_learns_nothing(
    guarded: Api, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Neither the outcome nor, at the end of its time, that there is none."""
    limits: list[anyio.CancelScope] = []
    move_on_after = anyio.move_on_after

    def recorded(seconds: float) -> anyio.CancelScope:
        limits.append(move_on_after(seconds))
        return limits[-1]

    monkeypatch.setattr(anyio, "move_on_after", recorded)
    created = await guarded.post("/v1/waits", wait(), **bearer("admin"))
    wait_id = (await created.json())["id"]
    key = await (await guarded.post("/v1/keys", {"role": "viewer"}, **bearer("admin"))).json()
    path = f"/v1/waits/{wait_id}?wait=60"
    poll = asyncio.create_task(guarded.client.get(path, headers=bearer(key["key"])))
    await until(lambda: len(limits) == 1)
    await guarded.post(f"/v1/keys/{key['id']}:revoke", **bearer("admin"))
    if ends:
        await guarded.store.end(wait_id)
        guarded.dependencies.long_polls.notify(wait_id)
    else:
        limits[0].deadline = anyio.current_time()
    await problem_of(await poll, 401, "unauthenticated")
