"""Builds the request of a poke: URL, headers, credentials and signature."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from multidict import CIMultiDict

from waitd.core.connections.connection import join_url
from waitd.core.connections.egress import HostSource
from waitd.core.connections.masking import SecretMask
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, proxy_secrets
from waitd.core.connections.sent_secrets import body_secrets, header_secrets, mask_with_query, signature_of
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

    def __init__(self, now: Callable[[], float], proxy_secrets: tuple[str, ...] = ()) -> None:
        """Creates a builder.

        Args:
            now: gives Unix seconds, for signatures.
            proxy_secrets: the passwords of the environment's proxies.
        """
        self._now = now
        self._headers = lru_cache(maxsize=1024)(partial(_headers, proxy_secrets))

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
            headers, mask = self._headers(template, None, DEFAULT_PROXIES)
            if "?" in url:
                mask = mask_with_query(mask, url)
            return Request(
                template.method,
                url,
                headers,
                template.body,
                True,
                HostSource.SUBMITTER,
                mask,
                DEFAULT_PROXIES,
                template.safe,
            )
        headers, mask = self._headers(template, access.authorization, access.endpoint.options.proxies)
        if "?" in url:
            mask = mask_with_query(mask, url)
        signer = access.authorization.signer
        if signer is not None:
            headers = CIMultiDict(headers or ())
            headers.update(signer.headers(template.method, url, headers, template.body, now=self._now()))
            mask = with_signature(mask, headers)
        endpoint = access.endpoint
        return Request(
            template.method,
            url,
            headers,
            template.body,
            endpoint.verify_tls,
            HostSource.OPERATOR,
            mask,
            endpoint.options.proxies,
            template.safe,
        )


def _headers(
    secrets: tuple[str, ...],
    template: RequestTemplate,
    authorization: Authorization | None,
    proxies: Proxies,
) -> tuple[CIMultiDict[str] | None, SecretMask | None]:
    """Merges a wait's headers with those of its connection, which win; returns their mask, too."""
    headers = PreparedHeaders(template.headers)
    mask = SecretMask(
        (
            *header_secrets(template.headers, of_connection=False),
            *body_secrets(template.body),
            *proxy_secrets(proxies),
            *secrets,
        )
    )
    if authorization is not None:
        headers.update(authorization.headers)
        mask = authorization.mask.joined(mask)
    return headers or None, mask or None


def with_signature(mask: SecretMask | None, headers: Mapping[str, str]) -> SecretMask | None:
    """Adds the signature of a request with these headers to a mask."""
    signature = signature_of(headers.get("Authorization"))
    return mask if signature is None else (mask or SecretMask(())).adding(signature)
