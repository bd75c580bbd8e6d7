"""Signals and news of S3 to a real daemon: over SIGKILL, before their wait, and in the time that is promised."""

import json
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import Daemon, Jobs, daemon, serving, until
from moto_s3 import S3Server, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def environment(s3: S3Server) -> dict[str, Any]:
    connection = {
        "conn_type": "aws",
        "login": "AKIA",
        "password": "secret",
        "extra": {"endpoint_url": s3.url, "region_name": "us-east-1"},
    }
    return {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection)}


async def submit(client: aiohttp.ClientSession, running: Daemon, **body: Any) -> str:
    async with client.post(f"{running.url}/v1/waits", json={"timeout": 300, **body}) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


async def show(
    client: aiohttp.ClientSession, running: Daemon, wait_id: str, seconds: int = 0
) -> dict[str, Any]:
    async with client.get(f"{running.url}/v1/waits/{wait_id}?wait={seconds}") as answer:
        wait: dict[str, Any] = await answer.json()
        return wait


async def say(client: aiohttp.ClientSession, running: Daemon, key: str, payload: Any) -> None:
    async with client.post(f"{running.url}/v1/signals/{key}", json=payload) as answer:
        assert answer.status == 200, await answer.text()


async def test_signals_end_waits_before_and_after_and_over_a_kill(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as client, daemon(tmp_path) as running:
        params = {"key": "k", "success_when": "payload.step == 2", "failure_when": "payload.step == 9"}
        waits = [await submit(client, running, kind="signal", params=params) for _ in range(3)]
        other = await submit(client, running, kind="signal", params={"key": "other"})
        await say(client, running, "k", {"step": 1})
        await until(lambda: _seen(client, running, waits[0], "signal"), what="a look at the first signal")
        await say(client, running, "k", {"step": 2})
        assert running.process is not None
        running.process.send_signal(signal.SIGKILL)  # the 2xx is all that was needed
        await running.ended()
        await running.start()
        for wait_id in waits:
            wait = await show(client, running, wait_id, 30)
            assert (wait["state"], wait["outcome"]["payload"]) == ("success", {"step": 2})
        late = await submit(client, running, kind="signal", params=params)
        assert (await show(client, running, late, 30))["state"] == "success"
        assert (await show(client, running, other))["state"] == "waiting"
        await say(client, running, "other", None)
        assert (await show(client, running, other, 30))["outcome"]["payload"] is None


async def _seen(client: aiohttp.ClientSession, running: Daemon, wait_id: str, reason: str) -> bool:
    seen = (await show(client, running, wait_id))["last_verdict"]
    return seen is not None and seen["reason"] == reason


async def test_a_signal_makes_a_wait_of_another_kind_be_poked_at_once(tmp_path: Path) -> None:
    jobs = Jobs()
    async with (
        serving("GET", "/jobs/{name}", jobs.answer) as jobs.url,
        aiohttp.ClientSession() as client,
        daemon(tmp_path) as running,
    ):
        params = {"endpoint": f"{jobs.url}/jobs/a?for=0.5", "success_when": "body.status == 'SUCCEEDED'"}
        wait_id = await submit(client, running, kind="http", params=params, poke_interval=3600, wake_on="go")
        await until(lambda: jobs.asked["a"] == 1, what="the first poke")
        await until(lambda: time.monotonic() - jobs.first_asked["a"] > 0.6, what="the job's end")
        await say(client, running, "go", None)
        assert (await show(client, running, wait_id, 30))["state"] == "success"
        assert jobs.asked["a"] == 2


async def test_a_waiting_signal_wait_is_not_polled(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as client, daemon(tmp_path) as running:
        wait_id = await submit(client, running, kind="signal", params={"key": "k"}, poke_interval=0.1)
        await until(lambda: _seen(client, running, wait_id, "no_signal"), what="the first look")
        started = time.monotonic()
        await until(lambda: time.monotonic() - started > 1.5)
        assert (await show(client, running, wait_id))["pokes"] == 1


async def test_news_of_a_key_is_seen_within_a_second(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    async with aiohttp.ClientSession() as client, daemon(tmp_path, **environment(s3)) as running:
        slow = {"kind": "s3_key", "poke_interval": 3600}
        exact = await submit(client, running, **slow, params={"bucket_key": f"s3://{bucket}/a/1"})
        pattern = {"bucket_key": f"s3://{bucket}/b/*.csv", "wildcard_match": True}
        matching = await submit(client, running, **slow, params=pattern)
        elsewhere = await submit(client, running, **slow, params={"bucket_key": f"s3://{bucket}/c"})
        for wait_id in (exact, matching, elsewhere):
            await until(partial(_seen, client, running, wait_id, "absent"), what="a first look")
        s3.put(bucket, "a/1", "b/x.csv")
        started = time.monotonic()
        records = [
            {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
            for key in ("a%2F1", "b/x.csv", "b/x.txt")
        ]
        async with client.post(f"{running.url}/v1/signals:s3", json={"Records": records}) as answer:
            assert await answer.json() == {"keys": 3, "waits": 2}
        for wait_id in (exact, matching):
            assert (await show(client, running, wait_id, 30))["state"] == "success"
        assert time.monotonic() - started < 1.0
        assert (await show(client, running, elsewhere))["pokes"] == 1


async def test_news_from_a_queue_is_heard_and_its_messages_deleted(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    sqs = s3.client("sqs")
    url = sqs.create_queue(QueueName="events", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    settings = environment(s3) | {"WAITD_S3_EVENTS_QUEUE_URL": url}
    async with aiohttp.ClientSession() as client, daemon(tmp_path, **settings) as running:
        params = {"bucket_key": f"s3://{bucket}/a/1"}
        wait_id = await submit(client, running, kind="s3_key", params=params, poke_interval=3600)
        await until(lambda: _seen(client, running, wait_id, "absent"), what="a first look")
        s3.put(bucket, "a/1")
        event = {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": bucket}, "object": {"key": "a/1"}},
        }
        for body in ("no JSON", json.dumps({"Event": "s3:TestEvent"}), json.dumps(event)):
            sqs.send_message(QueueUrl=url, MessageBody=body)
        assert (await show(client, running, wait_id, 30))["state"] == "success"

        def is_empty() -> bool:
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            return all(int(found[name]) == 0 for name in names)

        await until(is_empty, what="the deletion of the messages")
        async with client.get(f"{running.url}/metrics") as answer:
            text = await answer.text()
        assert 'waitd_signals_total{source="s3_queue"} 1.0' in text
        assert 'waitd_wakeups_total{source="s3_queue"} 1.0' in text
