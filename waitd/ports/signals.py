"""What news from outside needs: signals, topics that waits subscribe to, and who receives news."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol


class Signal(NamedTuple):
    """A signal under a key. `received_at`: when the last one under the key came, Unix seconds."""

    namespace: str
    key: str
    received_at: float = 0.0


class SignalKey(NamedTuple):
    """The key of signals, which is unique within its namespace."""

    namespace: str
    key: str


class Topic(NamedTuple):
    """News that a wait subscribes to.

    Attributes:
        namespace: the namespace of the wait.
        channel: `signal`, or `s3://BUCKET`.
        name: the exact name; or, with `matches`, the prefix that all matching names share.
        matches: whether a name matches; None: only `name` itself.
    """

    namespace: str
    channel: str
    name: str
    matches: Callable[[str], bool] | None = None


class SignalReceiver(Protocol):
    """Receives news, as the API needs it."""

    def listening(self, namespace: str, key: str) -> int:
        """How many waits subscribe to a signal's key now."""

    def on_s3_object(self, source: str, bucket: str, key: str, namespace: str | None) -> int:
        """Pokes the waits that subscribe to a new object, and returns their number.

        `source` says where the news came from, for the metrics; `namespace` None: waits of any
        namespace.
        """


class SignalStore(Protocol):
    """What signals need of the store."""

    async def signals(self, namespace: str, key: str) -> Sequence[Any]:
        """The payloads under a key, in the order in which they first came."""

    async def signal_keys(self) -> Sequence[Signal]:
        """Every key that has signals, with the time of its last one."""

    async def prune_signals(self, before: float, limit: int) -> Sequence[SignalKey]:
        """Deletes up to `limit` signals from before a moment (Unix seconds); returns their keys."""
