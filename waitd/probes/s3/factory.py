"""The kinds that ask S3, put together; or, where their libraries are not installed, what says so."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec

from waitd.outgoing import Outgoing
from waitd.ports import Connections, Probe
from waitd.probes.not_installed import NotInstalled

KINDS = ("s3_key", "s3_keys_unchanged")
#: The modules that the extra brings.
_NEEDED = ("botocore", "re2")


@asynccontextmanager
async def s3_probes(
    connections: Connections, outgoing: Outgoing | None = None
) -> AsyncIterator[Mapping[str, Probe]]:
    """The probes by kind; they share one client, which is closed at the end."""
    if any(find_spec(name) is None for name in _NEEDED):
        yield {kind: NotInstalled(kind, "s3") for kind in KINDS}
        return
    from waitd.probes.s3.client import S3Client  # noqa: PLC0415 - only where the libraries are there
    from waitd.probes.s3.key import S3KeyProbe  # noqa: PLC0415
    from waitd.probes.s3.keys_unchanged import S3KeysUnchangedProbe  # noqa: PLC0415

    async with S3Client(connections, outgoing=outgoing) as client:
        yield dict(zip(KINDS, (S3KeyProbe(client), S3KeysUnchangedProbe(client)), strict=True))
