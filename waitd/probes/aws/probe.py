"""The kind `aws_waiter`: polls any waiter of botocore's models.

The models define the request and which responses end the wait. The requests are sent by waitd's own
HTTP client and signed by waitd; `poke_interval` and `timeout` of the wait replace the waiter's own
delay and number of attempts.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import orjson
import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter, to_thread
from pydantic import Field

from waitd.core.aws.answers import AwsError, aws_verdict
from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import HostSource
from waitd.core.connections.masking import SecretMask
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies
from waitd.core.connections.sent_secrets import keys_mask, signature_of
from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.answer import RESULT_OMITTED, CredentialsRefused
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Unreachable, Verdict
from waitd.models import parse_model
from waitd.outgoing import EgressGuard
from waitd.outgoing.answer_limits import repeat_if_closed
from waitd.ports import Connections, Pokeable, Probe
from waitd.probes.access.aws import AwsEndpoint, AwsEndpoints
from waitd.probes.access.aws_credentials import AwsCredentials
from waitd.probes.access.aws_params import AwsParams, AwsTarget, account_problems, coalescing_key
from waitd.probes.aws.models import AwsModels
from waitd.probes.aws.waiters import AwsResponseError, AwsWaiter, ServiceEndpoint, UnsignedRequest
from waitd.probes.cel.evaluation import limit_payload
from waitd.probes.cel.workers import WORKERS
from waitd.probes.transport.client import HttpClient, Request

#: The largest response that is read, and the largest that is parsed in the loop, in bytes.
MAX_RESPONSE = 8 * 1024 * 1024
INLINE_RESPONSE = 16 * 1024
#: The longest name of a service, in characters.
MAX_SERVICE_NAME = 64

_TOO_LARGE = Unreachable("too_large", "The response is over 8 MiB; name fewer resources in params.")
_BAD_RESPONSE = Unreachable("bad_answer", "The response is not one of this service.")
_NO_MODEL = Unreachable("model_unavailable", "The service's model cannot be loaded now.")
_UNKNOWN_WAITER = Unreachable("unknown_waiter", "The installed botocore no longer has this waiter.")

log = structlog.get_logger(__name__)


class AwsWaiterParams(AwsParams):
    """The `params` of a wait of kind `aws_waiter`."""

    service: str = Field(
        min_length=1, max_length=MAX_SERVICE_NAME, description="The service, by boto3's name: ec2, rds, …"
    )
    waiter: str = Field(
        min_length=1, max_length=128, description="The waiter, by boto3's name: instance_running, …"
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="The parameters of the operation that the waiter calls."
    )


class AwsWaiterTarget(AwsTarget):
    """A waiter, and the parameters of its operation."""

    __slots__ = ("params", "service", "waiter")

    def __init__(self, params: AwsWaiterParams, key: str) -> None:
        super().__init__(params.account_ref, key, params.request_timeout)
        self.service = params.service
        self.waiter = params.waiter
        self.params = params.params


class AwsWaiterProbe(Probe):
    """Polls waiters. Use it as an async context manager, which opens its HTTP client."""

    #: The model of its parameters in the OpenAPI document.
    params_model = AwsWaiterParams

    def __init__(
        self,
        connections: Connections,
        *,
        egress: EgressGuard | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` returns Unix seconds, `monotonic` the seconds of a monotonic clock."""
        self._connections = connections
        self._http = HttpClient(egress=egress)
        self._proxies = DEFAULT_PROXIES if egress is None else egress.proxies
        self._models = AwsModels(CapacityLimiter(WORKERS))
        self._credentials = AwsCredentials(now=monotonic, egress=egress)
        self._endpoints: dict[str, AwsEndpoints] = {}
        self._origins: dict[tuple[str, object], str] = {}
        self._now = now
        self._monotonic = monotonic

    async def __aenter__(self) -> Self:
        """Opens the HTTP client."""
        await self._http.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the HTTP client and its connections."""
        await self._http.close()

    async def prepare(self, params: Mapping[str, Any]) -> None:
        """Reads the model of the service; see `Probe.prepare`."""
        service = params.get("service")
        if not isinstance(service, str) or len(service) > MAX_SERVICE_NAME:  # `parse` refuses it
            return
        try:
            await self._models.load(service)
        except (BrokenWorkerProcess, MemoryError, OSError) as error:  # the first poke tries again
            log.warning("aws_model_not_loaded", service=service, error=type(error).__name__)

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> AwsWaiterTarget:
        """Returns the target of these parameters.

        They are checked against the service's model if it is loaded, as it is at submit.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        waiter_params = parse_model(AwsWaiterParams, dict(params))
        problems = [*account_problems(waiter_params)]
        service, known = self._models.cached(waiter_params.service), self._models.known
        if service is not None:
            waiter = service.waiters.get(waiter_params.waiter)
            if service.unsupported:
                problems.append(
                    Problem("/service", f"waiters of this service cannot be used: {service.unsupported}")
                )
            elif waiter is None:
                detail = f"{waiter_params.service} has no such waiter; known are: {', '.join(service.names)}"
                problems.append(Problem("/waiter", detail))
            else:
                problems += InvalidInput(waiter.problems(waiter_params.params)).below("/params").problems
        elif known and waiter_params.service not in known:
            detail = f"no service of this name has waiters; known are: {', '.join(known)}"
            problems.append(Problem("/service", detail))
        if problems:
            raise InvalidInput(problems)
        arguments = orjson.dumps(waiter_params.params, option=orjson.OPT_SORT_KEYS)
        key = coalescing_key(
            "aws_waiter", namespace, waiter_params, waiter_params.service, waiter_params.waiter, arguments
        )
        return AwsWaiterTarget(waiter_params, key)

    def origin(self, target: AwsWaiterTarget) -> str:
        """Returns the endpoint's origin if it is known, else the service and its connection."""
        known = self._origins.get((target.service, target.account_ref))
        return known or f"{target.service} of connection {target.account}"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Calls the operation once for waits with equal keys; returns a verdict for each."""
        target: AwsWaiterTarget = group[0].target
        return [await self._poke(target)] * len(group)

    async def _poke(self, target: AwsWaiterTarget) -> Verdict:
        try:
            service = await self._models.load(target.service)
        except (BrokenWorkerProcess, MemoryError, OSError):
            return _NO_MODEL
        waiter = None if service is None else service.waiters.get(target.waiter)
        if waiter is None:
            return _UNKNOWN_WAITER
        endpoints = self._endpoints.get(target.service)
        if endpoints is None:
            endpoints = self._endpoints[target.service] = AwsEndpoints(
                self._connections,
                now=self._monotonic,
                service=target.service,
                environment_id=waiter.service.environment_id,
                credentials=self._credentials,
            )
        return await endpoints.call(
            target.account_ref, lambda endpoint: self._request(endpoint, waiter, target)
        )

    async def _request(
        self, endpoint: AwsEndpoint, waiter: AwsWaiter, target: AwsWaiterTarget
    ) -> Verdict | CredentialsRefused:
        if endpoint.base is None:
            service_endpoint = await self._models.endpoint(waiter.service, endpoint.region)
        else:
            service_endpoint = ServiceEndpoint(endpoint.base)
        self._origins[target.service, target.account_ref] = str(parse_origin(service_endpoint.url))
        try:
            unsigned = waiter.build_request(
                target.params, service_endpoint.url, aws_endpoint=endpoint.base is None
            )
        except ValueError as error:
            return Failure("bad_params", f"{waiter.name}: {error}.", silenceable=True)
        request = Request(
            unsigned.method,
            unsigned.url,
            _signed_headers(unsigned, endpoint, service_endpoint, waiter, self._now()),
            unsigned.body,
            endpoint.verify_tls,
            HostSource.OPERATOR,
            proxies=endpoint.proxies,
        )
        # Redirects are not followed: a waiter may test for one, and a signature is valid for one
        # host only.
        fetch = partial(self._http.fetch_once, request, self._now(), connect_timeout=target.request_timeout)
        answer = await repeat_if_closed(fetch)  # waiters only read
        try:
            body = b"" if unsigned.method == "HEAD" else await self._http.read(answer.response, MAX_RESPONSE)
            if body is None:
                return _TOO_LARGE
            facts, mask = answer.facts, _mask(endpoint, request, self._proxies)
            headers = mask.mask_headers(dict(answer.response.headers.items()))
            evaluate = partial(
                evaluate_response, waiter, facts.status, headers, body, facts.retry_after, mask=mask
            )
            return evaluate() if len(body) <= INLINE_RESPONSE else await to_thread.run_sync(evaluate)
        finally:
            await self._http.release(answer.response)


def _signed_headers(
    request: UnsignedRequest,
    endpoint: AwsEndpoint,
    service_endpoint: ServiceEndpoint,
    waiter: AwsWaiter,
    now: float,
) -> Mapping[str, str]:
    if endpoint.keys is None:
        return request.headers
    name = service_endpoint.signing_name or waiter.service.signing_name
    signer = AwsSigner(name, service_endpoint.signing_region or endpoint.region, endpoint.keys)
    signature = signer.headers(request.method, request.url, request.headers, request.body, now=now)
    return {**request.headers, **signature}


def _mask(endpoint: AwsEndpoint, request: Request, environment: Proxies) -> SecretMask:
    """Masks what the request carries, also to the proxies of the environment."""
    mask = keys_mask(endpoint.keys, endpoint.proxies, environment)
    signature = signature_of((request.headers or {}).get("Authorization"))
    return mask if signature is None else mask.adding(signature)


def evaluate_response(
    waiter: AwsWaiter,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    retry_after: float | None,
    *,
    mask: SecretMask,
) -> Verdict | CredentialsRefused:
    """Returns the verdict on a response, in which what was sent is masked.

    An error that no acceptor tests for is one of any AWS service.
    """
    body = mask.mask_bytes(body)
    try:
        response = waiter.parse_response(status, headers, body)
        match = waiter.match(response)
    except AwsResponseError:
        if status >= 400:  # a proxy's page instead of the service's error
            return aws_verdict(AwsError(status, retry_after=retry_after))
        return _BAD_RESPONSE
    if match is None and status >= 300:
        error = response.get("Error")
        code, message = (error.get("Code"), error.get("Message")) if isinstance(error, dict) else (None, None)
        return aws_verdict(AwsError(status, "" if code is None else str(code), message or "", retry_after))
    if match is None or match[0] == "retry":
        state = waiter.describe_state(response) if status < 300 else match[1] if match else ""
        message = f"{waiter.name}: not yet; {state}" if state else f"{waiter.name}: not yet"
        return Pending("pending", message[:MESSAGE_LIMIT])
    fields = {name: value for name, value in response.items() if name != "ResponseMetadata"}
    payload, omitted = limit_payload(fields, str)
    if match[0] == "success":
        message = f"{waiter.name}: {match[1]}"[:MESSAGE_LIMIT]
        return Success(payload, RESULT_OMITTED if omitted else "success", message)
    message = f"{waiter.name} can no longer succeed: {match[1]}"[:MESSAGE_LIMIT]
    return Failure(RESULT_OMITTED if omitted else "failure", message, payload)
