"""Signals, and waits that submit or wake, over the API."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from api_fakes import Api, PlainProbe, PlainTarget, WatchedStore, problem_of, services_for, wait

from waitd.api import build_application
from waitd.core.errors import InvalidInput
from waitd.core.waits.submission import Submission, SubmitState
from waitd.core.waits.wait import WaitId
from waitd.stores import Store


@dataclass
class FakeSignalReceiver:
    listeners: int = 2
    keys: list[tuple[str, str, str, str | None]] = field(default_factory=list)

    def listening(self, namespace: str, key: str) -> int:
        return self.listeners

    def on_s3_object(self, source: str, bucket: str, key: str, namespace: str | None) -> int:
        self.keys.append((source, bucket, key, namespace))
        return 1


@dataclass(frozen=True)
class PlainPlan:
    conn_ids: frozenset[str] = frozenset()


class SubmittingProbe(PlainProbe):
    def parse_submit(
        self, submit: Any, params: Any, *, namespace: str
    ) -> Any:  # of a plan, only `conn_ids` is needed
        if "endpoint" not in submit:
            raise InvalidInput.at("/submit/endpoint", "needed")
        return PlainPlan(frozenset({submit["http_conn_id"]} if "http_conn_id" in submit else ()))

    def parse(self, params: Any, *, namespace: str) -> PlainTarget:
        raise AssertionError("with a submit, the parameters alone mean nothing")


async def test_a_signal_is_on_disk_when_it_is_answered(api: Api, store: Store) -> None:
    response = await api.post("/v1/signals/etl/2026-11-21%2Fapproved", {"by": "ops"})
    assert response.status == 200
    key = "etl/2026-11-21/approved"
    assert await response.json() == {"key": key, "namespace": "default", "waits": 0}
    assert await store.signals("default", key) == [{"by": "ops"}]


async def test_a_signal_may_be_repeated_and_needs_no_payload(api: Api, store: Store) -> None:
    for _ in range(3):
        assert (await api.post("/v1/signals/k")).status == 200
    assert await store.signals("default", "k") == [None]


async def test_a_signal_is_audited(api: Api, store: Store) -> None:
    await api.post("/v1/signals/k", 1)
    response = await api.client.get("/v1/audit?action=signal")
    [change] = (await response.json())["changes"]
    assert (change["subject"], change["result"]) == ("k", "done")


async def test_an_invalid_signal_is_refused(api: Api) -> None:
    await problem_of(await api.post("/v1/signals/k", b"{"), 422, "invalid-input")
    await problem_of(await api.post("/v1/signals/k", b'"' + b"x" * 16384 + b'"'), 413, "too-large")
    await problem_of(await api.post("/v1/signals/" + "k" * 257, 1), 422, "invalid-input")
    await problem_of(await api.post("/v1/signals/a%00b", 1), 422, "invalid-input")
    await problem_of(await api.post("/v1/signals:s3", [1]), 422, "invalid-input")


async def test_too_many_different_signals_under_a_key_are_a_conflict(api: Api) -> None:
    for n in range(32):
        assert (await api.post("/v1/signals/k", n)).status == 200
    await problem_of(await api.post("/v1/signals/k", "more"), 409, "conflict")


async def test_a_store_that_cannot_be_written_refuses_signals(api: Api) -> None:
    api.store.refusing = True
    await problem_of(await api.post("/v1/signals/k", 1), 503, "unavailable")


@pytest.fixture
def receiver() -> FakeSignalReceiver:
    return FakeSignalReceiver()


async def test_s3_events_are_passed_on(store: Store, receiver: FakeSignalReceiver) -> None:
    services = replace(services_for(WatchedStore(store), []), signal_receiver=receiver)
    async with TestClient(TestServer(build_application(services))) as client:
        event = {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": "landing"}, "object": {"key": "a/b"}},
        }
        response = await client.post("/v1/signals:s3", json=event)
        assert await response.json() == {"keys": 1, "waits": 1}
        assert receiver.keys == [("s3_event", "landing", "a/b", "default")]
        response = await client.post("/v1/signals:s3", json={"Event": "s3:TestEvent"})
        assert await response.json() == {"keys": 0, "waits": 0}
        response = await client.post("/v1/signals/k", json=1)
        assert (await response.json())["waits"] == 2


# ---------------------------------------------------------------- submit, wake_on


async def test_a_wait_that_submits_is_shown_with_its_job(api: Api, store: Store) -> None:
    probes: dict[str, Any] = dict(api.services.probes)
    probes["plain"] = SubmittingProbe()
    services = replace(api.services, probes=probes)
    async with TestClient(TestServer(build_application(services))) as client:
        body = wait(submit={"endpoint": "/jobs", "resume": None}, wake_on="k")
        response = await client.post("/v1/waits", json=body)
        assert response.status == 201
        shown = await response.json()
        assert shown["wake_on"] == "k"
        assert shown["submit"] == {
            "state": "pending", "handle": None, "adopted": False, "attempts": 0, "last_error": None, "cancel": None,
            "request": {"endpoint": "/jobs", "resume": None},
        }  # fmt: skip
        await store.save_submission(WaitId(shown["id"]), Submission(SubmitState.SUBMITTED, {"id": 7}, 2))
        shown = await (await client.get(f"/v1/waits/{shown['id']}")).json()
        assert (shown["submit"]["state"], shown["submit"]["handle"]) == ("submitted", {"id": 7})
        problem = await problem_of(await client.post("/v1/waits", json=wait(submit={})), 422, "invalid-input")
        assert [error["pointer"] for error in problem["errors"]] == ["/submit/endpoint"]
        api.connections.known.add("known")
        for conn_id, status in (("known", 201), ("nobody", 422)):
            submit = {"endpoint": "/jobs", "http_conn_id": conn_id}
            response = await client.post("/v1/waits", json=wait(submit=submit))
            assert response.status == status
        assert (await response.json())["errors"][0]["pointer"] == "/submit/http_conn_id"


async def test_a_kind_that_cannot_submit_refuses_submit(api: Api) -> None:
    response = await api.post("/v1/waits", wait(submit={"endpoint": "/jobs"}))
    problem = await problem_of(response, 422, "invalid-input")
    assert problem["errors"] == [{"pointer": "/submit", "detail": "a job of kind plain cannot be submitted"}]


async def test_wake_on_has_no_control_characters(api: Api) -> None:
    for wrong in ("", "a\x00b", 7):
        problem = await problem_of(await api.post("/v1/waits", wait(wake_on=wrong)), 422, "invalid-input")
        assert problem["errors"][0]["pointer"] == "/wake_on"
