"""The seams between the parts of waitd: small protocols, each declared for its consumer.

Beside them stand the values that cross a seam: stored waits, filters, outbox items, topics. The
engine, the store, the probes, the sinks and the API implement the protocols; no implementation
lives here.
"""

from waitd.ports.airflow_sweep import AirflowWait, SweepStore
from waitd.ports.auth import Authenticator, CreatedKey, Keyring, KeyStore, NewKey
from waitd.ports.connections import (
    Authorization,
    AwsConnections,
    AwsKeyProvider,
    ConnectionInspection,
    Connections,
    HttpConnections,
)
from waitd.ports.costs import CostFilter, CostSums, Metering
from waitd.ports.engine import LiveWait, Poking, WaitingOn
from waitd.ports.filters import AuditFilter, DeliveryFilter, ListPart, WaitFilter
from waitd.ports.jobs import Jobs, JobStore, SubmitPlan
from waitd.ports.probes import CancelPoke, OnVerdicts, Pokeable, Probe, Target, run_in_task
from waitd.ports.signals import Signal, SignalKey, SignalReceiver, SignalStore, Topic
from waitd.ports.sinks import OutboxItem, OutboxStore, Sink, SinkTarget
from waitd.ports.store import (
    ApiStore,
    IdempotentSubmit,
    Inserted,
    MaintenanceStore,
    NewWait,
    PokerStore,
    PrunedBytes,
    Redelivered,
    StoredAuditEntry,
    StoredDelivery,
    StoredEvent,
    StoredOutcome,
    StoredWait,
    UnreadableWait,
    UnstoredOutcome,
)
from waitd.ports.store_listener import StoreListener

__all__ = [
    "AirflowWait",
    "ApiStore",
    "AuditFilter",
    "Authenticator",
    "Authorization",
    "AwsConnections",
    "AwsKeyProvider",
    "CancelPoke",
    "ConnectionInspection",
    "Connections",
    "CostFilter",
    "CostSums",
    "CreatedKey",
    "DeliveryFilter",
    "HttpConnections",
    "IdempotentSubmit",
    "Inserted",
    "JobStore",
    "Jobs",
    "KeyStore",
    "Keyring",
    "ListPart",
    "LiveWait",
    "MaintenanceStore",
    "Metering",
    "NewKey",
    "NewWait",
    "OnVerdicts",
    "OutboxItem",
    "OutboxStore",
    "Pokeable",
    "PokerStore",
    "Poking",
    "Probe",
    "PrunedBytes",
    "Redelivered",
    "Signal",
    "SignalKey",
    "SignalReceiver",
    "SignalStore",
    "Sink",
    "SinkTarget",
    "StoreListener",
    "StoredAuditEntry",
    "StoredDelivery",
    "StoredEvent",
    "StoredOutcome",
    "StoredWait",
    "SubmitPlan",
    "SweepStore",
    "Target",
    "Topic",
    "UnreadableWait",
    "UnstoredOutcome",
    "WaitFilter",
    "WaitingOn",
    "run_in_task",
]
