"""The probe, which pokes one kind of target, as the engine and the API use it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from waitd.core.waits.verdict import Verdict
from waitd.core.waits.wait import Progress
from waitd.ports.jobs import SubmitPlan
from waitd.ports.signals import Topic


class Target(Protocol):
    """What a wait's parameters name: immutable, small, and sharing its parts with equal targets."""

    @property
    def key(self) -> str:
        """The coalescing key: waits with equal keys share a poke and a grid.

        "" is shared with no other wait.
        """

    @property
    def conn_id(self) -> str | None:
        """The connection that the target uses, or None."""

    @property
    def request_timeout(self) -> float:
        """How many seconds one poke may take."""


class Pokeable(Protocol):
    """A wait, as its probe sees it."""

    @property
    def target(self) -> Any: ...
    @property
    def progress(self) -> Progress: ...


#: Called once when a poke ends: with a verdict for each wait of the group, in order, or with the
#: error that ended the poke (`asyncio.CancelledError` after it was cancelled).
OnVerdicts = Callable[[Sequence[Verdict] | BaseException], None]
#: Cancels a poke. `OnVerdicts` is called at once, or as soon as the poke's task has ended.
CancelPoke = Callable[[], object]


class Probe(ABC):
    """Pokes one kind of target.

    A new kind implements `parse`, `origin` and `poke`. Everything else has a default.
    """

    #: False when a wait needs a poke only when it is adopted, when its topic has news, and at its
    #: deadline.
    polled: bool = True
    #: True when a stored wait is poked at once when the daemon starts: its times are exact.
    poked_at_start: bool = False
    #: The `poke_interval`, in seconds, of a wait that sets none; None: the general default.
    default_poke_interval: float | None = None
    #: The shortest `poke_interval`, in seconds, that a wait may set; None: the daemon's own
    #: minimum.
    min_poke_interval: float | None = None

    @property
    def params_model(self) -> type[Any] | None:
        """The pydantic model of a wait's `params`, which the OpenAPI document shows."""
        return None

    @abstractmethod
    def parse(self, params: Mapping[str, Any], *, namespace: str) -> Target:
        """Parses a wait's `params`.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """

    def parse_json(self, params: bytes, *, namespace: str) -> tuple[Target, Mapping[str, Any]] | None:  # noqa: ARG002 - the default recognizes nothing
        """A fast path for `params` as JSON text; None when it does not apply, and `parse` decides.

        Raises:
            InvalidInput: as `parse`.
            ValueError: the text is not JSON, or a value in it is wrong.
        """
        return None

    def parse_submit(
        self,
        submit: Mapping[str, Any],  # noqa: ARG002 - the default submits nothing
        params: Mapping[str, Any],  # noqa: ARG002 - as above
        *,
        namespace: str,  # noqa: ARG002 - as above
    ) -> SubmitPlan | None:
        """Parses a wait's `submit` together with its `params`; None if no job can be submitted.

        Raises:
            InvalidInput: with pointers relative to the wait: `/submit/…`, `/params/…`.
        """
        return None

    async def prepare(self, params: Mapping[str, Any]) -> None:  # noqa: B027 - the default loads nothing
        """Loads what `parse` needs and what would block the event loop. Raises nothing."""

    @abstractmethod
    def origin(self, target: Any) -> str:
        """Names the target's queue: its origin when known, else its connection."""

    def topics(self, target: Any) -> Sequence[Topic]:  # noqa: ARG002 - the default has none
        """The topics whose news pokes a wait with this target."""
        return ()

    @abstractmethod
    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Pokes once for waits with equal keys; returns a verdict for each, in order.

        The caller cancels it after `request_timeout`; the cancellation may have a note of a proxy,
        see `note_proxy`. Every other error is an `Unreachable` verdict, never an exception.
        """

    def start_poke(self, group: Sequence[Pokeable], on_verdicts: OnVerdicts) -> CancelPoke:
        """Starts `poke`; `on_verdicts` gets the result in a later turn of the loop.

        The default runs `poke` in a task. Override it where most pokes can do without one.
        """
        return run_in_task(self.poke(group), on_verdicts).cancel


def run_in_task(
    poke: Coroutine[Any, Any, Sequence[Verdict]], on_verdicts: OnVerdicts
) -> asyncio.Task[Sequence[Verdict]]:
    """Runs a poke in a task and passes its result on."""
    task = asyncio.get_running_loop().create_task(poke, name="poke")
    task.add_done_callback(partial(_pass_on, on_verdicts))
    return task


def _pass_on(on_verdicts: OnVerdicts, task: asyncio.Task[Sequence[Verdict]]) -> None:
    if not task.cancelled():
        on_verdicts(task.exception() or task.result())
        return
    cancelled = asyncio.CancelledError()  # the task's own has a traceback: a reference cycle
    try:
        task.result()
    except asyncio.CancelledError as error:
        for note in getattr(error, "__notes__", ()):
            cancelled.add_note(note)
    on_verdicts(cancelled)
