"""Airflow's own MessageQueueTrigger receives what the sqs sink sends."""

import asyncio
import os
import subprocess
from pathlib import Path

import aiohttp
import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from daemon import Jobs, daemon, serving, submit
from moto_s3 import S3Server, s3_server

pytestmark = pytest.mark.slow

TRIGGER = Path(__file__).with_name("queue_trigger.py")


def received_by_airflow(environment: Path, home: Path, server: S3Server, queue_url: str) -> str:
    """The body of the message that the trigger receives."""
    variables = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    done = subprocess.run(
        [environment / "bin" / "python", TRIGGER, queue_url],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RECEIVED ")]
    return str(orjson.loads(line.removeprefix("RECEIVED ")))


async def test_airflows_message_queue_trigger_receives_an_outcome(environment: Path, tmp_path: Path) -> None:
    with s3_server() as server:
        sqs = server.client("sqs")
        queue_url = sqs.create_queue(QueueName="outcomes")["QueueUrl"]
        sqs.close()
        connection = {
            "conn_type": "aws",
            "login": "AKIA",
            "password": "secret",
            "extra": {"region_name": "us-east-1", "endpoint_url": server.url},
        }
        async with (
            serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
            daemon(tmp_path / "state", AIRFLOW_CONN_QUEUE=orjson.dumps(connection).decode()) as waitd,
            aiohttp.ClientSession() as client,
        ):
            body = {
                "kind": "http",
                "params": {"endpoint": f"{jobs_url}/jobs/now", "success_when": "status == 200"},
                "poke_interval": 1,
                "timeout": 60,
                "sinks": [{"kind": "sqs", "aws_conn_id": "queue", "queue_url": queue_url}],
            }
            wait_id = await submit(client, waitd, body)
            message = await asyncio.to_thread(
                received_by_airflow, environment, tmp_path / "airflow", server, queue_url
            )
        event = from_structured_event(
            HTTPMessage({"content-type": "application/cloudevents+json"}, message.encode())
        )
        assert (event.get_id(), event.get_type()) == (wait_id, "waitd.wait.success")
