"""The kind `http`: one request on behalf of waits with equal keys, and their verdicts.

Nearly every poke needs no task: `HttpPoke.start` finds an idle connection, and `_on_response` can
evaluate the small answer at once. Every other poke is completed in a task, whose verdicts go the
same way: it needs a new connection, fresh credentials, a redirect, a large body or a slow
condition.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import structlog
from msgspec.structs import replace

from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.http_options import DEFAULT_REDIRECTS
from waitd.core.connections.masking import SecretMask
from waitd.core.http.answer import EXPIRED_STATUSES, CredentialsRefused, with_retry_after
from waitd.core.waits.verdict import Failure, Unreachable, Verdict
from waitd.outgoing import EgressGuard
from waitd.ports import CancelPoke, HttpConnections, OnVerdicts, Pokeable
from waitd.probes.access.http import HttpAccess, HttpAccessResolver, connection_verdict
from waitd.probes.http.etags import EtagCache, EtagEntry
from waitd.probes.http.evaluation import AnswerEvaluator, Evaluation
from waitd.probes.http.params import HttpTarget
from waitd.probes.http.parsing import HttpParsing
from waitd.probes.http.requests import RequestBuilder
from waitd.probes.transport.client import HttpAnswer, HttpClient, Request
from waitd.probes.transport.facts import facts_of
from waitd.probes.transport.pool import CLOSED_WHILE_IDLE
from waitd.probes.transport.redirects import REDIRECTS
from waitd.probes.transport.response import Http1Response
from waitd.probes.transport.taskless import TasklessPoke

log = structlog.get_logger(__name__)

#: Changes what a wait's conditions made of an answer, by what else the answer says; the mask is the
#: connection's.
AdjustVerdict = Callable[[HttpAnswer, Evaluation, SecretMask | None], Evaluation]


class HttpProbe(HttpParsing):
    """Pokes HTTP endpoints. Start and close it in one loop, or use it as a context manager.

    Other kinds reuse it by composition: they pass a request builder, which chooses what is
    requested, and `adjust_verdict`, which reads what else an answer says.
    """

    def __init__(
        self,
        connections: HttpConnections,
        *,
        secret_headers: Sequence[str],
        egress: EgressGuard | None = None,
        pooled: bool = True,
        now: Callable[[], float] = time.time,
        requests: RequestBuilder | None = None,
        adjust_verdict: AdjustVerdict | None = None,
    ) -> None:
        """Creates a probe.

        Args:
            connections: resolves connections by conn_id.
            secret_headers: patterns of header names that a wait may not carry.
            egress: enforces the egress rules; default: the rules that always hold.
            pooled: see `HttpClient`.
            now: Unix seconds.
            requests: builds the requests; default: as the parameters describe them.
            adjust_verdict: changes verdicts by what else an answer says.
        """
        egress = egress or EgressGuard()
        super().__init__(connections, secret_headers=secret_headers, egress=egress)
        self._client = HttpClient(egress=egress, pooled=pooled)
        self._now = now
        self._requests = requests or RequestBuilder(now, egress.proxy_secrets)
        self._adjust_verdict = adjust_verdict

    async def start(self) -> Self:
        """Opens the HTTP client."""
        await self._client.start()
        self._context = PokeContext(
            accesses=self._accesses,
            client=self._client,
            requests=self._requests,
            evaluator=AnswerEvaluator(self._client),
            adjust_verdict=self._adjust_verdict,
            etags=EtagCache(),
            now=self._now,
            loop_time=asyncio.get_running_loop().time,
        )
        return self

    async def close(self) -> None:
        """Closes the HTTP client and its connections."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """See `Probe.poke`. Raises nothing but its cancellation."""
        return await self._new_poke(group).run()

    def start_poke(self, group: Sequence[Pokeable], on_verdicts: OnVerdicts) -> CancelPoke:
        """See `Probe.start_poke`. Most pokes need no task."""
        return self._new_poke(group).start(on_verdicts)

    def _new_poke(self, group: Sequence[Pokeable]) -> "HttpPoke":
        context = self._context
        return HttpPoke(context, [*map(context.requests.target, group)], context.loop_time())


@dataclass(slots=True, eq=False)
class PokeContext:
    """What all pokes of a probe share.

    Attributes:
        now: Unix seconds.
        loop_time: the loop's time, in seconds.
    """

    accesses: HttpAccessResolver
    client: HttpClient
    requests: RequestBuilder
    evaluator: AnswerEvaluator
    adjust_verdict: AdjustVerdict | None
    etags: EtagCache
    now: Callable[[], float]
    loop_time: Callable[[], float]


class HttpPoke(TasklessPoke):
    """One poke, from its request to its verdicts."""

    __slots__ = ("_access", "_context", "_etag", "_request", "_started", "_targets")

    _etag: EtagEntry | None
    _request: Request

    def __init__(
        self,
        context: PokeContext,
        targets: Sequence[HttpTarget],
        started: float,
        access: HttpAccess | None = None,
    ) -> None:
        """`started` is the loop's time now.

        Without `access`, the poke resolves the connection if there is one.
        """
        self._context = context
        self._targets = targets
        self._started = started
        self._access = access

    # ------------------------------------------------------------ without a task

    def start(self, on_verdicts: OnVerdicts) -> CancelPoke:
        """Sends the request on an idle connection; if there is none, a task does the whole poke."""
        self._on_verdicts = on_verdicts
        context, conn_id = self._context, self._targets[0].template.conn_id
        self._connection = None
        try:
            if conn_id is not None:
                self._access = context.accesses.cached_fresh(conn_id)
            access = self._access
            if conn_id is None or (access is not None and access.endpoint.options.timeout is None):
                self._connection = context.client.send(self._build_request(), self._on_response)
        except Exception:  # noqa: BLE001 - the task meets the same error, and returns its verdict
            self._connection = None
        if self._connection is None:
            self._finish_in_task(self.run())
        return self.cancel

    def _build_request(self) -> Request:
        """Builds and keeps the request. Raises ValueError if target and connection do not fit."""
        context = self._context
        request = context.requests.build(self._targets[0], self._access)
        self._etag = context.etags.find(self._targets) if context.etags.entries else None
        self._request = request if self._etag is None else self._etag.add_to(request)
        return self._request

    def _on_response(self, response: Http1Response | Exception) -> None:
        """Handles the response to a request that was sent without a task."""
        if isinstance(response, Exception):
            self._on_error(response)
            return
        results: list[Evaluation] | None = None
        try:
            if response.complete and response.status not in REDIRECTS:
                facts = facts_of(response, self._context.now())
                results = self._evaluate_now(HttpAnswer(facts, response, self._request))
        except Exception as error:  # noqa: BLE001 - an error of the target is a verdict
            results = [*self._failure(error)]
        if results is None:
            self._finish_in_task(self._complete(partial(self._follow, response)))
        elif CredentialsRefused not in map(type, results):
            self._on_verdicts(results)  # type: ignore[arg-type] # none was refused
        else:
            self._finish_in_task(self._retry_refused(results))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, CLOSED_WHILE_IDLE):
            self._finish_in_task(self._complete(partial(self._fetch, new_connection=True)))
        else:
            self._on_verdicts(self._failure(error))

    def _evaluate_now(self, answer: HttpAnswer) -> list[Evaluation] | None:
        """Evaluates an answer that decides at once, for each wait; None when that needs a task."""
        context, targets = self._context, self._targets
        if self._etag is not None and answer.facts.status == 304:
            unchanged = context.etags.not_modified(targets, self._etag)
            return [with_retry_after(verdict, answer.facts.retry_after) for verdict in unchanged]
        if len(targets) > 1 or (answer.facts.status >= 300 and not self._checks_response()):
            return None
        result = context.evaluator.evaluate_now(answer, targets[0].conditions, answer.request.mask)
        return None if result is None else self._adjust_and_cache(answer, [result])

    def _adjust_and_cache(self, answer: HttpAnswer, results: list[Evaluation]) -> list[Evaluation]:
        """Adjusts the results by the rest of the answer, and keeps its ETag with them."""
        context, access = self._context, self._access
        if context.adjust_verdict is not None:
            mask = None if access is None else access.authorization.mask
            results = [context.adjust_verdict(answer, result, mask) for result in results]
        # No ETag with a signature: it may cover the header that a conditional request adds.
        if answer.facts.status == 200 and (access is None or access.authorization.signer is None):
            context.etags.store(self._targets, answer, results)
        elif 400 <= answer.facts.status <= 499 and access is not None:
            results = [_find_hidden_refusal(answer, result, access) for result in results]
        pause = answer.facts.retry_after
        return results if pause is None else [with_retry_after(result, pause) for result in results]

    def _failure(self, error: Exception) -> list[Unreachable]:
        """The verdicts of a poke that met an error."""
        verdict = self._context.client.verdict_of(error, getattr(self, "_request", None))
        if verdict.reason == "probe_error":
            log.warning("poke_failed", error=type(error).__name__)
        return [verdict] * len(self._targets)

    # ------------------------------------------------------------ in a task

    async def run(self) -> Sequence[Verdict]:
        """Does the whole poke in a task. Raises nothing but its cancellation."""
        return await self._complete(self._fetch)

    async def _complete(self, evaluate: Callable[[], Awaitable[list[Evaluation]]]) -> Sequence[Verdict]:
        return await self._retry_refused(await self._results(evaluate))

    async def _results(self, evaluate: Callable[[], Awaitable[list[Evaluation]]]) -> list[Evaluation]:
        try:
            return await evaluate()
        except Exception as error:  # noqa: BLE001 - an error of the target is a verdict
            return [*self._failure(error)]

    async def _fetch(self, *, new_connection: bool = False) -> list[Evaluation]:
        """Resolves the connection, fetches the answer and evaluates it."""
        context, conn_id = self._context, self._targets[0].template.conn_id
        if conn_id is not None and self._access is None:
            access = context.accesses.cached_fresh(conn_id) or await context.accesses.get(conn_id)
            if isinstance(access, Unreachable):
                return [access] * len(self._targets)
            self._access = access
        try:
            request = self._build_request()
        except ValueError as error:  # the message quotes no query
            return [connection_verdict(error)] * len(self._targets)
        async with asyncio.timeout(None if self._access is None else self._access.endpoint.options.timeout):
            return await self._evaluate(
                await context.client.fetch(
                    request,
                    context.now(),
                    new_connection=new_connection,
                    max_redirects=self._max_redirects(),
                )
            )

    async def _follow(self, response: Http1Response) -> list[Evaluation]:
        """Follows the redirects of a response, if it has any, and evaluates the answer."""
        context = self._context
        return await self._evaluate(
            await context.client.follow_redirects(
                self._request, response, context.now(), self._max_redirects()
            )
        )

    def _max_redirects(self) -> int | None:
        return DEFAULT_REDIRECTS if self._access is None else self._access.endpoint.options.max_redirects

    def _checks_response(self) -> bool:
        return self._access is None or self._access.endpoint.options.check_response

    async def _evaluate(self, answer: HttpAnswer) -> list[Evaluation]:
        context, targets, mask = self._context, self._targets, answer.request.mask
        elsewhere = answer.facts.redirect_origin
        if mask is not None and elsewhere is not None:
            facts = answer.facts._replace(redirect_origin=mask.mask_text(elsewhere))
            answer = replace(answer, facts=facts)
        try:
            results = self._evaluate_now(answer)
            if results is None:
                deadline = self._started + targets[0].request_timeout
                conditions = [target.conditions for target in targets]
                if not self._checks_response():
                    conditions = [each.unchecked for each in conditions]
                verdicts = await context.evaluator.evaluate(answer, conditions, deadline, mask)
                results = self._adjust_and_cache(answer, [verdicts[each] for each in conditions])
            return results
        finally:
            if not answer.response.closed:
                await context.client.release(answer.response)

    async def _retry_refused(self, results: list[Evaluation]) -> Sequence[Verdict]:
        """Repeats the request with fresh credentials for the waits that the answer refused."""
        access, targets = self._access, self._targets
        refused = [index for index, each in enumerate(results) if isinstance(each, CredentialsRefused)]
        if refused and access is not None:
            conn_id = access.endpoint.connection.conn_id
            fresh = await self._context.accesses.get(conn_id, access.authorization)
            if isinstance(fresh, HttpAccess):
                if fresh.authorization is access.authorization:
                    refused = [index for index in refused if results[index].repeat_unchanged]  # type: ignore[union-attr] # `refused` holds these
                retry = HttpPoke(self._context, [targets[index] for index in refused], self._started, fresh)
                retried = await retry._results(retry._fetch) if refused else []
            else:
                retried = [fresh] * len(refused)
            for index, result in zip(refused, retried, strict=True):
                results[index] = result
        return [each.verdict if isinstance(each, CredentialsRefused) else each for each in results]


def _find_hidden_refusal(answer: HttpAnswer, result: Evaluation, access: HttpAccess) -> Evaluation:
    """Finds refused credentials in a 4xx whose status does not show it.

    AWS's JSON services answer 400 to a signature with an expired key.
    """
    status, challenge = answer.facts.status, answer.response.headers.get("WWW-Authenticate", "")
    if not isinstance(result, Failure) or result.reason != f"http_{status}":
        return result
    by_aws = status == 400 and isinstance(access.authorization.signer, AwsSigner)
    if by_aws or status in EXPIRED_STATUSES or "invalid_token" in challenge:
        return CredentialsRefused(result, repeat_unchanged=False)
    return result
