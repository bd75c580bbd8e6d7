"""Who sent a request: the door finds it out and leaves it with the request, where handlers and middleware look for it."""

from aiohttp import web

from waitd.core.auth.principal import Principal

#: Under this key a request carries its principal, from the door on; a route that needs no authentication may have none.
PRINCIPAL = web.RequestKey("PRINCIPAL", Principal)


def principal_of(request: web.Request) -> Principal:
    """Who calls. Only for what stands behind a route that takes a role."""
    return request[PRINCIPAL]


def namespace_of(request: web.Request) -> str:
    """The namespace that what this caller submits belongs to."""
    return request[PRINCIPAL].namespace


def seen_by(request: web.Request) -> str | None:
    """The namespace that bounds what this caller sees; None: it sees all of them."""
    return request[PRINCIPAL].sees
