"""Replays: the same key and body return the same wait as long as it is stored."""

from typing import Any
from unittest.mock import AsyncMock

import pytest
from api_answers import lines_of, problem_of
from api_fakes import Api, wait

from waitd.core.errors import StoreUnavailable

BODY = wait(params={"endpoint": "/", "http_conn_id": "warehouse"}, kind="http")


async def accepted(api: Api, key: str = "k") -> str:
    """Submits `BODY`; returns the id of the wait."""
    api.connections.known.add("warehouse")
    response = await api.post("/v1/waits", BODY, Idempotency_Key=key)
    assert response.status == 201, await response.text()
    return str((await response.json())["id"])


def fill_the_poker(api: Api) -> None:
    api.poking.capacity = 0


def forget_the_connection(api: Api) -> None:
    api.connections.known.clear()


def stop_serving_the_kind(api: Api) -> None:
    del api.dependencies.probes["http"]  # type: ignore[attr-defined]  # a daemon of other settings


CHANGES = [fill_the_poker, forget_the_connection, stop_serving_the_kind]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_replay_gets_its_wait_when_a_new_one_would_be_refused(api: Api, change: Any) -> None:
    wait_id = await accepted(api)
    change(api)
    again = await api.post("/v1/waits", BODY, Idempotency_Key="k")
    assert (again.status, (await again.json())["id"]) == (200, wait_id)
    assert again.headers["Location"] == f"/v1/waits/{wait_id}"
    [line] = await lines_of(await api.batch({**BODY, "idempotency_key": "k"}))
    assert line == {"status": 200, "id": wait_id}
    assert (await api.post("/v1/waits", BODY, Idempotency_Key="other")).status in {422, 429}
    assert len(api.store.commits) == 1


async def test_each_line_of_a_batch_is_looked_up_and_new_ones_are_still_refused(api: Api) -> None:
    ids = [await accepted(api, key=key) for key in "ab"]
    fill_the_poker(api)
    lines = [{**BODY, "idempotency_key": key} for key in "axb"]
    refused = [
        BODY,
        {**BODY, "idempotency_key": "a", "nope": 1},
        {**BODY, "idempotency_key": "b", "timeout": 5},
    ]
    answers = await lines_of(await api.batch(*lines, *refused))
    assert [a["status"] for a in answers] == [200, 429, 200, 429, 422, 409]
    assert [answers[0]["id"], answers[2]["id"]] == ids
    assert len(api.store.looked_up) == 1


async def test_another_body_under_a_used_key_is_a_409_also_at_capacity(api: Api) -> None:
    await accepted(api)
    fill_the_poker(api)
    response = await api.post("/v1/waits", {**BODY, "timeout": 5}, Idempotency_Key="k")
    await problem_of(response, 409, "idempotency-key-reused")


async def test_an_invalid_body_under_a_used_key_gets_its_problems(api: Api) -> None:
    await accepted(api)
    response = await api.post("/v1/waits", {**BODY, "timeout": True}, Idempotency_Key="k")
    await problem_of(response, 422, "invalid-input")


async def test_nothing_is_looked_up_for_accepted_waits_and_those_without_a_key(api: Api) -> None:
    await accepted(api)
    await api.batch({**BODY, "idempotency_key": "k"}, BODY)
    fill_the_poker(api)
    await problem_of(await api.post("/v1/waits", BODY), 429, "over-capacity")
    await api.batch(BODY)
    assert api.store.looked_up == []


@pytest.mark.parametrize("key", ["", "k" * 257, "a\nb", 5, None, ["k"]])
async def test_an_invalid_key_is_not_looked_up(api: Api, key: Any) -> None:
    [line] = await lines_of(await api.batch({**BODY, "timeout": True, "idempotency_key": key}))
    assert (line["status"], api.store.looked_up) == (422, [])


async def test_a_batch_whose_replays_cannot_be_looked_up_stores_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.store, "find_replays", AsyncMock(side_effect=StoreUnavailable("cannot be read")))
    api.poking.capacity = 1
    response = await api.batch(wait(), wait(idempotency_key="k"))
    await problem_of(response, 503, "unavailable")
    assert api.store.commits == []
