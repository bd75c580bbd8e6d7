"""The seams: what each part needs of another, as small Protocols declared for the consumer. No implementation lives here."""

from waitd.ports.connections import Authorization, Connections, HttpConnections
from waitd.ports.engine import Live, Poking, WaitingOn
from waitd.ports.probes import Pokeable, Probe, Target
from waitd.ports.sinks import Parcel, Sink, SinkTarget
from waitd.ports.store import (
    Added,
    ApiStore,
    DeliveryFilter,
    Ended,
    Ending,
    KeeperStore,
    Keyed,
    NewWait,
    OutboxStore,
    PokerStore,
    Redelivered,
    StoredDelivery,
    StoredEvent,
    StoredWait,
    WaitFilter,
)

__all__ = [
    "Added",
    "ApiStore",
    "Authorization",
    "Connections",
    "DeliveryFilter",
    "Ended",
    "Ending",
    "HttpConnections",
    "KeeperStore",
    "Keyed",
    "Live",
    "NewWait",
    "OutboxStore",
    "Parcel",
    "Pokeable",
    "PokerStore",
    "Poking",
    "Probe",
    "Redelivered",
    "Sink",
    "SinkTarget",
    "StoredDelivery",
    "StoredEvent",
    "StoredWait",
    "Target",
    "WaitFilter",
    "WaitingOn",
]
