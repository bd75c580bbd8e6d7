"""What waitd needs of those who look: a probe and its targets."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from waitd.core.verdict import Verdict
from waitd.core.wait import Progress


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


class Probe(Protocol):
    """Pokes one kind of target."""

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
