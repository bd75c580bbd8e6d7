"""Long-running operations: a 202 names in a header where to ask next, and `Retry-After` when.

The URL is stored as the wait's own state, so it survives a restart. Only URLs of the requested
origin are followed, since the credentials belong to that origin.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from yarl import URL

from waitd.core.connections.connection import parse_origin
from waitd.core.http.headers import parse_retry_after
from waitd.core.waits.verdict import Pending
from waitd.outgoing import Outgoing
from waitd.ports import HttpConnections, Pokeable
from waitd.probes.access.http import HttpAccess
from waitd.probes.http.evaluation import Evaluated
from waitd.probes.http.params import HttpTarget
from waitd.probes.http.probe import HttpProbe
from waitd.probes.http.requests import RequestBuilder
from waitd.probes.transport.client import HttpAnswer, Request

#: The headers that name an operation's URL; the first one present counts.
OPERATION_HEADERS = ("Azure-AsyncOperation", "Operation-Location", "Location")
#: The longest URL that is stored, in characters: a wait's own state is small.
_MAX_URL = 1024
_OTHER_ORIGIN = " Its {} leads to another origin, and is not followed."


def operation_probe(
    connections: HttpConnections,
    *,
    secret_headers: Sequence[str],
    outgoing: Outgoing | None = None,
    pooled: bool = True,
    now: Callable[[], float] = time.time,
) -> HttpProbe:
    """Creates an `HttpProbe` that follows operations; the arguments are those of `HttpProbe`."""
    return HttpProbe(
        connections,
        secret_headers=secret_headers,
        outgoing=outgoing,
        pooled=pooled,
        now=now,
        requests=OperationRequests(now),
        adjust_verdict=OperationVerdicts(now),
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
        key = f"{target.seed} {url}"  # not for coalescing: the ETags of different operations are kept apart
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


class OperationVerdicts:
    """Stores the operation's URL with a pending verdict; an `AdjustVerdict`."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._now = now

    def __call__(self, answer: HttpAnswer, verdict: Evaluated) -> Evaluated:
        if not isinstance(verdict, Pending):
            return verdict
        headers = answer.response.headers
        retry_after = parse_retry_after(headers.get("Retry-After"), self._now(), headers.get("Date"))
        name = next((name for name in OPERATION_HEADERS if headers.get(name)), None)
        if name is None:
            return replace(verdict, retry_after=retry_after)
        url = _same_origin(answer.url, headers[name])
        if url is None:
            message = verdict.message + _OTHER_ORIGIN.format(name)
            return replace(verdict, retry_after=retry_after, message=message)
        return replace(verdict, retry_after=retry_after, state=url)


def _same_origin(requested: str, location: str) -> str | None:
    """Resolves the URL that an answer names; None when it is malformed or of another origin."""
    try:
        url = str(URL(requested, encoded=True).join(URL(location)).with_fragment(None))
        same = parse_origin(url) == parse_origin(requested)
    except ValueError:
        return None
    return url if same and "\\" not in location and len(url) <= _MAX_URL else None
