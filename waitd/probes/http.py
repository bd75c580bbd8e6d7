"""The kind `http`: one request on behalf of waits that ask the same, judged for each by its own conditions."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter
from multidict import CIMultiDict

from waitd.core.answer import Refused, verdict_of
from waitd.core.connection import join
from waitd.core.egress import EgressRefused, Named
from waitd.core.errors import NotHere
from waitd.core.verdict import Pending, Unreachable, Verdict
from waitd.outgoing import Outgoing
from waitd.ports import Authorization, HttpConnections, Pokeable
from waitd.probes.http_access import Access, Accesses, unusable
from waitd.probes.http_client import TOO_LARGE, Answer, HttpClient, Request, trouble
from waitd.probes.http_params import HttpParams, HttpTarget, Template, http_conn_id, target_of
from waitd.probes.judging import (
    BODY_LIMIT,
    RESULT_LIMIT,
    Response,
    Rules,
    decide,
    is_quick,
    judge,
    judge_apart,
    lower_names,
)
from waitd.probes.workers import WORKERS

#: A worker gets this share of the time that is left, so that its verdict comes before the caller's patience ends.
_SHARE = 0.9
#: The loop gets a turn after this many different conditions.
_TURN = 8

TOO_SLOW = Unreachable("condition_too_slow", "The conditions need too much time or memory for this body.")

_log = structlog.get_logger()


class HttpProbe:
    """Pokes HTTP endpoints. Start it in the loop that it runs in, and close it there; or use it as a context manager."""

    #: What the API's document shows of its parameters.
    params_model = HttpParams

    def __init__(
        self,
        connections: HttpConnections,
        *,
        secret_headers: Sequence[str],
        outgoing: Outgoing | None = None,
        keepalive: float = 30.0,
        direct: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        """A probe.

        Args:
            connections: where a conn_id is looked up.
            secret_headers: patterns of header names that a wait may not carry.
            outgoing: the egress rules; default: those that always hold.
            keepalive: seconds that an idle connection is kept.
            direct: GET and HEAD go past aiohttp's session, for a third of its price.
            now: Unix seconds.
        """
        self._accesses = Accesses(connections)
        self._secret_headers = tuple(secret_headers)
        self._outgoing = outgoing or Outgoing()
        self._client = HttpClient(keepalive=keepalive, outgoing=self._outgoing, direct=direct)
        self._now = now
        self._limiter: CapacityLimiter | None = None

    async def start(self) -> Self:
        """Opens the HTTP session."""
        self._limiter = CapacityLimiter(WORKERS)
        await self._client.start()
        return self

    async def close(self) -> None:
        """Closes the HTTP session and its connections."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> HttpTarget:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
            NotHere: the egress rules do not let it through.
        """
        conn_id = http_conn_id(params)
        known = self._accesses.peek(conn_id)
        target = target_of(params, namespace=namespace, secret_headers=self._secret_headers, known=known)
        if target.origin is not None and conn_id is None:
            try:
                self._outgoing.judge_url(target.origin, Named.BY_SUBMITTER)
            except EgressRefused as error:
                raise NotHere.at("/endpoint", str(error)) from None
        return target

    def origin(self, target: HttpTarget) -> str:
        """Its origin where that is known, else `connection <conn_id>`."""
        if target.origin is not None:
            return target.origin
        return self._accesses.origin(target.template.conn_id or "")

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One request on behalf of waits with equal keys; a verdict for each, in order. Raises nothing but its cancellation."""
        targets: list[HttpTarget] = [pokeable.target for pokeable in group]
        try:
            return await self._poke(targets)
        except Exception as error:  # noqa: BLE001 - whatever a target brings about is its own wait's verdict
            verdict = trouble(error)
            if verdict.reason == "probe_error":
                _log.warning("poke_failed", error=type(error).__name__)
            return [verdict] * len(targets)

    async def _poke(self, targets: Sequence[HttpTarget]) -> list[Verdict]:
        target = targets[0]
        give_up = asyncio.get_running_loop().time() + target.request_timeout
        conn_id = target.template.conn_id
        if conn_id is None:
            found = await self._look(self._request(target, None), targets, give_up)
            return [each.verdict if isinstance(each, Refused) else each for each in found]
        access = await self._accesses.get(conn_id)
        if not isinstance(access, Access):
            return [access] * len(targets)
        found = await self._ask(access, targets, give_up)
        refused = [index for index, each in enumerate(found) if isinstance(each, Refused)]
        if refused:
            again = await self._ask_again(
                conn_id, access.authorization, [targets[index] for index in refused], give_up
            )
            for index, verdict in zip(refused, again, strict=True):
                found[index] = verdict
        return [each.verdict if isinstance(each, Refused) else each for each in found]

    async def _ask_again(
        self, conn_id: str, refused: Authorization, targets: Sequence[HttpTarget], give_up: float
    ) -> Sequence[Verdict | Refused]:
        """Row 5: once more, with credentials that were looked up, and tokens that were fetched, afresh."""
        access = await self._accesses.get(conn_id, refused)
        if not isinstance(access, Access):
            return [access] * len(targets)
        return await self._ask(access, targets, give_up)

    async def _ask(
        self, access: Access, targets: Sequence[HttpTarget], give_up: float
    ) -> list[Verdict | Refused]:
        try:
            request = self._request(targets[0], access)
        except ValueError as error:  # nor queries
            return [unusable(error)] * len(targets)
        return await self._look(request, targets, give_up)

    def _request(self, target: HttpTarget, access: Access | None) -> Request:
        template = target.template
        url = target.endpoint if access is None else join(access.place.base, target.endpoint)
        if template.query:
            url = f"{url}{'&' if '?' in url else '?'}{template.query}"
        if access is None:
            return Request(template.method, url, _headers(template, None), template.body, True)
        headers = _headers(template, access.authorization)
        signer = access.authorization.signer
        if signer is not None:
            headers = CIMultiDict(headers or ())
            headers.update(signer.headers(template.method, url, headers, template.body, now=self._now()))
        verify_tls = access.place.verify_tls
        return Request(template.method, url, headers, template.body, verify_tls, Named.BY_OPERATOR)

    async def _look(
        self, request: Request, targets: Sequence[HttpTarget], give_up: float
    ) -> list[Verdict | Refused]:
        answer = await self._client.exchange(request, self._now())
        try:
            if len(targets) == 1:
                return [await self._judged_alone(answer, targets[0].rules, give_up)]
            different = list(dict.fromkeys(target.rules for target in targets))
            response = await self._response(answer, different)
            verdicts: dict[Rules, Verdict | Refused] = {}
            for index, rules in enumerate(different):
                verdicts[rules] = await self._judged(answer, response, rules, give_up, len(different) - index)
                if index % _TURN == _TURN - 1:
                    await asyncio.sleep(0)
            return [verdicts[target.rules] for target in targets]
        finally:
            await self._client.release(answer.response)

    async def _judged_alone(self, answer: Answer, rules: Rules, give_up: float) -> Verdict | Refused:
        """The way of nearly every poke: one wait, and where its status alone says "not yet", nothing is asked twice."""
        status = answer.facts.status
        if rules.pending is not None and status in rules.pending:
            return rules.pending[status]
        verdict = await self._judged(answer, await self._response(answer, [rules]), rules, give_up, 1)
        if rules.pending is not None and isinstance(verdict, Pending):
            rules.pending[status] = verdict
        return verdict

    async def _response(self, answer: Answer, group: Sequence[Rules]) -> "_Seen":
        """The answer as conditions see it, with as much of its body as any of the group needs."""
        status, raw = answer.facts.status, answer.response
        headers = lower_names(raw.headers) if any(rules.names_headers for rules in group) else {}
        head = Response(status, headers, None, raw.charset if _has_text(group) else None)
        limit = max(_wanted(rules, head) for rules in group)
        if not limit:
            return _Seen(head, 0)
        content = await self._client.read(raw, limit)
        return _Seen(Response(status, headers, content, head.charset), limit, content is None)

    async def _judged(
        self, answer: Answer, seen: "_Seen", rules: Rules, give_up: float, sharers: int
    ) -> Verdict | Refused:
        response = seen.response
        if (
            seen.too_large
            and _wanted(rules, Response(response.status, response.headers, None, None)) == BODY_LIMIT
        ):
            return TOO_LARGE
        if not is_quick(rules, response):
            left = (give_up - asyncio.get_running_loop().time()) * _SHARE / sharers
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    judged = await judge_apart(rules, response, self._limiter or CapacityLimiter(WORKERS))
            except (TimeoutError, BrokenWorkerProcess, MemoryError):
                return TOO_SLOW
        else:
            judged = judge(rules, response)
        if seen.too_large and judged.decision is not None and rules.sources.result is None:
            judged = judged._replace(omitted=True)
        return verdict_of(answer.facts, judged, rules.allowlist)


class _Seen:
    """A response, up to how many bytes of its body were asked for, and whether it had more."""

    __slots__ = ("limit", "response", "too_large")

    def __init__(self, response: Response, limit: int, too_large: bool = False) -> None:
        self.response = response
        self.limit = limit
        self.too_large = too_large


@lru_cache(maxsize=1024)
def _headers(template: Template, authorization: Authorization | None) -> CIMultiDict[str] | None:
    """The wait's own headers, and over them those of its connection."""
    headers = CIMultiDict(template.headers)
    if authorization is not None:
        headers.update(authorization.headers)
    return headers or None


def _wanted(rules: Rules, head: Response) -> int:
    """How many bytes of the body these rules need to judge this head; 0: none."""
    if rules.body_to_judge(head.status):
        return BODY_LIMIT
    if not rules.result_needs_body:
        return 0
    # What is too heavy for the loop is decided once, by a worker, and that with the body at hand.
    if is_quick(rules, head) and decide(rules, head).decision is None:
        return 0
    return RESULT_LIMIT if rules.sources.result is None else BODY_LIMIT


def _has_text(group: Sequence[Rules]) -> bool:
    return any(rules.names_text for rules in group)
