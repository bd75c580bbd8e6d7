"""Who sent a request, and whether that one may: a bearer token becomes a principal, and the route says what role it takes.

Tokens are read from the Authorization header only: a URL ends in logs, and a cookie is sent by any page.
"""

import structlog
from aiohttp import hdrs, web

from waitd.api.callers import PRINCIPAL
from waitd.api.server.throttle import Throttle
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal, Role
from waitd.core.errors import Forbidden, Unauthenticated
from waitd.ports import Authenticator

log = structlog.get_logger(__name__)


class Admitting:
    """Lets in whoever may come. Without an `authenticator` everybody may: the guard has seen that they are on this machine."""

    def __init__(self, authenticator: Authenticator | None, throttle: Throttle) -> None:
        self._authenticator = authenticator
        self._throttle = throttle

    @property
    def asks(self) -> bool:
        """Whether a caller has to say who it is."""
        return self._authenticator is not None

    async def admit(self, request: web.Request, role: Role) -> Principal:
        """Finds out who calls, leaves that with the request, and refuses whom the route does not take.

        Raises:
            Unauthenticated: nobody knows who calls.
            Forbidden: its role does not do.
            Unavailable: nobody can say who calls.
            ProblemError: 429, that has failed too often from this address.
        """
        principal = LOOPBACK_PRINCIPAL
        if self._authenticator is not None:
            principal = await self._principal(self._authenticator, _token(request), request.remote)
        request[PRINCIPAL] = principal
        if not principal.may(role):
            raise Forbidden(
                "role", f"this takes the role {role.title}; {principal.name} is a {principal.role.title}"
            )
        return principal

    async def _principal(self, authenticator: Authenticator, token: str, remote: str | None) -> Principal:
        try:
            if known := authenticator.cached_fresh(token):
                return known
            self._throttle.check_address(remote)
            return await authenticator.principal(token)
        except Unauthenticated:
            self._throttle.failed(remote)
            raise


def _token(request: web.Request) -> str:
    given = request.headers.getall(hdrs.AUTHORIZATION, ())
    if not given:
        raise Unauthenticated("no_token", "send an API key or a token as Authorization: Bearer …")
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "no_bearer", "the Authorization header has the form: Bearer …, and is sent once"
        )
    return token.strip()


def tell_refused(request: web.Request, error: Unauthenticated | Forbidden) -> None:
    """A log line for whoever was not let in; nothing of the token is in it."""
    principal = request.get(PRINCIPAL)
    log.warning(
        "not_let_in",
        reason=error.reason,
        principal=principal.name if principal else None,
        method=request.method,
        path=request.path,
        remote=request.remote,
    )
