"""`POST /v1/waits`: what is accepted, what is refused and where the refusal points."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from api_answers import pointers_of, problem_of
from api_fakes import DAY, Api, raw, wait

from waitd.api.problems import MAX_PROBLEMS
from waitd.api.server.bodies import is_plain
from waitd.api.submission.validation import BATCH_LINE, Submissions
from waitd.models import MAX_BODY


async def test_a_wait_is_stored_before_it_is_answered_and_shown_as_it_was_sent(api: Api) -> None:
    params = {"endpoint": "/job", "json": {"b": 1, "a": [True, None, 1.5]}}
    sinks = [{"kind": "plain_sink", "url": "http://127.0.0.1:2/cb"}]
    body = wait(
        params=params, poke_interval=5, timeout=60.5, sinks=sinks, labels={"dag_id": "été"}, supersede_key="k"
    )
    response = await api.post("/v1/waits", body)
    shown = await response.json()
    assert response.status == 201
    assert response.headers["Location"] == f"/v1/waits/{shown['id']}"
    [[new]] = api.store.commits
    assert new.spec.params == params
    assert new.spec.sinks == tuple(sinks)
    assert (new.spec.poke_interval, new.spec.timeout) == (5.0, 60.5)
    assert shown == {
        "id": shown["id"],
        "namespace": "default",
        "kind": "plain",
        "params": params,
        "poke_interval": 5.0,
        "timeout": 60.5,
        "exponential_backoff": False,
        "max_wait": None,
        "soft_fail": False,
        "silent_fail": False,
        "sinks": sinks,
        "labels": {"dag_id": "été"},
        "supersede_key": "k",
        "submit": None,
        "wake_on": None,
        "state": "waiting",
        "created_at": "2023-11-14T22:13:20.000Z",
        "deadline": "2023-11-14T22:14:20.500Z",
        "next_poke_at": None,
        "last_poke_at": None,
        "finished_at": None,
        "pokes": 0,
        "last_verdict": None,
        "waiting_on": None,
        "outcome": None,
        "deliveries": [],
        "cost": None,
    }


async def test_omitted_options_get_their_defaults(api: Api) -> None:
    await api.submit()
    [[new]] = api.store.commits
    assert (new.spec.poke_interval, new.spec.timeout, new.spec.sinks) == (60.0, 7 * DAY, ())


REFUSED: list[tuple[str, Any, list[str]]] = [
    ("an unknown field", wait(nope=1), ["/nope"]),
    ("a kind of the wrong type", wait(kind=1), ["/kind"]),
    ("an unknown kind", wait(kind="telnet"), ["/kind"]),
    ("no kind", {"params": {}}, ["/kind"]),
    ("the probe's own refusal", wait(params={}), ["/params/endpoint"]),
    ("params that are not an object", wait(params=[]), ["/params"]),
    ("true as a number", wait(poke_interval=True), ["/poke_interval"]),
    ("text as a number", wait(timeout="60"), ["/timeout"]),
    ("a number as a boolean", wait(soft_fail=1), ["/soft_fail"]),
    ("null where null is not allowed", wait(labels=None), ["/labels"]),
    ("an interval under the minimum", wait(poke_interval=0.05), ["/poke_interval"]),
    ("an interval of zero", wait(poke_interval=0), ["/poke_interval"]),
    ("a timeout over the maximum", wait(timeout=366 * DAY), ["/timeout"]),
    ("a negative timeout", wait(timeout=-1), ["/timeout"]),
    ("a max_wait under the interval", wait(max_wait=59), ["/max_wait"]),
    ("nine sinks", wait(sinks=[{"kind": "plain_sink"}] * 9), ["/sinks"]),
    ("a sink without kind", wait(sinks=[{"url": "x"}]), ["/sinks/0/kind"]),
    ("an unknown sink", wait(sinks=[{"kind": "plain_sink"}, {"kind": "fax"}]), ["/sinks/1/kind"]),
    ("the sink's own refusal", wait(sinks=[{"kind": "plain_sink", "colour": 1}]), ["/sinks/0/colour"]),
    ("33 labels", wait(labels={f"l{i}": "" for i in range(33)}), ["/labels"]),
    ("a label's long name", wait(labels={"n" * 64: ""}), ["/labels/" + "n" * 64]),
    ("a label's long value", wait(labels={"a/b": "x" * 257}), ["/labels/a~1b"]),
    ("a label that is not a string", wait(labels={"n": 1}), ["/labels/n"]),
    ("a control character in a label", wait(labels={"n": "a\nb", "ok": "a\xa0b"}), ["/labels/n"]),
    ("a control character in a label's name", wait(labels={"n\0": ""}), ["/labels/n\0"]),
    ("a control character in supersede_key", wait(supersede_key="a\x7f"), ["/supersede_key"]),
    ("an empty supersede_key", wait(supersede_key=""), ["/supersede_key"]),
    ("a key in the body", wait(idempotency_key="k"), ["/idempotency_key"]),
    (
        "several problems at once",
        wait(kind="x", timeout=1e12, max_wait=1),
        ["/timeout", "/max_wait", "/kind"],
    ),
    ("an array", [], [""]),
    ("not JSON", b"{'kind': 1}", [""]),
    ("NaN", b'{"kind": "plain", "poke_interval": NaN}', [""]),
    ("a number out of range", b'{"kind": "plain", "poke_interval": 1e999}', [""]),
    ("invalid UTF-8", b'{"kind": "\xff"}', [""]),
    ("nothing", b"", [""]),
    (
        "nesting without a limit",
        b'{"kind":"plain","params":{"endpoint":' + b"[" * 300 + b"]" * 300 + b"}}",
        [""],
    ),
]


@pytest.mark.parametrize(("body", "pointers"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_bad_input_is_a_422_that_points_at_the_field(api: Api, body: Any, pointers: list[str]) -> None:
    problem = await problem_of(await api.post("/v1/waits", body), 422, "invalid-input")
    assert [error["pointer"] for error in problem["errors"]] == pointers
    assert all(error["detail"] for error in problem["errors"])
    assert api.store.commits == []


@pytest.mark.parametrize("body", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_invalid_bodies_are_refused_after_valid_ones_were_cached(api: Api, body: Any) -> None:
    await api.submit()
    assert (await api.post("/v1/waits", body)).status == 422
    line = body if isinstance(body, bytes) else orjson.dumps(body)
    if line and not (isinstance(body, dict) and "idempotency_key" in body):
        answer = orjson.loads(await (await api.batch(line)).read())
        assert answer["status"] == 422


VALID: list[tuple[str, dict[str, Any]]] = [
    ("only required fields", {}),
    ("every number", {"poke_interval": 5, "timeout": 60.5, "max_wait": 5.0, "exponential_backoff": True}),
    ("flags", {"soft_fail": True, "silent_fail": True}),
    ("sinks", {"sinks": [{"kind": "plain_sink", "url": "u"}] * 8}),
    ("labels", {"labels": {"n" * 63: "é" * 256} | {f"l{n}": "" for n in range(31)}}),
    ("keys", {"supersede_key": "k" * 256, "wake_on": "a/b"}),
    ("nulls", {"timeout": None, "max_wait": None, "supersede_key": None, "wake_on": None, "submit": None}),
]


@pytest.mark.parametrize("fields", [row[1] for row in VALID], ids=[row[0] for row in VALID])
async def test_a_single_submit_and_a_batch_line_make_the_same_wait(api: Api, fields: dict[str, Any]) -> None:
    submissions = Submissions(api.dependencies)
    body = wait(**fields)
    single = await submissions.validate(orjson.dumps(body), "default", "key")
    line = orjson.dumps({**body, "idempotency_key": "key"})
    for plain in (False, is_plain(line)):
        batch = await submissions.validate(line, "default", form=BATCH_LINE, plain=plain)
        assert batch == single
    for name, value in fields.items():
        if value is not None and name != "sinks":
            assert getattr(single.new.spec, name) == value


async def test_a_connection_that_is_not_cached_has_to_be_looked_up(api: Api) -> None:
    submissions = Submissions(api.dependencies)
    by_params = wait(params={"endpoint": "/x", "http_conn_id": "c"})
    by_sink = wait(sinks=[{"kind": "plain_sink", "conn_id": "c"}])
    for body, pointer in ((by_params, "/params/http_conn_id"), (by_sink, "/sinks/0/conn_id")):
        [named] = (await submissions.validate(orjson.dumps(body), "default")).uncached
        assert named == ("c", pointer)
    api.connections.cached.add("c")
    for body in (by_params, by_sink):
        assert (await submissions.validate(orjson.dumps(body), "default")).uncached == ()


async def test_a_refused_kind_names_the_known_ones(api: Api) -> None:
    problem = await problem_of(await api.post("/v1/waits", wait(kind="telnet")), 422, "invalid-input")
    assert "http, plain" in problem["errors"][0]["detail"]


async def test_a_thousand_mistakes_do_not_get_a_thousand_errors(api: Api) -> None:
    body = wait(**{f"field_{number}": 1 for number in range(1000)})
    problem = await problem_of(await api.post("/v1/waits", body), 422, "invalid-input")
    assert len(problem["errors"]) == MAX_PROBLEMS
    assert "999 more" in problem["detail"]


async def test_nesting_up_to_the_limit_is_stored_as_given(api: Api) -> None:
    nested: Any = "deep"
    for _ in range(60):
        nested = [nested]
    await api.submit(params={"endpoint": "/", "json": nested})
    assert api.store.commits[0][0].spec.params["json"] == nested


# ---------------------------------------------------------------- connections


async def test_an_unknown_connection_is_a_422_at_the_field_that_names_it(api: Api) -> None:
    params = {"endpoint": "/job", "http_conn_id": "unknown", "note": "unknown"}
    body = wait(params=params, sinks=[{"kind": "plain_sink"}, {"kind": "plain_sink", "conn_id": "un~known"}])
    assert await pointers_of(await api.post("/v1/waits", body)) == [
        "/params/http_conn_id",
        "/sinks/1/conn_id",
    ]
    assert api.store.commits == []


async def test_a_connection_whose_resolver_is_down_counts_as_known(api: Api) -> None:
    api.connections.unavailable.add("vaulted")
    await api.submit(params={"endpoint": "/job", "http_conn_id": "vaulted"})


async def test_a_cached_connection_is_not_looked_up(api: Api) -> None:
    api.connections.cached.add("warehouse")
    await api.submit(params={"endpoint": "/job", "http_conn_id": "warehouse"})
    assert api.connections.looked_up == []


# ---------------------------------------------------------------- idempotency


async def test_the_same_key_and_body_is_the_same_wait_whatever_the_order_of_its_fields(api: Api) -> None:
    body = b'{"kind":"plain","params":{"endpoint":"/","a":1}}'
    first = await api.post("/v1/waits", body, Idempotency_Key="k")
    reordered = b'{ "params": {"a":1,"endpoint":"/"}, "kind":"plain"}'
    again = await api.post("/v1/waits", reordered, Idempotency_Key="k")
    assert (first.status, again.status) == (201, 200)
    assert await first.json() == await again.json()
    assert again.headers["Location"] == first.headers["Location"]


async def test_the_same_key_with_another_body_is_a_409(api: Api) -> None:
    await api.post("/v1/waits", wait(), Idempotency_Key="k")
    response = await api.post("/v1/waits", wait(poke_interval=60.0), Idempotency_Key="k")
    await problem_of(response, 409, "idempotency-key-reused")


async def test_a_batch_line_and_a_single_submit_share_keys(api: Api) -> None:
    first = await api.post("/v1/waits", wait(), Idempotency_Key="k")
    batch = await api.batch(wait(idempotency_key="k"))
    assert (await batch.json(content_type=None)) == {"status": 200, "id": (await first.json())["id"]}


@pytest.mark.parametrize("key", ["", "k" * 257, "a\tb", "a\x85b"])
async def test_an_invalid_idempotency_key_is_refused(api: Api, key: str) -> None:
    response = await api.post("/v1/waits", wait(), Idempotency_Key=key)
    await problem_of(response, 422, "invalid-input")
    assert api.store.commits == []


async def test_an_idempotency_key_that_is_not_text_is_refused(api: Api) -> None:
    body = orjson.dumps(wait())
    head = (
        b"POST /v1/waits HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Idempotency-Key: caf\xff\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    assert (await raw(api, head + body)).startswith(b"HTTP/1.1 422 ")
    assert api.store.commits == []


async def test_two_idempotency_keys_are_refused(api: Api) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await api.client.post("/v1/waits", json=wait(), headers=headers)
    await problem_of(response, 422, "invalid-input")


# ---------------------------------------------------------------- size and encoding


def padded(size: int) -> bytes:
    head, tail = b'{"kind":"plain","params":{"endpoint":"/","pad":"', b'"}}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


async def test_64_kib_are_accepted_and_one_byte_more_is_a_413(api: Api) -> None:
    assert (await api.post("/v1/waits", padded(MAX_BODY))).status == 201
    await problem_of(await api.post("/v1/waits", padded(MAX_BODY + 1)), 413, "too-large")
    assert len(api.store.commits) == 1


async def test_a_chunked_body_over_64_kib_is_a_413_before_it_ends(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 8192

    headers = {"Content-Type": "application/json"}
    response = await api.client.post("/v1/waits", data=chunks(), headers=headers)
    await problem_of(response, 413, "too-large")


# ---------------------------------------------------------------- refused for now


async def test_over_capacity_is_a_429_with_retry_after(api: Api) -> None:
    api.poking.capacity = 0
    response = await api.post("/v1/waits", wait())
    await problem_of(response, 429, "over-capacity")
    assert api.store.commits == []


async def test_concurrent_submits_do_not_exceed_the_capacity(api: Api) -> None:
    api.poking.capacity = 2
    async with api.store.paused():
        submits = [asyncio.create_task(api.post("/v1/waits", wait())) for _ in range(3)]
        done, _ = await asyncio.wait(submits, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result().status for task in done] == [429]
    assert sorted([(await submit).status for submit in submits]) == [201, 201, 429]
    await api.submit()  # a reservation ends with its submit


async def test_a_store_that_cannot_write_is_a_503_with_retry_after(api: Api) -> None:
    await api.store.set_writable(False)
    response = await api.post("/v1/waits", wait())
    await problem_of(response, 503, "unavailable")


async def test_a_draining_daemon_refuses_new_waits(api: Api) -> None:
    api.health.draining = True
    response = await api.post("/v1/waits", wait())
    await problem_of(response, 503, "draining")
    await problem_of(await api.batch(wait()), 503, "draining")
    assert api.store.commits == []


async def test_a_limit_in_an_error_has_all_digits(api: Api) -> None:
    problem = await problem_of(await api.post("/v1/waits", wait(timeout=366 * DAY)), 422, "invalid-input")
    assert problem["errors"] == [{"pointer": "/timeout", "detail": "at most 31,536,000 seconds here"}]
