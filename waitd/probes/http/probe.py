"""The kind `http`: one request on behalf of waits that ask the same, judged for each by its own conditions."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, Self

import structlog
from multidict import CIMultiDict

from waitd.core.connections.connection import join_url
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import NotSupported
from waitd.core.http.answer import CredentialsRefused
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.outgoing import Outgoing
from waitd.ports import Authorization, HttpConnections, Landing, Pokeable
from waitd.probes.access.http import HttpAccess, HttpAccessResolver, unusable_connection
from waitd.probes.cel.evaluation import Conditions
from waitd.probes.http.etags import Etags, Kept
from waitd.probes.http.evaluation import AnswerJudge
from waitd.probes.http.params import HttpParams, HttpTarget, Template, http_conn_id, target_of
from waitd.probes.http.params_cache import ParamsReader
from waitd.probes.http.submit import HttpSubmit, submit_request
from waitd.probes.submit.plan import SubmitRequest
from waitd.probes.transport.client import (
    DIRECT,
    FOLLOWED,
    HttpAnswer,
    HttpClient,
    Request,
    classify_error,
    facts_of,
)
from waitd.probes.transport.connection import Http1Response
from waitd.probes.transport.pool import CLOSED_WHILE_IDLE, PreparedHeaders

_log = structlog.get_logger()


class Look(NamedTuple):
    """What is asked, for whom and with whose credentials.

    Attributes:
        give_up: when it has had its time, in the loop's time.
        kept: the earlier answer on which the request is conditional.
    """

    targets: Sequence[HttpTarget]
    access: HttpAccess | None
    request: Request
    give_up: float
    kept: Kept | None


class HttpProbe:
    """Pokes HTTP endpoints. Start it in the loop that it runs in, and close it there; or use it as a context manager."""

    #: What the API's document shows of its parameters.
    params_model = HttpParams
    #: And of its `submit`.
    submit_model = HttpSubmit

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
        self._accesses = HttpAccessResolver(connections)
        self._secret_headers = tuple(secret_headers)
        self._outgoing = outgoing or Outgoing()
        self._client = HttpClient(keepalive=keepalive, outgoing=self._outgoing, direct=direct)
        self._etags = Etags()
        #: See `waitd.ports.Readable`.
        self.read_params = ParamsReader(self._secret_headers, self._accesses.cached_any, self.admit).read
        self._now = now

    async def start(self) -> Self:
        """Opens the HTTP session."""
        self._judge = AnswerJudge(self._client)
        self._time = asyncio.get_running_loop().time
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
            NotSupported: the egress rules do not let it through.
        """
        conn_id = http_conn_id(params)
        known = self._accesses.cached_any(conn_id)
        target = target_of(params, namespace=namespace, secret_headers=self._secret_headers, known=known)
        if target.origin is not None and conn_id is None:
            self.admit(target.origin)
        return target

    def admit(self, origin: str) -> None:
        """Raises NotSupported where the egress rules do not let through an origin that a submitter named."""
        try:
            self._outgoing.judge_url(origin, HostSource.BY_SUBMITTER)
        except EgressRefused as error:
            raise NotSupported.at("/endpoint", str(error)) from None

    def parse_submit(
        self, submit: Mapping[str, Any], params: Mapping[str, Any], *, namespace: str
    ) -> SubmitRequest:
        """What is submitted before the first poke.

        Raises:
            InvalidInput: with pointers relative to the wait.
            NotSupported: the egress rules do not let it through.
        """
        return submit_request(
            submit,
            params,
            namespace=namespace,
            check=lambda call: self.parse(call, namespace=namespace),
            secret_headers=self._secret_headers,
        )

    def origin(self, target: HttpTarget) -> str:
        """Its origin where that is known, else `connection <conn_id>`."""
        if target.origin is not None:
            return target.origin
        return self._accesses.origin(target.template.conn_id or "")

    def begin(self, group: Sequence[Pokeable], landing: Landing) -> Callable[[], None] | None:
        """See `waitd.ports.Begin`: the way of nearly every poke, which is one wait's and finds a connection that is there."""
        target: HttpTarget = group[0].target
        template = target.template
        if len(group) > 1 or template.body is not None or template.method not in DIRECT:
            return None
        access: HttpAccess | None = None
        try:
            if template.conn_id is not None:
                access = self._accesses.cached_fresh(template.conn_id)
                if access is None:
                    return None
            look = self._look([target], access, self._time() + template.request_timeout)
            exchange = self._client.begin(look.request, partial(self._came, look, landing))
        except Exception:  # noqa: BLE001 - `poke` meets it again, and says what it comes to
            return None
        return None if exchange is None else exchange.give_up

    def _came(self, look: Look, landing: Landing, came: Http1Response | Exception) -> None:
        found: Verdict | CredentialsRefused | None
        try:
            found = self._at_sight(look, came)
        except Exception as error:  # noqa: BLE001 - as in `poke`
            found = _troubled(error)
        if isinstance(found, CredentialsRefused) and look.access is None:
            found = found.verdict
        if found is None or isinstance(found, CredentialsRefused):
            landing.unfinished(self._finished(look, came, found))
        else:
            landing.landed([found])

    def _at_sight(self, look: Look, came: Http1Response | Exception) -> Verdict | CredentialsRefused | None:
        """What came of a look; None: it takes more than to look at it. A connection that was closed while it was idle was no answer."""
        if isinstance(came, Exception):
            return None if isinstance(came, CLOSED_WHILE_IDLE) else classify_error(came)
        if not came.whole or came.status in FOLLOWED:
            return None
        if look.kept is not None and came.status == 304:
            return self._etags.unchanged(look.targets, look.kept)[0]
        answer = HttpAnswer(facts_of(came, self._now()), came, look.request.url)
        found = self._at_once(answer, look.targets[0].rules)
        if found is not None:
            self._learn(look, answer, [found])
        return found

    async def _finished(
        self, look: Look, came: Http1Response | Exception, refused: CredentialsRefused | None
    ) -> Sequence[Verdict]:
        """The rest of a look that was begun."""
        targets, access, request, give_up, _ = look
        found: list[Verdict | CredentialsRefused]
        try:
            if refused is not None:
                found = [refused]
            elif isinstance(came, Exception):
                found = await self._ask(targets, access, give_up, anew=True)
            else:
                found = await self._found(look, await self._client.answer_of(request, came, self._now()))
            return await self._settled(targets, access, found, give_up)
        except Exception as error:  # noqa: BLE001 - as in `poke`
            return [_troubled(error)]

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One request on behalf of waits with equal keys; a verdict for each, in order. Raises nothing but its cancellation."""
        targets: list[HttpTarget] = [pokeable.target for pokeable in group]
        template = targets[0].template
        give_up = self._time() + template.request_timeout
        access: HttpAccess | None = None
        try:
            if template.conn_id is not None:
                conn_id = template.conn_id
                known = self._accesses.cached_fresh(conn_id) or await self._accesses.get(conn_id)
                if isinstance(known, Unreachable):
                    return [known] * len(targets)
                access = known
            found = await self._ask(targets, access, give_up)
            return await self._settled(targets, access, found, give_up)
        except Exception as error:  # noqa: BLE001 - whatever a target brings about is its own wait's verdict
            return [_troubled(error)] * len(targets)

    async def _settled(
        self,
        targets: Sequence[HttpTarget],
        access: HttpAccess | None,
        found: list[Verdict | CredentialsRefused],
        give_up: float,
    ) -> list[Verdict]:
        """The verdicts. Row 5: those that were refused ask again, with credentials that were looked up, and tokens that were fetched, afresh."""
        refused = [index for index, each in enumerate(found) if isinstance(each, CredentialsRefused)]
        if refused and access is not None:
            afresh = await self._accesses.get(access.endpoint.connection.conn_id, access.authorization)
            if isinstance(afresh, HttpAccess):
                again = await self._ask([targets[index] for index in refused], afresh, give_up)
            else:
                again = [afresh] * len(refused)
            for index, verdict in zip(refused, again, strict=True):
                found[index] = verdict
        return [each.verdict if isinstance(each, CredentialsRefused) else each for each in found]

    async def _ask(
        self, targets: Sequence[HttpTarget], access: HttpAccess | None, give_up: float, *, anew: bool = False
    ) -> list[Verdict | CredentialsRefused]:
        try:
            look = self._look(targets, access, give_up)
        except ValueError as error:  # nor queries
            return [unusable_connection(error)] * len(targets)
        return await self._found(look, await self._client.exchange(look.request, self._now(), anew=anew))

    def _look(self, targets: Sequence[HttpTarget], access: HttpAccess | None, give_up: float) -> Look:
        """Raises ValueError: target and connection do not fit."""
        request = self._request(targets[0], access)
        kept = self._etags.of(targets) if self._etags.any else None
        return Look(targets, access, kept.conditional(request) if kept else request, give_up, kept)

    async def _found(self, look: Look, answer: HttpAnswer) -> list[Verdict | CredentialsRefused]:
        """What the targets make of the answer, whose connection is given back."""
        targets, give_up = look.targets, look.give_up
        try:
            if look.kept is not None and answer.facts.status == 304:
                return [*self._etags.unchanged(targets, look.kept)]
            if len(targets) == 1:
                rules = targets[0].rules
                found = [self._at_once(answer, rules) or await self._later(answer, rules, give_up)]
            else:
                verdicts = await self._judge.together(answer, (target.rules for target in targets), give_up)
                found = [verdicts[target.rules] for target in targets]
            self._learn(look, answer, found)
            return found
        finally:
            if not answer.response.closed:
                await self._client.release(answer.response)

    def _learn(self, look: Look, answer: HttpAnswer, found: Sequence[Verdict | CredentialsRefused]) -> None:
        """Keeps the answer's ETag, unless the request was signed: the signature may be over what a condition would add."""
        access = look.access
        if answer.facts.status == 200 and (access is None or access.authorization.signer is None):
            self._etags.learn(look.targets, answer, found)

    def _at_once(self, answer: HttpAnswer, rules: Conditions) -> Verdict | CredentialsRefused | None:
        """What one wait makes of an answer that is small and here; None: it takes more than that."""
        return self._judge.at_once(answer, rules)

    async def _later(
        self, answer: HttpAnswer, rules: Conditions, give_up: float
    ) -> Verdict | CredentialsRefused:
        """What one wait makes of any other."""
        return await self._judge.alone(answer, rules, give_up)

    def _request(self, target: HttpTarget, access: HttpAccess | None) -> Request:
        template = target.template
        url = target.endpoint if access is None else join_url(access.endpoint.base, target.endpoint)
        if template.query:
            url = f"{url}{'&' if '?' in url else '?'}{template.query}"
        if access is None:
            return Request(template.method, url, _headers(template, None), template.body, True)
        headers: CIMultiDict[str] | None = _headers(template, access.authorization)
        signer = access.authorization.signer
        if signer is not None:
            signed = CIMultiDict(headers or ())
            signed.update(signer.headers(template.method, url, signed, template.body, now=self._now()))
            headers = signed
        verify_tls = access.endpoint.verify_tls
        return Request(template.method, url, headers, template.body, verify_tls, HostSource.BY_OPERATOR)


@lru_cache(maxsize=1024)
def _headers(template: Template, authorization: Authorization | None) -> PreparedHeaders | None:
    """The wait's own headers, and over them those of its connection."""
    headers = PreparedHeaders(template.headers)
    if authorization is not None:
        headers.update(authorization.headers)
    return headers or None


def _troubled(error: Exception) -> Unreachable:
    verdict = classify_error(error)
    if verdict.reason == "probe_error":
        _log.warning("poke_failed", error=type(error).__name__)
    return verdict
