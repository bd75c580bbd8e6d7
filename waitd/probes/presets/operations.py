"""Long-running operations: a 202 names in a header where to ask next.

The URL is stored as the wait's own state, so it survives a restart. Only URLs of the requested
origin are followed, since the credentials belong to that origin.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from waitd.core.connections.connection import parse_origin
from waitd.core.connections.masking import SecretMask
from waitd.core.waits.verdict import Pending
from waitd.outgoing import EgressGuard
from waitd.ports import HttpConnections, Pokeable
from waitd.probes.access.http import HttpAccess
from waitd.probes.http.evaluation import Evaluation
from waitd.probes.http.params import HttpTarget
from waitd.probes.http.probe import HttpProbe
from waitd.probes.http.requests import RequestBuilder
from waitd.probes.transport.client import HttpAnswer, Request
from waitd.probes.transport.redirects import resolve_location

#: The headers that name an operation's URL; the first one present counts.
OPERATION_HEADERS = ("Azure-AsyncOperation", "Operation-Location", "Location")
#: The longest URL that is stored, in characters: a wait's own state is small.
_MAX_URL = 1024
_OTHER_ORIGIN = " Its {} leads to another origin, and is not followed."
_HAS_CREDENTIALS = " Its {} repeats the connection's credentials, and is not stored."


def operation_probe(
    connections: HttpConnections,
    *,
    secret_headers: Sequence[str],
    egress: EgressGuard | None = None,
    pooled: bool = True,
    now: Callable[[], float] = time.time,
) -> HttpProbe:
    """Creates an `HttpProbe` that follows operations; the arguments are those of `HttpProbe`."""
    return HttpProbe(
        connections,
        secret_headers=secret_headers,
        egress=egress,
        pooled=pooled,
        now=now,
        requests=OperationRequests(now),
        adjust_verdict=_store_url,
    )


class OperationTarget(HttpTarget, eq=False, gc=False):
    """A target whose endpoint is a URL from an earlier answer."""


class OperationRequests(RequestBuilder):
    """Requests the URL that the last answer named.

    Keys of such waits are empty: each is poked alone.
    """

    def target(self, wait: Pokeable) -> HttpTarget:
        """See `RequestBuilder.target`."""
        target, url = super().target(wait), wait.progress.state
        if url is None:
            return target
        key = f"{target.seed} {url}"  # not for coalescing: each operation has its own ETag
        return OperationTarget(target.template, target.conditions, url, target.origin, target.seed, key)

    def build(self, target: HttpTarget, access: HttpAccess | None) -> Request:
        """See `RequestBuilder.build`."""
        if not isinstance(target, OperationTarget):
            return super().build(target, access)
        origin = target.origin if access is None else access.endpoint.origin
        if str(parse_origin(target.endpoint)) != origin:
            raise ValueError("the operation's URL is of another origin")
        return super().build(
            target, None if access is None else access._replace(endpoint=access.endpoint.at_root())
        )


def _store_url(answer: HttpAnswer, verdict: Evaluation, mask: SecretMask | None) -> Evaluation:
    """Stores the operation's URL with a pending verdict; an `AdjustVerdict`.

    `mask` masks the connection's credentials.
    """
    if not isinstance(verdict, Pending):
        return verdict
    headers = answer.response.headers
    name = next((name for name in OPERATION_HEADERS if headers.get(name)), None)
    if name is None:
        return verdict
    url = _same_origin(answer.request.url, headers[name])
    if url is None:
        return replace(verdict, message=verdict.message + _OTHER_ORIGIN.format(name))
    if mask is not None and mask.finds_secret(url):
        return replace(verdict, message=verdict.message + _HAS_CREDENTIALS.format(name))
    return replace(verdict, state=url)


def _same_origin(requested: str, location: str) -> str | None:
    """Resolves the URL that an answer names; None when it is malformed or of another origin."""
    try:
        url, origin = resolve_location(requested, location)
    except ValueError:
        return None
    return url if origin == parse_origin(requested) and len(url) <= _MAX_URL else None
