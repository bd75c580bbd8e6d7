"""What the API is handed: the parts of the daemon it talks to, as plain values and Protocols."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from waitd.api.follow.feed import Feed
from waitd.api.follow.long_polls import LongPolls
from waitd.api.server.throttle import Throttle
from waitd.core.auth.namespaces import Namespaces
from waitd.metrics import Instruments
from waitd.ports import (
    ApiStore,
    Authenticator,
    Connections,
    Keyring,
    Metering,
    Poking,
    Probe,
    SignalReceiver,
    Sink,
)


class Health(Protocol):
    """How the daemon is, as `/livez` and `/readyz` tell it."""

    @property
    def draining(self) -> bool:
        """True from the moment the daemon was asked to stop: submits are refused with 503."""

    @property
    def store_writable(self) -> bool:
        """Whether the store's last write went through."""

    @property
    def store_error(self) -> str:
        """Why it did not, in a sentence without secrets; "" where it did."""

    @property
    def refused_outcomes(self) -> int:
        """How many waits have an outcome that the store refused at least once and does not have yet."""

    @property
    def loop_lag(self) -> float:
        """The longest pause of the event loop in the last second, seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a wait may ask for, all in seconds. `default_timeout` is the timeout of a wait that names none."""

    default_timeout: float
    max_timeout: float
    min_poke_interval: float


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the handlers use.

    Attributes:
        probes: each kind of target by its name.
        sinks: each kind of destination by its name.
        before_scrape: refreshes the gauges that are only worth computing when somebody looks.
        authenticator: who a bearer token belongs to; None: whoever comes is let in, and is an admin.
        namespaces: what waits may name, by their namespace.
        now: Unix seconds.
        meter: what waits cost; None: nobody measures it.
        signal_receiver: who hears signals; None: nobody does.
        throttle: how much one caller may ask for.
        open_metrics: whether the figures, which count the waits of all namespaces, are shown to whoever asks.
    """

    store: ApiStore
    poking: Poking
    probes: Mapping[str, Probe]
    sinks: Mapping[str, Sink]
    connections: Connections
    long_polls: LongPolls
    feed: Feed
    instruments: Instruments
    limits: Limits
    health: Health
    before_scrape: Callable[[], None]
    keyring: Keyring
    authenticator: Authenticator | None = None
    namespaces: Namespaces = field(default_factory=Namespaces)
    now: Callable[[], float] = time.time
    meter: Metering | None = None
    signal_receiver: SignalReceiver | None = None
    throttle: Throttle = field(default_factory=Throttle)
    open_metrics: bool = False
