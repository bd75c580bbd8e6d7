"""What waitd needs of those who look a conn_id up."""

from dataclasses import dataclass, field
from typing import Protocol

from waitd.core.aws.signature import AwsSigner
from waitd.core.connections.azure_signature import AzureSharedKey
from waitd.core.connections.connection import Connection


class Connections(Protocol):
    """Where a conn_id becomes an address and credentials, at the moment of use."""

    async def get(self, conn_id: str) -> Connection:
        """The connection, from the cache or its resolver.

        Raises:
            UnknownConnection: every resolver answered, none knows it.
            ConnectionUnavailable: a resolver is down.
        """

    async def refresh(self, conn_id: str) -> Connection:
        """The connection, looked up anew (at most once in 30 s each); raises as `get` does."""

    def cached_fresh(self, conn_id: str) -> Connection | None:
        """What `get` would answer without asking anybody; None where it would have to ask, or raise."""

    def cached_any(self, conn_id: str) -> Connection | None:
        """What the cache holds now, without asking anybody."""


@dataclass(frozen=True, slots=True, eq=False)
class Authorization:
    """What makes a request the connection's own, to be sent to its origin only. The same object while nothing has changed."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    #: Signs each request; what it gives is sent beside the other headers.
    signer: AwsSigner | AzureSharedKey | None = field(default=None, repr=False)


class HttpConnections(Connections, Protocol):
    """Connections for those who speak HTTP to them."""

    def cached_authorization(self, connection: Connection) -> Authorization | None:
        """What its requests carry, where that needs no asking; None: `await authorize(connection)`.

        Raises:
            ValueError: the connection cannot be used for HTTP; the message quotes no secret.
        """

    async def authorize(
        self, connection: Connection, *, refused: Authorization | None = None
    ) -> Authorization:
        """What its requests carry, fetched where it has to be.

        `refused` is what the target did not take: it is not handed out again where something newer can be had (asked for at most once
        in 30 s).

        Raises:
            ConnectionUnavailable: whoever gives out tokens or keys does not answer, or refuses.
            ValueError: as `cached_fresh`.
        """
