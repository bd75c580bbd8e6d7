"""One poke of the kind `http`: a request on behalf of waits with equal keys, and their verdicts.

Nearly every poke needs no task: `_send` finds an idle connection, and `_on_response` can evaluate
the small answer at once. Every other poke continues in a task, in `run` or `_complete`: it needs a
new connection, fresh credentials, a redirect, a large body or a slow condition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.http_options import DEFAULT_REDIRECTS
from waitd.core.connections.masking import SecretMask
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Failure, Unreachable, Verdict
from waitd.probes.access.http import HttpAccess, HttpAccessResolver, connection_verdict
from waitd.probes.http.etags import EtagCache, EtagEntry
from waitd.probes.http.evaluation import AnswerEvaluator, Evaluation
from waitd.probes.http.params import HttpTarget
from waitd.probes.http.requests import RequestBuilder
from waitd.probes.transport.client import REDIRECTS, HttpAnswer, HttpClient, Request, facts_of
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.errors import classify_error
from waitd.probes.transport.pool import CLOSED_WHILE_IDLE
from waitd.probes.transport.response import Http1Response
from waitd.probes.transport.taskless import TasklessPoke

log = structlog.get_logger(__name__)

#: Changes what a wait's conditions made of an answer, by what else the answer says; the mask is the
#: connection's.
AdjustVerdict = Callable[[HttpAnswer, Evaluation, SecretMask | None], Evaluation]


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

    __slots__ = ("_access", "_context", "_deadline", "_etag", "_request", "_targets")

    _etag: EtagEntry | None
    _request: Request

    def __init__(
        self,
        context: PokeContext,
        targets: Sequence[HttpTarget],
        deadline: float,
        access: HttpAccess | None = None,
    ) -> None:
        """`deadline` is when the poke times out, in the loop's time.

        Without `access`, the poke resolves the connection if there is one.
        """
        self._context = context
        self._targets = targets
        self._deadline = deadline
        self._access = access

    # ------------------------------------------------------------ without a task

    def _send(self) -> Http1Connection | None:
        context, conn_id = self._context, self._targets[0].template.conn_id
        try:
            if conn_id is not None:
                self._access = context.accesses.cached_fresh(conn_id)
                if self._access is None:
                    return None
            return context.client.send(self._build_request(), self._on_response)
        except Exception:  # noqa: BLE001 - `run` meets the same error, and returns its verdict
            return None

    def _build_request(self) -> Request:
        """Builds and keeps the request. Raises ValueError if target and connection do not fit."""
        context = self._context
        request = context.requests.build(self._targets[0], self._access)
        self._etag = context.etags.find(self._targets) if context.etags.entries else None
        self._request = request if self._etag is None else self._etag.add_to(request)
        return self._request

    def _on_response(self, response: Http1Response | Exception) -> None:
        """Handles the response to a request that was sent without a task."""
        results: list[Evaluation] | None = None
        try:
            if isinstance(response, Exception):
                if not isinstance(response, CLOSED_WHILE_IDLE):
                    results = self._failure(response)
            elif response.complete and response.status not in REDIRECTS:
                facts = facts_of(response, self._context.now())
                results = self._evaluate_now(HttpAnswer(facts, response, self._request.url))
        except Exception as error:  # noqa: BLE001 - an error of the target is a verdict
            results = self._failure(error)
        if results is None:
            self._continue_with(self._complete(response, None))
        elif CredentialsRefused not in map(type, results):
            self._on_verdicts(results)  # type: ignore[arg-type] # none was refused
        elif self._access is None:
            self._on_verdicts(_as_verdicts(results))
        else:
            self._continue_with(self._complete(response, results))

    # ------------------------------------------------------------ in a task

    async def run(self) -> Sequence[Verdict]:
        """See `TasklessPoke.run`."""
        return await self._complete(None, None)

    async def _complete(
        self, response: Http1Response | Exception | None, results: list[Evaluation] | None
    ) -> Sequence[Verdict]:
        """Completes a poke in a task, from what `_on_response` got so far, if anything."""
        try:
            if results is None:
                results = await self._fetch(response)
            return await self._retry_refused(results)
        except Exception as error:  # noqa: BLE001 - an error of the target is a verdict
            return _as_verdicts(self._failure(error))

    async def _fetch(self, response: Http1Response | Exception | None = None) -> list[Evaluation]:
        """Fetches the answer and evaluates it.

        `response` is what `_on_response` got. After an exception the request is sent again, on a
        new connection.
        """
        context, conn_id = self._context, self._targets[0].template.conn_id
        if conn_id is not None and self._access is None:
            access = context.accesses.cached_fresh(conn_id) or await context.accesses.get(conn_id)
            if isinstance(access, Unreachable):
                return [access] * len(self._targets)
            self._access = access
        if isinstance(response, Http1Response):
            answer = await context.client.follow_redirects(
                self._request, response, context.now(), self._max_redirects()
            )
        else:
            try:
                request = self._build_request()
            except ValueError as error:  # the message quotes no query
                return [connection_verdict(error)] * len(self._targets)
            answer = await context.client.fetch(
                request,
                context.now(),
                new_connection=response is not None,
                max_redirects=self._max_redirects(),
            )
        mask, elsewhere = self._request.mask, answer.facts.redirect_origin
        if mask is not None and elsewhere is not None:
            facts = answer.facts._replace(redirect_origin=mask.mask_text(elsewhere))
            answer = answer._replace(facts=facts)
        try:
            results = self._evaluate_now(answer)
            if results is None:
                conditions = [target.conditions for target in self._targets]
                verdicts = await context.evaluator.evaluate(answer, conditions, self._deadline, mask)
                results = self._adjust_and_cache(answer, [verdicts[each] for each in conditions])
            return results
        finally:
            if not answer.response.closed:
                await context.client.release(answer.response)

    def _max_redirects(self) -> int | None:
        return DEFAULT_REDIRECTS if self._access is None else self._access.endpoint.options.max_redirects

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
                retry = HttpPoke(self._context, [targets[index] for index in refused], self._deadline, fresh)
                retried = await retry._fetch() if refused else []
            else:
                retried = [fresh] * len(refused)
            for index, result in zip(refused, retried, strict=True):
                results[index] = result
        return _as_verdicts(results)

    # ------------------------------------------------------------ the answer

    def _evaluate_now(self, answer: HttpAnswer) -> list[Evaluation] | None:
        """Evaluates an answer that decides at once, for each wait; None when that needs a task."""
        context, targets = self._context, self._targets
        if self._etag is not None and answer.facts.status == 304:
            return [*context.etags.not_modified(targets, self._etag)]
        if len(targets) > 1:
            return None
        result = context.evaluator.evaluate_now(answer, targets[0].conditions, self._request.mask)
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
        elif answer.facts.status == 400 and access is not None:
            results = [_refused_by_aws(result, access) for result in results]
        return results

    def _failure(self, error: Exception) -> list[Evaluation]:
        """The verdicts of a poke that met an error."""
        verdict = classify_error(error)
        if verdict.reason == "probe_error":
            log.warning("poke_failed", error=type(error).__name__)
        return [verdict] * len(self._targets)


def _refused_by_aws(result: Evaluation, access: HttpAccess) -> Evaluation:
    """What AWS's 400 means: its JSON services answer it to a signature with an expired key, too."""
    signed = isinstance(access.authorization.signer, AwsSigner)
    if signed and isinstance(result, Failure) and result.reason == "http_400":
        return CredentialsRefused(result, repeat_unchanged=False)
    return result


def _as_verdicts(results: Sequence[Evaluation]) -> Sequence[Verdict]:
    return [each.verdict if isinstance(each, CredentialsRefused) else each for each in results]
