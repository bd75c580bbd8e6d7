"""Namespaces: a caller sees the waits of its own, which may use what its rules allow."""

import re
from typing import Any

import pytest
from aiohttp import ClientTimeout
from api_answers import problem_of
from api_fakes import NOW, Api, bearer, wait

from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.wait import WaitState


async def listed_ids(guarded: Api, items: str, who: str, **query: str) -> list[str]:
    """Returns the ids of the waits or deliveries that a caller sees, newest first."""
    return [item["id"] for item in (await guarded.get(f"/v1/{items}", who, **query))[items]]


async def end_waits(guarded: Api, teams: str) -> list[str]:
    """Ends a wait of each of these teams; returns their ids."""
    ids = [await guarded.submit(f"{team}_submitter") for team in teams]
    for wait_id in ids:
        await guarded.store.end(wait_id)
    return ids


async def follow(guarded: Api, last: str, until: str) -> tuple[list[int], str]:
    """Follows as team a's viewer up to the event of the wait `until`.

    Returns the event ids, and the whole text.
    """
    headers = {**bearer("a_viewer"), "Last-Event-ID": last}
    async with guarded.client.get("/v1/events", headers=headers, timeout=ClientTimeout(total=20)) as stream:
        assert stream.status == 200, await stream.text()
        text = b""
        while until.encode() not in text:
            text += await stream.content.readany()
    return [int(number) for number in re.findall(rb"^id: (\d+)$", text, re.MULTILINE)], text.decode()


async def test_a_namespace_sees_its_own_waits_only_and_an_admin_all(guarded: Api) -> None:
    ids = {name: await guarded.submit(f"{name}_submitter", labels={"of": name}) for name in "ab"}
    assert await listed_ids(guarded, "waits", "a_viewer") == [ids["a"]]
    assert await listed_ids(guarded, "waits", "a_viewer", **{"label.of": "b"}) == []
    assert await listed_ids(guarded, "waits", "admin") == [ids["b"], ids["a"]]
    assert (await guarded.get(f"/v1/waits/{ids['b']}", "admin"))["namespace"] == "team_b"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/waits/{id}"),
        ("GET", "/v1/waits/{id}?wait=30"),
        ("GET", "/v1/waits/{id}/pokes"),
        ("POST", "/v1/waits/{id}:cancel"),
        ("POST", "/v1/waits/{id}:poke"),
        ("POST", "/v1/waits/{id}:redeliver"),
    ],
)
async def test_ids_of_other_namespaces_are_answered_like_missing_ones(
    guarded: Api, method: str, path: str
) -> None:
    other_id = await guarded.submit("b_submitter")
    texts = set()
    for wait_id in (other_id, "00000000-0000-7000-8000-000000000000"):
        response = await guarded.client.request(
            method,
            path.replace("{id}", wait_id),
            json=None if method == "GET" else {},
            headers=bearer("a_operator"),
        )
        await problem_of(response, 404, "not-found")
        texts.add((await response.text()).replace(wait_id, "ID"))
    assert len(texts) == 1
    assert (await guarded.store.get(other_id)).state is WaitState.WAITING
    assert guarded.poking.poked == []


async def test_idempotency_and_supersede_keys_count_within_a_namespace(guarded: Api) -> None:
    body = wait(supersede_key="k")
    ids = []
    for who, timeout, status in (("a_submitter", 9, 201), ("b_submitter", 5, 201), ("a_submitter", 9, 200)):
        response = await guarded.post(
            "/v1/waits", {**body, "timeout": timeout}, Idempotency_Key="i", **bearer(who)
        )
        assert response.status == status
        ids.append((await response.json())["id"])
    assert ids[0] == ids[2]
    assert (await guarded.store.get(ids[0])).state is WaitState.WAITING, "it was not superseded"
    assert (await guarded.store.get(ids[1])).namespace == "team_b"


async def test_deliveries_of_other_namespaces_are_neither_listed_nor_redelivered(
    guarded: Api,
) -> None:
    wait_id = await guarded.submit("b_submitter", sinks=[{"kind": "plain_sink", "url": "h"}])
    await guarded.store.end(wait_id)
    [delivery] = (await guarded.store.get(wait_id)).deliveries
    await guarded.store.save_attempt(delivery.id, AfterAttempt(DeliveryState.DEAD, 3, None, "410"), NOW)
    assert await listed_ids(guarded, "deliveries", "a_operator") == []
    for who in ("b_operator", "admin"):
        assert await listed_ids(guarded, "deliveries", who) == [delivery.id]
    named = await guarded.post("/v1/deliveries:redeliver", {"ids": [delivery.id]}, **bearer("a_operator"))
    await problem_of(named, 404, "not-found")
    matching = await guarded.post("/v1/deliveries:redeliver", {"state": "dead"}, **bearer("a_operator"))
    assert await matching.json() == {"redelivered": 0, "more": False}
    assert len((await guarded.store.get(wait_id)).deliveries) == 1
    own = await guarded.post("/v1/deliveries:redeliver", {"state": "dead"}, **bearer("b_operator"))
    assert (await own.json())["redelivered"] == 1


async def test_events_of_other_namespaces_are_not_sent(guarded: Api) -> None:
    other_id, own_id = await end_waits(guarded, "ba")
    _, text = await follow(guarded, "0", own_id)
    assert other_id not in text


async def test_event_ids_do_not_reveal_how_many_events_other_namespaces_have(guarded: Api) -> None:
    ended = await end_waits(guarded, "abba")
    (start, first, second), _ = await follow(guarded, "0", ended[-1])
    assert len({start, first, second}) == 3
    assert min(first, second) > 1000, "an encrypted number is smaller once in 10 ** 16"
    resumed, text = await follow(guarded, str(first), ended[-1])
    assert ended[0] not in text
    assert len({*resumed, start, first, second}) == 5, "an id is encrypted differently each time"
    for never_sent in ("1", str(first + 1), str(2**64)):
        headers = {**bearer("a_viewer"), "Last-Event-ID": never_sent}
        response = await guarded.client.get("/v1/events", headers=headers)
        await problem_of(response, 410, "events-gone")


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"params": {"endpoint": "x", "http_conn_id": "team_b_api"}}, "/params/http_conn_id"),
        ({"params": {"endpoint": "x", "environment_account": "aws_default"}}, "/params"),
        ({"sinks": [{"kind": "plain_sink", "conn_id": "team_b_hooks"}]}, "/sinks/0/conn_id"),
        ({"sinks": [{"kind": "plain_sink", "url": "evil.example"}]}, "/sinks/0/url"),
        (
            {"sinks": [{"kind": "dag_sink", "conn_id": "team_a_airflow", "dag_id": "team_b_etl"}]},
            "/sinks/0/dag_id",
        ),
        ({"sinks": [{"kind": "dag_sink", "conn_id": "team_a_airflow"}]}, "/sinks/0/dag_id"),
    ],
)
async def test_what_a_namespace_may_not_use_is_refused_at_its_field(
    guarded: Api, fields: dict[str, Any], pointer: str
) -> None:
    guarded.connections.known = {"TEAM_B_API"}
    response = await guarded.post("/v1/waits", wait(**fields), **bearer("a_submitter"))
    problem = await problem_of(response, 422, "invalid-input")
    assert [item["pointer"] for item in problem["errors"]] == [pointer]
    assert "team_a" in problem["detail"]
    assert "namespaces" in problem["detail"]
    assert guarded.connections.looked_up == [], "the caller does not learn whether it exists"
    batch = await guarded.batch(wait(**fields), **bearer("a_submitter"))
    assert '"status":422' in await batch.text()
    assert guarded.store.commits == []
    guarded.connections.known = {"team_b_api", "team_b_hooks", "team_a_airflow"}
    assert (await guarded.post("/v1/waits", wait(**fields), **bearer("b_submitter"))).status == 201


async def test_what_a_namespace_may_use_is_accepted(guarded: Api) -> None:
    guarded.connections.known = {"team_a_api", "Team_A_airflow"}
    await guarded.submit(
        "a_submitter",
        params={"endpoint": "x", "http_conn_id": "team_a_api"},
        sinks=[
            {"kind": "plain_sink", "url": "hooks.team-a.example"},
            {"kind": "dag_sink", "conn_id": "Team_A_airflow", "dag_id": "team_a_etl"},
        ],
    )


async def test_a_namespace_without_rules_may_use_nothing_if_another_has_some(guarded: Api) -> None:
    response = await guarded.post(
        "/v1/waits", wait(sinks=[{"kind": "plain_sink", "url": "h"}]), **bearer("admin")
    )
    await problem_of(response, 422, "invalid-input")
    assert await guarded.submit("admin"), "a wait without connections and sinks is accepted"
