"""The fakes of the suite: a scripted probe, stores in memory that can refuse, a recording sink."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import iscoroutine
from typing import Any, NoReturn, TypeVar

from msgspec import structs

from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.auth import Credentials, build_credentials
from waitd.core.connections.connection import Connection
from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import ConnectionUnavailable, StoreUnavailable, UnknownConnection
from waitd.core.waits.delivery import Delivered, Receipt
from waitd.core.waits.verdict import Pending, Success, Verdict
from waitd.core.waits.wait import Outcome, Progress, WaitId, WaitSpec, WaitState
from waitd.ports import (
    Authorization,
    AwsKeyProvider,
    CancelPoke,
    OnVerdicts,
    OutboxItem,
    Pokeable,
    Probe,
    PrunedBytes,
    StoredOutcome,
    StoredWait,
    UnstoredOutcome,
    run_in_task,
)
from waitd.probes.access.aws_credentials import AwsCredentials


class FixedAuthorizations:
    """The part of `HttpConnections` that makes headers from credentials, without a request."""

    def cached_fresh(self, conn_id: str) -> Connection | None:
        return None

    def cached_authorization(self, connection: Connection) -> Authorization | None:
        return self._of(connection)

    async def authorize(
        self, connection: Connection, *, refused: Authorization | None = None
    ) -> Authorization:
        return self._of(connection)

    def _of(self, connection: Connection) -> Authorization:
        return _authorization(build_credentials(connection))


@lru_cache(maxsize=64)
def _authorization(credentials: Credentials) -> Authorization:
    """The same object for equal credentials."""
    signing = credentials.signing
    keys = None if signing is None else signing.keys.static
    if signing is None or keys is None:
        return Authorization(credentials.headers, credentials.shared_key)
    return Authorization(credentials.headers, AwsSigner(signing.service, signing.region, keys))


T = TypeVar("T")
Script = Callable[[str, int], Awaitable[Verdict] | Verdict]


class FakeConnections(FixedAuthorizations):
    """The `HttpConnections` port over a dictionary; while `down`, its backend is unavailable."""

    def __init__(self, *connections: Connection) -> None:
        self.by_id = {connection.conn_id: connection for connection in connections}
        self.down = False
        self.aws_keys: AwsKeyProvider = AwsCredentials(now=time.monotonic)

    async def get(self, conn_id: str) -> Connection:
        if self.down:
            raise ConnectionUnavailable("the backend is down")
        if conn_id not in self.by_id:
            raise UnknownConnection(f"there is no connection {conn_id!r}")
        return self.by_id[conn_id]

    refresh = get

    def cached_any(self, conn_id: str) -> Connection | None:
        return self.by_id.get(conn_id)


@dataclass(frozen=True)
class ScriptedTarget:
    name: str
    host: str = "host"
    key: str = ""
    conn_id: str | None = None
    request_timeout: float = 10.0


class ScriptedProbe(Probe):
    """Answers the n-th poke (from 1) of the target `name` with `script(name, n)`.

    `poked_at` has the times of the pokes, and `groups` how many waits shared each.
    """

    def __init__(self, script: Script, now: Callable[[], float]) -> None:
        self.script = script
        self.now = now
        self.poked_at: dict[str, list[float]] = {}
        self.groups: list[int] = []

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> ScriptedTarget:
        return ScriptedTarget(**params)

    def origin(self, target: Any) -> str:
        return str(target.host)

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        answer = self.answer(group)
        verdict = answer if not isinstance(answer, Awaitable) else await answer
        return [verdict] * len(group)

    def answer(self, group: Sequence[Pokeable]) -> Awaitable[Verdict] | Verdict:
        name = group[0].target.name
        times = self.poked_at.setdefault(name, [])
        times.append(self.now())
        self.groups.append(len(group))
        return self.script(name, len(times))


class TasklessProbe(ScriptedProbe):
    """The same without a task, except for answers that take time. `hang` never answers."""

    def __init__(self, script: Script, now: Callable[[], float]) -> None:
        super().__init__(script, now)
        #: How many pokes were cancelled that had no task.
        self.cancelled = 0

    def start_poke(self, group: Sequence[Pokeable], on_verdicts: OnVerdicts) -> CancelPoke:
        answer = self.answer(group)
        if iscoroutine(answer) and answer.cr_code is hang.__code__:
            answer.close()
        elif isinstance(answer, Awaitable):
            return run_in_task(self._wait_for(answer, len(group)), on_verdicts).cancel
        else:
            asyncio.get_running_loop().call_soon(on_verdicts, [answer] * len(group))

        def cancel() -> None:
            self.cancelled += 1
            on_verdicts(asyncio.CancelledError())

        return cancel

    async def _wait_for(self, answer: Awaitable[Verdict], times: int) -> Sequence[Verdict]:
        return [await answer] * times


async def hang() -> Verdict:
    """A target that never answers."""
    await asyncio.sleep(float("inf"))
    return Pending()


async def after(seconds: float, answer: T) -> T:
    """A target, a sink or a job system that answers after a while."""
    await asyncio.sleep(seconds)
    return answer


def defect() -> NoReturn:
    """A script with a defect."""
    raise RuntimeError("a defect")


def fail_first(owner: object, method: str, *, times: int = 1) -> list[StoreUnavailable]:
    """Makes the next calls of an async method fail; returns the failures that are left."""
    call, failures = getattr(owner, method), [StoreUnavailable("the disk is away")] * times

    async def flaky(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return await call(*args, **kwargs)

    setattr(owner, method, flaky)
    return failures


def done_at(poke: int) -> Script:
    """Pending until poke number `poke`, which succeeds."""
    return lambda _, n: Success() if n >= poke else Pending()


def waiting(
    name: str,
    now: float,
    *,
    interval: float = 10.0,
    timeout: float = 3600.0,
    namespace: str = "default",
    **params: Any,
) -> StoredWait:
    """A stored wait of kind `scripted`, accepted at `now`."""
    spec_names = {"exponential_backoff", "max_wait", "silent_fail"}
    spec = WaitSpec(
        kind="scripted",
        params={"name": name, **{k: v for k, v in params.items() if k not in spec_names}},
        poke_interval=interval,
        timeout=timeout,
        **{k: v for k, v in params.items() if k in spec_names},
    )
    return StoredWait(
        id=WaitId(name),
        namespace=namespace,
        spec=spec,
        state=WaitState.WAITING,
        created_at=now,
        deadline=now + timeout,
        progress=Progress(),
    )


@dataclass
class MemoryStore:
    """The store of the poker and of maintenance: a dict.

    While `refusing`, writes raise StoreUnavailable.
    """

    waits: dict[WaitId, StoredWait] = field(default_factory=dict)
    refusing: bool = False
    refused: int = 0
    progress_writes: list[WaitId] = field(default_factory=list)
    #: When each audit entry was written.
    audited: list[float] = field(default_factory=list)
    #: Called with each step of the wall clock, as the store calls its listener.
    on_clock_stepped: Callable[[float], None] = lambda _: None

    def _check(self) -> None:
        if self.refusing:
            self.refused += 1
            raise StoreUnavailable("the disk is full")

    def put(self, *waits: StoredWait) -> Sequence[StoredWait]:
        self.waits.update({wait.id: wait for wait in waits})
        return waits

    def cancel(self, wait_id: str, reason: str = "cancelled") -> None:
        wait = self.waits[WaitId(wait_id)]
        self.waits[wait.id] = structs.replace(
            wait, state=WaitState.CANCELLED, outcome=Outcome(WaitState.CANCELLED, reason=reason)
        )

    async def finish(self, ending: UnstoredOutcome) -> StoredOutcome | None:
        await asyncio.sleep(0)
        self._check()
        wait = self.waits[ending.id]
        if wait.state is not WaitState.WAITING:
            return None
        ended = structs.replace(
            wait,
            state=ending.outcome.state,
            outcome=ending.outcome,
            progress=deepcopy(ending.progress),  # what is on disk does not grow
            finished_at=ending.finished_at,
        )
        self.waits[ending.id] = ended
        return StoredOutcome(ended, frozenset())

    async def save_progress(self, rows: Sequence[tuple[WaitId, Progress]]) -> None:
        self._check()
        for wait_id, progress in rows:
            self.progress_writes.append(wait_id)
            self.waits[wait_id] = structs.replace(self.waits[wait_id], progress=deepcopy(progress))

    async def load_waiting(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        names = sorted(n for n, w in self.waits.items() if w.state is WaitState.WAITING and n > (after or ""))
        return [self.waits[name] for name in names[:limit]]

    async def waiting_ids(self, after: WaitId | None, limit: int) -> Sequence[WaitId]:
        return [wait.id for wait in await self.load_waiting(after, limit)]

    async def save_overhead(self, measured: MeasuredUsage, before: float) -> None:
        """Ignored."""

    async def prune_audit(self, before: float, limit: int, keep: int) -> int:
        old = [at for at in self.audited if at < before][:limit]
        self.audited = [at for at in self.audited if at not in old]
        return len(old)

    async def prune(self, finished_before: float, limit: int) -> int:
        old = [n for n, w in self.waits.items() if 0 < (w.finished_at or 0) < finished_before][:limit]
        for name in old:
            del self.waits[name]
        return len(old)

    async def prune_bytes(self, most: int, since: float, limit: int) -> PrunedBytes:
        return PrunedBytes(0, None)

    async def shift_schedules(self, moved: float) -> None:
        self._check()
        for wait_id, wait in self.waits.items():
            self.waits[wait_id] = structs.replace(wait, deadline=wait.deadline + moved)
        self.on_clock_stepped(moved)

    async def check_writable(self) -> None:
        self._check()

    async def check_unreadable(self) -> None:
        """Every wait can be read."""

    async def scrub(self, after: str | None, limit: int) -> str | None:
        return None


@dataclass(frozen=True)
class RecordingTarget:
    destination: str
    conn_id: str | None = None


class RecordingSink:
    """Records the items it gets; `answer(item)` is its receipt."""

    def __init__(self, answer: Callable[[OutboxItem], Awaitable[Receipt] | Receipt] | None = None) -> None:
        self.answer = answer or (lambda _: Delivered())
        self.items: list[OutboxItem] = []

    def parse(self, params: Mapping[str, Any]) -> RecordingTarget:
        return RecordingTarget(str(params.get("to", "somewhere")))

    def signed(self, target: Any) -> bool | None:
        return None

    async def deliver(self, target: Any, item: OutboxItem) -> Receipt:
        self.items.append(item)
        answer = self.answer(item)
        return answer if not isinstance(answer, Awaitable) else await answer


class SilentDisplay:
    """A progress display that shows nothing."""

    def step(self, text: str) -> None:
        """Does nothing."""

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        assert done <= total or total == 0, text
