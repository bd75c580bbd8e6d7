"""The fixture of the airflow sink's tests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from airflow_setup import HOLD_OFF, AirflowSetup, Clock, Resolver
from fake_airflow import serve_fake_airflow

from waitd import __version__
from waitd.connections.authorizer import AuthorizedConnections, Authorizer
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.core.connections.connection import Connection
from waitd.metrics import Instruments
from waitd.outgoing import Outgoing
from waitd.sinks.airflow.sink import AirflowSink


@pytest.fixture
async def setup() -> AsyncIterator[AirflowSetup]:
    async with AsyncExitStack() as stack:
        airflow = await stack.enter_async_context(serve_fake_airflow())
        clock = Clock()
        instruments = Instruments(version=__version__)
        outgoing = Outgoing()
        tokens = await stack.enter_async_context(TokenEndpointClient(outgoing, instruments=instruments))
        authorizer = Authorizer(tokens, None, now=clock)  # type: ignore[arg-type] # no AWS here
        stack.push_async_callback(authorizer.aclose)
        resolver = Resolver(Connection("airflow", "airflow", host=airflow.url, login="waitd", password="pw"))
        connections = AuthorizedConnections(
            [resolver], authorizer, ttl=60, now=clock, instruments=instruments
        )
        sink = AirflowSink(connections, hold_off=HOLD_OFF, outgoing=outgoing, now=clock, monotonic=clock)
        await stack.enter_async_context(sink)
        yield AirflowSetup(airflow, sink, clock, resolver)
