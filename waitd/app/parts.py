"""Builds the probes, the sinks and what they use; a new kind or sink is added here."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from waitd import __version__
from waitd.app.connections import open_connections, open_outgoing
from waitd.app.presets import open_presets
from waitd.engine.clock import SystemClock
from waitd.metrics import Instruments
from waitd.outgoing import Outgoing
from waitd.ports import Connections, Jobs, Probe, Sink
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe
from waitd.probes.optional import optional_probes
from waitd.probes.signal import SignalProbe
from waitd.settings import Settings
from waitd.sinks.airflow.api import AirflowApis
from waitd.sinks.airflow.parked import ParkedTask, parked_tasks
from waitd.sinks.airflow.sink import AirflowSink
from waitd.sinks.brokers.amqp import AmqpSink
from waitd.sinks.brokers.broker import BrokerSink
from waitd.sinks.brokers.kafka import KafkaSink
from waitd.sinks.brokers.nats import NatsSink
from waitd.sinks.brokers.redis import RedisSink
from waitd.sinks.brokers.sqs import SqsSink
from waitd.sinks.webhook import WebhookSink

#: Each needs its own extra; the library is imported when the first event is delivered.
BROKER_SINKS: tuple[type[BrokerSink[Any, Any]], ...] = (SqsSink, RedisSink, NatsSink, KafkaSink, AmqpSink)


class Parts(NamedTuple):
    """What pokes, delivers and submits jobs, and the connections and egress rules that they use.

    Attributes:
        airflow: clients of Airflow's API, for requests outside of deliveries.
    """

    probes: Mapping[str, Probe]
    sinks: Mapping[str, Sink]
    connections: Connections
    outgoing: Outgoing
    airflow: AirflowApis
    jobs: Jobs


@asynccontextmanager
async def open_parts(settings: Settings, instruments: Instruments) -> AsyncIterator[Parts]:
    """Builds the parts of one daemon. A new kind or sink is one file and one line here."""
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    async with AsyncExitStack() as stack:
        outgoing = await stack.enter_async_context(open_outgoing(settings, instruments))
        connections = await stack.enter_async_context(open_connections(settings, outgoing, instruments))
        http = await stack.enter_async_context(
            HttpProbe(connections, secret_headers=settings.secret_headers, outgoing=outgoing)
        )
        presets = await open_presets(settings, connections, outgoing, instruments, stack)
        jobs = await stack.enter_async_context(
            HttpJobs(presets.connections, secret_headers=settings.secret_headers, outgoing=outgoing)
        )
        webhook = await stack.enter_async_context(
            WebhookSink(connections, secret=secret, secret_headers=settings.secret_headers, outgoing=outgoing)
        )
        optional = await stack.enter_async_context(
            optional_probes(connections, outgoing, connections_per_database=settings.sql_connections)
        )
        airflow = await stack.enter_async_context(
            AirflowSink(connections, hold_off=settings.airflow_hold_off, outgoing=outgoing)
        )
        airflow_apis = await stack.enter_async_context(AirflowApis(connections, outgoing, SystemClock.now))
        sinks: dict[str, Sink] = {"webhook": webhook, "airflow": airflow}
        for broker_sink in BROKER_SINKS:
            sinks[broker_sink.kind] = await stack.enter_async_context(broker_sink(connections, outgoing))
        probes = {"http": http, **optional, **presets.probes, "signal": SignalProbe()}
        yield Parts(probes, sinks, connections, outgoing, airflow_apis, jobs)


@asynccontextmanager
async def open_probes(settings: Settings) -> AsyncIterator[Mapping[str, Probe]]:
    """The probes alone, for `waitd until`."""
    async with open_parts(settings, Instruments(version=__version__)) as parts:
        yield parts.probes


async def parked_in_airflow(settings: Settings, conn_id: str) -> Sequence[ParkedTask]:
    """The tasks parked for waitd in a connection's Airflow, for a daemon that lost its disk.

    Raises:
        WaitdError, ValueError: the connection is unknown or cannot be used, or Airflow does not
        answer.
    """
    async with open_parts(settings, Instruments(version=__version__)) as parts:
        api = await parts.airflow.connect(conn_id)
        return [task async for task in parked_tasks(api)]
