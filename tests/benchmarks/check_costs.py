"""What the limits cost a request, as CPU time of this process: the median of many rounds."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from figures import Figure

from waitd.api import Throttle
from waitd.core.auth.principal import Principal, Role
from waitd.core.auth.quotas import KeptLimits, Quota, Resource, Share
from waitd.core.auth.submit_rates import SubmitRates
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitId, WaitSpec, WaitState
from waitd.metrics import Instruments
from waitd.ports import StoredWait
from waitd.settings.limits import LimitSettings
from waitd.stores.operations.insert import Rooms
from waitd.stores.operations.transaction import CostRules, LabelValues, StoreRules, Transaction
from waitd.stores.unreadable import UnreadableRows

ROUNDS, CALLS, LINES = 101, 500, 1_000
PER_REQUEST, PER_LINE = 5.0, 1.0
CALLER = Principal("key:team", Role.SUBMITTER, "team")
_UNUSED: Any = None


def _microseconds(call: Callable[[], object], calls: int, operations: int = 1) -> float:
    """The median CPU time of one operation, of which each call makes so many."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for _ in range(calls):
            call()
        rounds.append((time.process_time_ns() - started) / calls / operations / 1e3)
    return median(rounds)


class Checks:
    """The checks of one daemon with limits that nothing reaches."""

    def __init__(self) -> None:
        limits = LimitSettings()
        rate = Share(1e9, 1e9)
        self._throttle = Throttle(
            requests_per_second=1e9,
            request_burst=10_000,
            quotas={resource: Quota(resource) for resource in Resource},
            submit_rates=SubmitRates(rate, {CALLER.namespace: rate}),
            instruments=Instruments(version="benchmark"),
        )
        kept = limits.kept_shares(1_000_000)
        self._rules = StoreRules(
            time.time,
            (),
            lambda *_: "",
            CostRules(),
            lambda _: None,
            lambda *_: None,
            KeptLimits(kept, {CALLER.namespace: kept}),
        )
        spec = WaitSpec("http", {}, 60.0, 3600.0)
        self._wait = StoredWait(
            WaitId("wait"), CALLER.namespace, spec, WaitState.WAITING, 0.0, 0.0, EMPTY_PROGRESS, principal=CALLER.name
        )  # fmt: skip
        self._transaction = Transaction(_UNUSED, self._rules, 0.0, 0, LabelValues(), UnreadableRows())

    def read(self) -> None:
        """A GET of one wait."""
        self._throttle.begin(CALLER)
        self._throttle.end(CALLER)

    def submit(self) -> None:
        """A POST of one wait."""
        self._throttle.begin(CALLER)
        self._throttle.take_waits(CALLER, 1)
        self._insert(1)
        self._throttle.end(CALLER)

    def list(self) -> None:
        """A GET of a list."""
        self._throttle.begin(CALLER)
        with self._throttle.hold(Resource.READS, CALLER):
            pass
        self._throttle.end(CALLER)

    def batch(self) -> None:
        """A POST of `LINES` waits."""
        self._throttle.begin(CALLER)
        with self._throttle.hold(Resource.BATCHES, CALLER):
            self._throttle.charge(CALLER, LINES, LINES)
            self._throttle.take_waits(CALLER, LINES)
            self._insert(LINES)
        self._throttle.end(CALLER)

    def _insert(self, count: int) -> None:
        self._transaction.changes.counts.clear()  # as in a new transaction
        rooms = Rooms(self._transaction)
        for _ in range(count):
            rooms.take(self._wait)
        rooms.count()


def measure_costs() -> Sequence[Figure]:
    """The figures of a read, a submit, a list, and a line of a batch."""
    checks, note = Checks(), f"CPU time, the median of {ROUNDS} rounds"
    return [
        Figure("limits of a read", _microseconds(checks.read, CALLS), "µs", PER_REQUEST, note=note),
        Figure("limits of a submit", _microseconds(checks.submit, CALLS), "µs", PER_REQUEST, note=note),
        Figure("limits of a list", _microseconds(checks.list, CALLS), "µs", PER_REQUEST, note=note),
        Figure("limits of a batch line", _microseconds(checks.batch, 2, LINES), "µs", PER_LINE, note=note),
    ]
