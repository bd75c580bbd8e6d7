"""Deliveries over HTTP: dead letters, and their redelivery."""

from typing import Any

import pytest
from api_answers import pointers_of, problem_of
from api_fakes import NOW, Api
from uuid_utils import uuid7

from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.models import MAX_REDELIVERED

SINKS = [{"kind": "plain_sink", "url": "http://127.0.0.1:2/?secret=1"}]
DEAD = AfterAttempt(DeliveryState.DEAD, 3, None, "410 Gone")


async def dead(api: Api) -> tuple[str, str]:
    """Ends a wait whose delivery fails for good; returns the ids of both."""
    wait_id = await api.submit(sinks=SINKS)
    await api.store.end(wait_id)
    [delivery] = (await api.store.get(wait_id)).deliveries
    await api.store.save_attempt(delivery.id, DEAD, NOW)
    return wait_id, delivery.id


async def deliveries(api: Api, **query: str) -> list[dict[str, Any]]:
    """Returns the deliveries, newest first."""
    listed: list[dict[str, Any]] = (await api.get("/v1/deliveries", **query))["deliveries"]
    return listed


async def test_dead_letters_show_their_error_and_their_wait(api: Api) -> None:
    wait_id, delivery_id = await dead(api)
    await api.store.end(await api.submit(sinks=SINKS))
    assert await deliveries(api, state="dead") == [
        {
            "id": delivery_id,
            "sink": "plain_sink",
            "state": "dead",
            "attempts": 3,
            "next_attempt_at": None,
            "last_error": "410 Gone",
            "signed": False,
            "wait_id": wait_id,
            "namespace": "default",
            "created_at": "2023-11-14T22:13:20.000Z",
        }
    ]
    assert len(await deliveries(api)) == 2
    assert await deliveries(api, sink="fax") == []
    assert [d["id"] for d in await deliveries(api, wait_id=wait_id, sink="plain_sink")] == [delivery_id]


async def test_pages_of_deliveries_are_newest_first_and_complete(api: Api) -> None:
    ids = [(await dead(api))[1] for _ in range(5)]
    pages = await api.pages("/v1/deliveries", "deliveries", limit="2", state="dead")
    assert [d["id"] for page in pages for d in page] == sorted(ids, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "state=",
        "wait_id=x",
        "wait_id=",
        "limit=0",
        "limit=1001",
        "page_token=x",
        "colour=1",
        "limit=1&limit=1",
    ],
)
async def test_an_invalid_query_is_a_422_that_names_the_parameter(api: Api, query: str) -> None:
    assert await pointers_of(await api.client.get(f"/v1/deliveries?{query}")) == [
        f"/{query.partition('=')[0]}"
    ]


async def test_dead_deliveries_are_redelivered_and_counted(api: Api) -> None:
    ids = [await dead(api) for _ in range(3)]

    async def redeliver(**body: Any) -> Any:
        response = await api.post("/v1/deliveries:redeliver", body)
        assert response.status == 200, await response.text()
        return await response.json()

    assert await redeliver(state="dead", sink="fax") == {"redelivered": 0, "more": False}
    assert await redeliver(state="dead", wait_id=ids[1][0]) == {"redelivered": 1, "more": False}
    assert await redeliver(state="dead", sink="plain_sink", limit=1) == {"redelivered": 1, "more": True}
    assert await redeliver(ids=[ids[2][1]]) == {"redelivered": 1, "more": False}
    assert await redeliver(state="dead") == {"redelivered": 0, "more": False}
    assert [d["state"] for d in await deliveries(api, wait_id=ids[0][0])] == ["queued", "dead"]


BAD = [
    ({}, "/state"),
    ([], ""),
    ({"state": "queued"}, "/state"),
    ({"state": "dead", "limit": 0}, "/limit"),
    ({"state": "dead", "limit": True}, "/limit"),
    ({"state": "dead", "limit": MAX_REDELIVERED + 1}, "/limit"),
    ({"state": "dead", "colour": 1}, "/colour"),
    ({"state": "dead", "wait_id": "x"}, "/wait_id"),
    ({"ids": []}, "/ids"),
    ({"ids": ["x"]}, "/ids/0"),
    ({"ids": [str(uuid7())] * (MAX_REDELIVERED + 1)}, "/ids"),
    ({"ids": [str(uuid7())], "state": "dead"}, "/state"),
]


@pytest.mark.parametrize(("body", "pointer"), BAD)
async def test_an_invalid_redelivery_is_a_422_that_points_at_the_field(
    api: Api, body: Any, pointer: str
) -> None:
    assert await pointers_of(await api.post("/v1/deliveries:redeliver", body)) == [pointer]


async def test_unknown_and_queued_deliveries_are_refused_and_nothing_is_sent(api: Api) -> None:
    _, delivery_id = await dead(api)
    path = "/v1/deliveries:redeliver"
    await problem_of(await api.post(path, {"ids": [delivery_id, str(uuid7())]}), 404, "not-found")
    await api.post(path, {"ids": [delivery_id]})
    queued = (await deliveries(api, state="queued"))[0]["id"]
    await problem_of(await api.post(path, {"ids": [delivery_id, queued]}), 409, "conflict")
    assert len(await deliveries(api)) == 2
    await api.store.set_writable(False)
    await problem_of(await api.post(path, {"state": "dead"}), 503, "unavailable")


async def test_a_list_of_waits_shows_the_deliveries_of_each(api: Api) -> None:
    wait_id, delivery_id = await dead(api)
    other = await api.submit()
    waits = (await api.get("/v1/waits"))["waits"]
    assert [(w["id"], [d["id"] for d in w["deliveries"]]) for w in waits] == [
        (other, []),
        (wait_id, [delivery_id]),
    ]
