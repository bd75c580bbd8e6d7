"""The calls that submit, find and cancel jobs over HTTP, and what their answers mean.

Each call has a connection of its own: on one that was kept, nobody can tell a call that was lost from one that the server had hung up on
before. Redirects are not followed.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import aiohttp
import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter
from multidict import CIMultiDict
from yarl import URL

from waitd.core.connections.connection import join_url, parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import InvalidInput
from waitd.core.http.answer import RETRYABLE_STATUSES, status_phrase
from waitd.core.waits.submission import (
    CancelAnswer,
    CancelRejected,
    CancelUnavailable,
    JobCancelled,
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
from waitd.outgoing import Outgoing, find_egress_blocked
from waitd.ports import HttpConnections
from waitd.probes.access.http import HttpAccess, HttpAccessResolver, unusable_connection
from waitd.probes.cel.evaluation import BODY_LIMIT, ResponseVariables, lowercase_headers
from waitd.probes.cel.expressions import ErrorValue
from waitd.probes.cel.workers import WORKERS
from waitd.probes.http.params import HttpTarget, RequestTemplate, http_conn_id, parse_target
from waitd.probes.http.submit import key_is_placed
from waitd.probes.submit.handles import SubmitResponse, evaluate_handle, evaluate_refusal
from waitd.probes.submit.placeholders import fill
from waitd.probes.submit.plan import SubmitRequest
from waitd.probes.transport.client import HttpClient, Request
from waitd.probes.transport.errors import classify_error

log = structlog.get_logger(__name__)


class _Answer(NamedTuple):
    """A complete answer to one call, and the URL that was called."""

    seen: SubmitResponse
    retry_after: float | None
    url: str


class _NoAnswer(NamedTuple):
    """There was none. `sent`: whether the call may have reached the other side."""

    why: Unreachable
    sent: bool


class HttpJobs:
    """Makes the calls; a `waitd.ports.Jobs`. Use it as a context manager in the loop that it runs in."""

    def __init__(
        self,
        connections: HttpConnections,
        *,
        secret_headers: Sequence[str],
        outgoing: Outgoing | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`secret_headers`: patterns of header names that a wait may not carry; `outgoing`: the egress rules; `now`: Unix seconds."""
        self._accesses = HttpAccessResolver(connections)
        self._secret_headers = tuple(secret_headers)
        self._client = HttpClient(keepalive=None, outgoing=outgoing, pooled=False)
        self._now = now
        self._limiter: CapacityLimiter | None = None

    async def __aenter__(self) -> Self:
        self._limiter = CapacityLimiter(WORKERS)
        await self._client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

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
        if not key_is_placed(plan.params) and plan.idempotent:
            params["headers"] = {**params.get("headers", {}), plan.idempotency_header: key}
        answer = await self._call(params, plan.namespace, key)
        if isinstance(answer, _NoAnswer):
            meaning = SubmitUncertain if answer.sent else SubmitUnavailable
            return meaning(answer.why.reason, answer.why.message, answer.why.retry_after)
        status = answer.seen.status
        if status in plan.conflict_statuses:
            return await self._in_conflict(plan, answer, key)
        if 200 <= status < 300 or status == 303:
            return await self._accepted(plan.handle, plan.location, answer)
        if status in RETRYABLE_STATUSES:
            return SubmitUnavailable(f"http_{status}", status_phrase(status), answer.retry_after)
        if 500 <= status <= 599:
            return SubmitUncertain(f"http_{status}", status_phrase(status), answer.retry_after)
        return SubmitRejected(await self._told(plan, answer))

    async def _told(self, plan: SubmitRequest, answer: _Answer) -> str:
        """An answer that refuses, in a sentence."""
        own = await evaluate_refusal(plan.message, answer.seen, self._workers)
        said = status_phrase(answer.seen.status)
        hint = "; redirects are not followed" if 300 <= answer.seen.status < 400 else ""
        return f"{said}{hint}" if own is None else f"{said}: {own}"

    async def _accepted(self, source: str, location: str | None, answer: _Answer) -> SubmitAnswer:
        handle = await evaluate_handle(source, answer.seen, self._workers)
        if isinstance(handle, ErrorValue):
            return SubmitWithoutHandle(f"The job was submitted, and its handle cannot be read: {handle}")
        if handle is None:
            return SubmitWithoutHandle(
                "The job was submitted, and the answer does not name it: handle is null."
            )
        try:
            return SubmitAccepted(_located(handle, location, answer.url))
        except ValueError as error:
            return SubmitWithoutHandle(f"The job was submitted, and its handle cannot be used: {error}.")

    async def _in_conflict(self, plan: SubmitRequest, answer: _Answer, key: str) -> SubmitAnswer:
        told = f"a job is running already ({await self._told(plan, answer)})"
        adopt = plan.adopt
        if plan.on_conflict != "adopt" or adopt is None:
            return SubmitConflict(told)
        if adopt.params is not None:
            found = await self._call(fill(adopt.params, key), plan.namespace, key)
            if isinstance(found, _NoAnswer):
                return SubmitUnavailable(
                    found.why.reason, f"{told}, and cannot be found: {found.why.message}"
                )
            if not 200 <= found.seen.status < 300:
                return SubmitUnavailable(
                    f"http_{found.seen.status}",
                    f"{told}, and cannot be found: {status_phrase(found.seen.status)}",
                    found.retry_after,
                )
            answer = found
        accepted = await self._accepted(adopt.handle, plan.location, answer)
        if isinstance(accepted, SubmitAccepted):
            return SubmitAccepted(accepted.handle, adopted=not adopt.ours)
        return SubmitConflict(f"{told}, and cannot be found")

    async def cancel(self, plan: SubmitRequest, wait_id: WaitId, handle: JobHandle) -> CancelAnswer:
        """See `waitd.ports.Jobs`."""
        if plan.cancel is None:
            return CancelRejected("There is no cancel request.")
        key = plan.key_of(wait_id)
        try:
            params = fill(plan.cancel.params, key, handle)
        except ValueError as error:
            return CancelRejected(f"The handle does not fit into the cancel request: {error}.")
        answer = await self._call(params, plan.namespace, key)
        if isinstance(answer, _NoAnswer):
            return CancelUnavailable(answer.why.message, answer.why.retry_after)
        status = answer.seen.status
        if 200 <= status < 300 or status in plan.cancel.gone:
            return JobCancelled()
        if status in RETRYABLE_STATUSES or 500 <= status <= 599:
            return CancelUnavailable(status_phrase(status), answer.retry_after)
        return CancelRejected(status_phrase(status))

    # ------------------------------------------------------------ one call

    @property
    def _workers(self) -> CapacityLimiter:
        return self._limiter or CapacityLimiter(WORKERS)

    async def _call(self, params: Mapping[str, Any], namespace: str, key: str) -> _Answer | _NoAnswer:
        """One call, and after a 401 a second one with newer credentials."""
        try:
            target = self._target(params, namespace)
        except InvalidInput as error:
            return _NoAnswer(Unreachable("not_understood", str(error)), sent=False)
        sent = _Sent()
        try:
            async with asyncio.timeout(target.request_timeout):
                return await self._asked(target, key, sent)
        except (TimeoutError, BrokenWorkerProcess, MemoryError):
            return _NoAnswer(Unreachable("timeout", "No complete answer in time."), sent=sent.sent)
        except Exception as error:  # noqa: BLE001 - whatever the other side brings about is an answer
            unfit = isinstance(error, ValueError) and not isinstance(
                error, aiohttp.ClientError | EgressRefused
            )
            why = (
                unusable_connection(error)
                if unfit and isinstance(error, ValueError)
                else classify_error(error)
            )
            if why.reason == "probe_error":
                log.warning("call_failed", error=type(error).__name__)
            return _NoAnswer(why, sent=sent.sent and not _never_connected(error))

    def _target(self, params: Mapping[str, Any], namespace: str) -> HttpTarget:
        known = self._accesses.cached_any(http_conn_id(params))
        return parse_target(params, namespace=namespace, secret_headers=self._secret_headers, known=known)

    async def _asked(self, target: HttpTarget, key: str, sent: "_Sent") -> _Answer | _NoAnswer:
        conn_id = target.template.conn_id
        if conn_id is None:
            return await self._exchanged(self._request(target, None), target, key, sent)
        access = await self._accesses.get(conn_id)
        if not isinstance(access, HttpAccess):
            return _NoAnswer(access, sent=False)
        answer = await self._exchanged(self._request(target, access), target, key, sent)
        if answer.seen.status != 401:
            return answer
        sent.sent = False  # it was refused
        access = await self._accesses.get(conn_id, access.authorization)
        if not isinstance(access, HttpAccess):
            return _NoAnswer(access, sent=False)
        return await self._exchanged(self._request(target, access), target, key, sent)

    def _request(self, target: HttpTarget, access: HttpAccess | None) -> Request:
        template = target.template
        url = target.endpoint if access is None else join_url(access.endpoint.base, target.endpoint)
        if template.query:
            url = f"{url}{'&' if '?' in url else '?'}{template.query}"
        headers = _headers(template, access)
        if access is None:
            return Request(template.method, url, headers, template.body, True)
        signer = access.authorization.signer
        if signer is not None:
            headers.update(signer.headers(template.method, url, headers, template.body, now=self._now()))
        return Request(
            template.method, url, headers, template.body, access.endpoint.verify_tls, HostSource.OPERATOR
        )

    async def _exchanged(self, request: Request, target: HttpTarget, key: str, sent: "_Sent") -> _Answer:
        sent.sent = True
        # Shorter than the whole, so that a connection that is never made is told from an answer that does not come.
        answer = await self._client.fetch_once(
            request, self._now(), connect_timeout=0.8 * target.request_timeout
        )
        try:
            raw = answer.response
            content = await self._client.read(raw, BODY_LIMIT)
            response = ResponseVariables(raw.status, lowercase_headers(raw.headers), content, raw.charset)
        finally:
            answer.response.close()
        return _Answer(SubmitResponse(response, key), answer.facts.retry_after, request.url)


class _Sent:
    """Whether a call may have reached the other side."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


def _never_connected(error: Exception) -> bool:
    """Whether an error says that no byte of the call went out."""
    unconnected = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, EgressRefused, ValueError)
    return isinstance(error, unconnected) or find_egress_blocked(error) is not None


def _headers(template: RequestTemplate, access: HttpAccess | None) -> CIMultiDict[str]:
    headers = CIMultiDict(template.headers)
    if access is not None:
        headers.update(access.authorization.headers)
    return headers


def _located(handle: JobHandle, location: str | None, url: str) -> JobHandle:
    """The handle, its part that is a URL made absolute.

    Raises:
        ValueError: it is of another origin than the submitting call, or no URL.
    """
    if location is None:
        return handle
    if location:
        if not isinstance(handle, Mapping) or location not in handle:
            raise ValueError(f"it has no value {location}")
        return {**handle, location: _absolute(str(handle[location]), url)}
    if not isinstance(handle, str):
        raise ValueError("it is no URL")  # noqa: TRY004 - a value of the other side, not of ours
    return _absolute(handle, url)


def _absolute(location: str, url: str) -> str:
    if "\\" in location:
        raise ValueError("it is no URL")
    target = str(URL(url, encoded=True).join(URL(location)).with_fragment(None))
    if parse_origin(target) != parse_origin(url):
        raise ValueError("it is of another origin")
    return target
