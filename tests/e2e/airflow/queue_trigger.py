"""Prints the first message that Airflow's MessageQueueTrigger receives from a queue."""

import asyncio
import json
import sys

from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger


async def main() -> None:
    trigger = MessageQueueTrigger(
        scheme="sqs", sqs_queue=sys.argv[1], aws_conn_id=None, region_name="us-east-1", waiter_delay=1
    )
    async for event in trigger.run():
        (message,) = event.payload["message_batch"]
        print("RECEIVED " + json.dumps(message["Body"]))  # noqa: T201 - the output of this script
        return


asyncio.run(asyncio.wait_for(main(), 120))
