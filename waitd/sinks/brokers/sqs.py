"""The sqs sink: SendMessage. An answer with a message id and the body's MD5 is a delivery.

The message's body is the event, so that Airflow's `MessageQueueTrigger` takes it as it is. On a FIFO queue the delivery's id is the
deduplication id; the group is the wait's id, or `message_group_id`.
"""

import asyncio
import hashlib
import re
from collections.abc import Hashable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from waitd.core.connections.aws import is_region
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.destinations import check_queue_url, check_region, queue_origin, queue_region
from waitd.core.errors import InvalidInput, NotSupported
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict, parsed
from waitd.outgoing import Outgoing
from waitd.ports import Connections, OutboxItem
from waitd.sinks.brokers.broker import (
    Address,
    BrokerSink,
    ConnId,
    Misconfigured,
    Sentences,
    TlsFiles,
    refused,
    tls_context,
)

#: Seconds for connecting, and for an answer; an attempt has its own limit outside.
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60
#: Connections of one client.
MAX_CONNECTIONS = 64
#: Fields of Airflow's AWS connection that choose another identity; leaving them out would use the wrong one.
_OTHER_IDENTITY = ("role_arn", "assume_role_method", "assume_role_kwargs", "profile_name")
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


@dataclass(frozen=True, slots=True)
class SqsTarget:
    """Parsed parameters."""

    conn_id: str
    queue_url: str
    region_name: str | None
    fifo: bool
    message_group_id: str | None
    destination: str


@dataclass(frozen=True, slots=True)
class SqsClient:
    """One of the library's clients, what closes it, and whose queues its credentials are for: see `queue_origin`."""

    send_message: Any
    endpoint: str | None
    region: str
    stack: AsyncExitStack


class SqsSink(BrokerSink[SqsTarget, SqsClient]):
    """Sends messages. The connection is Airflow's `aws`: login and password are the access key, extra `region_name`, `endpoint_url`,
    `service_config`, `aws_session_token`, `verify`. Without a key the credentials are those of the machine, as boto3 finds them.
    """

    #: What the API's document shows of its parameters.
    params_model = SqsParams

    kind = "sqs"
    library = "aiobotocore"
    broker = "SQS"

    def __init__(self, connections: Connections, outgoing: Outgoing | None = None) -> None:
        super().__init__(connections, outgoing)
        self._session: Any = None

    def _target(self, params: Mapping[str, Any]) -> SqsTarget:
        given = parsed(SqsParams, dict(params))
        try:
            check_queue_url(given.queue_url)
        except ValueError as error:
            raise InvalidInput.at("/queue_url", str(error)) from None
        fifo = given.queue_url.endswith(".fifo")
        if given.message_group_id is not None and not fifo:
            raise InvalidInput.at(
                "/message_group_id", "only a FIFO queue, whose URL ends with .fifo, has groups"
            )
        target = SqsTarget(
            given.aws_conn_id,
            given.queue_url,
            given.region_name,
            fifo,
            given.message_group_id,
            f"sqs {given.aws_conn_id} {given.queue_url}",
        )
        self._check_queue(target)
        return target

    def _check_queue(self, target: SqsTarget) -> None:
        """As far as the connection is known; the queue is compared with it again whenever something is sent."""
        connection = self._connections.cached_any(target.conn_id)
        if connection is None:
            return
        try:
            options = _options(connection, target)
            queue_origin(target.queue_url, endpoint=options["endpoint_url"], region=options["region_name"])
        except Misconfigured:
            return  # the operator's to mend, not the submitter's
        except ValueError as error:  # the connection may be another one tomorrow
            raise NotSupported.at("/queue_url", str(error)) from None

    def _client_key(self, target: SqsTarget) -> Hashable:
        return target.conn_id, target.region_name, queue_region(target.queue_url)

    async def _open(self, connection: Connection, target: SqsTarget) -> SqsClient:
        options = _options(connection, target)
        if options["verify"]:  # the library would say nothing better than that there is no connection
            await asyncio.to_thread(tls_context, connection.conn_id, TlsFiles(options["verify"]))
        if self._session is None:
            self._session = await asyncio.to_thread(_warm_session)
        from aiobotocore.config import AioConfig

        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            max_pool_connections=MAX_CONNECTIONS,
            retries={"total_max_attempts": 1, "mode": "standard"},  # the deliverer retries
            user_agent_extra="waitd",
            ignore_configured_endpoint_urls=True,  # the connection's own, or AWS's
        )
        async with AsyncExitStack() as stack:
            creating = self._session.create_client("sqs", config=config, **options)
            client = await stack.enter_async_context(creating)
            origin = parse_origin(client.meta.endpoint_url)
            self._judged(Address(origin.host, origin.port))
            return SqsClient(
                client.send_message, options["endpoint_url"], options["region_name"], stack.pop_all()
            )

    async def _close(self, client: SqsClient) -> None:
        await client.stack.aclose()

    async def _send(self, client: SqsClient, target: SqsTarget, parcel: OutboxItem) -> Receipt:
        try:
            queue_origin(target.queue_url, endpoint=client.endpoint, region=client.region)
        except ValueError as error:
            return DeliveryFailed(str(error))
        fifo = {
            "MessageGroupId": target.message_group_id or parcel.wait_id,
            "MessageDeduplicationId": parcel.id,
        }
        answer = await client.send_message(
            QueueUrl=target.queue_url,
            MessageBody=parcel.event.decode(),
            MessageAttributes={"content-type": {"DataType": "String", "StringValue": EVENT_CONTENT_TYPE}},
            **(fifo if target.fifo else {}),
        )
        digest = hashlib.md5(parcel.event, usedforsecurity=False).hexdigest()
        if not answer.get("MessageId") or answer.get("MD5OfMessageBody") != digest:
            return DeliveryFailed("SQS took something else than the event")
        return Delivered()

    def _explained(self, error: Exception, target: SqsTarget, parcel: OutboxItem) -> Receipt:  # noqa: ARG002 - the base's shape
        from botocore.exceptions import ClientError

        if isinstance(error, ClientError):
            details = error.response.get("Error", {})
            return _answered(str(details.get("Code")), str(details.get("Message")))
        return refused(error, _sentences(), self.broker)


def _endpoint(connection: Connection) -> str | None:
    """The connection's own endpoint, as Airflow's hook finds it; None: AWS's of the region."""
    services = connection.extra.get("service_config")
    service = services.get("sqs") if isinstance(services, Mapping) else None
    own = service.get("endpoint_url") if isinstance(service, Mapping) else None
    endpoint = own or connection.extra.get("endpoint_url")
    return str(endpoint) if endpoint else None


def _options(connection: Connection, target: SqsTarget) -> dict[str, Any]:
    extra = connection.extra
    other = [name for name in _OTHER_IDENTITY if extra.get(name)]
    if other:
        raise Misconfigured(
            f"the connection {connection.conn_id} has {', '.join(other)}, which waitd does not use"
        )
    region = target.region_name or extra.get("region_name") or queue_region(target.queue_url)
    if not isinstance(region, str) or not is_region(region):
        raise Misconfigured(f"neither the sink nor the connection {connection.conn_id} names a region")
    endpoint = _endpoint(connection)
    try:
        endpoint and parse_origin(endpoint)
    except ValueError:
        raise Misconfigured(f"the endpoint_url of the connection {connection.conn_id} is no URL") from None
    verify = extra.get("verify")
    bundle = verify if isinstance(verify, str) and verify.lower() not in {"", "true"} else None
    return {
        "region_name": region,
        "endpoint_url": endpoint,
        "aws_access_key_id": connection.login or extra.get("aws_access_key_id") or None,
        "aws_secret_access_key": connection.password or extra.get("aws_secret_access_key") or None,
        "aws_session_token": extra.get("aws_session_token") or None,
        "verify": bundle if connection.verifies_tls() else False,
    }


def _warm_session() -> Any:
    """A session that has read its files. A first client, made and closed on another loop, takes 0.1 s that the daemon's loop is spared."""
    from aiobotocore.session import AioSession

    session = AioSession()
    nobody = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "-")

    async def first() -> None:
        async with session.create_client("sqs", region_name="us-east-1", **nobody):
            pass

    asyncio.run(first())
    return session


def _answered(code: str, message: str) -> Receipt:
    """What an error of SQS means; its message may quote the request and is not passed on."""
    if code in _UNSENDABLE:
        return DeliveryRejected(_UNSENDABLE[code])
    if code in {"InvalidParameterValue", "MessageTooLong"} and (
        "shorter" in message or code == "MessageTooLong"
    ):
        return DeliveryRejected("the event is larger than SQS takes")
    if code in _REFUSALS:
        return DeliveryFailed(_REFUSALS[code])
    return DeliveryFailed(f"SQS refused it: {code if _CODE.fullmatch(code) else 'no error code'}")


_UNSENDABLE = {"InvalidMessageContents": "the event has characters that SQS does not take"}
_NO_QUEUE = "there is no such queue"
_NO_CREDENTIALS = "SQS does not accept the connection's credentials"
_NO_RIGHT = "these credentials may not send to the queue (sqs:SendMessage)"
_REFUSALS = {
    "AWS.SimpleQueueService.NonExistentQueue": _NO_QUEUE,
    "QueueDoesNotExist": _NO_QUEUE,
    "InvalidClientTokenId": _NO_CREDENTIALS,
    "UnrecognizedClientException": _NO_CREDENTIALS,
    "InvalidAccessKeyId": _NO_CREDENTIALS,
    "SignatureDoesNotMatch": _NO_CREDENTIALS,
    "ExpiredToken": _NO_CREDENTIALS,
    "ExpiredTokenException": _NO_CREDENTIALS,
    "403": _NO_CREDENTIALS,  # without a code
    "AccessDenied": _NO_RIGHT,
    "AccessDeniedException": _NO_RIGHT,
    "RequestThrottled": "SQS throttles requests",
    "ThrottlingException": "SQS throttles requests",
}


def _sentences() -> Sentences:
    from botocore import exceptions

    return (
        (
            (exceptions.NoCredentialsError, exceptions.PartialCredentialsError),
            "the connection has no credentials, and neither has this machine",
        ),
        (
            (exceptions.HTTPClientError, exceptions.ConnectionError),
            "no connection to SQS, or it broke before SQS had answered",
        ),
    )
