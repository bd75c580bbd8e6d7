"""Shares: what one namespace holds leaves enough for the others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse
from api_answers import problem_of
from api_fakes import Api, bearer, until

from waitd.api import Throttle
from waitd.api.server import throttle
from waitd.core.auth.principal import Principal, Role
from waitd.core.auth.quotas import Quota, Resource, Share
from waitd.metrics import Instruments


@pytest.fixture
def more() -> dict[str, Any]:
    instruments = Instruments(version="test")
    quotas = {
        Resource.LONG_POLLS: Quota(Resource.LONG_POLLS, Share(3, 2), total=4),
        Resource.EVENT_STREAMS: Quota(Resource.EVENT_STREAMS, Share(3, 2), total=4),
    }
    return {"instruments": instruments, "throttle": Throttle(quotas=quotas, instruments=instruments)}


@asynccontextmanager
async def streams(api: Api, keys: Sequence[str]) -> AsyncIterator[list[ClientResponse]]:
    """Event streams of these keys."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(api.client.get("/v1/events", headers=bearer(key))) for key in keys
        ]


async def refusals(api: Api) -> dict[tuple[str, str], float]:
    counter = api.dependencies.instruments.limits_exceeded
    [family] = counter.collect()
    return {
        (sample.labels["namespace"], sample.labels["limit"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def test_event_streams_of_one_namespace_leave_those_of_another(guarded: Api) -> None:
    async with streams(guarded, ["a_submitter", "a_submitter"]):
        refused = await guarded.client.get("/v1/events", headers=bearer("a_submitter"))
        assert "event_streams_per_principal" in (await problem_of(refused, 429, "too-many-readers"))["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        async with streams(guarded, ["a_viewer"]):
            for key in ("a_submitter", "a_viewer"):
                refused = await guarded.client.get("/v1/events", headers=bearer(key))
                problem = await problem_of(refused, 429, "too-many-readers")
            assert "team_a" in problem["detail"]
            assert "event_streams_per_namespace" in problem["detail"]
            async with streams(guarded, ["b_viewer", "b_viewer"]) as [one, other]:
                assert [one.status, other.status] == [200, 200]
    await until(lambda: len(guarded.dependencies.feed) == 0)
    async with streams(guarded, ["a_viewer"]) as [stream]:
        assert stream.status == 200
    assert await refusals(guarded) == {
        ("team_a", "event_streams_per_principal"): 2.0,
        ("team_a", "event_streams_per_namespace"): 1.0,
    }


async def test_long_polls_of_one_namespace_leave_those_of_another(guarded: Api) -> None:
    ids = {key: await guarded.submit(key) for key in ("a_submitter", "b_submitter")}
    polls: list[asyncio.Task[Any]] = []

    async def poll(key: str, count: int) -> None:
        path = f"/v1/waits/{ids[key[0] + '_submitter']}?wait=60"
        polls.extend(asyncio.create_task(guarded.client.get(path, headers=bearer(key))) for _ in range(count))
        await until(lambda: len(guarded.dependencies.long_polls) == len(polls))

    async def refused(key: str) -> str:
        response = await guarded.client.get(f"/v1/waits/{ids['a_submitter']}?wait=60", headers=bearer(key))
        detail: str = (await problem_of(response, 429, "too-many-long-polls"))["detail"]
        return detail

    await poll("a_submitter", 2)
    assert "long_polls_per_principal" in await refused("a_submitter")
    await poll("a_viewer", 1)
    assert "long_polls_per_namespace" in await refused("a_viewer")
    await poll("b_viewer", 2)
    response = await guarded.client.get(f"/v1/waits/{ids['a_submitter']}", headers=bearer("a_viewer"))
    assert response.status == 200, "without `wait` nothing is held"
    guarded.dependencies.long_polls.drain()
    assert {(await each).status for each in polls} == {200}
    assert ("team_b", "long_polls_per_namespace") not in await refusals(guarded)


async def test_a_head_of_the_events_holds_no_stream(guarded: Api) -> None:
    for _ in range(5):
        assert (await guarded.client.head("/v1/events", headers=bearer("a_viewer"))).status == 200


def test_the_metric_names_a_bounded_number_of_namespaces() -> None:
    instruments = Instruments(version="test")
    none = {Resource.READS: Quota(Resource.READS, Share(0, 0))}
    limits = Throttle(quotas=none, instruments=instruments)
    for number in range(throttle.MAX_NAMED + 5):
        principal = Principal("key:x", Role.VIEWER, f"team_{number}")
        with pytest.raises(Exception, match="reads_per_principal"), limits.hold(Resource.READS, principal):
            pass
    samples = [
        s for f in instruments.limits_exceeded.collect() for s in f.samples if s.name.endswith("_total")
    ]
    assert len(samples) == throttle.MAX_NAMED + 1
    assert {s.labels["namespace"]: s.value for s in samples}["(other)"] == 5
