"""Evaluates conditions about an answer: reads as much of the body as they need, then decides."""

import asyncio
from collections.abc import Mapping, Sequence

import aiohttp
from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.core.connections.masking import SecretMask
from waitd.core.http.answer import CredentialsRefused, rate_limited, says_rate_limit
from waitd.core.waits.verdict import Failure, Pending, Unreachable, Verdict
from waitd.probes.cel.conditions import Conditions
from waitd.probes.cel.evaluation import BODY_LIMIT, RESULT_LIMIT
from waitd.probes.cel.judging import judge_each
from waitd.probes.cel.response import ResponseVariables, lowercase_headers
from waitd.probes.cel.workers import WORKERS, run_in_worker, worker_timeout
from waitd.probes.transport.client import HttpAnswer, HttpClient
from waitd.probes.transport.response import Http1Response

TOO_LARGE = Unreachable("too_large", "A condition needs the body, and it is over 1 MiB.")
TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for this body.")

#: Statuses whose body is read in any case, and how many bytes of it: it may be a rate limit.
_MAY_BE_RATE_LIMIT = frozenset({400, 403})
_RATE_LIMIT_BODY = 64 * 1024
#: For so long, in seconds: some servers never send the body of such an answer.
_RATE_LIMIT_SECONDS = 2.0
#: What one wait's conditions make of an answer.
Evaluation = Verdict | CredentialsRefused


class AnswerEvaluator:
    """Evaluates answers. `deadline` is when the poke times out, in the loop's time."""

    def __init__(self, client: HttpClient) -> None:
        """`client` reads the bodies. Call it in the running loop."""
        self._client = client
        self._limiter = CapacityLimiter(WORKERS)

    def evaluate_now(
        self, answer: HttpAnswer, conditions: Conditions, mask: SecretMask | None
    ) -> Evaluation | None:
        """Evaluates an answer, masked, with a small, unencoded body; None when that fails.

        This is how nearly every poke ends. A status that decided "not yet" alone is not evaluated
        again.
        """
        facts, response = answer.facts, answer.response
        pending = conditions.pending_by_status
        if pending is not None and facts.status in pending:
            return pending[facts.status]
        if (
            type(response) is not Http1Response
            or not response.complete
            or conditions.uses_headers
            or conditions.uses_text
            or facts.status in _MAY_BE_RATE_LIMIT
        ):
            return None
        unread = response.unread
        if unread > conditions.inline_limit or response.encoded:
            return None
        if conditions.needs_body(facts.status):
            needed = BODY_LIMIT
        else:
            needed = _body_bytes(conditions, ResponseVariables(facts.status, {}, None, None))
        if unread > needed > 0:
            return None
        verdict = conditions.verdict(
            facts,
            conditions.evaluate(
                ResponseVariables(facts.status, {}, response.take() if needed else None, response, mask)
            ),
        )
        if pending is not None and type(verdict) is Pending:
            pending[facts.status] = verdict
        return verdict

    async def evaluate(
        self, answer: HttpAnswer, group: Sequence[Conditions], deadline: float, mask: SecretMask | None
    ) -> Mapping[Conditions, Evaluation]:
        """Evaluates any answer, masked, for a group of waits: different conditions once each."""
        different = list(dict.fromkeys(group))
        response, cut_off = await self._read(answer, different, mask)

        async def judge(conditions: Conditions, sharers: int) -> Evaluation:
            verdict = await self._evaluate(
                answer, response, conditions, deadline, sharers=sharers, cut_off=cut_off
            )
            if conditions.pending_by_status is not None and isinstance(verdict, Pending):
                conditions.pending_by_status[answer.facts.status] = verdict
            return verdict

        return await judge_each(different, judge)

    async def _read(
        self, answer: HttpAnswer, group: Sequence[Conditions], mask: SecretMask | None
    ) -> tuple[ResponseVariables, bool]:
        """Reads as much of the body as the conditions need; whether it has more."""
        status, raw = answer.facts.status, answer.response
        uses_headers = any(conditions.uses_headers for conditions in group)
        headers = lowercase_headers(raw.headers, mask) if uses_headers else {}
        head = ResponseVariables(status, headers, None, None)
        limit = max(_body_bytes_or_none(conditions, head) for conditions in group)
        if not limit and status not in _MAY_BE_RATE_LIMIT:
            return head, False
        try:
            async with asyncio.timeout(None if limit else _RATE_LIMIT_SECONDS):
                content = await self._client.read(raw, limit or _RATE_LIMIT_BODY)
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            if limit:
                raise
            content = None
        return ResponseVariables(status, headers, content, raw, mask), content is None

    async def _evaluate(
        self,
        answer: HttpAnswer,
        response: ResponseVariables,
        conditions: Conditions,
        deadline: float,
        *,
        sharers: int,
        cut_off: bool,
    ) -> Evaluation:
        """`sharers`: how many conditions share the time that is left."""
        head = ResponseVariables(response.status, response.headers, None, None)
        if cut_off and _body_bytes(conditions, head) == BODY_LIMIT:
            return TOO_LARGE
        if conditions.fits_inline(response):
            evaluation = conditions.evaluate(response)
        else:
            try:
                async with worker_timeout(deadline - asyncio.get_running_loop().time(), sharers):
                    evaluation = await run_in_worker(conditions.evaluate, response, limiter=self._limiter)
            except (TimeoutError, BrokenWorkerProcess, MemoryError):
                return TOO_SLOW
        if cut_off and evaluation.decision is not None and not conditions.has_result:
            evaluation = evaluation._replace(payload_omitted=True)
        verdict = conditions.verdict(answer.facts, evaluation)
        if isinstance(verdict, Failure | CredentialsRefused) and evaluation.decision is None:
            status = answer.facts.status
            return rate_limited(status) if says_rate_limit(status, response.content) else verdict
        return verdict


def _body_bytes_or_none(conditions: Conditions, head: ResponseVariables) -> int:
    """Returns the same; 0 after a defect, which their own evaluation meets again."""
    try:
        return _body_bytes(conditions, head)
    except Exception:  # noqa: BLE001 - other waits' conditions need the body
        return 0


def _body_bytes(conditions: Conditions, head: ResponseVariables) -> int:
    """Returns how many bytes of the body the conditions need at most, given this head; 0: none."""
    if conditions.needs_body(head.status):
        return BODY_LIMIT
    if not conditions.result_needs_body:
        return 0
    # Conditions that are too slow for the loop are decided once, in a worker, with the body.
    if conditions.fits_inline(head) and conditions.decide(head).decision is None:
        return 0
    return BODY_LIMIT if conditions.has_result else RESULT_LIMIT
