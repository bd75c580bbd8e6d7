"""Signals and S3 events to a real daemon, also before their wait and across a SIGKILL."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import Daemon, Jobs, daemon, get_wait, serving, until
from daemon import submit as daemon_submit
from moto_s3 import S3Server, s3_server
from preset_waits import get, last_verdict_is, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def s3_connection(s3: S3Server) -> dict[str, Any]:
    connection = {
        "conn_type": "aws",
        "login": "AKIA",
        "password": "secret",
        "extra": {"endpoint_url": s3.url, "region_name": "us-east-1"},
    }
    return {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection)}


async def submit(client: aiohttp.ClientSession, running: Daemon, **body: Any) -> str:
    return await daemon_submit(client, running, {"timeout": 300, **body})


async def send_signal(client: aiohttp.ClientSession, running: Daemon, key: str, payload: Any) -> None:
    async with client.post(f"{running.url}/v1/signals/{key}", json=payload) as answer:
        assert answer.status == 200, await answer.text()


async def test_signals_end_waits_across_a_kill_and_waits_submitted_later(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as client, daemon(tmp_path) as running:
        params = {"key": "k", "success_when": "payload.step == 2", "failure_when": "payload.step == 9"}
        waits = [await submit(client, running, kind="signal", params=params) for _ in range(3)]
        other = await submit(client, running, kind="signal", params={"key": "other"})
        await send_signal(client, running, "k", {"step": 1})
        await wait_until(running, {"id": waits[0]}, last_verdict_is("signal"))
        await send_signal(client, running, "k", {"step": 2})
        assert running.process is not None
        running.process.send_signal(signal.SIGKILL)  # the signal was acknowledged, so it must survive
        await running.ended()
        await running.start()
        for wait_id in waits:
            wait = await get_wait(client, running, wait_id, 30)
            assert (wait["state"], wait["outcome"]["payload"]) == ("success", {"step": 2})
        late = await submit(client, running, kind="signal", params=params)
        assert (await get_wait(client, running, late, 30))["state"] == "success"
        assert (await get_wait(client, running, other))["state"] == "waiting"
        await send_signal(client, running, "other", None)
        assert (await get_wait(client, running, other, 30))["outcome"]["payload"] is None


async def test_expressions_over_types_are_asked_as_submitted_also_after_a_kill(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as client, daemon(tmp_path) as running:
        params = {"key": "k", "success_when": "type(payload) == map && type(payload.a) in [list, null_type]"}
        params |= {"message": "string(type(payload.a) == list)", "result": "{'is': type(payload.a) == list}"}
        typed, plain = [
            await submit(client, running, kind="signal", params=each) for each in (params, {"key": "k"})
        ]
        for source in (
            "{int: 1}",
            "timestamp(0).getHours('/dev/stdin') == 0",
            "payload ==",
            "timestamp",
        ):
            body = {"kind": "signal", "params": {"key": "k", "success_when": source}}
            async with client.post(f"{running.url}/v1/waits", json=body) as answer:
                assert answer.status == 422
                assert [error["pointer"] for error in (await answer.json())["errors"]] == [
                    "/params/success_when"
                ]
        await running.kill()
        await running.start()
        await send_signal(client, running, "k", {"a": [1]})
        assert (await get_wait(client, running, plain, 30))["state"] == "success"
        outcome = (await get_wait(client, running, typed, 30))["outcome"]
        assert (outcome["message"], outcome["payload"]) == ("true", {"is": True})


async def test_a_signal_makes_a_wait_of_another_kind_poke_at_once(tmp_path: Path) -> None:
    jobs = Jobs()
    async with (
        serving("GET", "/jobs/{name}", jobs.handle) as jobs.url,
        aiohttp.ClientSession() as client,
        daemon(tmp_path) as running,
    ):
        params = {"endpoint": f"{jobs.url}/jobs/a?for=0.5", "success_when": "body.status == 'SUCCEEDED'"}
        wait_id = await submit(client, running, kind="http", params=params, poke_interval=3600, wake_on="go")
        await until(lambda: jobs.requests["a"] == 1, what="the first poke")
        await until(lambda: time.monotonic() - jobs.first_request_at["a"] > 0.6, what="the job's end")
        await send_signal(client, running, "go", None)
        assert (await get_wait(client, running, wait_id, 30))["state"] == "success"
        assert jobs.requests["a"] == 2


async def test_a_waiting_signal_wait_is_not_polled(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as client, daemon(tmp_path) as running:
        wait_id = await submit(client, running, kind="signal", params={"key": "k"}, poke_interval=0.1)
        await wait_until(running, {"id": wait_id}, last_verdict_is("no_signal"))
        started = time.monotonic()
        await until(lambda: time.monotonic() - started > 1.5)
        assert (await get_wait(client, running, wait_id))["pokes"] == 1


async def test_an_s3_event_ends_its_waits_within_a_second(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    async with aiohttp.ClientSession() as client, daemon(tmp_path, **s3_connection(s3)) as running:
        slow = {"kind": "s3_key", "poke_interval": 3600}
        exact = await submit(client, running, **slow, params={"bucket_key": f"s3://{bucket}/a/1"})
        pattern = {"bucket_key": f"s3://{bucket}/b/*.csv", "wildcard_match": True}
        matching = await submit(client, running, **slow, params=pattern)
        unrelated = await submit(client, running, **slow, params={"bucket_key": f"s3://{bucket}/c"})
        for wait_id in (exact, matching, unrelated):
            await wait_until(running, {"id": wait_id}, last_verdict_is("absent"))
        s3.put(bucket, "a/1", "b/x.csv")
        records = [
            {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
            for key in ("a%2F1", "b/x.csv", "b/x.txt")
        ]
        async with client.post(f"{running.url}/v1/signals:s3", json={"Records": records}) as answer:
            assert await answer.json() == {"keys": 3, "waits": 2}
        for wait_id in (exact, matching):
            assert (await get_wait(client, running, wait_id, 30))["state"] == "success"
        assert (await get_wait(client, running, unrelated))["pokes"] == 1


async def test_s3_events_are_received_from_a_queue_and_deleted(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    sqs = s3.client("sqs")
    url = sqs.create_queue(QueueName="events", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    settings = s3_connection(s3) | {"WAITD_S3_EVENTS_QUEUE_URL": url}
    async with aiohttp.ClientSession() as client, daemon(tmp_path, **settings) as running:
        params = {"bucket_key": f"s3://{bucket}/a/1"}
        wait_id = await submit(client, running, kind="s3_key", params=params, poke_interval=3600)
        await wait_until(running, {"id": wait_id}, last_verdict_is("absent"))
        s3.put(bucket, "a/1")
        event = {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": bucket}, "object": {"key": "a/1"}},
        }
        for body in ("no JSON", json.dumps({"Event": "s3:TestEvent"}), json.dumps(event)):
            sqs.send_message(QueueUrl=url, MessageBody=body)
        assert (await get_wait(client, running, wait_id, 30))["state"] == "success"

        def is_empty() -> bool:
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            return all(int(attributes[name]) == 0 for name in names)

        await until(is_empty, what="the deletion of the messages")
        text = await get(f"{running.url}/metrics")
        assert 'waitd_signals_total{source="s3_queue"} 1.0' in text
        assert 'waitd_wakeups_total{source="s3_queue"} 1.0' in text
