"""News of S3 from an SQS queue: every key that has come is told, and a message is deleted when that is done."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import orjson
import structlog

from waitd.core.aws.s3_events import created_objects
from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import HostSource
from waitd.core.errors import WaitdError
from waitd.outgoing import Outgoing
from waitd.ports import Connections
from waitd.probes.access.aws import AccountRef, AwsEndpoint, AwsEndpoints
from waitd.probes.transport.client import HttpClient, Request
from waitd.probes.transport.errors import classify_error

log = structlog.get_logger(__name__)

#: For how long SQS keeps a receive open while there is nothing, and for how long we wait for its answer, in seconds.
LONG_POLL, ANSWER_SECONDS = 20, 30.0
#: How many messages one receive gives; SQS has no more.
MESSAGES = 10
#: The largest answer, in bytes: ten messages of the largest size, escaped.
_ANSWER_BYTES = 8 * 1024 * 1024
#: Pauses after a receive or delete that failed, in seconds; the last one repeats.
RETRY_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
_AWS_HOST = re.compile(r"(?:sqs|sqs-fips)\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")
_CODE = re.compile(r"[A-Za-z0-9._#-]{1,80}")


class S3EventQueueError(Exception):
    """The queue cannot be read now; the message is for people and quotes no secret."""


class S3EventQueue:
    """Reads one queue. Use it as a context manager in the loop that it runs in; `run` is its loop."""

    def __init__(
        self,
        connections: Connections,
        queue_url: str,
        conn_id: str,
        *,
        heard: Callable[[str, str], object],
        outgoing: Outgoing | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`heard` is told each bucket and key that has come; `now` gives Unix seconds.

        Raises:
            ValueError: `queue_url` is no URL.
        """
        self._endpoints = AwsEndpoints(connections, now=time.monotonic)
        self._queue_url = queue_url
        self._origin = parse_origin(queue_url)
        self._account = AccountRef(conn_id, optional=False)
        self._heard = heard
        self._http = HttpClient(keepalive=60.0, outgoing=outgoing, pooled=False)
        self._now = now

    async def run(self) -> None:
        """Reads until it is cancelled; what is in the way is told once and tried again."""
        failures, told = 0, ""
        await self._http.start()
        try:
            while True:
                try:
                    await self._read_some()
                    failures, told = 0, ""
                except S3EventQueueError as error:
                    if str(error) != told:
                        told = str(error)
                        log.warning("s3_events_not_read", queue=self._queue_url, why=told)
                    await asyncio.sleep(RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)])
                    failures += 1
        finally:
            await self._http.close()

    async def _read_some(self) -> None:
        answer = await self._call("ReceiveMessage", MaxNumberOfMessages=MESSAGES, WaitTimeSeconds=LONG_POLL)
        messages = answer.get("Messages") or ()
        for message in messages:
            self._tell(message.get("Body"))
        if messages:
            await self._delete([message.get("ReceiptHandle") for message in messages])

    def _tell(self, body: Any) -> None:
        try:
            event = orjson.loads(body)
        except (orjson.JSONDecodeError, TypeError):
            log.debug("s3_event_not_understood")
            return
        for made in created_objects(event):
            self._heard(made.bucket, made.key)

    async def _delete(self, receipts: Sequence[Any]) -> None:
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        await self._call("DeleteMessageBatch", Entries=entries)

    # ------------------------------------------------------------ SQS

    async def _call(self, action: str, **arguments: Any) -> dict[str, Any]:
        """One call of SQS in its JSON protocol; after a refusal of the credentials a second one with fresh ones."""
        try:
            async with asyncio.timeout(LONG_POLL + ANSWER_SECONDS):
                status, body = await self._exchanged(
                    await self._endpoints.get(self._account), action, arguments
                )
                if status in {400, 403} and _code(body) in _STALE:
                    endpoint = await self._endpoints.refresh(self._account)
                    status, body = await self._exchanged(endpoint, action, arguments)
        except TimeoutError:
            raise S3EventQueueError("SQS does not answer.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise S3EventQueueError(classify_error(error).message) from None
        except (WaitdError, ValueError) as error:
            raise S3EventQueueError(
                f"The connection {self._account.conn_id} cannot be used: {error}."
            ) from None
        if status != 200:
            raise S3EventQueueError(f"SQS answered {status}: {_code(body) or 'no error code'}.")
        try:
            answer = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError:
            raise S3EventQueueError("The answer is not that of SQS.") from None
        return answer if isinstance(answer, dict) else {}

    async def _exchanged(
        self, endpoint: AwsEndpoint, action: str, arguments: dict[str, Any]
    ) -> tuple[int, bytes | None]:
        region = self._check(endpoint)
        if endpoint.keys is None:
            raise ValueError("it has no credentials")
        url = f"{self._origin}/"
        body = orjson.dumps({"QueueUrl": self._queue_url, **arguments})
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        headers |= AwsSigner("sqs", region, endpoint.keys).headers(
            "POST", url, headers, body, now=self._now()
        )
        request = Request("POST", url, headers, body, endpoint.verify_tls, HostSource.OPERATOR)
        answer = await self._http.fetch(request, self._now())
        try:
            return answer.facts.status, await self._http.read(answer.response, _ANSWER_BYTES)
        finally:
            await self._http.release(answer.response)

    def _check(self, endpoint: AwsEndpoint) -> str:
        """The region. Raises ValueError where the queue is not where the connection's credentials belong."""
        if endpoint.base is not None:
            if parse_origin(endpoint.base) != self._origin:
                raise ValueError("the queue is not at its endpoint")
            return endpoint.region
        aws = _AWS_HOST.fullmatch(self._origin.host)
        if aws is None or self._origin.scheme != "https":
            raise ValueError("the queue is not at AWS")
        return aws[1]


#: Codes that fresh credentials may mend.
_STALE = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
    }
)


def _code(body: bytes | None) -> str:
    """The code of an error, without the namespace before it."""
    try:
        error = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return ""
    code = str(error.get("__type", "")) if isinstance(error, dict) else ""
    return code.rpartition("#")[2] if _CODE.fullmatch(code) else ""
