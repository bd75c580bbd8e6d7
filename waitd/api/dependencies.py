"""What the API uses of the daemon, as plain values and Protocols."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from waitd.api.follow.feed import EventFeed
from waitd.api.follow.long_polls import LongPolls
from waitd.api.problems import refusal
from waitd.api.server.refusal_log import RefusalLog
from waitd.api.server.throttle import Throttle
from waitd.core.auth.namespaces import Namespaces
from waitd.core.auth.quotas import PAGE_BYTES, KeptLimits
from waitd.core.disk_room import DiskRoom
from waitd.metrics import Instruments
from waitd.ports import (
    ApiStore,
    Authenticator,
    ConnectionInspection,
    Connections,
    Keyring,
    Metering,
    Poking,
    Probe,
    SignalReceiver,
    Sink,
)


class Health(Protocol):
    """The state of the daemon that `/livez` and `/readyz` report."""

    @property
    def draining(self) -> bool:
        """Whether the daemon is stopping: submits are refused with 503."""

    @property
    def store_error(self) -> str:
        """Why the store's last write failed, in a sentence without secrets; "" if it succeeded."""

    @property
    def local_trouble(self) -> str:
        """What the daemon or its machine lacks now, in words without secrets; "" if nothing."""

    def report_trouble(self, trouble: str) -> None:
        """Notes what the daemon or its machine lacked during a request."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the operator should mend although the daemon is ready, in words without secrets."""

    @property
    def refused_outcomes(self) -> int:
        """How many waits have ended whose outcome the store has refused and does not hold yet."""

    @property
    def loop_lag(self) -> float:
        """The longest pause of the event loop in the last second, in seconds."""


def refuse_while_draining(health: Health) -> None:
    """Refuses new waits while the daemon stops.

    Raises:
        ProblemError: 503 with Retry-After.
    """
    if health.draining:
        raise refusal("draining", "send it again in a moment; nothing was stored")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a wait's options, in seconds.

    `default_timeout` is the timeout of a wait that gives none.
    """

    default_timeout: float
    max_timeout: float
    min_poke_interval: float


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """Everything that the handlers use.

    Attributes:
        probes: the kinds of waits, by name.
        sinks: the kinds of sinks, by name.
        inspector: says what waitd makes of a connection.
        before_scrape: refreshes the gauges that are computed only when metrics are read.
        authenticator: resolves bearer tokens; None: every caller on this machine is an admin.
        namespaces: what the waits of each namespace may use.
        now: Unix seconds.
        meter: what waits cost; None if cost is off.
        signal_receiver: wakes the waits that listen to a signal; None if nothing listens.
        throttle: the limits of one caller.
        refusals: logs what is refused.
        kept_limits: how much each namespace and each principal may keep in the store.
        page_bytes: the size of a page that ends it, by namespace.
        open_metrics: whether anyone may read the metrics, which count the waits of all namespaces.
        disk: how much more may be stored on the database's disk.
    """

    store: ApiStore
    poking: Poking
    probes: Mapping[str, Probe]
    sinks: Mapping[str, Sink]
    connections: Connections
    long_polls: LongPolls
    feed: EventFeed
    instruments: Instruments
    limits: Limits
    health: Health
    before_scrape: Callable[[], None]
    keyring: Keyring
    inspector: ConnectionInspection
    authenticator: Authenticator | None = None
    namespaces: Namespaces = field(default_factory=Namespaces)
    now: Callable[[], float] = time.time
    meter: Metering | None = None
    signal_receiver: SignalReceiver | None = None
    throttle: Throttle = field(default_factory=Throttle)
    refusals: RefusalLog = field(default_factory=RefusalLog)
    kept_limits: KeptLimits = field(default_factory=KeptLimits)
    page_bytes: Callable[[str], int] = lambda _: PAGE_BYTES
    open_metrics: bool = False
    disk: DiskRoom = field(default_factory=DiskRoom)
