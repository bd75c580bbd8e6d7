"""Cancel, poke and redeliver a wait over HTTP."""

import pytest
from api_answers import pointers_of, problem_of
from api_fakes import Api
from uuid_utils import uuid7

from waitd.core.waits.wait import WaitState

SINKS = [
    {"kind": "plain_sink", "url": "http://127.0.0.1:2/"},
    {"kind": "plain_sink", "url": "http://127.0.0.1:3/"},
]


@pytest.mark.parametrize("colon", [":", "%3A", "%3a"])
async def test_an_action_is_reached_with_its_colon_encoded_or_not(api: Api, colon: str) -> None:
    wait_id = await api.submit()
    path = api.client.make_url("/").with_path(f"/v1/waits/{wait_id}{colon}poke", encoded=True)
    async with api.client.session.post(path) as response:
        assert response.status == 202
    batch = api.client.make_url("/").with_path(f"/v1/waits{colon}batch", encoded=True)
    headers = {"Content-Type": "application/x-ndjson"}
    async with api.client.session.post(batch, data=b"", headers=headers) as response:
        assert response.status == 200


async def test_cancel_ends_a_wait_once(api: Api) -> None:
    wait_id = await api.submit()
    response = await api.post(f"/v1/waits/{wait_id}:cancel")
    assert (response.status, (await response.json())["outcome"]["state"]) == (200, "cancelled")
    await problem_of(await api.post(f"/v1/waits/{wait_id}:cancel"), 409, "conflict")


async def test_poke_makes_only_a_waiting_wait_due(api: Api) -> None:
    wait_id = await api.submit()
    response = await api.post(f"/v1/waits/{wait_id}:poke", {})
    assert (response.status, (await response.json())["id"]) == (202, wait_id)
    assert api.poking.poked == [wait_id]
    await api.store.end(wait_id)
    await problem_of(await api.post(f"/v1/waits/{wait_id}:poke"), 409, "conflict")
    assert api.poking.poked == [wait_id]


async def test_redeliver_adds_deliveries_to_a_wait_that_has_ended(api: Api) -> None:
    wait_id = await api.submit(sinks=SINKS)
    await problem_of(await api.post(f"/v1/waits/{wait_id}:redeliver"), 409, "conflict")
    await api.store.end(wait_id)
    response = await api.post(f"/v1/waits/{wait_id}:redeliver")
    assert (response.status, len((await response.json())["deliveries"])) == (200, 4)


@pytest.mark.parametrize("action", ["cancel", "poke", "redeliver"])
async def test_an_action_on_a_missing_wait_is_a_404_and_fields_are_refused_by_name(
    api: Api, action: str
) -> None:
    await problem_of(await api.post(f"/v1/waits/{uuid7()}:{action}"), 404, "not-found")
    wait_id = await api.submit()
    response = await api.post(f"/v1/waits/{wait_id}:{action}", {"why": 1})
    assert await pointers_of(response) == ["/why"]
    assert (await api.store.get(wait_id)).state is WaitState.WAITING
    await problem_of(await api.post(f"/v1/waits/{wait_id}:{action}", []), 422, "invalid-input")


async def test_an_action_that_cannot_be_stored_is_a_503(api: Api) -> None:
    wait_id = await api.submit()
    await api.store.set_writable(False)
    await problem_of(await api.post(f"/v1/waits/{wait_id}:cancel"), 503, "unavailable")
