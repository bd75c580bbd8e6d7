"""The queue of S3 events is read on, whatever its messages say."""

import asyncio
import json

import orjson
import pytest
from daemon import until
from raw_server import Script, ScriptedConnections, answer, raw_server
from s3_pokes import aws
from structlog.testing import capture_logs

from waitd.probes.s3.events_queue import S3EventQueue


def message(key: str) -> dict[str, str]:
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}
    return {"Body": json.dumps({"Records": [record]}), "ReceiptHandle": key}


@pytest.mark.parametrize("odd", [{"Messages": 5}, {"Messages": ["a"]}, {"Messages": {}}, []])
async def test_a_defect_met_in_one_message_changes_no_other(odd: object) -> None:
    created: list[str] = []
    receives: list[str] = []
    done = asyncio.Event()
    deep = {"Body": json.dumps({"Type": "Notification", "Message": "[" * 100_000}), "ReceiptHandle": "d"}

    def on_created(_: str, key: str) -> None:
        if key == "bad":
            raise AttributeError("a defect")
        created.append(key)
        done.set()

    def script(request: str, _: int) -> Script:
        if "ReceiveMessage" not in request:
            return [answer(200, b"{}")]
        receives.append(request)
        batches = {
            1: {"Messages": [message("bad"), deep, {"Body": 1}]},
            2: odd,
            3: {"Messages": [message("good")]},
        }
        return [answer(200, orjson.dumps(batches.get(len(receives), {})))]

    async with raw_server(script) as server:
        queue = S3EventQueue(
            ScriptedConnections([aws(server.url, region_name="eu-west-1")]),
            f"{server.url}/1/queue",
            "aws_default",
            on_created=on_created,
        )
        reading = asyncio.create_task(queue.run())
        async with asyncio.timeout(20):
            await asyncio.wait(
                [reading, asyncio.create_task(done.wait())], return_when=asyncio.FIRST_COMPLETED
            )
        assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])
    assert created == ["good"]


@pytest.mark.parametrize("code", ["AKIA", "pl4nted-session-token", "x#pl4nted-session-token"])
async def test_an_error_code_that_repeats_the_request_is_masked(code: str) -> None:
    def script(_request: str, _: int) -> Script:
        return [answer(400, orjson.dumps({"__type": code}))]

    async with raw_server(script) as server:
        connection = aws(server.url, region_name="eu-west-1", aws_session_token="pl4nted-session-token")
        queue = S3EventQueue(
            ScriptedConnections([connection]),
            f"{server.url}/1/queue",
            "aws_default",
            on_created=lambda *_: None,
        )
        with capture_logs() as logged:
            reading = asyncio.create_task(queue.run())
            await until(lambda: bool(logged), what="a line in the log")
            reading.cancel()
            await asyncio.wait([reading])
    assert logged[0]["why"] == "SQS answered 400: no error code."
