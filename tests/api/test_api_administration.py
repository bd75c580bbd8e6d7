"""API keys and the audit over HTTP."""

from typing import Any

import pytest
from api_fakes import NOW, TOKENS, Api, lines_of, problem_of, wait
from structlog.testing import capture_logs

from waitd.core.waits.event import rfc3339
from waitd.core.waits.wait import Outcome, WaitState

DONE = Outcome(WaitState.SUCCESS, None, "done", "success")


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


async def changes(api: Api, query: str = "") -> list[dict[str, Any]]:
    response = await api.client.get(f"/v1/audit?{query}", headers=bearer("admin"))
    assert response.status == 200, await response.text()
    found: list[dict[str, Any]] = (await response.json())["changes"]
    return found


async def made(api: Api, **wanted: Any) -> dict[str, Any]:
    response = await api.post("/v1/keys", wanted, **bearer("admin"))
    assert response.status == 201, await response.text()
    assert response.headers["Cache-Control"] == "no-store"
    key: dict[str, Any] = await response.json()
    return key


# ---------------------------------------------------------------- keys


async def test_a_key_is_shown_once_and_authenticates(guarded: Api) -> None:
    key = await made(guarded, role="submitter", namespace="team_a", expires_in=60)
    assert key == {
        "id": key["id"],
        "key": key["key"],
        "role": "submitter",
        "namespace": "team_a",
        "state": "active",
        "created_at": rfc3339(NOW),
        "created_by": "key:admin",
        "expires_at": rfc3339(NOW + 60),
        "revoked_at": None,
        "used_at": None,
    }
    response = await guarded.post("/v1/waits", wait(), Authorization=f"Bearer {key['key']}")
    assert (await response.json())["namespace"] == "team_a"
    listed = await guarded.client.get("/v1/keys", headers=bearer("admin"))
    assert key["key"].rpartition("_")[2] not in await listed.text()
    [shown] = [one for one in (await listed.json())["keys"] if one["id"] == key["id"]]
    assert shown == {**{name: value for name, value in key.items() if name != "key"}, "used_at": rfc3339(NOW)}
    assert len((await listed.json())["keys"]) == len(TOKENS) + 1


async def test_a_revoked_key_is_refused_at_once(guarded: Api) -> None:
    key = await made(guarded, role="viewer")
    headers = {"Authorization": f"Bearer {key['key']}"}
    assert (await guarded.client.get("/v1/waits", headers=headers)).status == 200
    revoked = await guarded.post(f"/v1/keys/{key['id']}:revoke", **bearer("admin"))
    assert (revoked.status, (await revoked.json())["state"]) == (200, "revoked")
    await problem_of(await guarded.client.get("/v1/waits", headers=headers), 401, "unauthenticated")
    again = await guarded.post(f"/v1/keys/{key['id']}:revoke", **bearer("admin"))
    await problem_of(again, 409, "conflict")


async def test_a_key_of_the_file_cannot_be_revoked_over_http(guarded: Api) -> None:
    await problem_of(await guarded.post("/v1/keys/aviewer:revoke", **bearer("admin")), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"role": "root"}, "/role"),
        ({}, "/role"),
        ({"role": "viewer", "namespace": "a/b"}, "/namespace"),
        ({"role": "viewer", "expires_in": 0}, "/expires_in"),
        ({"role": "viewer", "expires_in": True}, "/expires_in"),
        ({"role": "viewer", "expires": 5}, "/expires"),
    ],
)
async def test_an_invalid_key_request_is_refused_at_its_field(
    guarded: Api, body: dict[str, Any], pointer: str
) -> None:
    problem = await problem_of(await guarded.post("/v1/keys", body, **bearer("admin")), 422, "invalid-input")
    assert [item["pointer"] for item in problem["errors"]] == [pointer]


async def test_keys_can_be_created_without_authentication(api: Api) -> None:
    response = await api.post("/v1/keys", {"role": "admin"})
    assert (await response.json())["created_by"] == "loopback"


# ---------------------------------------------------------------- the audit


async def test_every_change_is_audited_with_who_what_when_and_from_where(guarded: Api) -> None:
    response = await guarded.post("/v1/waits", wait(), **bearer("a_submitter"))
    wait_id = (await response.json())["id"]
    await guarded.post(f"/v1/waits/{wait_id}:poke", **bearer("a_operator"))
    await guarded.post(f"/v1/waits/{wait_id}:redeliver", **bearer("a_operator"))
    await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("b_submitter"))
    await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("a_submitter"))
    await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("a_submitter"))
    entries = await changes(guarded)
    assert [
        (c["action"], c["principal"], c["role"], c["namespace"], c["result"]) for c in reversed(entries)
    ] == [
        ("submit", "key:asubmitter", "submitter", "team_a", "done"),
        ("poke", "key:aoperator", "operator", "team_a", "done"),
        ("redeliver", "key:aoperator", "operator", "team_a", "conflict"),
        ("cancel", "key:bsubmitter", "submitter", "team_b", "not_found"),
        ("cancel", "key:asubmitter", "submitter", "team_a", "done"),
        ("cancel", "key:asubmitter", "submitter", "team_a", "conflict"),
    ]
    assert {(c["subject"], c["subjects"], c["remote"], c["at"]) for c in entries} == {
        (wait_id, 1, "127.0.0.1", rfc3339(NOW))
    }


async def test_a_batch_is_one_audit_entry(guarded: Api) -> None:
    lines = [wait(), wait(), {"kind": "nonsense"}]
    assert len(await lines_of(await guarded.batch(*lines, **bearer("a_submitter")))) == 3
    [entry] = await changes(guarded)
    assert (entry["action"], entry["subject"], entry["subjects"]) == ("submit", None, 2)


async def test_a_call_that_changes_nothing_is_not_audited(guarded: Api) -> None:
    for _ in range(2):
        await guarded.post("/v1/waits", wait(), Idempotency_Key="k", **bearer("a_submitter"))
    await guarded.post("/v1/waits", {"kind": "nonsense"}, **bearer("a_submitter"))
    await guarded.post("/v1/waits", wait(), **bearer("a_viewer"))
    await guarded.client.get("/v1/waits", headers=bearer("a_viewer"))
    assert len(await changes(guarded)) == 1


async def test_a_change_and_its_audit_entry_are_one_commit(guarded: Api) -> None:
    guarded.store.refusing = True
    response = await guarded.post("/v1/waits", wait(), **bearer("a_submitter"))
    assert response.status == 503
    guarded.store.refusing = False
    assert await changes(guarded) == []


async def test_a_poke_that_cannot_be_audited_is_not_made(guarded: Api) -> None:
    response = await guarded.post("/v1/waits", wait(), **bearer("a_submitter"))
    wait_id = (await response.json())["id"]
    guarded.store.refusing = True
    assert (await guarded.post(f"/v1/waits/{wait_id}:poke", **bearer("a_operator"))).status == 503
    assert guarded.poking.poked == []


async def test_redelivered_dead_letters_are_audited_with_their_number(guarded: Api) -> None:
    sinks = [{"kind": "plain_sink", "url": "h"}]
    response = await guarded.post("/v1/waits", wait(sinks=sinks), **bearer("b_submitter"))
    await guarded.store.end((await response.json())["id"], DONE)
    await guarded.post("/v1/deliveries:redeliver", {"state": "dead"}, **bearer("b_operator"))
    [entry, _] = await changes(guarded)
    assert (entry["action"], entry["subjects"], entry["result"]) == ("redeliver", 0, "done")


async def test_the_audit_is_filtered_and_paged(guarded: Api) -> None:
    ids = [
        (await (await guarded.post("/v1/waits", wait(), **bearer("a_submitter"))).json())["id"]
        for _ in range(3)
    ]
    await made(guarded, role="viewer")
    assert [c["subject"] for c in await changes(guarded, "principal=key:asubmitter")] == ids[::-1]
    assert [c["action"] for c in await changes(guarded, "action=create_key")] == ["create_key"]
    assert [c["subject"] for c in await changes(guarded, f"subject={ids[1]}")] == [ids[1]]
    seen: list[str | None] = []
    query = "limit=2&action=submit"
    while query:
        page = await (await guarded.client.get(f"/v1/audit?{query}", headers=bearer("admin"))).json()
        seen += [change["subject"] for change in page["changes"]]
        token = page["next_page_token"]
        query = f"limit=2&action=submit&page_token={token}" if token else ""
    assert seen == ids[::-1]


@pytest.mark.parametrize("query", ["action=none", "page_token=x", "limit=0", "page_token=LTE=", "who=me"])
async def test_an_invalid_audit_query_is_refused(guarded: Api, query: str) -> None:
    response = await guarded.client.get(f"/v1/audit?{query}", headers=bearer("admin"))
    await problem_of(response, 422, "invalid-input")


async def test_each_call_that_changes_something_is_logged(guarded: Api) -> None:
    with capture_logs() as logs:
        response = await guarded.post("/v1/waits", wait(), **bearer("a_submitter"))
        wait_id = (await response.json())["id"]
        await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("b_submitter"))
        key = await made(guarded, role="viewer")
        await guarded.client.get("/v1/waits", headers=bearer("a_viewer"))
    entries = [line for line in logs if line["event"] == "audit"]
    assert [(line["action"], line["principal"], line["subject"], line["result"]) for line in entries] == [
        ("submit", "key:asubmitter", wait_id, "done"),
        ("cancel", "key:bsubmitter", wait_id, "not-found"),
        ("create_key", "key:admin", key["id"], "done"),
    ]
    assert {line["log_level"] for line in entries} == {"info"}
    assert "ssss" not in str(logs)
    assert key["key"] not in str(logs)


async def test_without_authentication_changes_are_logged_at_level_debug(api: Api) -> None:
    with capture_logs() as logs:
        await api.submitted()
    assert [line["log_level"] for line in logs if line["event"] == "audit"] == ["debug"]
