"""Reads S3 notifications from an SQS queue: reports each created key, then deletes the message."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import structlog

from waitd.core.aws.s3_events import created_objects
from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import HostSource
from waitd.core.connections.proxies import DEFAULT_PROXIES
from waitd.core.connections.sent_secrets import keys_mask
from waitd.core.errors import WaitdError
from waitd.outgoing import EgressGuard
from waitd.ports import Connections
from waitd.probes.access.aws import AccountRef, AwsEndpoint, AwsEndpoints
from waitd.probes.transport.client import HttpClient, Request
from waitd.probes.transport.errors import classify_error

log = structlog.get_logger(__name__)

#: How long SQS waits for a message, and how long waitd waits for the response after that, in
#: seconds.
LONG_POLL, RESPONSE_TIMEOUT = 20, 30.0
#: The most messages of one call; SQS allows no more.
MAX_MESSAGES = 10
#: The largest response, in bytes: ten messages of the largest size, escaped.
_RESPONSE_BYTES = 8 * 1024 * 1024
#: Pauses after a failed call, in seconds; the last one repeats.
RETRY_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
_AWS_HOST = re.compile(r"(?:sqs|sqs-fips)\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")
_ERROR_CODE = re.compile(r"[A-Za-z0-9._#-]{1,80}")
#: Error codes after which the credentials are refreshed.
_STALE_CREDENTIALS = frozenset({
    "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException",
    "SignatureDoesNotMatch",
})  # fmt: skip


class S3EventQueueError(Exception):
    """The queue cannot be read now. The message is for people and quotes no secret."""


class S3EventQueue:
    """Reads one queue. Call `run` in the event loop that it was created in."""

    def __init__(
        self,
        connections: Connections,
        queue_url: str,
        conn_id: str,
        *,
        on_created: Callable[[str, str], object],
        egress: EgressGuard | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`on_created` gets bucket and key of each created object; `now` returns Unix seconds.

        Raises:
            ValueError: `queue_url` is not a URL.
        """
        self._endpoints = AwsEndpoints(
            connections, now=time.monotonic, service="sqs", environment_id="SQS", egress=egress
        )
        self._queue_url = queue_url
        self._origin = parse_origin(queue_url)
        self._account = AccountRef(conn_id, optional=False)
        self._on_created = on_created
        self._http = HttpClient(egress=egress, pooled=False)
        self._proxies = DEFAULT_PROXIES if egress is None else egress.proxies
        self._now = now

    async def run(self) -> None:
        """Reads until it is cancelled. An error is logged once and retried."""
        failures, last_error = 0, ""
        await self._http.start()
        try:
            while True:
                try:
                    await self._receive()
                    failures, last_error = 0, ""
                except S3EventQueueError as error:
                    if str(error) != last_error:
                        last_error = str(error)
                        log.warning("s3_events_not_read", queue=self._queue_url, why=last_error)
                    await asyncio.sleep(RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)])
                    failures += 1
        finally:
            await self._http.close()

    async def _receive(self) -> None:
        answer = await self._call(
            "ReceiveMessage", MaxNumberOfMessages=MAX_MESSAGES, WaitTimeSeconds=LONG_POLL
        )
        messages = answer.get("Messages") or []
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise S3EventQueueError("The response is not one of SQS.")
        for message in messages:
            self._handle(message.get("Body"))
        if messages:
            entries = [
                {"Id": str(number), "ReceiptHandle": message.get("ReceiptHandle")}
                for number, message in enumerate(messages)
            ]
            await self._call("DeleteMessageBatch", Entries=entries)

    def _handle(self, body: Any) -> None:
        try:
            event = orjson.loads(body)
        except (orjson.JSONDecodeError, TypeError):
            log.debug("s3_event_not_json")
            return
        try:
            for created in created_objects(event):
                self._on_created(created.bucket, created.key)
        except Exception:  # a defect met in one event is no other's
            log.exception("s3_event_not_handled")

    # ------------------------------------------------------------ SQS

    async def _call(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Calls SQS, and once again with refreshed credentials if they are refused."""
        try:
            async with asyncio.timeout(LONG_POLL + RESPONSE_TIMEOUT):
                status, body = await self._send(await self._endpoints.get(self._account), action, arguments)
                if status in {400, 403} and _error_code(body) in _STALE_CREDENTIALS:
                    status, body = await self._send(
                        await self._endpoints.get(self._account, refresh=True), action, arguments
                    )
        except TimeoutError:
            raise S3EventQueueError("SQS does not answer.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise S3EventQueueError(classify_error(error).message) from None
        except (WaitdError, ValueError) as error:
            raise S3EventQueueError(
                f"The connection {self._account.conn_id} cannot be used: {error}."
            ) from None
        if status != 200:
            raise S3EventQueueError(f"SQS answered {status}: {_error_code(body) or 'no error code'}.")
        try:
            answer = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError:
            raise S3EventQueueError("The response is not one of SQS.") from None
        return answer if isinstance(answer, dict) else {}

    async def _send(
        self, endpoint: AwsEndpoint, action: str, arguments: dict[str, Any]
    ) -> tuple[int, bytes | None]:
        region = self._region(endpoint)
        if endpoint.keys is None:
            raise ValueError("it has no credentials")
        url = f"{self._origin}/"
        body = orjson.dumps({"QueueUrl": self._queue_url, **arguments})
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        signer = AwsSigner("sqs", region, endpoint.keys)
        headers |= signer.headers("POST", url, headers, body, now=self._now())
        request = Request(
            *("POST", url, headers, body, endpoint.verify_tls, HostSource.OPERATOR),
            proxies=endpoint.proxies,
            safe=True,  # a message that is received twice only pokes twice
        )
        answer = await self._http.fetch(request, self._now())
        try:
            status, content = answer.facts.status, await self._http.read(answer.response, _RESPONSE_BYTES)
            if status != 200 and content is not None:  # its code is logged
                content = keys_mask(endpoint.keys, endpoint.proxies, self._proxies).mask_bytes(content)
            return status, content
        finally:
            await self._http.release(answer.response)

    def _region(self, endpoint: AwsEndpoint) -> str:
        """Returns the region to sign for.

        Raises:
            ValueError: the queue is not at the endpoint that the credentials belong to.
        """
        if endpoint.base is not None:
            if parse_origin(endpoint.base) != self._origin:
                raise ValueError("the queue's URL is not at the connection's endpoint")
            return endpoint.region
        aws = _AWS_HOST.fullmatch(self._origin.host)
        if aws is None or self._origin.scheme != "https":
            raise ValueError("the queue's URL is not at AWS, and the connection has no endpoint")
        return aws[1]


def _error_code(body: bytes | None) -> str:
    """The code of an error without its namespace; "" if there is none."""
    try:
        error = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return ""
    code = str(error.get("__type", "")) if isinstance(error, dict) else ""
    return code.rpartition("#")[2] if _ERROR_CODE.fullmatch(code) else ""
