"""The half of the kind `http` that parses: parameters, submits and origins, within the rules."""

from collections.abc import Mapping, Sequence
from typing import Any

from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import NotSupported
from waitd.outgoing import EgressGuard
from waitd.ports import HttpConnections, Probe
from waitd.probes.access.http import HttpAccessResolver
from waitd.probes.http.params import HttpParams, HttpTarget, http_conn_id, parse_target
from waitd.probes.http.params_cache import ParamsReader
from waitd.probes.http.submit import submit_request
from waitd.probes.submit.plan import SubmitRequest


class HttpParsing(Probe):
    """Parses what a wait says; `HttpProbe` adds the pokes."""

    params_model = HttpParams

    def __init__(
        self, connections: HttpConnections, *, secret_headers: Sequence[str], egress: EgressGuard
    ) -> None:
        """The arguments are those of `HttpProbe`."""
        self._accesses = HttpAccessResolver(connections)
        self._secret_headers = tuple(secret_headers)
        self._egress = egress
        self._params_reader = ParamsReader(self._secret_headers, self._accesses.cached_any, self.admit)

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
