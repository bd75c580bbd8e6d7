"""Authentication, roles and namespaces."""

import re
from typing import Any

import pytest
from aiohttp import ClientTimeout
from api_fakes import NOW, TOKENS, Api, problem_of, wait
from structlog.testing import capture_logs

from waitd.api.authentication import PRINCIPAL
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL
from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.wait import Outcome, WaitState
from waitd.stores import Store

DONE = Outcome(WaitState.SUCCESS, None, "done", "success")
PUBLIC = ["/livez", "/readyz", "/openapi.json", "/docs", "/docs/start.js"]


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


async def submitted(guarded: Api, who: str, **fields: Any) -> str:
    response = await guarded.post("/v1/waits", wait(**fields), **bearer(who))
    assert response.status == 201, await response.text()
    return str((await response.json())["id"])


async def status(guarded: Api, method: str, path: str, who: str) -> int:
    if method == "GET":
        return (await guarded.client.get(path, headers=bearer(who))).status
    return (await guarded.post(path, {}, **bearer(who))).status


# ---------------------------------------------------------------- who comes in


@pytest.mark.parametrize("path", PUBLIC)
async def test_some_paths_need_no_authentication(guarded: Api, path: str) -> None:
    assert (await guarded.client.get(path)).status == 200


async def test_every_other_route_needs_authentication(guarded: Api) -> None:
    document = await (await guarded.client.get("/openapi.json")).json()
    asked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path in PUBLIC:
                assert "security" not in operation
                continue
            assert operation["security"] == [{"bearer": []}]
            response = await guarded.client.request(
                method.upper(), path.replace("{id}", "x"), headers={"Content-Type": "application/json"}
            )
            problem = await problem_of(response, 401, "unauthenticated")
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="waitd"'
            assert "Bearer" in problem["detail"]
            asked += 1
    assert asked >= 15


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer waitd_nobody_" + "s" * 40,
        TOKENS["admin"].replace("s", "t"),
        f"Bearer {TOKENS['admin'][:-1]}",
        f"Basic {TOKENS['admin']}",
        TOKENS["admin"],
        "Bearer",
        "Bearer ",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        f"Bearer {TOKENS['admin']} {TOKENS['admin']}",
    ],
)
async def test_invalid_credentials_are_refused_and_logged_nowhere(guarded: Api, authorization: str) -> None:
    with capture_logs() as logs:
        response = await guarded.client.get("/v1/waits", headers={"Authorization": authorization})
    await problem_of(response, 401, "unauthenticated")
    lines = [line for line in logs if line["event"] == "access_refused"]
    assert [(line["path"], line["remote"], line["principal"]) for line in lines] == [
        ("/v1/waits", "127.0.0.1", None)
    ]
    assert "ssss" not in str(logs) + await response.text()


async def test_two_credentials_are_refused(guarded: Api) -> None:
    headers = [
        ("Authorization", f"Bearer {TOKENS['admin']}"),
        ("Authorization", f"Bearer {TOKENS['a_viewer']}"),
    ]
    await problem_of(await guarded.client.get("/v1/waits", headers=headers), 401, "unauthenticated")


async def test_a_key_in_the_query_is_not_accepted(guarded: Api) -> None:
    response = await guarded.client.get("/v1/waits", params={"access_token": TOKENS["admin"]})
    await problem_of(response, 401, "unauthenticated")


async def test_refused_callers_are_counted(guarded: Api) -> None:
    await guarded.client.get("/v1/waits")
    await guarded.post("/v1/waits", wait(), **bearer("a_viewer"))
    text = await (await guarded.client.get("/metrics", headers=bearer("viewer"))).text()
    counts = dict(re.findall(r'waitd_requests_refused_total\{problem="([a-z-]+)"\} (\S+)', text))
    assert (counts["unauthenticated"], counts["role-needed"]) == ("1.0", "1.0")


async def test_no_body_is_read_before_its_sender_is_authenticated(guarded: Api) -> None:
    response = await guarded.post("/v1/waits", b"{" + b" " * 100_000)
    await problem_of(response, 401, "unauthenticated")


@pytest.mark.parametrize("host", ["waitd.example.org", "evil.example", "10.0.0.1:8795"])
async def test_with_authentication_any_host_and_origin_is_accepted(guarded: Api, host: str) -> None:
    headers = {"Host": host, "Origin": "https://elsewhere.example", **bearer("a_viewer")}
    assert (await guarded.client.get("/v1/waits", headers=headers)).status == 200
    await problem_of(await guarded.client.get("/v1/waits", headers={"Host": host}), 401, "unauthenticated")


async def test_the_case_of_the_scheme_is_ignored(guarded: Api) -> None:
    headers = {"Authorization": f"bEARER   {TOKENS['a_viewer']}"}
    assert (await guarded.client.get("/v1/waits", headers=headers)).status == 200


async def test_without_authentication_every_caller_is_the_loopback_admin(api: Api) -> None:
    response = await api.post("/v1/waits", wait(), Authorization="Bearer nonsense")
    assert response.status == 201
    assert (await response.json())["namespace"] == "default"
    document = await (await api.client.get("/openapi.json")).json()
    assert "securitySchemes" not in document["components"]
    assert not [1 for path in document["paths"].values() for o in path.values() if "security" in o]
    assert LOOPBACK_PRINCIPAL.name == "loopback"
    assert str(PRINCIPAL)


# ---------------------------------------------------------------- roles

#: By what a call asks of its caller: the least role, and what it is answered.
CALLS = [
    ("viewer", "GET", "/v1/waits", 200),
    ("viewer", "GET", "/v1/waits/{id}", 200),
    ("viewer", "GET", "/v1/waits/{id}/pokes", 200),
    ("admin", "GET", "/metrics", 200),
    ("submitter", "POST", "/v1/waits", 422),
    ("submitter", "POST", "/v1/waits:batch", 415),
    ("submitter", "POST", "/v1/waits/{id}:cancel", 200),
    ("operator", "POST", "/v1/waits/{id}:poke", 202),
    ("operator", "POST", "/v1/waits/{id}:redeliver", 409),
    ("operator", "GET", "/v1/deliveries", 200),
    ("operator", "POST", "/v1/deliveries:redeliver", 422),
    ("admin", "GET", "/v1/keys", 200),
    ("admin", "POST", "/v1/keys", 422),
    ("admin", "POST", "/v1/keys/nobody:revoke", 404),
    ("admin", "GET", "/v1/audit", 200),
]
RANKS = ["a_viewer", "a_submitter", "a_operator", "admin"]


@pytest.mark.parametrize(("least", "method", "path", "answer"), CALLS)
async def test_each_call_requires_its_role(
    guarded: Api, least: str, method: str, path: str, answer: int
) -> None:
    enough = [name.rpartition("_")[2] for name in RANKS].index(least)
    for rank, who in enumerate(RANKS):
        wait_id = await submitted(guarded, "a_submitter", params={"endpoint": "x"})
        found = await status(guarded, method, path.replace("{id}", wait_id), who)
        assert found == (answer if rank >= enough else 403), who


async def test_the_table_has_every_call(guarded: Api) -> None:
    document = await (await guarded.client.get("/openapi.json")).json()
    known = {(method, re.sub(r"/nobody:", "/{id}:", path)) for _, method, path, _ in CALLS}
    # What streams, and what needs a daemon behind it, has tests of its own.
    known |= {
        ("GET", "/v1/events"),
        ("GET", "/v1/cost"),
        ("POST", "/v1/signals/{key}"),
        ("POST", "/v1/signals:s3"),
    }
    known |= {("GET", path) for path in PUBLIC}
    served = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert served <= known, "a new call has its role tried here"


async def test_a_refusal_says_which_role_is_needed(guarded: Api) -> None:
    with capture_logs() as logs:
        response = await guarded.post("/v1/waits", wait(), **bearer("a_viewer"))
    problem = await problem_of(response, 403, "role-needed")
    assert "submitter" in problem["detail"]
    assert [line["principal"] for line in logs if line["event"] == "access_refused"] == ["key:aviewer"]
    assert guarded.store.commits == []


# ---------------------------------------------------------------- namespaces


async def test_a_namespace_sees_its_own_waits_only_and_an_admin_all(guarded: Api) -> None:
    ids = {name: await submitted(guarded, f"{name}_submitter", labels={"of": name}) for name in "ab"}

    async def listed(who: str, query: str = "") -> set[str]:
        found = await (await guarded.client.get(f"/v1/waits{query}", headers=bearer(who))).json()
        return {shown["id"] for shown in found["waits"]}

    assert await listed("a_viewer") == {ids["a"]}
    assert await listed("a_viewer", "?label.of=b") == set()
    assert await listed("admin") == set(ids.values())
    shown = await (await guarded.client.get(f"/v1/waits/{ids['b']}", headers=bearer("admin"))).json()
    assert shown["namespace"] == "team_b"


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
    there, nowhere = await submitted(guarded, "b_submitter"), "00000000-0000-7000-8000-000000000000"
    texts = []
    for wait_id in (there, nowhere):
        url = path.replace("{id}", wait_id)
        response = (
            await guarded.client.get(url, headers=bearer("a_operator"))
            if method == "GET"
            else await guarded.post(url, {}, **bearer("a_operator"))
        )
        await problem_of(response, 404, "not-found")
        texts.append((await response.text()).replace(wait_id, "ID"))
    assert texts[0] == texts[1]
    assert (await guarded.store.get(there)).state is WaitState.WAITING
    assert guarded.poking.poked == []


async def test_idempotency_and_supersede_keys_count_within_a_namespace(guarded: Api) -> None:
    body = wait(supersede_key="k")
    first = await guarded.post("/v1/waits", body, Idempotency_Key="i", **bearer("a_submitter"))
    other = await guarded.post(
        "/v1/waits", {**body, "timeout": 5}, Idempotency_Key="i", **bearer("b_submitter")
    )
    again = await guarded.post("/v1/waits", body, Idempotency_Key="i", **bearer("a_submitter"))
    assert (first.status, other.status, again.status) == (201, 201, 200)
    one, two = (await first.json())["id"], (await other.json())["id"]
    assert (await guarded.store.get(one)).state is WaitState.WAITING, "another's wait took no key from it"
    assert (await guarded.store.get(two)).namespace == "team_b"


async def test_deliveries_of_other_namespaces_are_neither_listed_nor_redelivered(
    guarded: Api, store: Store
) -> None:
    wait_id = await submitted(guarded, "b_submitter", sinks=[{"kind": "plain_sink", "url": "h"}])
    await guarded.store.end(wait_id, DONE)
    [delivery] = (await store.get(wait_id)).deliveries
    await store.save_attempt(delivery.id, AfterAttempt(DeliveryState.DEAD, 3, None, "410"), NOW)

    async def listed(who: str) -> list[str]:
        found = await (await guarded.client.get("/v1/deliveries", headers=bearer(who))).json()
        return [shown["id"] for shown in found["deliveries"]]

    assert [await listed(who) for who in ("a_operator", "b_operator", "admin")] == [
        [],
        [delivery.id],
        [delivery.id],
    ]
    named = await guarded.post("/v1/deliveries:redeliver", {"ids": [delivery.id]}, **bearer("a_operator"))
    await problem_of(named, 404, "not-found")
    swept = await guarded.post("/v1/deliveries:redeliver", {"state": "dead"}, **bearer("a_operator"))
    assert await swept.json() == {"redelivered": 0, "more": False}
    assert len((await store.get(wait_id)).deliveries) == 1
    mine = await guarded.post("/v1/deliveries:redeliver", {"state": "dead"}, **bearer("b_operator"))
    assert (await mine.json())["redelivered"] == 1


async def test_events_of_other_namespaces_are_not_sent(guarded: Api) -> None:
    waiting = {name: await submitted(guarded, f"{name}_submitter") for name in "ab"}
    headers = {**bearer("a_viewer"), "Last-Event-ID": "0"}
    for name in "ba":
        await guarded.store.end(waiting[name], DONE)
    async with guarded.client.get("/v1/events", headers=headers, timeout=ClientTimeout(total=20)) as stream:
        assert stream.status == 200
        text = b""
        while waiting["a"].encode() not in text:
            text += await stream.content.readany()
    assert waiting["b"].encode() not in text


async def followed(guarded: Api, last: str, until: str) -> tuple[list[int], str]:
    """The ids that team a's viewer sees, and all that is sent, up to the event of this wait."""
    headers = {**bearer("a_viewer"), "Last-Event-ID": last}
    async with guarded.client.get("/v1/events", headers=headers, timeout=ClientTimeout(total=20)) as stream:
        assert stream.status == 200, await stream.text()
        text = b""
        while until.encode() not in text:
            text += await stream.content.readany()
    return [int(number) for number in re.findall(rb"^id: (\d+)$", text, re.MULTILINE)], text.decode()


async def test_event_ids_do_not_reveal_how_many_events_other_namespaces_have(guarded: Api) -> None:
    ended = []
    for who in ("a", "b", "b", "a"):
        ended.append(await submitted(guarded, f"{who}_submitter"))
        await guarded.store.end(ended[-1], DONE)
    (greeted, first, second), _ = await followed(guarded, "0", ended[-1])
    assert len({greeted, first, second}) == 3
    assert min(first, second) > 1000, "sealed numbers are below that once in 10 ** 16"
    (again, last), text = await followed(guarded, str(first), ended[-1])
    assert ended[0] not in text
    assert {again, last}.isdisjoint({greeted, first, second}), "the same place looks another way each time"
    for stranger in ("1", str(first + 1), str(2**64)):
        headers = {**bearer("a_viewer"), "Last-Event-ID": stranger}
        answer = await guarded.client.get("/v1/events", headers=headers)
        await problem_of(answer, 410, "events-gone")


async def test_metrics_are_for_callers_that_see_all_namespaces(guarded: Api) -> None:
    for path in ("/metrics", "/v1/waits"):
        assert (await guarded.client.get(path, headers=bearer("viewer"))).status == 200
    problem = await problem_of(
        await guarded.client.get("/metrics", headers=bearer("a_operator")), 403, "role-needed"
    )
    assert "--namespace '*'" in problem["detail"]
    await problem_of(await guarded.client.get("/metrics"), 401, "unauthenticated")


@pytest.mark.parametrize("services", [{"open_metrics": True}])
async def test_open_metrics_need_no_authentication(guarded: Api) -> None:
    assert (await guarded.client.get("/metrics")).status == 200
    assert (await guarded.client.get("/v1/waits")).status == 401
    document = await (await guarded.client.get("/openapi.json")).json()
    assert "security" not in document["paths"]["/metrics"]["get"]


# ---------------------------------------------------------------- what a namespace may name


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"params": {"endpoint": "x", "http_conn_id": "team_b_api"}}, "/params/http_conn_id"),
        ({"params": {"endpoint": "x", "used": "aws_default"}}, "/params"),
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
    await submitted(
        guarded,
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
    assert await submitted(guarded, "admin"), "a wait that names nothing is as good as any"
