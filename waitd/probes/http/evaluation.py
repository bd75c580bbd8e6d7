"""Evaluates conditions about an answer: reads as much of the body as they need, then decides."""

import asyncio
from collections.abc import Mapping, Sequence

from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Pending, Unreachable, Verdict
from waitd.probes.cel.evaluation import (
    BODY_LIMIT,
    RESULT_LIMIT,
    Conditions,
    ResponseVariables,
    evaluate_in_worker,
    lowercase_headers,
)
from waitd.probes.cel.workers import WORKERS
from waitd.probes.transport.client import HttpAnswer, HttpClient
from waitd.probes.transport.response import Http1Response

#: A worker process gets this share of the time that is left, so that its verdict arrives before the
#: poke times out.
_WORKER_SHARE = 0.9
#: The event loop gets a turn after this many different conditions.
_CONDITIONS_PER_TURN = 8

TOO_LARGE = Unreachable("too_large", "A condition needs the body, and it is over 1 MiB.")
TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for this body.")

#: What one wait's conditions make of an answer.
Evaluated = Verdict | CredentialsRefused


class AnswerEvaluator:
    """Evaluates answers. `deadline` is when the poke times out, in the loop's time."""

    def __init__(self, client: HttpClient) -> None:
        """`client` reads the bodies. Call it in the running loop."""
        self._client = client
        self._limiter = CapacityLimiter(WORKERS)

    def evaluate_now(self, answer: HttpAnswer, rules: Conditions) -> Evaluated | None:
        """Evaluates an answer with a small, unencoded body; None when that fails.

        This is how nearly every poke ends. A status that decided "not yet" alone is not evaluated
        again.
        """
        facts, response = answer.facts, answer.response
        pending = rules.pending_by_status
        if pending is not None and facts.status in pending:
            return pending[facts.status]
        if (
            type(response) is not Http1Response
            or not response.complete
            or rules.uses_headers
            or rules.uses_text
        ):
            return None
        unread = response.unread
        if unread > rules.inline_limit or response.field(b"content-encoding") is not None:
            return None
        if rules.needs_body(facts.status):
            needed = BODY_LIMIT
        else:
            needed = _body_bytes(rules, ResponseVariables(facts.status, {}, None, None))
        if unread > needed > 0:
            return None
        verdict = rules.verdict(
            facts,
            rules.evaluate(ResponseVariables(facts.status, {}, response.take() if needed else None, None)),
        )
        if pending is not None and type(verdict) is Pending:
            pending[facts.status] = verdict
        return verdict

    async def evaluate(
        self, answer: HttpAnswer, group: Sequence[Conditions], deadline: float
    ) -> Mapping[Conditions, Evaluated]:
        """Evaluates any answer for a group of waits, each of the different conditions once."""
        different = list(dict.fromkeys(group))
        response, cut_off = await self._read(answer, different)
        verdicts: dict[Conditions, Evaluated] = {}
        for index, rules in enumerate(different):
            verdict = await self._evaluate(
                answer, response, rules, deadline, sharers=len(different) - index, cut_off=cut_off
            )
            if rules.pending_by_status is not None and isinstance(verdict, Pending):
                rules.pending_by_status[answer.facts.status] = verdict
            verdicts[rules] = verdict
            if index % _CONDITIONS_PER_TURN == _CONDITIONS_PER_TURN - 1:
                await asyncio.sleep(0)
        return verdicts

    async def _read(self, answer: HttpAnswer, group: Sequence[Conditions]) -> tuple[ResponseVariables, bool]:
        """Reads as much of the body as the conditions need; whether it has more."""
        status, raw = answer.facts.status, answer.response
        headers = lowercase_headers(raw.headers) if any(rules.uses_headers for rules in group) else {}
        charset = raw.charset if any(rules.uses_text for rules in group) else None
        head = ResponseVariables(status, headers, None, charset)
        limit = max(_body_bytes(rules, head) for rules in group)
        if not limit:
            return head, False
        content = await self._client.read(raw, limit)
        return ResponseVariables(status, headers, content, charset), content is None

    async def _evaluate(
        self,
        answer: HttpAnswer,
        response: ResponseVariables,
        rules: Conditions,
        deadline: float,
        *,
        sharers: int,
        cut_off: bool,
    ) -> Evaluated:
        """`sharers`: how many conditions share the time that is left."""
        head = ResponseVariables(response.status, response.headers, None, None)
        if cut_off and _body_bytes(rules, head) == BODY_LIMIT:
            return TOO_LARGE
        if rules.fits_inline(response):
            judged = rules.evaluate(response)
        else:
            left = (deadline - asyncio.get_running_loop().time()) * _WORKER_SHARE / sharers
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    judged = await evaluate_in_worker(rules, response, self._limiter)
            except (TimeoutError, BrokenWorkerProcess, MemoryError):
                return TOO_SLOW
        if cut_off and judged.decision is not None and rules.sources.result is None:
            judged = judged._replace(payload_omitted=True)
        return rules.verdict(answer.facts, judged)


def _body_bytes(rules: Conditions, head: ResponseVariables) -> int:
    """Returns how many bytes of the body the conditions need at most, given this head; 0: none."""
    if rules.needs_body(head.status):
        return BODY_LIMIT
    if not rules.result_needs_body:
        return 0
    # Conditions that are too slow for the loop are decided once, in a worker, with the body.
    if rules.fits_inline(head) and rules.decide(head).decision is None:
        return 0
    return RESULT_LIMIT if rules.sources.result is None else BODY_LIMIT
