"""Submits, finds and cancels jobs over HTTP.

Calls use kept connections if they may be repeated. If not, each opens a new one: on a kept one, a
lost call could not be distinguished from a connection that the server had closed before. Redirects
are not followed.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import aiohttp
import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import EgressRefused
from waitd.core.connections.proxies import noted_proxy, through_proxy
from waitd.core.errors import InvalidInput
from waitd.core.http.answer import RETRYABLE_STATUSES, refuses_credentials, says_rate_limit, status_phrase
from waitd.core.waits.job_cancel import CancelAnswer, CancelRejected, CancelUnavailable, JobCancelled
from waitd.core.waits.submission import (
    JobHandle,
    SubmitAccepted,
    SubmitAnswer,
    SubmitConflict,
    SubmitRejected,
    SubmitUnavailable,
    SubmitUncertain,
    SubmitWithoutHandle,
)
from waitd.core.waits.verdict import Unreachable
from waitd.core.waits.wait import WaitId
from waitd.outgoing import EgressGuard, find_address_refused
from waitd.outgoing.answer_limits import repeat_if_closed
from waitd.ports import HttpConnections
from waitd.probes.access.http import HttpAccess, HttpAccessResolver, connection_verdict
from waitd.probes.cel.evaluation import BODY_LIMIT
from waitd.probes.cel.expressions import ErrorValue
from waitd.probes.cel.response import ResponseVariables, lowercase_headers
from waitd.probes.cel.workers import WORKERS
from waitd.probes.http.params import HttpTarget, http_conn_id, parse_target
from waitd.probes.http.requests import RequestBuilder
from waitd.probes.submit.handles import SubmitResponse, evaluate_handle, evaluate_refusal
from waitd.probes.submit.placeholders import KEY, fill, placeholder_names
from waitd.probes.submit.plan import SubmitRequest
from waitd.probes.transport.client import HttpClient, Request
from waitd.probes.transport.errors import classify_error
from waitd.probes.transport.redirects import resolve_location

log = structlog.get_logger(__name__)


class _JobAnswer(NamedTuple):
    """A complete answer to one call, and the URL of the call."""

    response: SubmitResponse
    retry_after: float | None
    url: str


class _CallFailed(NamedTuple):
    """A call without an answer. `sent`: whether the server may have received it."""

    verdict: Unreachable
    sent: bool


class HttpJobs:
    """Makes the calls; implements `waitd.ports.Jobs`. Use it as an async context manager."""

    def __init__(
        self,
        connections: HttpConnections,
        *,
        secret_headers: Sequence[str],
        egress: EgressGuard | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Creates the client.

        Args:
            connections: resolves connections by conn_id.
            secret_headers: patterns of header names that a call may not carry.
            egress: enforces the egress rules; default: the rules that always hold.
            now: Unix seconds.
        """
        self._accesses = HttpAccessResolver(connections)
        self._secret_headers = tuple(secret_headers)
        egress = egress or EgressGuard()
        self._kept = HttpClient(egress=egress, pooled=False)
        self._unkept = HttpClient(egress=egress, pooled=False, kept=False)
        self._requests = RequestBuilder(now, egress.proxy_secrets)
        self._now = now
        self._workers = CapacityLimiter(WORKERS)

    async def __aenter__(self) -> Self:
        await self._kept.start()
        await self._unkept.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kept.close()
        await self._unkept.close()

    def origin(self, plan: SubmitRequest) -> str:
        """See `waitd.ports.Jobs`."""
        conn_id = http_conn_id(plan.params)
        if conn_id is not None:
            return self._accesses.origin(conn_id)
        return str(parse_origin(str(plan.params["endpoint"]).partition("{")[0]))

    async def submit(self, plan: SubmitRequest, wait_id: WaitId) -> SubmitAnswer:
        """See `waitd.ports.Jobs`."""
        key = plan.key_of(wait_id)
        params = fill(plan.params, key)
        if plan.idempotent and KEY not in placeholder_names(plan.params):
            params["headers"] = {**params.get("headers", {}), plan.idempotency_header: key}
        client = self._kept if plan.idempotent else self._unkept
        answer = await self._call(client, params, plan.namespace, key)
        if isinstance(answer, _CallFailed):
            verdict = answer.verdict
            meaning = SubmitUncertain if answer.sent else SubmitUnavailable
            return meaning(verdict.reason, verdict.message, verdict.retry_after)
        status = answer.response.status
        if status in plan.conflict_statuses:
            return await self._in_conflict(plan, answer, key)
        if 200 <= status < 300 or status == 303:
            return await self._accepted(plan.handle, plan.location, answer)
        if status in RETRYABLE_STATUSES or _asks_again(answer):
            return SubmitUnavailable(f"http_{status}", status_phrase(status), answer.retry_after)
        if 500 <= status <= 599:
            return SubmitUncertain(f"http_{status}", status_phrase(status), answer.retry_after)
        return SubmitRejected(await self._refusal_message(plan, answer))

    async def _refusal_message(self, plan: SubmitRequest, answer: _JobAnswer) -> str:
        """Describes an answer that refuses the job."""
        message = await evaluate_refusal(plan.message, answer.response, self._workers)
        phrase = status_phrase(answer.response.status)
        if message is not None:
            return f"{phrase}: {message}"
        return f"{phrase}; redirects are not followed" if 300 <= answer.response.status < 400 else phrase

    async def _accepted(self, source: str, location: str | None, answer: _JobAnswer) -> SubmitAnswer:
        handle = await evaluate_handle(source, answer.response, self._workers)
        if isinstance(handle, ErrorValue):
            return SubmitWithoutHandle(f"The job was submitted, but its handle cannot be read: {handle}")
        if handle is None:
            return SubmitWithoutHandle(
                "The job was submitted, but the answer does not name it: handle is null."
            )
        try:
            handle = _with_absolute_url(handle, location, answer.url)
            return SubmitAccepted(handle, retry_after=answer.retry_after)
        except ValueError as error:
            return SubmitWithoutHandle(f"The job was submitted, but its handle cannot be used: {error}.")

    async def _in_conflict(self, plan: SubmitRequest, answer: _JobAnswer, key: str) -> SubmitAnswer:
        message = f"a job is running already ({await self._refusal_message(plan, answer)})"
        adopt = plan.adopt
        if plan.on_conflict != "adopt" or adopt is None:
            return SubmitConflict(message, answer.retry_after)
        if adopt.params is not None:
            running = await self._call(self._kept, fill(adopt.params, key), plan.namespace, key)
            if isinstance(running, _CallFailed):
                return SubmitUnavailable(
                    running.verdict.reason, f"{message}, and cannot be found: {running.verdict.message}"
                )
            status = running.response.status
            if not 200 <= status < 300:
                return SubmitUnavailable(
                    f"http_{status}",
                    f"{message}, and cannot be found: {status_phrase(status)}",
                    running.retry_after,
                )
            answer = running
        accepted = await self._accepted(adopt.handle, plan.location, answer)
        if isinstance(accepted, SubmitAccepted):
            return SubmitAccepted(accepted.handle, adopted=not adopt.ours)
        return SubmitConflict(f"{message}, and cannot be found")

    async def cancel(self, plan: SubmitRequest, wait_id: WaitId, handle: JobHandle) -> CancelAnswer:
        """See `waitd.ports.Jobs`."""
        if plan.cancel is None:
            return CancelRejected("There is no cancel request.")
        key = plan.key_of(wait_id)
        try:
            params = fill(plan.cancel.params, key, handle)
        except ValueError as error:
            return CancelRejected(f"The handle does not fit into the cancel request: {error}.")
        answer = await self._call(self._kept, params, plan.namespace, key)
        if isinstance(answer, _CallFailed):
            verdict = answer.verdict
            return CancelUnavailable(verdict.message, verdict.retry_after, verdict.reason)
        status = answer.response.status
        if 200 <= status < 300 or status in plan.cancel.gone:
            return JobCancelled()
        if status in RETRYABLE_STATUSES or 500 <= status <= 599 or _asks_again(answer):
            return CancelUnavailable(status_phrase(status), answer.retry_after)
        return CancelRejected(status_phrase(status))

    # ------------------------------------------------------------ one call

    async def _call(
        self, client: HttpClient, params: Mapping[str, Any], namespace: str, key: str
    ) -> _JobAnswer | _CallFailed:
        """Makes one call, and a second one if its credentials are refused and there are others."""
        try:
            target = self._target(params, namespace)
        except InvalidInput as error:
            return _CallFailed(Unreachable("not_understood", str(error)), sent=False)
        sent = _Sent(client)
        try:
            async with asyncio.timeout(target.request_timeout):
                return await self._send(target, key, sent)
        except (TimeoutError, BrokenWorkerProcess) as error:
            why = through_proxy("No complete answer in time.", noted_proxy(error))
            return _CallFailed(Unreachable("timeout", why), sent=sent.sent)
        except Exception as error:  # noqa: BLE001 - every error of the server is an answer
            if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError | EgressRefused):
                verdict = connection_verdict(error)
            else:
                verdict = classify_error(error)
            if verdict.reason == "probe_error":
                log.warning("call_failed", error=type(error).__name__)
            return _CallFailed(verdict, sent=sent.before or (sent.sent and not _never_connected(error)))

    def _target(self, params: Mapping[str, Any], namespace: str) -> HttpTarget:
        return parse_target(
            params,
            namespace=namespace,
            secret_headers=self._secret_headers,
            known=self._accesses.cached_any(http_conn_id(params)),
        )

    async def _send(self, target: HttpTarget, key: str, sent: "_Sent") -> _JobAnswer | _CallFailed:
        conn_id = target.template.conn_id
        if conn_id is None:
            return await self._exchange(self._requests.build(target, None), target, key, sent)
        access = await self._accesses.get(conn_id)
        if not isinstance(access, HttpAccess):
            return _CallFailed(access, sent=False)
        async with asyncio.timeout(access.endpoint.options.timeout):
            answer = await self._exchange(self._requests.build(target, access), target, key, sent)
        if _asks_again(answer) or not refuses_credentials(answer.response.status, answer.response.content):
            return answer
        sent.sent = sent.before = False  # the server refused it
        fresh = await self._accesses.get(conn_id, access.authorization)
        if not isinstance(fresh, HttpAccess):
            return _CallFailed(fresh, sent=False)
        if fresh.authorization is access.authorization and answer.response.status != 401:
            return answer
        return await self._exchange(self._requests.build(target, fresh), target, key, sent)

    async def _exchange(self, request: Request, target: HttpTarget, key: str, sent: "_Sent") -> _JobAnswer:
        sent.sent = True
        # Less than the whole timeout, to distinguish a missing connection from a missing answer.
        fetch = partial(
            sent.client.fetch_once, request, self._now(), connect_timeout=0.8 * target.request_timeout
        )
        answer = await repeat_if_closed(fetch, sent.on_repeat)
        try:
            raw = answer.response
            content = await sent.client.read(raw, BODY_LIMIT)
            headers = lowercase_headers(raw.headers, request.mask)
            response = ResponseVariables(raw.status, headers, content, raw.charset, request.mask)
        finally:
            answer.response.close()
        return _JobAnswer(SubmitResponse.from_response(response, key), answer.facts.retry_after, request.url)


class _Sent:
    """What happens to one call that is sent by `client`.

    Attributes:
        sent: whether the server may have received it.
        before: whether it may have received it on a connection that was closed.
    """

    sent = before = False

    def __init__(self, client: HttpClient) -> None:
        self.client = client

    def on_repeat(self) -> None:
        """The call met a closed connection, perhaps of a server that is no longer there."""
        self.before = True


def _asks_again(answer: _JobAnswer) -> bool:
    """Whether a refusal asks for another request later, such as a rate limit."""
    status = answer.response.status
    return (400 <= status <= 499 and status != 401 and answer.retry_after is not None) or says_rate_limit(
        status, answer.response.content
    )


def _never_connected(error: Exception) -> bool:
    """Whether an error means that no byte of the call was sent."""
    return (
        isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | EgressRefused | ValueError
        )
        or find_address_refused(error) is not None
    )


def _with_absolute_url(handle: JobHandle, location: str | None, url: str) -> JobHandle:
    """Makes the part of a handle absolute that is a URL.

    Raises:
        ValueError: it is not a URL, or of another origin than the call.
    """
    if location is None:
        return handle
    if location:
        if not isinstance(handle, Mapping) or location not in handle:
            raise ValueError(f"it has no value {location}")
        return {**handle, location: _absolute(str(handle[location]), url)}
    if not isinstance(handle, str):
        raise ValueError("it is not a URL")  # noqa: TRY004 - a value from the server, not an argument
    return _absolute(handle, url)


def _absolute(location: str, url: str) -> str:
    absolute, origin = resolve_location(url, location)
    if origin != parse_origin(url):
        raise ValueError("it is of another origin")
    return absolute
