"""The probes whose libraries come with an extra.

Without its libraries a kind refuses every wait and names the extra.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple, NoReturn

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.outgoing import EgressGuard
from waitd.ports import Connections, Pokeable, Probe


class _Extra(NamedTuple):
    kinds: tuple[str, ...]
    modules: tuple[str, ...]

    @property
    def installed(self) -> bool:
        return all(find_spec(name) is not None for name in self.modules)


#: The extras of pyproject.toml that bring kinds, and the modules that these import.
EXTRAS: Mapping[str, _Extra] = {
    "s3": _Extra(("s3_key", "s3_keys_unchanged"), ("botocore",)),
    "aws": _Extra(("aws_waiter",), ("botocore",)),
    "sql": _Extra(("sql",), ("asyncpg", "aiomysql")),
}


@asynccontextmanager
async def optional_probes(
    connections: Connections, egress: EgressGuard | None = None, *, connections_per_database: int = 4
) -> AsyncIterator[Mapping[str, Probe]]:
    """Opens the probes of all extras, by kind, and closes them at the end."""
    async with AsyncExitStack() as stack:
        probes: dict[str, Probe] = {
            kind: NotInstalledProbe(kind, name)
            for name, extra in EXTRAS.items()
            if not extra.installed
            for kind in extra.kinds
        }
        if EXTRAS["s3"].installed:
            from waitd.probes.s3.client import S3Client  # noqa: PLC0415 - needs the extra's libraries
            from waitd.probes.s3.key import S3KeyProbe  # noqa: PLC0415
            from waitd.probes.s3.keys_unchanged import S3KeysUnchangedProbe  # noqa: PLC0415

            client = await stack.enter_async_context(S3Client(connections, egress=egress))
            probes |= {"s3_key": S3KeyProbe(client), "s3_keys_unchanged": S3KeysUnchangedProbe(client)}
        if EXTRAS["aws"].installed:
            from waitd.probes.aws.probe import AwsWaiterProbe  # noqa: PLC0415

            aws = AwsWaiterProbe(connections, egress=egress)
            probes["aws_waiter"] = await stack.enter_async_context(aws)
        if EXTRAS["sql"].installed:
            from waitd.probes.sql.probe import SqlProbe  # noqa: PLC0415

            sql = SqlProbe(connections, egress=egress, connections_per_database=connections_per_database)
            probes["sql"] = await stack.enter_async_context(sql)
        yield probes


class NotInstalledProbe(Probe):
    """Stands in for a kind whose libraries are missing."""

    def __init__(self, kind: str, extra: str) -> None:
        self._message = f"the kind {kind} is not installed; install it with pip install 'waitd[{extra}]'"

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> NoReturn:  # noqa: ARG002 - the port's shape
        """Raises InvalidInput."""
        raise InvalidInput.at("", self._message)

    def origin(self, target: Any) -> str:  # noqa: ARG002 - the port's shape
        """One queue for all waits that cannot be poked."""
        return "not installed"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Returns Unreachable for each wait: it waits for a daemon with the libraries."""
        return [Unreachable("not_installed", f"{self._message}.")] * len(group)
