"""The kinds that ask S3, put together; or, where their libraries are not installed, what says so."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, NoReturn

from waitd.core.errors import InvalidInput
from waitd.core.verdict import Unreachable, Verdict
from waitd.outgoing import Outgoing
from waitd.ports import Connections, Pokeable, Probe

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
    from waitd.probes.s3_client import S3Client  # noqa: PLC0415 - only where the libraries are there
    from waitd.probes.s3_key import S3KeyProbe  # noqa: PLC0415
    from waitd.probes.s3_keys_unchanged import S3KeysUnchangedProbe  # noqa: PLC0415

    async with S3Client(connections, outgoing=outgoing) as client:
        yield dict(zip(KINDS, (S3KeyProbe(client), S3KeysUnchangedProbe(client)), strict=True))


class NotInstalled:
    """Stands in for a kind whose libraries are missing: refuses every wait, and names the extra that brings them."""

    def __init__(self, kind: str, extra: str) -> None:
        self._message = f"the kind {kind} is not installed here; it comes with pip install 'waitd[{extra}]'"

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> NoReturn:  # noqa: ARG002 - the port's shape
        """Raises InvalidInput."""
        raise InvalidInput.at("", self._message)

    def origin(self, target: Any) -> str:  # noqa: ARG002 - the port's shape
        """One queue for what nobody can poke."""
        return "not installed"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Says so, without asking anybody."""
        return [Unreachable("not_installed", f"{self._message}.")] * len(group)
