"""What the parameters of every kind that asks AWS have in common."""

from collections.abc import Iterator
from hashlib import blake2b

from pydantic import Field

from waitd.core.connections.aws import is_region
from waitd.core.connections.connection import is_conn_id
from waitd.core.errors import Problem
from waitd.models import Strict
from waitd.probes.access.aws import DEFAULT_CONN_ID, AccountRef

#: The longest one poke may take, in seconds.
MAX_REQUEST_TIMEOUT = 3600.0


class AwsParams(Strict):
    """What the parameters of every kind that asks AWS have in common."""

    aws_conn_id: str | None = Field(
        default=DEFAULT_CONN_ID,
        description="The connection that knows credentials and endpoint; null: the environment's credentials, "
        f"which also stand in where there is no connection {DEFAULT_CONN_ID}.",
    )
    region_name: str | None = Field(default=None, description="The region; default: the connection's.")
    request_timeout: float = Field(
        default=10.0, gt=0, le=MAX_REQUEST_TIMEOUT, description="Seconds one poke may take, all its requests."
    )

    @property
    def whose(self) -> AccountRef:
        """Which account is used."""
        named = "aws_conn_id" in self.model_fields_set
        return AccountRef(self.aws_conn_id or None, not named, self.region_name)


class AwsTarget:
    """What every target at AWS has: `whose` account, its coalescing `key`, and `request_timeout` in seconds."""

    __slots__ = ("key", "request_timeout", "whose")

    def __init__(self, whose: AccountRef, key: str, request_timeout: float) -> None:
        self.whose = whose
        self.key = key
        self.request_timeout = request_timeout

    @property
    def conn_id(self) -> str | None:
        """The connection that it names, or None; the default one is not named."""
        return None if self.whose.optional else self.whose.conn_id

    @property
    def account(self) -> str:
        """The connection that its requests count for: `aws_default` also stands for the environment's own account."""
        return self.whose.conn_id or DEFAULT_CONN_ID


def account_problems(given: AwsParams) -> Iterator[Problem]:
    """What is wrong with the account that parameters name."""
    if given.aws_conn_id and not is_conn_id(given.aws_conn_id):
        yield Problem("/aws_conn_id", "up to 250 letters, digits and _#!()-.:/\\")
    if given.region_name is not None and not is_region(given.region_name):
        yield Problem("/region_name", "a region's name has lower-case letters, digits and hyphens")


def coalescing_key(kind: str, namespace: str, given: AwsParams, *parts: object) -> str:
    """A coalescing key: equal for requests of one kind that ask the same."""
    text = repr((kind, namespace, tuple(given.whose), given.request_timeout, *parts))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
