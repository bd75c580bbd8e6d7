"""What may be queued for the writer: one value for each call that writes, with the future its caller awaits."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import Struct

from waitd.core.auth.api_key import ApiKey
from waitd.core.costs.model import MeasuredUsage
from waitd.core.waits.audit import AuditEntry, Caller
from waitd.core.waits.delivery import AfterAttempt, DeliveryId
from waitd.core.waits.submission import JobCancel, Submission
from waitd.core.waits.wait import Outcome, Progress, WaitId
from waitd.ports import Inserted, Signal, UnstoredOutcome


@dataclass(slots=True, eq=False, kw_only=True)
class Operation:
    """The base. `answer` is what the transaction found; it becomes the caller's once that is on disk (an exception is raised there).

    `by`: who wants it, where that is to stand in the audit.
    """

    future: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    answer: Any = None
    by: Caller | None = None

    @property
    def rows(self) -> int:
        """How many rows it stands for, roughly."""
        return 1


class Key(NamedTuple):
    """A caller's key, which counts within its namespace."""

    namespace: str
    text: str


class Candidate(Struct, gc=False):
    """A wait ready to be inserted: the answer if it is new, its specification as text, and its caller's keys."""

    added: Inserted
    text: str
    idempotency_key: Key | None
    body_digest: bytes | None
    supersede_key: Key | None


@dataclass(slots=True, eq=False)
class Insert(Operation):
    """Stores waits; the answer is one `Inserted` or exception each."""

    candidates: Sequence[Candidate | Exception]

    @property
    def rows(self) -> int:
        return len(self.candidates)


@dataclass(slots=True, eq=False)
class FinishWait(Operation):
    """Ends a wait as the poker saw it; the answer is `Ended` or None."""

    ending: UnstoredOutcome


@dataclass(slots=True, eq=False)
class SaveProgress(Operation):
    """Keeps what waits have learned."""

    progress: Sequence[tuple[WaitId, Progress]]

    @property
    def rows(self) -> int:
        return len(self.progress)


@dataclass(slots=True, eq=False)
class Cancel(Operation):
    """Ends a wait as somebody wishes; the answer is the `StoredWait`, `NotFound` or `Conflict`."""

    wait_id: str
    outcome: Outcome
    namespace: str | None


@dataclass(slots=True, eq=False)
class Redeliver(Operation):
    """Queues the event of an ended wait anew; the answer is the `StoredWait`, `NotFound` or `Conflict`."""

    wait_id: str
    namespace: str | None


@dataclass(slots=True, eq=False)
class RedeliverEach(Operation):
    """Queues the events of these deliveries anew: of all of them, or (`dead_only`) of those that are dead and nothing came after.

    The answer is how many, or without `dead_only` a `NotFound` or `Conflict`.
    """

    ids: Sequence[str]
    namespace: str | None
    dead_only: bool = False

    @property
    def rows(self) -> int:
        return len(self.ids)


@dataclass(slots=True, eq=False)
class SaveAttempt(Operation):
    """Keeps what became of a delivery's attempt."""

    delivery_id: DeliveryId
    after: AfterAttempt
    at: float


@dataclass(slots=True, eq=False)
class SaveKeys(Operation):
    """Keeps API keys, and the line of the audit that goes with it."""

    keys: Sequence[ApiKey]
    change: AuditEntry | None = None


@dataclass(slots=True, eq=False)
class DeleteKeys(Operation):
    """Forgets API keys."""

    ids: Sequence[str]


@dataclass(slots=True, eq=False)
class SaveAuditEntry(Operation):
    """Keeps a line of the audit."""

    change: AuditEntry


@dataclass(slots=True, eq=False)
class PruneAudit(Operation):
    """Deletes old lines of the audit; the answer is how many."""

    before: float
    limit: int


@dataclass(slots=True, eq=False)
class SaveSubmission(Operation):
    """Keeps what is known of a wait's job; the answer is whether (`only_waiting`: it is not, once the wait has ended)."""

    wait_id: WaitId
    submission: Submission
    only_waiting: bool = False


@dataclass(slots=True, eq=False)
class SaveJobCancel(Operation):
    """Keeps how far the cancelling of a wait's job has come."""

    wait_id: WaitId
    job_cancel: JobCancel


@dataclass(slots=True, eq=False)
class SaveSignal(Operation):
    """Keeps a signal; the answer is None or a Conflict. `payload` is JSON text, `digest` its SHA-256."""

    signal: Signal
    payload: str
    digest: bytes


@dataclass(slots=True, eq=False)
class PruneSignals(Operation):
    """Deletes old signals; the answer is their keys."""

    before: float
    limit: int


@dataclass(slots=True, eq=False)
class SaveOverhead(Operation):
    """Keeps what the process used that belongs to no wait."""

    measured: MeasuredUsage


@dataclass(slots=True, eq=False)
class Prune(Operation):
    """Deletes ended waits; the answer is how many."""

    finished_before: float
    limit: int


@dataclass(slots=True, eq=False)
class CheckWritable(Operation):
    """Writes something small."""
