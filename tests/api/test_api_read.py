"""Waits over HTTP: show, list and long-poll them; cancel, poke and redeliver one."""

import asyncio
from typing import Any

import pytest
from api_fakes import NOW, Api, problem_of, until
from uuid_utils import uuid7

from waitd.api import LongPolls
from waitd.api.problems import ProblemError
from waitd.core.waits.wait import Outcome, Progress, VerdictRun, WaitSpec, WaitState
from waitd.ports import Inserted, LiveWait, NewWait

SUCCESS = Outcome(WaitState.SUCCESS, {"rows": 3}, "done", "success")
SINKS = [{"kind": "plain_sink", "url": "http://127.0.0.1:2/"}, {"kind": "plain_sink", "conn_id": "hooks"}]
#: An id as ours are, of a wait that is not there.
ABSENT = "0197a1f0-8f3c-7d2e-9b51-5c0f1a2b3c4d"


async def shown(api: Api, wait_id: str) -> dict[str, Any]:
    response = await api.client.get(f"/v1/waits/{wait_id}")
    assert response.status == 200
    body: dict[str, Any] = await response.json()
    return body


async def test_the_pokers_progress_takes_precedence_over_the_stores(api: Api) -> None:
    wait_id = await api.submitted()
    run = VerdictRun("pending", "http_404", "not there", NOW, NOW + 60, 2)
    api.poking.lives[wait_id] = LiveWait(Progress(2, 2, None, (run,)), NOW + 90)
    view = await shown(api, wait_id)
    assert (view["pokes"], view["last_poke_at"], view["next_poke_at"]) == (
        2,
        "2023-11-14T22:14:20.000Z",
        "2023-11-14T22:14:50.000Z",
    )
    assert view["last_verdict"] == {
        "verdict": "pending",
        "reason": "http_404",
        "message": "not there",
        "at": "2023-11-14T22:14:20.000Z",
    }
    pokes = await (await api.client.get(f"/v1/waits/{wait_id}/pokes")).json()
    assert pokes == {
        "pokes": 2,
        "runs": [
            {
                "verdict": "pending",
                "reason": "http_404",
                "message": "not there",
                "first_at": "2023-11-14T22:13:20.000Z",
                "last_at": "2023-11-14T22:14:20.000Z",
                "count": 2,
            }
        ],
    }


async def test_a_wait_that_ended_shows_its_outcome_and_deliveries_and_no_next_poke(api: Api) -> None:
    api.connections.known.add("hooks")
    wait_id = await api.submitted(sinks=SINKS)
    api.poking.lives[wait_id] = LiveWait(Progress(9), NOW + 90)
    await api.store.end(wait_id, SUCCESS)
    view = await shown(api, wait_id)
    assert view["outcome"] == {
        "state": "success",
        "payload": {"rows": 3},
        "message": "done",
        "reason": "success",
    }
    assert (view["state"], view["finished_at"]) == ("success", "2023-11-14T22:14:20.000Z")
    assert (view["next_poke_at"], view["pokes"]) == (None, 0)
    assert [(d["sink"], d["state"], d["attempts"], d["signed"]) for d in view["deliveries"]] == [
        ("plain_sink", "queued", 0, False),
        ("plain_sink", "queued", 0, True),
    ]


async def test_a_delivery_whose_sink_is_no_longer_served_is_still_shown(api: Api) -> None:
    spec = WaitSpec("plain", {}, 60.0, 60.0, sinks=({"kind": "fax", "number": 1},))
    [added] = await api.store.insert([NewWait("default", spec)])
    assert isinstance(added, Inserted)
    wait_id = added.wait.id
    await api.store.end(wait_id, SUCCESS)
    assert [d["signed"] for d in (await shown(api, wait_id))["deliveries"]] == [None]


@pytest.mark.parametrize("wait_id", [ABSENT, "nope", "%00", "%FF", "a%2Fb", ABSENT.upper()])
async def test_a_missing_wait_is_a_404(api: Api, wait_id: str) -> None:
    response = await api.client.get(f"/v1/waits/{wait_id}")
    assert (await problem_of(response, 404, "not-found"))["detail"].startswith("there is no ")


# ---------------------------------------------------------------- long-polls


async def test_a_long_poll_is_answered_when_the_wait_ends(api: Api) -> None:
    wait_id = await api.submitted()
    polls = [asyncio.create_task(api.client.get(f"/v1/waits/{wait_id}?wait=60")) for _ in range(2)]
    await until(lambda: len(api.services.long_polls) == 2)
    api.services.long_polls.notify(str(uuid7()))
    await api.store.end(wait_id, SUCCESS)
    api.services.long_polls.notify(wait_id)
    assert {(await (await poll).json())["state"] for poll in polls} == {"success"}
    assert len(api.services.long_polls) == 0


async def test_an_outcome_between_reading_and_waiting_is_not_missed(api: Api) -> None:
    wait_id = await api.submitted()
    read = api.store.get

    async def slow_get(wait_id: str, namespace: str | None = None) -> Any:
        found = await read(wait_id, namespace)
        if found.state is WaitState.WAITING:
            await api.store.end(wait_id, SUCCESS)
            api.services.long_polls.notify(wait_id)
        return found

    api.store.get = slow_get  # type: ignore[method-assign]  # the race, made to happen
    response = await api.client.get(f"/v1/waits/{wait_id}?wait=60")
    assert (await response.json())["state"] == "success"


@pytest.mark.parametrize("seconds", ["0", "0.01"])
async def test_a_long_poll_is_answered_when_its_time_is_over(api: Api, seconds: str) -> None:
    wait_id = await api.submitted()
    response = await api.client.get(f"/v1/waits/{wait_id}?wait={seconds}")
    assert (response.status, (await response.json())["state"]) == (200, "waiting")


async def test_a_wait_that_has_ended_is_answered_at_once(api: Api) -> None:
    wait_id = await api.submitted()
    await api.store.end(wait_id, SUCCESS)
    response = await api.client.get(f"/v1/waits/{wait_id}?wait=60")
    assert (await response.json())["state"] == "success"


async def test_a_drain_answers_every_long_poll_and_those_that_come_after(api: Api) -> None:
    wait_id = await api.submitted()
    poll = asyncio.create_task(api.client.get(f"/v1/waits/{wait_id}?wait=60"))
    await until(lambda: len(api.services.long_polls) == 1)
    api.services.long_polls.drain()
    assert (await (await poll).json())["state"] == "waiting"
    late = await api.client.get(f"/v1/waits/{wait_id}?wait=60")
    assert (await late.json())["state"] == "waiting"


async def test_too_many_long_polls_are_a_429_until_a_caller_disconnects(api: Api) -> None:
    wait_id = await api.submitted()
    polls = [asyncio.create_task(api.client.get(f"/v1/waits/{wait_id}?wait=60")) for _ in range(10)]
    await until(lambda: len(api.services.long_polls) == 10)
    response = await api.client.get(f"/v1/waits/{wait_id}?wait=1")
    await problem_of(response, 429, "too-many-long-polls")
    assert int(response.headers["Retry-After"]) > 0
    polls[0].cancel()
    await until(lambda: len(api.services.long_polls) == 9)
    assert (await api.client.get(f"/v1/waits/{wait_id}?wait=0.01")).status == 200
    api.services.long_polls.drain()
    await asyncio.gather(*polls[1:])


@pytest.mark.parametrize("text", ["61", "-1", "abc", "", "1e1", "nan", "60.5"])
async def test_wait_is_a_number_of_seconds_up_to_60(api: Api, text: str) -> None:
    response = await api.client.get(f"/v1/waits/{await api.submitted()}?wait={text}")
    problem = await problem_of(response, 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == "/wait"


async def test_long_polls_are_forgotten_when_they_are_over() -> None:
    long_polls = LongPolls(max_long_polls=1)
    with long_polls.watch("w") as ended:
        assert not ended.is_set()
    del ended
    assert dict(long_polls._watched) == {}
    with long_polls.watch("w") as ended:
        with pytest.raises(ProblemError), long_polls.watch("w"):
            pass
        long_polls.notify("w")
        long_polls.notify("w")
        assert ended.is_set()
    assert len(long_polls) == 0


# ---------------------------------------------------------------- lists


async def test_pages_are_newest_first_and_complete(api: Api) -> None:
    ids = [await api.submitted() for _ in range(7)]
    seen: list[str] = []
    token = ""
    while True:
        query = {"limit": "3", **({"page_token": token} if token else {})}
        page = await (await api.client.get("/v1/waits", params=query)).json()
        seen += [w["id"] for w in page["waits"]]
        assert len(page["waits"]) <= 3
        token = page["next_page_token"]
        if token is None:
            break
    assert seen == sorted(ids, reverse=True)


async def test_a_page_that_is_exactly_full_is_the_last(api: Api) -> None:
    for _ in range(3):
        await api.submitted()
    page = await (await api.client.get("/v1/waits?limit=3")).json()
    assert (len(page["waits"]), page["next_page_token"]) == (3, None)
    assert await (await api.client.get("/v1/waits?kind=none")).json() == {
        "waits": [],
        "next_page_token": None,
    }


async def test_filters_are_all_applied(api: Api) -> None:
    wanted = await api.submitted(kind="http", labels={"dag_id": "a b", "x": "1"})
    await api.submitted(kind="plain", labels={"dag_id": "a b", "x": "1"})
    await api.submitted(kind="http", labels={"dag_id": "a b", "x": "2"})
    ended = await api.submitted(kind="http", labels={"dag_id": "a b", "x": "1"})
    await api.store.end(ended, SUCCESS)
    query = {"state": "waiting", "kind": "http", "label.dag_id": "a b", "label.x": "1"}
    page = await (await api.client.get("/v1/waits", params=query)).json()
    assert [w["id"] for w in page["waits"]] == [wanted]


BAD_QUERIES = [
    ("/v1/waits?colour=red", "/colour"),
    ("/v1/waits?state=done", "/state"),
    ("/v1/waits?state=", "/state"),
    ("/v1/waits?state=waiting&state=failed", "/state"),
    ("/v1/waits?limit=0", "/limit"),
    ("/v1/waits?limit=1001", "/limit"),
    ("/v1/waits?limit=1e2", "/limit"),
    ("/v1/waits?limit=%D9%A3", "/limit"),
    ("/v1/waits?label.=x", "/label."),
    ("/v1/waits?page_token=", "/page_token"),
    ("/v1/waits?page_token=bm90IGEgdG9rZW4=", "/page_token"),
    ("/v1/waits?page_token=%C3%A9", "/page_token"),
    ("/livez?verbose", "/verbose"),
    ("/v1/waits/x?limit=1", "/limit"),
]


@pytest.mark.parametrize(("path", "pointer"), BAD_QUERIES)
async def test_query_parameters_are_refused_by_name(api: Api, path: str, pointer: str) -> None:
    problem = await problem_of(await api.client.get(path), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == pointer
    assert pointer.removeprefix("/") in problem["errors"][0]["detail"]


# ---------------------------------------------------------------- actions


@pytest.mark.parametrize("colon", [":", "%3A", "%3a"])
async def test_an_action_is_reached_with_its_colon_encoded_or_not(api: Api, colon: str) -> None:
    wait_id = await api.submitted()
    path = api.client.make_url("/").with_path(f"/v1/waits/{wait_id}{colon}poke", encoded=True)
    async with api.client.session.post(path) as response:
        assert response.status == 202
    batch = api.client.make_url("/").with_path(f"/v1/waits{colon}batch", encoded=True)
    headers = {"Content-Type": "application/x-ndjson"}
    async with api.client.session.post(batch, data=b"", headers=headers) as response:
        assert response.status == 200


async def test_cancel_ends_a_wait_once(api: Api) -> None:
    wait_id = await api.submitted()
    response = await api.post(f"/v1/waits/{wait_id}:cancel")
    assert (response.status, (await response.json())["outcome"]["state"]) == (200, "cancelled")
    await problem_of(await api.post(f"/v1/waits/{wait_id}:cancel"), 409, "conflict")


async def test_poke_makes_a_waiting_wait_due_and_no_other(api: Api) -> None:
    wait_id = await api.submitted()
    response = await api.post(f"/v1/waits/{wait_id}:poke", {})
    assert (response.status, (await response.json())["id"]) == (202, wait_id)
    assert api.poking.poked == [wait_id]
    await api.store.end(wait_id, SUCCESS)
    await problem_of(await api.post(f"/v1/waits/{wait_id}:poke"), 409, "conflict")
    assert api.poking.poked == [wait_id]


async def test_redeliver_adds_deliveries_to_a_wait_that_has_ended(api: Api) -> None:
    api.connections.known.add("hooks")
    wait_id = await api.submitted(sinks=SINKS)
    await problem_of(await api.post(f"/v1/waits/{wait_id}:redeliver"), 409, "conflict")
    await api.store.end(wait_id, SUCCESS)
    response = await api.post(f"/v1/waits/{wait_id}:redeliver")
    assert (response.status, len((await response.json())["deliveries"])) == (200, 4)


@pytest.mark.parametrize("action", ["cancel", "poke", "redeliver"])
async def test_an_action_on_a_missing_wait_is_a_404_and_fields_are_refused_by_name(
    api: Api, action: str
) -> None:
    await problem_of(await api.post(f"/v1/waits/{uuid7()}:{action}"), 404, "not-found")
    wait_id = await api.submitted()
    response = await api.post(f"/v1/waits/{wait_id}:{action}", {"why": 1})
    problem = await problem_of(response, 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == "/why"
    assert (await api.store.get(wait_id)).state is WaitState.WAITING
    await problem_of(await api.post(f"/v1/waits/{wait_id}:{action}", []), 422, "invalid-input")


async def test_an_action_that_cannot_be_stored_is_a_503(api: Api) -> None:
    wait_id = await api.submitted()
    api.store.refusing = True
    await problem_of(await api.post(f"/v1/waits/{wait_id}:cancel"), 503, "unavailable")


async def test_head_is_get_without_a_body(api: Api) -> None:
    response = await api.client.head(f"/v1/waits/{await api.submitted()}")
    assert (response.status, await response.read()) == (200, b"")
