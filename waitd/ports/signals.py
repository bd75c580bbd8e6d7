"""What waitd needs to let the outside wake waits."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol


class Signal(NamedTuple):
    """A signal under a key. `received_at`: Unix seconds, of the last one under the key."""

    namespace: str
    key: str
    received_at: float = 0.0


class SignalKey(NamedTuple):
    """Where signals are kept."""

    namespace: str
    key: str


class Topic(NamedTuple):
    """What a wait listens to: news about `name` at `place`.

    Attributes:
        place: whose news: `signal`, or `s3://BUCKET`.
        name: the very name; or, with `matches`, what every name that it takes begins with.
        matches: whether it takes a name; None: only `name` itself.
        namespace: in which it counts.
    """

    namespace: str
    place: str
    name: str
    matches: Callable[[str], bool] | None = None


class SignalReceiver(Protocol):
    """Who mode_delivers news, as the API needs it."""

    def listening(self, namespace: str, key: str) -> int:
        """How many waits listen to a key now."""

    def on_s3_object(self, source: str, bucket: str, key: str, namespace: str | None) -> int:
        """A key has come, `source` says; how many waits are poked for it. `namespace` None: of any."""


class SignalStore(Protocol):
    """What signals need of the store."""

    async def signals(self, namespace: str, key: str) -> Sequence[Any]:
        """The payloads under a key, in the order in which they first came."""

    async def signal_keys(self) -> Sequence[Signal]:
        """Every key that has signals, and when its last one came."""

    async def prune_signals(self, before: float, limit: int) -> Sequence[SignalKey]:
        """Deletes up to `limit` signals that came before a moment (Unix seconds); their keys."""
