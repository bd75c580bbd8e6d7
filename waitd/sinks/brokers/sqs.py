"""The sqs sink: SendMessage. An answer with a message id and the body's MD5 is a delivery.

The message's body is the event, so Airflow's `MessageQueueTrigger` can read it unchanged. On a FIFO
queue the deduplication id is the delivery's id, and the group is the wait's id or
`message_group_id`.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Hashable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from waitd.core.connections.aws import AwsConnection, parse_aws_connection
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.destinations import check_queue_url, check_region, queue_origin, queue_region
from waitd.core.connections.egress import HostSource
from waitd.core.errors import InvalidInput, NotSupported, WaitdError
from waitd.core.http.headers import parse_retry_after
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict
from waitd.outgoing import EgressGuard, describe_error
from waitd.outgoing.tls import client_tls
from waitd.ports import AwsConnections, OutboxItem
from waitd.sinks.brokers.broker import (
    BrokerAddress,
    BrokerSink,
    BrokerTarget,
    ConnId,
    ErrorReceipts,
    InvalidConnection,
)
from waitd.sinks.brokers.library_internals import aws_session_class

#: Seconds for connecting, and for an answer; the caller limits the whole attempt.
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60
#: Open connections of one client at most.
MAX_CONNECTIONS = 64
_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _region(text: str) -> str:
    try:
        return check_region(text)
    except ValueError as error:
        raise PydanticCustomError("region", "{why}", {"why": str(error)}) from None


class SqsParams(Strict):
    """The parameters of an SQS queue."""

    aws_conn_id: ConnId
    queue_url: Annotated[str, Field(max_length=1024)] = Field(
        description="The queue's URL, at the connection's own endpoint."
    )
    region_name: Annotated[str, AfterValidator(_region)] | None = Field(
        default=None, description="Default: the connection's, else the one in queue_url."
    )
    message_group_id: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")] | None = Field(
        default=None, description="The group on a FIFO queue; default: the wait's id."
    )

    @property
    def conn_id(self) -> str:
        """The connection, under the name that all sinks have for it."""
        return self.aws_conn_id

    @property
    def is_fifo(self) -> bool:
        """Whether the queue is a FIFO queue."""
        return self.queue_url.endswith(".fifo")


@dataclass(frozen=True, slots=True)
class SqsClient:
    """A client, what closes it, and where its credentials may go (see `queue_origin`)."""

    send_message: Any
    endpoint: str | None
    region: str
    stack: AsyncExitStack


class SqsSink(BrokerSink[SqsParams, SqsClient]):
    """Sends messages.

    The connection is Airflow's `aws`, read as the AWS probes read it. Its keys may be those of the
    environment or of a role; keys that SQS refuses are looked up again.
    """

    params_model = SqsParams

    kind = "sqs"
    library = "aiobotocore"
    broker = "SQS"

    def __init__(self, connections: AwsConnections, egress: EgressGuard | None = None) -> None:
        super().__init__(connections, egress)
        self._aws = connections
        self._session: Any = None

    async def deliver(self, target: BrokerTarget[SqsParams], item: OutboxItem) -> Receipt:
        """One attempt, and another one if the keys are refused and there are newer ones."""
        try:
            sent = await self._connection(target.conn_id)
        except WaitdError:
            sent = None  # the attempt meets the same error, and says so
        receipt = await super().deliver(target, item)
        if receipt == _BAD_CREDENTIALS:
            renewed = await self._renewed(target.conn_id)
            if renewed is not None and renewed != sent:
                return await super().deliver(target, item)
        return receipt

    async def _connection(self, conn_id: str) -> Connection:
        """The connection with the keys that it stands for."""
        return await self._with_keys(await super()._connection(conn_id))

    async def _with_keys(self, connection: Connection, *, refresh: bool = False) -> Connection:
        source = _parse(connection).keys
        if source is None:
            return connection
        provider = self._aws.aws_keys
        try:
            keys = await (provider.refresh if refresh else provider.get)(source)
        except ValueError as error:
            raise InvalidConnection(f"the connection {connection.conn_id} cannot be used: {error}") from None
        extra = {**connection.extra, "aws_session_token": keys.session_token}
        return replace(connection, login=keys.access_key_id, password=keys.secret_access_key, extra=extra)

    async def _renewed(self, conn_id: str) -> Connection | None:
        """The connection and its keys, looked up again; None if that fails."""
        try:
            return await self._with_keys(await self._connections.refresh(conn_id), refresh=True)
        except WaitdError:
            return None

    def _check(self, params: SqsParams) -> None:
        """Also checks the queue against the cached connection; each attempt checks it again."""
        try:
            check_queue_url(params.queue_url)
        except ValueError as error:
            raise InvalidInput.at("/queue_url", str(error)) from None
        if params.message_group_id is not None and not params.is_fifo:
            raise InvalidInput.at(
                "/message_group_id", "only a FIFO queue, whose URL ends with .fifo, has message groups"
            )
        connection = self._connections.cached_any(params.conn_id)
        if connection is None:
            return
        try:
            account = _parse(connection)
            queue_origin(
                params.queue_url, endpoint=account.endpoint, region=_region_name(connection, account, params)
            )
        except InvalidConnection:
            return  # for the operator to fix, not the submitter
        except ValueError as error:  # not InvalidInput: the connection may change
            raise NotSupported.at("/queue_url", str(error)) from None

    def _destination(self, params: SqsParams) -> str:
        return f"sqs {params.conn_id} {params.queue_url}"

    def _client_key(self, params: SqsParams) -> Hashable:
        return params.conn_id, params.region_name, queue_region(params.queue_url)

    async def _open(self, connection: Connection, params: SqsParams) -> SqsClient:
        account = _parse(connection)
        region = _region_name(connection, account, params)
        try:
            context = await client_tls(account.tls)
        except ValueError:
            raise InvalidConnection(
                f"the TLS files of the connection {connection.conn_id} cannot be read"
            ) from None
        if self._session is None:
            self._session = await asyncio.to_thread(_warm_session)
        from aiobotocore.config import AioConfig
        from botocore import UNSIGNED

        connector = partial(self._egress.connector, HostSource.OPERATOR, limit=MAX_CONNECTIONS, ssl=context)
        proxy = self._egress.proxy(params.queue_url, account.proxies)
        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            http_session_cls=aws_session_class(connector),
            retries={"total_max_attempts": 1, "mode": "standard"},  # deliveries are retried by waitd
            user_agent_extra="waitd",
            ignore_configured_endpoint_urls=True,  # only the connection's own, or AWS's
            proxies={"http": proxy, "https": proxy} if proxy else {},  # an empty one: no environment
            use_fips_endpoint=account.fips,
            use_dualstack_endpoint=account.dual_stack,
            signature_version=UNSIGNED if account.keys is None else None,
        )
        async with AsyncExitStack() as stack:
            creating = self._session.create_client(
                "sqs",
                config=config,
                region_name=region,
                endpoint_url=account.endpoint,
                aws_access_key_id=connection.login or None,
                aws_secret_access_key=connection.password or None,
                aws_session_token=connection.extra.get("aws_session_token") or None,
            )
            client = await stack.enter_async_context(creating)
            origin = parse_origin(client.meta.endpoint_url)
            self._check_egress(BrokerAddress(origin.host, origin.port))
            return SqsClient(client.send_message, account.endpoint, region, stack.pop_all())

    async def _close(self, client: SqsClient) -> None:
        await client.stack.aclose()

    async def _send(self, client: SqsClient, params: SqsParams, item: OutboxItem) -> Receipt:
        try:
            queue_origin(params.queue_url, endpoint=client.endpoint, region=client.region)
        except ValueError as error:
            return DeliveryFailed(str(error))
        fifo = {
            "MessageGroupId": params.message_group_id or item.wait_id,
            "MessageDeduplicationId": item.id,
        }
        answer = await client.send_message(
            QueueUrl=params.queue_url,
            MessageBody=item.event.decode(),
            MessageAttributes={
                "content-type": {"DataType": "String", "StringValue": EVENT_CONTENT_TYPE},
                "event-id": {"DataType": "String", "StringValue": item.wait_id},
            },
            **(fifo if params.is_fifo else {}),
        )
        digest = hashlib.md5(item.event, usedforsecurity=False).hexdigest()
        if not answer.get("MessageId") or answer.get("MD5OfMessageBody") != digest:
            return DeliveryFailed("SQS stored another body than the event: the MD5 differs")
        return Delivered()

    def _classify_error(self, error: Exception, item: OutboxItem) -> Receipt:
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's own

        if isinstance(error, ConnectionError | HTTPClientError):
            cause = error.__context__ if isinstance(error.__context__, Exception) else error
            return DeliveryFailed(describe_error(cause, "SQS"))
        if isinstance(error, ClientError):
            details = error.response.get("Error", {})
            receipt = _error_receipt(str(details.get("Code")), str(details.get("Message")))
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            retry_after = parse_retry_after(headers.get("retry-after"), time.time(), headers.get("date"))
            return (
                replace(receipt, retry_after=retry_after) if isinstance(receipt, DeliveryFailed) else receipt
            )
        return super()._classify_error(error, item)

    @staticmethod
    def _error_receipts() -> ErrorReceipts:
        return ()  # `_classify_error` knows all of botocore's errors


def _parse(connection: Connection) -> AwsConnection:
    try:
        return parse_aws_connection(connection, "sqs")
    except ValueError as error:
        raise InvalidConnection(f"the connection {connection.conn_id} cannot be used: {error}") from None


def _region_name(connection: Connection, account: AwsConnection, params: SqsParams) -> str:
    region = params.region_name or account.region or queue_region(params.queue_url)
    if region is None:
        raise InvalidConnection(
            f"no region is set: set region_name in the sink or in the connection {connection.conn_id}"
        )
    return region


def _warm_session() -> Any:
    """A session that has loaded its data files. Blocks, so call it in a thread.

    Creating the first client takes 0.1 s, so one is created and closed here, on another event loop.
    """
    from aiobotocore.session import AioSession

    session = AioSession()
    credentials = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "-")

    async def create_first_client() -> None:
        async with session.create_client("sqs", region_name="us-east-1", **credentials):
            pass

    asyncio.run(create_first_client())
    return session


def _error_receipt(code: str, message: str) -> Receipt:
    """The receipt for an SQS error. Its message may quote the request, so it is not shown."""
    if code == "InvalidParameterValue" and "shorter" in message:
        code = "MessageTooLong"
    shown = code if _CODE.fullmatch(code) else "no error code"
    return _RECEIPTS.get(code) or DeliveryFailed(f"SQS refused it: {shown}")


_NO_QUEUE = DeliveryFailed("the queue does not exist")
_BAD_CREDENTIALS = DeliveryFailed("SQS does not accept the connection's credentials")
_NO_PERMISSION = DeliveryFailed("these credentials may not send to the queue (sqs:SendMessage)")
_THROTTLED = DeliveryFailed("SQS is throttling requests")
_RECEIPTS: Mapping[str, Receipt] = {
    "InvalidMessageContents": DeliveryRejected("the event has characters that SQS does not accept"),
    "MessageTooLong": DeliveryRejected("the event is larger than SQS accepts"),
    "AWS.SimpleQueueService.NonExistentQueue": _NO_QUEUE,
    "QueueDoesNotExist": _NO_QUEUE,
    "InvalidClientTokenId": _BAD_CREDENTIALS,
    "UnrecognizedClientException": _BAD_CREDENTIALS,
    "InvalidAccessKeyId": _BAD_CREDENTIALS,
    "SignatureDoesNotMatch": _BAD_CREDENTIALS,
    "ExpiredToken": _BAD_CREDENTIALS,
    "ExpiredTokenException": _BAD_CREDENTIALS,
    "403": _BAD_CREDENTIALS,  # without a code
    "AccessDenied": _NO_PERMISSION,
    "AccessDeniedException": _NO_PERMISSION,
    "RequestThrottled": _THROTTLED,
    "ThrottlingException": _THROTTLED,
}
