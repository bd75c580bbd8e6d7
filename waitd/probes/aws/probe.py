"""The kind `aws_waiter`: any waiter of botocore's models, run by the poker's schedule over waitd's own HTTP client and signatures.

The models say what is asked and which answers end the wait. A waiter's own delay and number of attempts are not looked at: `poke_interval`
and `timeout` are the wait's.
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
from waitd.core.aws.request_signature import AwsSigner
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import HostSource
from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.answer import RESULT_OMITTED, CredentialsRefused
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Unreachable, Verdict
from waitd.models import parsed
from waitd.outgoing import Outgoing
from waitd.ports import Connections, Pokeable
from waitd.probes.access.aws import AwsEndpoint, AwsEndpoints
from waitd.probes.access.aws_credentials import AwsCredentials
from waitd.probes.access.aws_params import AwsParams, AwsTarget, account_problems, coalescing_key
from waitd.probes.aws.models import AwsModels
from waitd.probes.aws.waiters import AwsResponseError, AwsWaiter, ServiceEndpoint, UnsignedRequest
from waitd.probes.cel.evaluation import RESULT_LIMIT
from waitd.probes.cel.workers import WORKERS
from waitd.probes.transport.client import HttpClient, Request

#: The largest answer that is read, and the largest that is parsed in the loop, in bytes.
MAX_ANSWER = 8 * 1024 * 1024
INLINE_ANSWER = 16 * 1024

_TOO_LARGE = Unreachable("too_large", "The answer is over 8 MiB; name fewer things in params.")
_BAD_ANSWER = Unreachable("bad_answer", "The answer is not one of this service.")
_NO_MODEL = Unreachable("model_unavailable", "The model of the service cannot be read now.")
_UNKNOWN = Unreachable("unknown_waiter", "The botocore that is installed here no longer has this waiter.")

log = structlog.get_logger(__name__)


class AwsWaiterParams(AwsParams):
    """What `params` of a wait of kind `aws_waiter` may hold."""

    service: str = Field(
        min_length=1, max_length=64, description="The service, by boto3's name of it: ec2, rds, …"
    )
    waiter: str = Field(
        min_length=1, max_length=128, description="The waiter, by boto3's name of it: instance_running, …"
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="The parameters of the operation that the waiter repeats."
    )


class AwsWaiterTarget(AwsTarget):
    """What a wait of kind `aws_waiter` asks."""

    __slots__ = ("params", "service", "waiter")

    def __init__(self, given: AwsWaiterParams, key: str) -> None:
        super().__init__(given.whose, key, given.request_timeout)
        self.service = given.service
        self.waiter = given.waiter
        self.params = given.params


class AwsWaiterProbe:
    """Asks AWS. Start it in the loop that it runs in, and close it there; or use it as a context manager."""

    #: What the API's document shows of its parameters.
    params_model = AwsWaiterParams

    def __init__(
        self,
        connections: Connections,
        *,
        outgoing: Outgoing | None = None,
        keepalive: float = 30.0,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` gives Unix seconds, `monotonic` seconds that never go back."""
        self._connections = connections
        self._http = HttpClient(keepalive=keepalive, outgoing=outgoing)
        self._models = AwsModels(CapacityLimiter(WORKERS))
        self._credentials = AwsCredentials(now=monotonic)
        self._places: dict[str, AwsEndpoints] = {}
        self._origins: dict[tuple[str, object], str] = {}
        self._now = now
        self._monotonic = monotonic

    async def start(self) -> Self:
        """Opens the HTTP session."""
        await self._http.start()
        return self

    async def close(self) -> None:
        """Closes the HTTP session and its connections."""
        await self._http.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def prepare(self, params: Mapping[str, Any]) -> None:
        """See `waitd.ports.Preparing`: reads the model of the service."""
        if not self.prepared(params):
            service = params["service"]
            try:
                await self._models.service(service)
            except (BrokenWorkerProcess, MemoryError, OSError) as error:  # the first poke tries again
                log.warning("model_not_read", service=service, error=type(error).__name__)

    def prepared(self, params: Mapping[str, Any]) -> bool:
        """See `waitd.ports.Preparing`; what is no service's name needs no model."""
        service = params.get("service")
        return (
            not isinstance(service, str)
            or len(service) > 64
            or self._models.cached_fresh(service) is not None
        )

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> AwsWaiterTarget:
        """The target that these parameters name.

        Against the model they are checked where it is at hand, which it is at submit.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        given = parsed(AwsWaiterParams, dict(params))
        problems = [*account_problems(given)]
        service, known = self._models.cached_fresh(given.service), self._models.known
        if service is not None:
            waiter = service.waiters.get(given.waiter)
            if service.trouble:
                problems.append(Problem("/service", f"its waiters cannot be used here: {service.trouble}"))
            elif waiter is None:
                names = ", ".join(service.names)
                problems.append(Problem("/waiter", f"{given.service} has no such waiter; known are: {names}"))
            else:
                problems += InvalidInput(waiter.problems(given.params)).below("/params").problems
        elif known and given.service not in known:
            names = ", ".join(known)
            problems.append(Problem("/service", f"no service of this name has waiters; known are: {names}"))
        if problems:
            raise InvalidInput(problems)
        asked = orjson.dumps(given.params, option=orjson.OPT_SORT_KEYS)
        return AwsWaiterTarget(
            given, coalescing_key("aws_waiter", namespace, given, given.service, given.waiter, asked)
        )

    def origin(self, target: AwsWaiterTarget) -> str:
        """The endpoint's origin where it is known, else the service and its connection."""
        known = self._origins.get((target.service, target.whose))
        return known or f"{target.service} of connection {target.account}"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One look on behalf of waits with equal keys; a verdict for each, in order. Raises nothing but its cancellation."""
        target: AwsWaiterTarget = group[0].target
        return [await self._look(target)] * len(group)

    async def _look(self, target: AwsWaiterTarget) -> Verdict:
        try:
            service = await self._models.service(target.service)
        except (BrokenWorkerProcess, MemoryError, OSError):
            return _NO_MODEL
        waiter = None if service is None else service.waiters.get(target.waiter)
        if waiter is None:
            return _UNKNOWN
        places = self._places.get(target.service)
        if places is None:
            places = self._places[target.service] = AwsEndpoints(
                self._connections,
                now=self._monotonic,
                service=target.service,
                environment_id=waiter.service.environment_id,
                credentials=self._credentials,
            )
        return await places.look(target.whose, lambda place: self._ask(place, waiter, target))

    async def _ask(
        self, place: AwsEndpoint, waiter: AwsWaiter, target: AwsWaiterTarget
    ) -> Verdict | CredentialsRefused:
        if place.base is None:
            endpoint = await self._models.endpoint(waiter.service, place.region)
        else:
            endpoint = ServiceEndpoint(place.base)
        self._origins[target.service, target.whose] = str(parse_origin(endpoint.url))
        try:
            prepared = waiter.prepared(target.params, endpoint.url, own=place.base is None)
        except ValueError as error:
            return Failure("bad_params", f"{waiter.name}: {error}.", silenceable=True)
        headers = _signed(prepared, place, endpoint, waiter, self._now())
        request = Request(
            prepared.method, prepared.url, headers, prepared.body, place.verify_tls, HostSource.BY_OPERATOR
        )
        # A redirect is an answer that a waiter may look for, and a signature holds for one host.
        answer = await self._http.once(request, self._now(), connect_timeout=target.request_timeout)
        try:
            head = prepared.method == "HEAD"
            body = b"" if head else await self._http.read(answer.response, MAX_ANSWER)
            if body is None:
                return _TOO_LARGE
            facts, got = answer.facts, answer.response.headers
            judge = partial(evaluate_response, waiter, facts.status, got, body, facts.retry_after)
            return judge() if len(body) <= INLINE_ANSWER else await to_thread.run_sync(judge)
        finally:
            await self._http.release(answer.response)


def _signed(
    prepared: UnsignedRequest, place: AwsEndpoint, endpoint: ServiceEndpoint, waiter: AwsWaiter, now: float
) -> Mapping[str, str]:
    if place.keys is None:
        return prepared.headers
    name = endpoint.signing_name or waiter.service.signing_name
    signer = AwsSigner(name, endpoint.signing_region or place.region, place.keys)
    own = signer.headers(prepared.method, prepared.url, prepared.headers, prepared.body, now=now)
    return {**prepared.headers, **own}


def evaluate_response(
    waiter: AwsWaiter, status: int, headers: Mapping[str, str], body: bytes, retry_after: float | None
) -> Verdict | CredentialsRefused:
    """What a waiter makes of an answer; an error that it does not look for is judged as one of any service."""
    try:
        response = waiter.response(status, headers, body)
        state = waiter.state_of(response)
    except AwsResponseError:
        if status >= 400:  # a proxy's page in place of the service's own error
            return aws_verdict(AwsError(status, retry_after=retry_after))
        return _BAD_ANSWER
    error = response.get("Error")
    if state is None and status >= 300:
        code, message = (error.get("Code"), error.get("Message")) if isinstance(error, dict) else (None, None)
        told = AwsError(status, "" if code is None else str(code), message or "", retry_after)
        return aws_verdict(told)
    if state is None or state[0] == "retry":
        seen = waiter.glance(response) if status < 300 else state[1] if state else ""
        return Pending(
            "pending",
            f"{waiter.name}: not yet; {seen}"[:MESSAGE_LIMIT] if seen else f"{waiter.name}: not yet",
        )
    payload, omitted = _payload(response)
    if state[0] == "success":
        message = f"{waiter.name}: {state[1]}"[:MESSAGE_LIMIT]
        return Success(payload, RESULT_OMITTED if omitted else "success", message)
    message = f"{waiter.name} cannot be reached any more: {state[1]}"[:MESSAGE_LIMIT]
    return Failure(RESULT_OMITTED if omitted else "failure", message, payload)


def _payload(response: Mapping[str, Any]) -> tuple[Any, bool]:
    """The response as JSON, and whether it was left out."""
    shown = {name: value for name, value in response.items() if name != "ResponseMetadata"}
    try:
        encoded = orjson.dumps(shown, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # text that is no Unicode, a number of more than 64 bits
        return None, True
    return (None, True) if len(encoded) > RESULT_LIMIT else (orjson.loads(encoded), False)
