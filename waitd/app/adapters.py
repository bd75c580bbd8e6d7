"""Builds what meets the outside: probes, sinks and connections. Add a new kind or sink here."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, Protocol, runtime_checkable

from waitd import __version__
from waitd.app.connections import open_connections, open_egress
from waitd.app.presets import open_presets
from waitd.connections.authorizer import AuthorizedConnections
from waitd.connections.inspector import ConnectionInspector, Try
from waitd.core.connections.connection import Connection
from waitd.engine.clock import SystemClock
from waitd.metrics import Instruments
from waitd.outgoing import EgressGuard
from waitd.ports import Jobs, Probe, Sink
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe
from waitd.probes.optional import optional_probes
from waitd.probes.signal import SignalProbe
from waitd.probes.time import TimeProbe
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


#: The types of connections of what is not reached over HTTP, by its kind.
_CONN_TYPES = {
    "sql": ("postgres", "mysql", "mariadb", "sqlite"),
    "redis": ("redis",),
    "nats": ("nats",),
    "kafka": ("kafka",),
    "amqp": ("amqp", "amqps"),
}


@runtime_checkable
class Tried(Protocol):
    """A kind whose connections can be tried."""

    async def try_connection(self, connection: Connection) -> str | None:
        """Asks the target one question; returns why that fails, or None."""


class Adapters(NamedTuple):
    """What implements the ports to the outside; the egress rules hold for all of it.

    Attributes:
        airflow: clients of Airflow's API, for requests outside of deliveries.
    """

    probes: Mapping[str, Probe]
    sinks: Mapping[str, Sink]
    connections: AuthorizedConnections
    inspector: ConnectionInspector
    egress: EgressGuard
    airflow: AirflowApis
    jobs: Jobs


@asynccontextmanager
async def open_adapters(settings: Settings, instruments: Instruments) -> AsyncIterator[Adapters]:
    """Builds the adapters of one daemon."""
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    async with AsyncExitStack() as stack:
        egress = await stack.enter_async_context(open_egress(settings, instruments))
        connections = await stack.enter_async_context(open_connections(settings, egress, instruments))
        http = await stack.enter_async_context(
            HttpProbe(connections, secret_headers=settings.secret_headers, egress=egress)
        )
        presets = await open_presets(settings, connections, egress, instruments, stack)
        jobs = await stack.enter_async_context(
            HttpJobs(presets.connections, secret_headers=settings.secret_headers, egress=egress)
        )
        webhook = await stack.enter_async_context(
            WebhookSink(connections, secret=secret, secret_headers=settings.secret_headers, egress=egress)
        )
        optional = await stack.enter_async_context(
            optional_probes(connections, egress, connections_per_database=settings.sql_connections)
        )
        airflow = await stack.enter_async_context(
            AirflowSink(connections, hold_off=settings.resume_hold_off, egress=egress)
        )
        airflow_apis = await stack.enter_async_context(AirflowApis(connections, egress, SystemClock.now))
        sinks: dict[str, Sink] = {"webhook": webhook, "airflow": airflow}
        tries: dict[str, Try] = {}
        for broker_sink in BROKER_SINKS:
            broker = await stack.enter_async_context(broker_sink(connections, egress))
            sinks[broker.kind] = broker
            tries |= dict.fromkeys(_CONN_TYPES.get(broker.kind, ()), broker.try_connection)
        if isinstance(optional["sql"], Tried):
            tries |= dict.fromkeys(_CONN_TYPES["sql"], optional["sql"].try_connection)
        probes = {"http": http, **optional, **presets.probes, "signal": SignalProbe(), "time": TimeProbe()}
        inspector = ConnectionInspector(
            connections, egress, complete=presets.connections.completed, tries=tries
        )
        yield Adapters(probes, sinks, connections, inspector, egress, airflow_apis, jobs)


@asynccontextmanager
async def open_probes(settings: Settings) -> AsyncIterator[Mapping[str, Probe]]:
    """The probes alone, for `waitd until`."""
    async with open_adapters(settings, Instruments(version=__version__)) as adapters:
        yield adapters.probes


async def parked_in_airflow(settings: Settings, conn_id: str) -> Sequence[ParkedTask]:
    """The tasks parked for waitd in a connection's Airflow, for a daemon that lost its disk.

    Raises:
        WaitdError, ValueError: the connection is unknown or cannot be used, or Airflow does not
        answer.
    """
    async with open_adapters(settings, Instruments(version=__version__)) as adapters:
        api = await adapters.airflow.connect(conn_id)
        return [task async for task in parked_tasks(api)]
