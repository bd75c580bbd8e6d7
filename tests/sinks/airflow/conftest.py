"""The fixture of the airflow sink's tests."""

from collections.abc import AsyncIterator

import pytest
from airflow_setup import AirflowSetup
from authorized import FakeResolver, authorized_connections
from fake_airflow import serve_fake_airflow
from manual_clock import ManualClock

from waitd.core.connections.connection import Connection
from waitd.outgoing import EgressGuard
from waitd.sinks.airflow.sink import AirflowSink


@pytest.fixture
async def setup() -> AsyncIterator[AirflowSetup]:
    clock, egress = ManualClock(1_795_276_500.0), EgressGuard()
    async with serve_fake_airflow() as airflow:
        airflow.clock, airflow.created_at, airflow.queued_at = clock, clock.at, clock.at - 2
        resolver = FakeResolver(
            Connection("airflow", "airflow", host=airflow.url, login="waitd", password="pw")
        )
        async with (
            authorized_connections(resolver, egress, clock) as connections,
            AirflowSink(connections, egress=egress, now=clock, monotonic=clock) as sink,
        ):
            yield AirflowSetup(airflow, sink, clock, resolver)
