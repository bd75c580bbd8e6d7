"""Deliveries over HTTP: dead letters, and their redelivery."""

from typing import Any

import pytest
from api_fakes import NOW, Api, problem_of
from uuid_utils import uuid7

from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.wait import Outcome, WaitState
from waitd.models import MAX_REDELIVERED
from waitd.stores import Store

SUCCESS = Outcome(WaitState.SUCCESS, None, "done", "success")
SINKS = [{"kind": "plain_sink", "url": "http://127.0.0.1:2/?secret=1"}]
DEAD = AfterAttempt(DeliveryState.DEAD, 3, None, "410 Gone")


async def dead(api: Api, store: Store) -> tuple[str, str]:
    """The ids of a wait that has ended and of its delivery, which is dead."""
    wait_id = await api.submitted(sinks=SINKS)
    await api.store.end(wait_id, SUCCESS)
    [delivery] = (await store.get(wait_id)).deliveries
    await store.save_attempt(delivery.id, DEAD, NOW)
    return wait_id, delivery.id


async def listed(api: Api, query: str = "") -> list[dict[str, Any]]:
    response = await api.client.get(f"/v1/deliveries?{query}")
    assert response.status == 200, await response.text()
    deliveries: list[dict[str, Any]] = (await response.json())["deliveries"]
    return deliveries


async def test_dead_letters_show_their_error_and_their_wait(api: Api, store: Store) -> None:
    wait_id, delivery_id = await dead(api, store)
    await api.store.end(await api.submitted(sinks=SINKS), SUCCESS)
    assert await listed(api, "state=dead") == [
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
    assert len(await listed(api)) == 2
    assert await listed(api, "sink=fax") == []
    assert [d["id"] for d in await listed(api, f"wait_id={wait_id}&sink=plain_sink")] == [delivery_id]


async def test_pages_of_deliveries_are_newest_first_and_complete(api: Api, store: Store) -> None:
    ids = [(await dead(api, store))[1] for _ in range(5)]
    seen: list[str] = []
    token: str | None = ""
    while token is not None:
        query = {"limit": "2", "state": "dead", **({"page_token": token} if token else {})}
        page = await (await api.client.get("/v1/deliveries", params=query)).json()
        seen += [d["id"] for d in page["deliveries"]]
        token = page["next_page_token"]
    assert seen == sorted(ids, reverse=True)


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
    problem = await problem_of(await api.client.get(f"/v1/deliveries?{query}"), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"


async def test_dead_deliveries_are_redelivered_and_counted(api: Api, store: Store) -> None:
    ids = [await dead(api, store) for _ in range(3)]

    async def redeliver(**body: Any) -> Any:
        response = await api.post("/v1/deliveries:redeliver", body)
        assert response.status == 200, await response.text()
        return await response.json()

    assert await redeliver(state="dead", sink="fax") == {"redelivered": 0, "more": False}
    assert await redeliver(state="dead", wait_id=ids[1][0]) == {"redelivered": 1, "more": False}
    assert await redeliver(state="dead", sink="plain_sink", limit=1) == {"redelivered": 1, "more": True}
    assert await redeliver(ids=[ids[2][1]]) == {"redelivered": 1, "more": False}
    assert await redeliver(state="dead") == {"redelivered": 0, "more": False}
    assert [d["state"] for d in await listed(api, f"wait_id={ids[0][0]}")] == ["queued", "dead"]


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
    problem = await problem_of(await api.post("/v1/deliveries:redeliver", body), 422, "invalid-input")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_unknown_and_queued_deliveries_are_refused_and_nothing_is_sent(api: Api, store: Store) -> None:
    _, delivery_id = await dead(api, store)
    path = "/v1/deliveries:redeliver"
    await problem_of(await api.post(path, {"ids": [delivery_id, str(uuid7())]}), 404, "not-found")
    await api.post(path, {"ids": [delivery_id]})
    queued = (await listed(api, "state=queued"))[0]["id"]
    await problem_of(await api.post(path, {"ids": [delivery_id, queued]}), 409, "conflict")
    assert len(await listed(api)) == 2
    api.store.refusing = True
    await problem_of(await api.post(path, {"state": "dead"}), 503, "unavailable")


async def test_a_list_of_waits_shows_the_deliveries_of_each(api: Api, store: Store) -> None:
    wait_id, delivery_id = await dead(api, store)
    other = await api.submitted()
    waits = (await (await api.client.get("/v1/waits")).json())["waits"]
    assert [(w["id"], [d["id"] for d in w["deliveries"]]) for w in waits] == [
        (other, []),
        (wait_id, [delivery_id]),
    ]
