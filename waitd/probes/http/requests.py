"""Builds the request of a poke: URL, headers, credentials and signature."""

from collections.abc import Callable
from functools import lru_cache

from multidict import CIMultiDict

from waitd.core.connections.connection import join_url
from waitd.core.connections.egress import HostSource
from waitd.ports import Authorization, Pokeable
from waitd.probes.access.http import HttpAccess
from waitd.probes.http.params import HttpTarget, RequestTemplate
from waitd.probes.transport.client import Request
from waitd.probes.transport.pool import PreparedHeaders


class RequestBuilder:
    """Builds requests as a wait's parameters describe them.

    A kind that requests something else, such as a URL from an earlier answer, passes another
    builder to `HttpProbe`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds, for signatures."""
        self._now = now
        self._headers = lru_cache(maxsize=1024)(_headers)

    def target(self, wait: Pokeable) -> HttpTarget:
        """Returns the target that the next poke of a wait requests."""
        target: HttpTarget = wait.target
        return target

    def build(self, target: HttpTarget, access: HttpAccess | None) -> Request:
        """Builds the request for a target; `access` is that of its connection.

        Raises:
            ValueError: target and connection do not fit.
        """
        template = target.template
        url = target.endpoint if access is None else join_url(access.endpoint.base, target.endpoint)
        if template.query:
            url = f"{url}{'&' if '?' in url else '?'}{template.query}"
        if access is None:
            return Request(template.method, url, self._headers(template, None), template.body, True)
        headers: CIMultiDict[str] | None = self._headers(template, access.authorization)
        signer = access.authorization.signer
        if signer is not None:
            headers = CIMultiDict(headers or ())
            headers.update(signer.headers(template.method, url, headers, template.body, now=self._now()))
        verify_tls = access.endpoint.verify_tls
        return Request(template.method, url, headers, template.body, verify_tls, HostSource.OPERATOR)


def _headers(template: RequestTemplate, authorization: Authorization | None) -> PreparedHeaders | None:
    """Merges a wait's headers with those of its connection, which take precedence."""
    headers = PreparedHeaders(template.headers)
    if authorization is not None:
        headers.update(authorization.headers)
    return headers or None
