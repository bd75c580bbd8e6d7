"""API keys and the audit over HTTP."""

from typing import Any

import pytest
from api_answers import lines_of, pointers_of, problem_of
from api_fakes import NOW, TOKENS, Api, bearer, wait
from structlog.testing import capture_logs

from waitd.core.waits.event import rfc3339


async def create_key(api: Api, **fields: Any) -> dict[str, Any]:
    response = await api.post("/v1/keys", fields, **bearer("admin"))
    assert response.status == 201, await response.text()
    assert response.headers["Cache-Control"] == "no-store"
    key: dict[str, Any] = await response.json()
    return key


async def audit(api: Api, **query: str) -> list[dict[str, Any]]:
    """Returns the entries of the audit, newest first."""
    entries: list[dict[str, Any]] = (await api.get("/v1/audit", "admin", **query))["changes"]
    return entries


# ---------------------------------------------------------------- keys


async def test_a_key_is_shown_once_and_authenticates(guarded: Api) -> None:
    key = await create_key(guarded, role="submitter", namespace="team_a", expires_in=60)
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
    wait_id = await guarded.submit(key["key"])
    assert (await guarded.store.get(wait_id)).namespace == "team_a"
    keys = (await guarded.get("/v1/keys", "admin"))["keys"]
    assert key["key"].rpartition("_")[2] not in str(keys)
    assert len(keys) == len(TOKENS) + 1
    del key["key"]
    assert [other for other in keys if other["id"] == key["id"]] == [{**key, "used_at": rfc3339(NOW)}]


async def test_a_revoked_key_is_refused_at_once(guarded: Api) -> None:
    key = await create_key(guarded, role="viewer")
    await guarded.get("/v1/waits", key["key"])
    revoked = await guarded.post(f"/v1/keys/{key['id']}:revoke", **bearer("admin"))
    assert (revoked.status, (await revoked.json())["state"]) == (200, "revoked")
    refused = await guarded.client.get("/v1/waits", headers=bearer(key["key"]))
    await problem_of(refused, 401, "unauthenticated")
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
        ({"role": "viewer", "expires_in": 1e16}, "/expires_in"),
        ({"role": "viewer", "expires_in": True}, "/expires_in"),
        ({"role": "viewer", "expires": 5}, "/expires"),
    ],
)
async def test_an_invalid_key_request_is_refused_at_its_field(
    guarded: Api, body: dict[str, Any], pointer: str
) -> None:
    assert await pointers_of(await guarded.post("/v1/keys", body, **bearer("admin"))) == [pointer]


async def test_keys_can_be_created_without_authentication(api: Api) -> None:
    response = await api.post("/v1/keys", {"role": "admin"})
    assert (await response.json())["created_by"] == "loopback"


# ---------------------------------------------------------------- the audit


async def test_every_change_is_audited_with_who_what_when_and_from_where(guarded: Api) -> None:
    wait_id = await guarded.submit("a_submitter")
    await guarded.post(f"/v1/waits/{wait_id}:poke", **bearer("a_operator"))
    await guarded.post(f"/v1/waits/{wait_id}:redeliver", **bearer("a_operator"))
    await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("b_submitter"))
    await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("a_submitter"))
    await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("a_submitter"))
    entries = await audit(guarded)
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
    [entry] = await audit(guarded)
    assert (entry["action"], entry["subject"], entry["subjects"]) == ("submit", None, 2)


async def test_a_call_that_changes_nothing_is_not_audited(guarded: Api) -> None:
    for _ in range(2):
        await guarded.post("/v1/waits", wait(), Idempotency_Key="k", **bearer("a_submitter"))
    await guarded.post("/v1/waits", {"kind": "nonsense"}, **bearer("a_submitter"))
    await guarded.post("/v1/waits", wait(), **bearer("a_viewer"))
    await guarded.client.get("/v1/waits", headers=bearer("a_viewer"))
    assert len(await audit(guarded)) == 1


async def test_a_change_and_its_audit_entry_are_one_commit(guarded: Api) -> None:
    await guarded.store.set_writable(False)
    response = await guarded.post("/v1/waits", wait(), **bearer("a_submitter"))
    assert response.status == 503
    await guarded.store.set_writable(True)
    assert await audit(guarded) == []


async def test_a_poke_that_cannot_be_audited_is_not_made(guarded: Api) -> None:
    wait_id = await guarded.submit("a_submitter")
    await guarded.store.set_writable(False)
    assert (await guarded.post(f"/v1/waits/{wait_id}:poke", **bearer("a_operator"))).status == 503
    assert guarded.poking.poked == []


async def test_redelivered_dead_letters_are_audited_with_their_number(guarded: Api) -> None:
    sinks = [{"kind": "plain_sink", "url": "h"}]
    await guarded.store.end(await guarded.submit("b_submitter", sinks=sinks))
    await guarded.post("/v1/deliveries:redeliver", {"state": "dead"}, **bearer("b_operator"))
    [entry, _] = await audit(guarded)
    assert (entry["action"], entry["subjects"], entry["result"]) == ("redeliver", 0, "done")


async def test_the_audit_is_filtered_and_paged(guarded: Api) -> None:
    ids = [await guarded.submit("a_submitter") for _ in range(3)]
    await create_key(guarded, role="viewer")
    assert [c["subject"] for c in await audit(guarded, principal="key:asubmitter")] == ids[::-1]
    assert [c["action"] for c in await audit(guarded, action="create_key")] == ["create_key"]
    assert [c["subject"] for c in await audit(guarded, subject=ids[1])] == [ids[1]]
    pages = await guarded.pages("/v1/audit", "changes", "admin", limit="2", action="submit")
    assert [[change["subject"] for change in page] for page in pages] == [[ids[2], ids[1]], [ids[0]]]


@pytest.mark.parametrize("query", ["action=none", "page_token=x", "limit=0", "page_token=LTE=", "who=me"])
async def test_an_invalid_audit_query_is_refused(guarded: Api, query: str) -> None:
    response = await guarded.client.get(f"/v1/audit?{query}", headers=bearer("admin"))
    await problem_of(response, 422, "invalid-input")


async def test_each_call_that_changes_something_is_logged(guarded: Api) -> None:
    with capture_logs() as logs:
        wait_id = await guarded.submit("a_submitter")
        await guarded.post(f"/v1/waits/{wait_id}:cancel", **bearer("b_submitter"))
        key = await create_key(guarded, role="viewer")
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
        await api.submit()
    assert [line["log_level"] for line in logs if line["event"] == "audit"] == ["debug"]
