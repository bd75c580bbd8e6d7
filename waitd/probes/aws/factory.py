"""The kind of AWS's waiters; or, where botocore is not installed, what says so."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec

from waitd.outgoing import Outgoing
from waitd.ports import Connections, Probe
from waitd.probes.not_installed import NotInstalled

KIND = "aws_waiter"


@asynccontextmanager
async def aws_probes(
    connections: Connections, outgoing: Outgoing | None = None
) -> AsyncIterator[Mapping[str, Probe]]:
    """The probe by its kind; it is closed at the end."""
    if find_spec("botocore") is None:
        yield {KIND: NotInstalled(KIND, "aws")}
        return
    from waitd.probes.aws.probe import AwsWaiterProbe  # noqa: PLC0415 - only where the library is there

    async with AwsWaiterProbe(connections, outgoing=outgoing) as probe:
        yield {KIND: probe}
