"""What waitd needs of those who look: a probe and its targets."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from waitd.core.waits.verdict import Verdict
from waitd.core.waits.wait import Progress


class Target(Protocol):
    """Something a probe can poke: parsed parameters, immutable, small, sharing what it can with its equals."""

    @property
    def key(self) -> str:
        """The coalescing key: waits with equal keys may share one request, and lie on the same grid. "" shares with none."""

    @property
    def conn_id(self) -> str | None:
        """The connection that it names, or None."""

    @property
    def request_timeout(self) -> float:
        """Seconds that one poke may take."""


class Pokeable(Protocol):
    """What a probe sees of a wait in hand."""

    @property
    def target(self) -> Any: ...
    @property
    def progress(self) -> Progress: ...


@runtime_checkable
class Paced(Protocol):
    """A probe whose kind has a pace of its own, in seconds."""

    @property
    def default_poke_interval(self) -> float:
        """The `poke_interval` of a wait that names none."""

    @property
    def min_poke_interval(self) -> float:
        """The shortest that a wait may ask for."""


@runtime_checkable
class Preparing(Protocol):
    """A probe that has to load something before it can check parameters, which is not to be done in the loop."""

    async def prepare(self, params: Mapping[str, Any]) -> None:
        """Loads what `parse` needs for these parameters, whatever is wrong with them. Raises nothing."""

    def prepared(self, params: Mapping[str, Any]) -> bool:
        """Whether all of that is at hand."""


@runtime_checkable
class Readable(Protocol):
    """A probe that remembers what the parameters of many waits have in common by how they are written."""

    def read_params(self, params: bytes, *, namespace: str) -> "tuple[Target, Mapping[str, Any]] | None":
        """What `parse` says of parameters in JSON, and they themselves; None: that takes a close look. May be given what is no JSON.

        Raises:
            InvalidInput: they are wrong.
            ValueError: they are no JSON, or something in them is wrong.
        """


class Landing(Protocol):
    """Where one of these is called, once, with what came of a poke that was begun."""

    def landed(self, verdicts: Sequence[Verdict]) -> None:
        """A verdict for each of the group, in order."""

    def unfinished(self, rest: Coroutine[Any, Any, Sequence[Verdict]]) -> None:
        """What came takes more than looking at it: `rest` leads to the verdicts, and gets a task."""


#: Begins a poke for a group with equal keys, and returns what gives it up, after which nothing is called; None where it needs a task from
#: the start, and nothing was asked. The landing is called in a later turn of the loop.
Begin = Callable[[Sequence["Pokeable"], Landing], Callable[[], None] | None]


class Probe(Protocol):
    """Pokes one kind of target. One that has a `begin` (see `Begin`) does most of its pokes without a task for each."""

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> Target:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """

    def origin(self, target: Any) -> str:
        """Which queue the target waits in: its origin (scheme, host, port) where that is known, else its connection."""

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One look on behalf of waits with equal keys; a verdict for each, in order.

        The caller bounds it by `request_timeout` and cancels it; every other trouble is an `Unreachable`, never an exception.
        """
