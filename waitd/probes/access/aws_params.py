"""The parameters and the target that the kinds of S3 and AWS have in common."""

from collections.abc import Iterator
from hashlib import blake2b

from pydantic import Field

from waitd.core.connections.aws import is_region
from waitd.core.connections.connection import is_conn_id
from waitd.core.errors import Problem
from waitd.models import RequestTimeout, Strict
from waitd.probes.access.aws import DEFAULT_CONN_ID, AccountRef


class AwsParams(Strict):
    """The parameters that every kind of AWS has."""

    aws_conn_id: str | None = Field(
        default=DEFAULT_CONN_ID,
        description="The connection with credentials and endpoint; null: the environment's credentials, "
        f"which are also used where no connection {DEFAULT_CONN_ID} exists.",
    )
    region_name: str | None = Field(default=None, description="The region; default: the connection's.")
    request_timeout: RequestTimeout = Field(
        default=10.0, description="Seconds one poke may take, all its requests."
    )

    @property
    def account_ref(self) -> AccountRef:
        """The account that these parameters name. The default connection need not exist."""
        named = "aws_conn_id" in self.model_fields_set
        return AccountRef(self.aws_conn_id or None, not named, self.region_name)


class AwsTarget:
    """A target at AWS: its account, its coalescing key, and its request timeout in seconds."""

    __slots__ = ("account_ref", "key", "request_timeout")

    def __init__(self, account_ref: AccountRef, key: str, request_timeout: float) -> None:
        self.account_ref = account_ref
        self.key = key
        self.request_timeout = request_timeout

    @property
    def conn_id(self) -> str | None:
        """The connection that the wait names; None if it names none and the default one is used."""
        return None if self.account_ref.optional else self.account_ref.conn_id

    @property
    def account(self) -> str:
        """The conn_id that namespaces check; `aws_default` includes the environment's account."""
        return self.account_ref.conn_id or DEFAULT_CONN_ID


def account_problems(params: AwsParams) -> Iterator[Problem]:
    """Yields what is wrong with the account that parameters name."""
    if params.aws_conn_id and not is_conn_id(params.aws_conn_id):
        yield Problem("/aws_conn_id", "a conn_id has up to 250 letters, digits and _#!()-.:/\\")
    if params.region_name is not None and not is_region(params.region_name):
        yield Problem(
            "/region_name", "a region has lower-case letters, digits and hyphens, for example eu-west-1"
        )


def coalescing_key(kind: str, namespace: str, params: AwsParams, *parts: object) -> str:
    """Returns a key that is equal for targets whose requests are equal."""
    text = repr((kind, namespace, tuple(params.account_ref), params.request_timeout, *parts))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
