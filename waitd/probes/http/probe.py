"""The kind `http`: one request for equal waits, evaluated by each wait's conditions."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import NotSupported
from waitd.core.waits.verdict import Verdict
from waitd.outgoing import EgressGuard
from waitd.ports import CancelPoke, HttpConnections, OnVerdicts, Pokeable, Probe
from waitd.probes.access.http import HttpAccessResolver
from waitd.probes.http.etags import EtagCache
from waitd.probes.http.evaluation import AnswerEvaluator
from waitd.probes.http.params import HttpParams, HttpTarget, http_conn_id, parse_target
from waitd.probes.http.params_cache import ParamsReader
from waitd.probes.http.poke import AdjustVerdict, HttpPoke, PokeContext
from waitd.probes.http.requests import RequestBuilder
from waitd.probes.http.submit import submit_request
from waitd.probes.submit.plan import SubmitRequest
from waitd.probes.transport.client import HttpClient


class HttpProbe(Probe):
    """Pokes HTTP endpoints. Start and close it in one loop, or use it as a context manager.

    Other kinds reuse it by composition: they pass a request builder, which chooses what is
    requested, and `adjust_verdict`, which reads what else an answer says.
    """

    params_model = HttpParams

    def __init__(
        self,
        connections: HttpConnections,
        *,
        secret_headers: Sequence[str],
        egress: EgressGuard | None = None,
        keepalive: float = 30.0,
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
            keepalive: seconds for which an idle connection is kept.
            pooled: see `HttpClient`.
            now: Unix seconds.
            requests: builds the requests; default: as the parameters describe them.
            adjust_verdict: changes verdicts by what else an answer says.
        """
        self._accesses = HttpAccessResolver(connections)
        self._secret_headers = tuple(secret_headers)
        self._egress = egress or EgressGuard()
        self._client = HttpClient(keepalive=keepalive, egress=self._egress, pooled=pooled)
        self._params_reader = ParamsReader(self._secret_headers, self._accesses.cached_any, self.admit)
        self._now = now
        self._requests = requests or RequestBuilder(now)
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

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> HttpTarget:
        """Parses a wait's `params`.

        Raises:
            InvalidInput: with pointers relative to `params`.
            NotSupported: the egress rules refuse the origin.
        """
        conn_id = http_conn_id(params)
        known = self._accesses.cached_any(conn_id)
        target = parse_target(params, namespace=namespace, secret_headers=self._secret_headers, known=known)
        if target.origin is not None and conn_id is None:
            self.admit(target.origin)
        return target

    def parse_json(self, params: bytes, *, namespace: str) -> tuple[HttpTarget, Mapping[str, Any]] | None:
        """See `Probe.parse_json`; `ParamsReader` says which parameters it recognizes."""
        return self._params_reader.read(params, namespace=namespace)

    def admit(self, origin: str) -> None:
        """Raises NotSupported when the egress rules refuse an origin that a submitter names."""
        try:
            self._egress.check_url(origin, HostSource.SUBMITTER)
        except EgressRefused as error:
            raise NotSupported.at("/endpoint", str(error)) from None

    def parse_submit(
        self, submit: Mapping[str, Any], params: Mapping[str, Any], *, namespace: str
    ) -> SubmitRequest:
        """Parses a wait's `submit` together with its `params`.

        Raises:
            InvalidInput: with pointers relative to the wait.
            NotSupported: the egress rules refuse the origin.
        """
        return submit_request(
            submit,
            params,
            namespace=namespace,
            check=lambda call: self.parse(call, namespace=namespace),
            secret_headers=self._secret_headers,
        )

    def origin(self, target: HttpTarget) -> str:
        """Returns the target's origin when it is known, else `connection <conn_id>`."""
        if target.origin is not None:
            return target.origin
        return self._accesses.origin(target.template.conn_id or "")

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """See `Probe.poke`. Raises nothing but its cancellation."""
        return await self._new_poke(group).run()

    def start_poke(self, group: Sequence[Pokeable], on_verdicts: OnVerdicts) -> CancelPoke:
        """See `Probe.start_poke`. Most pokes need no task; see `HttpPoke`."""
        return self._new_poke(group).start(on_verdicts)

    def _new_poke(self, group: Sequence[Pokeable]) -> HttpPoke:
        context = self._context
        targets = list(map(context.requests.target, group))
        return HttpPoke(context, targets, context.loop_time() + targets[0].template.request_timeout)
