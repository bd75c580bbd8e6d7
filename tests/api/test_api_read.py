"""Waits over HTTP: show one, and list them."""

import pytest
from api_answers import problem_of
from api_fakes import NOW, Api

from waitd.core.waits.wait import Outcome, Progress, VerdictRun, WaitSpec, WaitState
from waitd.models import WaitView
from waitd.ports import Inserted, LiveWait, NewWait, WaitingOn

SINKS = [{"kind": "plain_sink", "url": "http://127.0.0.1:2/"}, {"kind": "plain_sink", "conn_id": "hooks"}]
#: A valid id that no wait has.
ABSENT = "0197a1f0-8f3c-7d2e-9b51-5c0f1a2b3c4d"
QUEUED = WaitingOn("queued", NOW - 5, "origin_limit", "https://batch.example.org", 1, 1, True, NOW + 60)


async def test_the_pokers_progress_takes_precedence_over_the_stores(api: Api) -> None:
    wait_id = await api.submit()
    run = VerdictRun("pending", "http_404", "not there", NOW, NOW + 60, 2)
    api.poking.lives[wait_id] = LiveWait(Progress(2, 2, None, (run,)), NOW + 90)
    view = await api.get(f"/v1/waits/{wait_id}")
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
    pokes = await api.get(f"/v1/waits/{wait_id}/pokes")
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
    wait_id = await api.submit(sinks=SINKS)
    api.poking.lives[wait_id] = LiveWait(Progress(9), NOW + 90)
    await api.store.end(wait_id)
    view = await api.get(f"/v1/waits/{wait_id}")
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


async def test_a_payload_shows_integers_of_over_64_bits_as_they_are(api: Api) -> None:
    wait_id = await api.submit()
    await api.store.end(wait_id, Outcome(WaitState.SUCCESS, {"id": 2**64 + 1}, "", "success"))
    assert (await api.get(f"/v1/waits/{wait_id}"))["outcome"]["payload"] == {"id": 2**64 + 1}
    listed = await api.get("/v1/waits", state="success")
    assert [each["outcome"]["payload"] for each in listed["waits"]] == [{"id": 2**64 + 1}]


async def test_a_delivery_whose_sink_is_no_longer_served_is_still_shown(api: Api) -> None:
    spec = WaitSpec("plain", {}, 60.0, 60.0, sinks=({"kind": "fax", "number": 1},))
    [added] = await api.store.insert([NewWait("default", spec)])
    assert isinstance(added, Inserted)
    await api.store.end(added.wait.id)
    view = await api.get(f"/v1/waits/{added.wait.id}")
    assert [delivery["signed"] for delivery in view["deliveries"]] == [None]


@pytest.mark.parametrize("wait_id", [ABSENT, "nope", "%00", "%FF", "a%2Fb", ABSENT.upper()])
async def test_a_missing_wait_is_a_404(api: Api, wait_id: str) -> None:
    response = await api.client.get(f"/v1/waits/{wait_id}")
    assert (await problem_of(response, 404, "not-found"))["detail"].startswith("there is no ")


async def test_a_held_wait_shows_its_stage_and_what_throttles_it(api: Api) -> None:
    wait_id = await api.submit()
    api.poking.lives[wait_id] = LiveWait(Progress(), NOW, QUEUED)
    view = await api.get(f"/v1/waits/{wait_id}")
    WaitView.model_validate(view)
    assert view["waiting_on"] == {
        "stage": "queued",
        "since": "2023-11-14T22:13:15.000Z",
        "held_up_by": "origin_limit",
        "origin": "https://batch.example.org",
        "origin_limit": 1,
        "origin_running": 1,
        "origin_held_down": True,
        "quiet_until": "2023-11-14T22:14:20.000Z",
    }


async def test_a_wait_that_is_not_held_or_has_ended_waits_on_nothing(api: Api) -> None:
    wait_id = await api.submit()
    assert (await api.get(f"/v1/waits/{wait_id}"))["waiting_on"] is None
    api.poking.lives[wait_id] = LiveWait(Progress(), NOW, QUEUED)
    await api.store.end(wait_id)
    assert (await api.get(f"/v1/waits/{wait_id}"))["waiting_on"] is None


# ---------------------------------------------------------------- lists


async def test_pages_are_newest_first_and_complete(api: Api) -> None:
    ids = [await api.submit() for _ in range(7)]
    pages = await api.pages("/v1/waits", "waits", limit="3")
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [shown["id"] for page in pages for shown in page] == sorted(ids, reverse=True)


async def test_a_page_that_is_exactly_full_is_the_last(api: Api) -> None:
    for _ in range(3):
        await api.submit()
    assert [len(page) for page in await api.pages("/v1/waits", "waits", limit="3")] == [3]
    assert await api.get("/v1/waits", kind="none") == {"waits": [], "next_page_token": None}


async def test_filters_are_all_applied(api: Api) -> None:
    matching = await api.submit(kind="http", labels={"dag_id": "a b", "x": "1"})
    await api.submit(kind="plain", labels={"dag_id": "a b", "x": "1"})
    await api.submit(kind="http", labels={"dag_id": "a b", "x": "2"})
    ended = await api.submit(kind="http", labels={"dag_id": "a b", "x": "1"})
    await api.store.end(ended)
    query = {"state": "waiting", "kind": "http", "label.dag_id": "a b", "label.x": "1"}
    page = await api.get("/v1/waits", **query)
    assert [shown["id"] for shown in page["waits"]] == [matching]


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


async def test_head_is_get_without_a_body(api: Api) -> None:
    response = await api.client.head(f"/v1/waits/{await api.submit()}")
    assert (response.status, await response.read()) == (200, b"")
