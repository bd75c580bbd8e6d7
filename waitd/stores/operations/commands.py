"""The commands that can be queued for the writer, each with the future that its caller awaits."""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from msgspec import Struct

from waitd.core.auth.api_key import ApiKey
from waitd.core.costs.model import MeasuredUsage
from waitd.core.waits.audit import AuditEntry, Caller
from waitd.core.waits.delivery import AfterAttempt, DeliveryId
from waitd.core.waits.job_cancel import JobCancel
from waitd.core.waits.submission import Submission
from waitd.core.waits.wait import Outcome, Progress, WaitId
from waitd.ports import Inserted, Signal, SignalKey, StoredOutcome, StoredWait, UnstoredOutcome
from waitd.stores.queries.wait_keys import Key

Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False, kw_only=True)
class Command(Generic[Answer]):
    """The base of all commands.

    Attributes:
        answer: an `Answer` or an exception, set inside the transaction; the caller gets it after
            COMMIT (an exception is raised).
        by: the caller named in the audit log; None writes no audit entry.
    """

    future: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    answer: Any = None
    by: Caller | None = None

    @property
    def rows(self) -> int:
        """About how many rows it writes."""
        return 1


class CommandExecutor(ABC):
    """The base of the writer, which executes commands, and of what offers writes by them."""

    @abstractmethod
    async def _execute(self, command: Command[Answer]) -> Answer:
        """Queues `command`; returns its answer after COMMIT. Cancelling the caller undoes nothing.

        Raises:
            StoreUnavailable: nothing was written.
        """


class Candidate(Struct, gc=False):
    """A wait ready to be inserted: the answer if it is new, its specification, and its keys."""

    inserted: Inserted
    spec_json: str
    idempotency_key: Key | None
    body_digest: bytes | None
    supersede_key: Key | None


@dataclass(slots=True, eq=False)
class Insert(Command[Sequence[Inserted | Exception]]):
    """Inserts waits; the answer is an `Inserted` or an exception for each."""

    candidates: Sequence[Candidate | Exception]

    @property
    def rows(self) -> int:
        return len(self.candidates)


@dataclass(slots=True, eq=False)
class FinishWait(Command[StoredOutcome | None]):
    """Ends a wait as the poker found it; answers a `StoredOutcome`, or None if it had ended."""

    outcome: UnstoredOutcome


@dataclass(slots=True, eq=False)
class SaveProgress(Command[None]):
    """Saves the progress of waits."""

    progress: Sequence[tuple[WaitId, Progress]]

    @property
    def rows(self) -> int:
        return len(self.progress)


@dataclass(slots=True, eq=False)
class Cancel(Command[StoredWait]):
    """Ends a wait on request; the answer is the `StoredWait`, `NotFound` or `Conflict`."""

    wait_id: str
    outcome: Outcome
    namespace: str | None


@dataclass(slots=True, eq=False)
class Redeliver(Command[StoredWait]):
    """Queues an ended wait's event again; answers `StoredWait`, `NotFound` or `Conflict`."""

    wait_id: str
    namespace: str | None


@dataclass(slots=True, eq=False)
class RedeliverEach(Command[int]):
    """Queues the events of these deliveries again: all, or with `dead_only` those that may be.

    The answer is their number, or without `dead_only` a `NotFound` or `Conflict`.
    """

    ids: Sequence[str]
    namespace: str | None
    dead_only: bool = False

    @property
    def rows(self) -> int:
        return len(self.ids)


@dataclass(slots=True, eq=False)
class SaveAttempt(Command[None]):
    """Saves the result of a delivery attempt."""

    delivery_id: DeliveryId
    after: AfterAttempt
    at: float


@dataclass(slots=True, eq=False)
class SaveApiKeys(Command[None]):
    """Saves API keys with the audit entry of the change."""

    keys: Sequence[ApiKey]
    entry: AuditEntry | None = None


@dataclass(slots=True, eq=False)
class DeleteApiKeys(Command[None]):
    """Deletes API keys."""

    ids: Sequence[str]


@dataclass(slots=True, eq=False)
class SaveAuditEntry(Command[None]):
    """Saves an audit entry about a change outside of the store."""

    entry: AuditEntry


@dataclass(slots=True, eq=False)
class SaveSubmission(Command[bool]):
    """Saves the state of a wait's job; the answer is whether it was saved.

    With `only_waiting` it is not saved once the wait has ended.
    """

    wait_id: WaitId
    submission: Submission
    only_waiting: bool = False


@dataclass(slots=True, eq=False)
class SaveJobCancel(Command[None]):
    """Saves the state of cancelling a wait's job."""

    wait_id: WaitId
    job_cancel: JobCancel


@dataclass(slots=True, eq=False)
class SaveSignal(Command[None]):
    """Saves a signal; the answer is None or a Conflict.

    `payload` is JSON text, `digest` its SHA-256.
    """

    signal: Signal
    payload: str
    digest: bytes


@dataclass(slots=True, eq=False)
class SaveOverhead(Command[None]):
    """Adds usage that belongs to no wait to today's costs, and deletes those before `before`."""

    measured: MeasuredUsage
    before: float


@dataclass(slots=True, eq=False)
class ShiftSchedules(Command[None]):
    """Moves what is scheduled by the wall clock, which has stepped by `moved` seconds.

    It is a group of its own: the clock steps with its commit, between two transactions.
    """

    moved: float

    @property
    def rows(self) -> int:
        return sys.maxsize


@dataclass(slots=True, eq=False)
class ClampAttempts(Command[None]):
    """Brings forward retries that are scheduled later than their own delay from now."""


@dataclass(slots=True, eq=False)
class _Prune(Command[Answer]):
    """Deletes up to `limit` rows that are older than `before` (Unix seconds)."""

    before: float
    limit: int


class PruneWaits(_Prune[int]):
    """Deletes ended waits; the answer is their number."""


@dataclass(slots=True, eq=False)
class DeleteEnded(Command[int]):
    """Deletes those of these waits that have ended and are settled; the answer is their number."""

    handles: Sequence[int | str]

    @property
    def rows(self) -> int:
        return len(self.handles)


@dataclass(slots=True, eq=False)
class PruneAudit(_Prune[int]):
    """Deletes audit entries, also those beyond the newest `keep`; the answer is their number."""

    keep: int


class PruneSignals(_Prune[Sequence[SignalKey]]):
    """Deletes signals; the answer is their keys."""


@dataclass(slots=True, eq=False)
class CheckWritable(Command[None]):
    """Writes one small row."""
