"""Connections with the daemon's own cache and authorizer."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fakes import FakeConnections

from waitd.connections.authorizer import AuthorizedConnections, Authorizer
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.metrics import Instruments
from waitd.outgoing import EgressGuard


class FakeResolver(FakeConnections):
    """A resolver over a dictionary."""

    backend = "fake"
    lookup = FakeConnections.get


@asynccontextmanager
async def authorized_connections(
    resolver: FakeResolver, egress: EgressGuard, now: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[AuthorizedConnections]:
    instruments = Instruments(version="test")
    async with TokenEndpointClient(egress, instruments=instruments) as tokens:
        authorizer = Authorizer(tokens, None, now=now)  # type: ignore[arg-type]  # no test needs AWS keys
        yield AuthorizedConnections([resolver], authorizer, ttl=60, now=now, instruments=instruments)
        await authorizer.aclose()
