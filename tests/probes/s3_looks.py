"""Probes to look at an S3 server with."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from raw_server import Poked, ScriptedConnections, Transport, answer, poke_group

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, record_verdict
from waitd.ports import Probe
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.fast_path import ABSENT
from waitd.probes.s3.key import S3KeyProbe
from waitd.probes.s3.keys_unchanged import S3KeysUnchangedProbe

#: What a wait knows whose key was looked for before.
SEEN_ABSENT = record_verdict(EMPTY_PROGRESS, ABSENT, 0.0)


def aws(url: str, **extra: Any) -> Connection:
    """A connection to a server that speaks S3."""
    return Connection(
        "aws_default", "aws", login="AKIA", password="secret", extra={"endpoint_url": url} | extra
    )


def error(status: int, code: str, *headers: str) -> bytes:
    """S3's answer of an error."""
    return answer(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code></Error>".encode(), *headers)


def listed(*keys: str, more: str = "", size: str = "5") -> bytes:
    """A page of a LIST. `more`: what leads to the next one."""
    rows = "".join(
        f'<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-21T02:41:00.000Z</LastModified><ETag>"e"</ETag></Contents>'
        for key in keys
    )
    end = f"<IsTruncated>true</IsTruncated>{more}" if more else "<IsTruncated>false</IsTruncated>"
    return answer(200, f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{end}{rows}</ListBucketResult>'.encode())  # fmt: skip


@contextlib.asynccontextmanager
async def s3_client(
    *answers: Connection | Exception,
    now: Callable[[], float] = lambda: 1_795_000_000.0,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[S3Client]:
    async with S3Client(ScriptedConnections(list(answers)), now=now, monotonic=monotonic) as client:
        yield client


async def look(probe: Probe, *waits: dict[str, Any], progress: Progress = EMPTY_PROGRESS) -> list[Verdict]:
    """What one look says to each of these parameters; they must be able to share it."""
    targets = [probe.parse(params, namespace="default") for params in waits]
    assert len({target.key for target in targets}) == 1
    if Transport.warm and isinstance(probe, S3KeyProbe):
        progress = SEEN_ABSENT
    return list(await poke_group(probe, [Poked(target, progress) for target in targets]))


async def look_for(connection: Connection | Exception, **params: Any) -> Verdict:
    """What one look of a new `s3_key` probe says."""
    async with s3_client(connection) as client:
        return (await look(S3KeyProbe(client), params))[0]


async def look_at_prefix(connection: Connection, state: str | None = None, **params: Any) -> Verdict:
    """What one look of a new `s3_keys_unchanged` probe, as after a restart, says to a wait with this state."""
    async with s3_client(connection) as client:
        return (await look(S3KeysUnchangedProbe(client), params, progress=Progress(state=state)))[0]
