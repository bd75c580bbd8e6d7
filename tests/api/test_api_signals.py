"""Signals, and waits that submit or wake, over the API."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from api_answers import pointers_of, problem_of
from api_fakes import Api, PlainProbe, PlainTarget, wait

from waitd.core.errors import InvalidInput
from waitd.core.waits.submission import Submission, SubmitState
from waitd.core.waits.wait import WaitId


@dataclass
class FakeSignalReceiver:
    keys: list[tuple[str, str, str, str | None]] = field(default_factory=list)

    def listening(self, namespace: str, key: str) -> int:
        return 2

    def on_s3_object(self, source: str, bucket: str, key: str, namespace: str | None) -> int:
        self.keys.append((source, bucket, key, namespace))
        return 1


class SubmittingProbe(PlainProbe):
    def parse_submit(self, submit: Any, params: Any, *, namespace: str) -> Any:
        if "endpoint" not in submit:
            raise InvalidInput.at("/submit/endpoint", "needed")
        # The API reads only the `conn_ids` of a plan.
        return SimpleNamespace(conn_ids={submit["http_conn_id"]} if "http_conn_id" in submit else set())

    def parse(self, params: Any, *, namespace: str) -> PlainTarget:
        raise AssertionError("with a submit, the parameters alone mean nothing")


async def test_a_signal_is_on_disk_when_it_is_answered(api: Api) -> None:
    response = await api.post("/v1/signals/etl/2026-11-21%2Fapproved", {"by": "ops"})
    assert response.status == 200
    key = "etl/2026-11-21/approved"
    assert await response.json() == {"key": key, "namespace": "default", "waits": 0}
    assert await api.store.signals("default", key) == [{"by": "ops"}]


async def test_a_signal_may_be_repeated_and_needs_no_payload(api: Api) -> None:
    for _ in range(3):
        assert (await api.post("/v1/signals/k")).status == 200
    assert await api.store.signals("default", "k") == [None]


async def test_a_signal_is_audited(api: Api) -> None:
    await api.post("/v1/signals/k", 1)
    [change] = (await api.get("/v1/audit", action="signal"))["changes"]
    assert (change["subject"], change["result"]) == ("k", "done")


async def test_an_invalid_signal_is_refused(api: Api) -> None:
    for path, body in (
        ("/v1/signals/k", b"{"),
        ("/v1/signals/" + "k" * 257, 1),
        ("/v1/signals/a%00b", 1),
        ("/v1/signals:s3", [1]),
    ):
        await problem_of(await api.post(path, body), 422, "invalid-input")
    await problem_of(await api.post("/v1/signals/k", b'"' + b"x" * 16384 + b'"'), 413, "too-large")


async def test_too_many_different_signals_under_a_key_are_a_conflict(api: Api) -> None:
    for n in range(32):
        assert (await api.post("/v1/signals/k", n)).status == 200
    await problem_of(await api.post("/v1/signals/k", "more"), 409, "conflict")


async def test_a_store_that_cannot_be_written_refuses_signals(api: Api) -> None:
    await api.store.set_writable(False)
    await problem_of(await api.post("/v1/signals/k", 1), 503, "unavailable")


RECEIVER = FakeSignalReceiver()


@pytest.mark.parametrize("more", [{"signal_receiver": RECEIVER}])
async def test_s3_events_and_signals_reach_the_waits_that_listen(api: Api) -> None:
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "landing"}, "object": {"key": "a/b"}},
    }
    response = await api.post("/v1/signals:s3", event)
    assert await response.json() == {"keys": 1, "waits": 1}
    assert RECEIVER.keys == [("s3_event", "landing", "a/b", "default")]
    response = await api.post("/v1/signals:s3", {"Event": "s3:TestEvent"})
    assert await response.json() == {"keys": 0, "waits": 0}
    response = await api.post("/v1/signals/k", 1)
    assert (await response.json())["waits"] == 2


# ---------------------------------------------------------------- submit, wake_on


@pytest.mark.parametrize("more", [{"probes": {"plain": SubmittingProbe()}}])
async def test_a_wait_that_submits_is_shown_with_its_job(api: Api) -> None:
    wait_id = await api.submit(submit={"endpoint": "/jobs", "resume": None}, wake_on="k")
    shown = await api.get(f"/v1/waits/{wait_id}")
    assert shown["wake_on"] == "k"
    assert shown["submit"] == {
        "state": "pending", "handle": None, "adopted": False, "attempts": 0, "last_error": None, "cancel": None,
        "request": {"endpoint": "/jobs", "resume": None},
    }  # fmt: skip
    await api.store.save_submission(WaitId(wait_id), Submission(SubmitState.SUBMITTED, {"id": 7}, 2))
    shown = await api.get(f"/v1/waits/{wait_id}")
    assert (shown["submit"]["state"], shown["submit"]["handle"]) == ("submitted", {"id": 7})


@pytest.mark.parametrize("more", [{"probes": {"plain": SubmittingProbe()}}])
async def test_an_invalid_submit_is_refused_at_its_field(api: Api) -> None:
    api.connections.known.add("known")
    await api.submit(submit={"endpoint": "/jobs", "http_conn_id": "known"})
    unknown = {"endpoint": "/jobs", "http_conn_id": "unknown"}
    for submit, pointer in (({}, "/submit/endpoint"), (unknown, "/submit/http_conn_id")):
        assert await pointers_of(await api.post("/v1/waits", wait(submit=submit))) == [pointer]


async def test_a_kind_that_cannot_submit_refuses_submit(api: Api) -> None:
    response = await api.post("/v1/waits", wait(submit={"endpoint": "/jobs"}))
    problem = await problem_of(response, 422, "invalid-input")
    assert problem["errors"] == [{"pointer": "/submit", "detail": "a job of kind plain cannot be submitted"}]


async def test_wake_on_has_no_control_characters(api: Api) -> None:
    for wrong in ("", "a\x00b", 7):
        assert await pointers_of(await api.post("/v1/waits", wait(wake_on=wrong))) == ["/wake_on"]
