"""What probes and sinks need of connections: the address and credentials of a conn_id."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.azure_signature import AzureSharedKey
from waitd.core.connections.connection import Connection
from waitd.core.connections.masking import SecretMask
from waitd.core.connections.sent_secrets import authorization_mask


class Connections(Protocol):
    """Looks up a conn_id at the moment of use."""

    async def get(self, conn_id: str) -> Connection:
        """The connection, from the cache or its resolver.

        Raises:
            UnknownConnection: every resolver answered, and none has it.
            ConnectionUnavailable: a resolver is down.
        """

    async def refresh(self, conn_id: str) -> Connection:
        """The connection, looked up again (at most once in 30 s per conn_id). Raises as `get`."""

    def cached_fresh(self, conn_id: str) -> Connection | None:
        """The connection, if `get` would return it from the cache; else None."""

    def cached_any(self, conn_id: str) -> Connection | None:
        """The cached connection, even one that is out of date; None if there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Authorization:
    """The credentials of a request, to be sent to the connection's origin only.

    The same object is returned while nothing has changed.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    #: Signs each request; its headers are sent with the others.
    signer: AwsSigner | AzureSharedKey | None = field(default=None, repr=False)
    #: The secrets with which the token endpoint was asked, which may be part of the target.
    grant_secrets: tuple[str, ...] = field(default=(), repr=False)
    #: Masks all of this in answers.
    mask: SecretMask = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", authorization_mask(self.headers, self.signer, self.grant_secrets))


class HttpConnections(Connections, Protocol):
    """Connections that are used over HTTP."""

    def cached_authorization(self, connection: Connection) -> Authorization | None:
        """The authorization, if that needs no request; None: `await authorize(connection)`.

        Raises:
            ValueError: the connection cannot be used for HTTP; the message quotes no secret.
        """

    async def authorize(
        self, connection: Connection, *, refused: Authorization | None = None
    ) -> Authorization:
        """The authorization, fetched if necessary.

        `refused` is what the target refused: it is replaced by a newer one, requested at most once
        in 30 s.

        Raises:
            ConnectionUnavailable: the issuer of tokens or keys does not answer, or refuses.
            ValueError: as `cached_authorization`.
        """


class AwsKeyProvider(Protocol):
    """Supplies AWS keys that a connection does not hold itself."""

    async def get(self, source: AwsKeySource) -> AwsKeys:
        """The keys, perhaps cached. Raises ConnectionUnavailable, ValueError."""

    async def refresh(self, source: AwsKeySource) -> AwsKeys:
        """The keys, looked up again (at most once in 30 s). Raises as `get` does."""


class AwsConnections(Connections, Protocol):
    """Connections that are used for AWS."""

    @property
    def aws_keys(self) -> AwsKeyProvider:
        """What looks up the keys of the environment and of roles."""


class ConnectionInspection(Protocol):
    """Says what waitd makes of a connection."""

    async def inspect(self, conn_id: str, path: str | None = None) -> Mapping[str, Any]:
        """The connection as `waitd.models.ConnectionView`; with `path`, its target is asked once.

        Raises:
            UnknownConnection: no resolver has it.
        """
