"""Authentication and authorization: a bearer token is a principal, and a route requires a role.

Tokens are read from the Authorization header only: URLs end up in logs, and any page can make a
browser send cookies.
"""

from collections.abc import Coroutine
from functools import partial
from typing import Any

import structlog
from aiohttp import hdrs, web

from waitd.api.server.refusal_log import RefusalLog
from waitd.api.server.throttle import Throttle, network_of
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal, Role
from waitd.core.errors import AccessDenied, Forbidden, Unauthenticated
from waitd.ports import Authenticator

log = structlog.get_logger(__name__)

#: A request carries its caller under this key; those of public routes may have none.
PRINCIPAL = web.RequestKey("PRINCIPAL", Principal)
#: Under this key, a request has what authorizes its caller again, if it stays open. It takes the
#: request as its argument: a request that contained itself would live until the garbage collection.
AUTHORIZE_AGAIN: web.RequestKey[partial[Coroutine[Any, Any, Principal]]] = web.RequestKey(
    "AUTHORIZE_AGAIN", partial
)


class Gatekeeper:
    """Authenticates callers.

    Without an `authenticator` every caller is a local admin: see `loopback_guard`.
    """

    def __init__(self, authenticator: Authenticator | None, throttle: Throttle) -> None:
        self._authenticator = authenticator
        self._throttle = throttle

    @property
    def authenticates(self) -> bool:
        """Whether callers must authenticate."""
        return self._authenticator is not None

    async def authorize(self, request: web.Request, role: Role) -> Principal:
        """Authenticates the caller, stores its principal in the request, and checks its role.

        Raises:
            Unauthenticated: the token is missing or not valid.
            Forbidden: the caller's role does not include `role`.
            Unavailable: the token cannot be checked now.
            ProblemError: 429, authentication failed too often from this address.
        """
        principal = LOOPBACK_PRINCIPAL
        if self._authenticator is not None:
            principal = await self._authenticate(self._authenticator, _token(request), request.remote)
        request[PRINCIPAL] = principal
        request[AUTHORIZE_AGAIN] = partial(self.authorize, role=role)
        if not principal.has_role(role):
            raise Forbidden(
                "role",
                f"this requires the role {role.title}; {principal.name} has the role {principal.role.title}",
            )
        return principal

    async def _authenticate(self, authenticator: Authenticator, token: str, remote: str | None) -> Principal:
        """Checks the token also where the address has failed too often: others may share it."""
        try:
            return authenticator.cached_fresh(token) or await authenticator.principal(token)
        except Unauthenticated:
            self._throttle.record_failure(remote)
            raise


def _token(request: web.Request) -> str:
    values = request.headers.getall(hdrs.AUTHORIZATION, ())
    if not values:
        raise Unauthenticated("no_token", "send an API key or a token as Authorization: Bearer …")
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no_bearer", "send the Authorization header once, in the form: Bearer …")
    return token.strip()


def log_refused(request: web.Request, error: AccessDenied, refusals: RefusalLog) -> None:
    """Logs a caller that was refused, without its token."""
    principal = request.get(PRINCIPAL)
    refusals.log(
        (principal.name if principal else network_of(request.remote), error.reason),
        log.warning,
        "access_refused",
        reason=error.reason,
        principal=principal.name if principal else None,
        method=request.method,
        path=request.path,
        remote=request.remote,
    )
