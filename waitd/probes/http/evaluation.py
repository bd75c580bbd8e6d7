"""From an answer whose head is there to verdicts: how much of its body is read, and where the conditions are asked about it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

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
from waitd.probes.transport.client import TOO_LARGE, HttpAnswer, HttpClient
from waitd.probes.transport.connection import Http1Response

#: A worker gets this share of the time that is left, so that its verdict comes before the caller's patience ends.
_SHARE = 0.9
#: The loop gets a turn after this many different conditions.
_TURN = 8

TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for this body.")


class Seen:
    """A response, up to how many bytes of its body were asked for, and whether it had more."""

    __slots__ = ("limit", "response", "too_large")

    def __init__(self, response: ResponseVariables, limit: int, too_large: bool = False) -> None:
        self.response = response
        self.limit = limit
        self.too_large = too_large


class AnswerJudge:
    """Judges answers. `give_up` is when the poke has had its time, in the loop's time."""

    def __init__(self, client: HttpClient) -> None:
        """`client` reads the bodies. Call it in the loop."""
        self._client = client
        self._limiter = CapacityLimiter(WORKERS)

    def at_once(self, answer: HttpAnswer, rules: Conditions) -> Verdict | CredentialsRefused | None:
        """The way of nearly every poke: one wait, and a small answer that is here, and was sent as it is; None: it takes more than that.

        Where the status alone says "not yet", nothing is asked twice.
        """
        facts, reply = answer.facts, answer.response
        pending = rules.pending_by_status
        if pending is not None and facts.status in pending:
            return pending[facts.status]
        if type(reply) is not Http1Response or not reply.whole or rules.uses_headers or rules.uses_text:
            return None
        unread = reply.unread
        if unread > rules.inline_limit or reply.field(b"content-encoding") is not None:
            return None
        if rules.needs_body(facts.status):
            wanted = BODY_LIMIT
        else:
            wanted = _wanted(rules, ResponseVariables(facts.status, {}, None, None))
        if unread > wanted > 0:
            return None
        response = ResponseVariables(facts.status, {}, reply.taken() if wanted else None, None)
        verdict = rules.verdict(facts, rules.evaluate(response))
        if pending is not None and type(verdict) is Pending:
            pending[facts.status] = verdict
        return verdict

    async def alone(
        self, answer: HttpAnswer, rules: Conditions, give_up: float
    ) -> Verdict | CredentialsRefused:
        """What one wait makes of an answer."""
        verdict = await self._judged(answer, await self._seen(answer, [rules]), rules, give_up, 1)
        if rules.pending_by_status is not None and isinstance(verdict, Pending):
            rules.pending_by_status[answer.facts.status] = verdict
        return verdict

    async def together(
        self, answer: HttpAnswer, group: Iterable[Conditions], give_up: float
    ) -> Mapping[Conditions, Verdict | CredentialsRefused]:
        """What different rules say of one answer."""
        different = list(dict.fromkeys(group))
        seen = await self._seen(answer, different)
        verdicts: dict[Conditions, Verdict | CredentialsRefused] = {}
        for index, rules in enumerate(different):
            verdicts[rules] = await self._judged(answer, seen, rules, give_up, len(different) - index)
            if index % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        return verdicts

    async def _seen(self, answer: HttpAnswer, group: Sequence[Conditions]) -> Seen:
        """The answer as conditions see it, with as much of its body as any of the group needs."""
        status, raw = answer.facts.status, answer.response
        headers = lowercase_headers(raw.headers) if any(rules.uses_headers for rules in group) else {}
        head = ResponseVariables(status, headers, None, raw.charset if _has_text(group) else None)
        limit = max(_wanted(rules, head) for rules in group)
        if not limit:
            return Seen(head, 0)
        content = await self._client.read(raw, limit)
        return Seen(ResponseVariables(status, headers, content, head.charset), limit, content is None)

    async def _judged(
        self, answer: HttpAnswer, seen: Seen, rules: Conditions, give_up: float, sharers: int
    ) -> Verdict | CredentialsRefused:
        response = seen.response
        if (
            seen.too_large
            and _wanted(rules, ResponseVariables(response.status, response.headers, None, None)) == BODY_LIMIT
        ):
            return TOO_LARGE
        if not rules.fits_inline(response):
            left = (give_up - asyncio.get_running_loop().time()) * _SHARE / sharers
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    judged = await evaluate_in_worker(rules, response, self._limiter)
            except (TimeoutError, BrokenWorkerProcess, MemoryError):
                return TOO_SLOW
        else:
            judged = rules.evaluate(response)
        if seen.too_large and judged.decision is not None and rules.sources.result is None:
            judged = judged._replace(payload_omitted=True)
        return rules.verdict(answer.facts, judged)


def _wanted(rules: Conditions, head: ResponseVariables) -> int:
    """How many bytes of the body these rules need to judge this head; 0: none."""
    if rules.needs_body(head.status):
        return BODY_LIMIT
    if not rules.result_needs_body:
        return 0
    # What is too heavy for the loop is decided once, by a worker, and that with the body at hand.
    if rules.fits_inline(head) and rules.decide(head).decision is None:
        return 0
    return RESULT_LIMIT if rules.sources.result is None else BODY_LIMIT


def _has_text(group: Sequence[Conditions]) -> bool:
    return any(rules.uses_text for rules in group)
