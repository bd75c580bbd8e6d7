"""Preset probes over scripted connections, with clocks that tests turn."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fakes import FixedAuthorizations
from raw_server import Poked, Transport, poke_group

from waitd.core.connections.connection import Connection
from waitd.core.errors import UnknownConnection
from waitd.core.waits.verdict import Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, record_verdict
from waitd.metrics import Tally
from waitd.outgoing import Outgoing
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe
from waitd.probes.presets.connections import VendorConnections
from waitd.probes.presets.loading import built_in_presets
from waitd.probes.presets.operations import operation_probe
from waitd.probes.presets.preset import Preset
from waitd.probes.presets.probe import PresetProbe


@dataclass
class KnownConnections(FixedAuthorizations):
    """Connections by conn_id; every other one is unknown. `cached`: what `cached_any` returns."""

    known: dict[str, Connection]
    asked: list[str] = field(default_factory=list)
    cached: bool = True

    async def get(self, conn_id: str) -> Connection:
        self.asked.append(conn_id)
        if conn_id not in self.known:
            raise UnknownConnection(conn_id)
        return self.known[conn_id]

    refresh = get

    def cached_fresh(self, conn_id: str) -> Connection | None:
        return self.known.get(conn_id) if Transport.warm else None

    def cached_any(self, conn_id: str) -> Connection | None:
        return self.known.get(conn_id) if self.cached else None


class Kinds:
    """Probes of kinds, over one set of connections. `now` is the clock of both."""

    def __init__(
        self, connections: VendorConnections, plain: HttpProbe, following: HttpProbe, jobs: HttpJobs
    ) -> None:
        self.connections = connections
        self.jobs = jobs
        self.unknown = Tally()
        self.now = 1_000.0
        self._https = {False: plain, True: following}
        self._probes: dict[str, PresetProbe] = {}

    def probe(self, kind: str | Preset) -> PresetProbe:
        preset = built_in_presets()[kind] if isinstance(kind, str) else kind
        name = preset.file.kind
        if name not in self._probes:
            http = self._https[preset.file.request.follow]
            self._probes[name] = PresetProbe(
                preset, http, self.connections, self.unknown, now=lambda: self.now
            )
        return self._probes[name]

    async def poke(
        self, kind: str | Preset, params: Mapping[str, Any], progress: Progress = EMPTY_PROGRESS
    ) -> Verdict:
        probe = self.probe(kind)
        group = [Poked(probe.parse(params, namespace="default"), progress)]
        [verdict] = await poke_group(probe, group)
        return verdict

    async def poke_on(self, kind: str, params: Mapping[str, Any], times: int) -> Sequence[Verdict]:
        """The verdicts of a wait that is poked so often, each with what the ones before taught it."""
        progress, seen = EMPTY_PROGRESS, []
        for _ in range(times):
            verdict = await self.poke(kind, params, progress)
            progress = record_verdict(progress, verdict, self.now)
            seen.append(verdict)
        return seen


@asynccontextmanager
async def kinds(
    *connections: Connection, presets: Sequence[Preset] = (), pooled: bool = True
) -> AsyncIterator[Kinds]:
    """Probes of all kinds that come with waitd, and of `presets`."""
    tables = {kind: preset.file.connection for kind, preset in built_in_presets().items()}
    tables |= {preset.file.kind: preset.file.connection for preset in presets}
    known = KnownConnections({connection.conn_id: connection for connection in connections})
    vendors = VendorConnections(known, tables, now=lambda: 0.0)
    outgoing = Outgoing()
    async with (
        HttpProbe(vendors, secret_headers=(), outgoing=outgoing, pooled=pooled) as plain,
        operation_probe(vendors, secret_headers=(), outgoing=outgoing, pooled=pooled) as following,
        HttpJobs(vendors, secret_headers=(), outgoing=outgoing) as jobs,
    ):
        yield Kinds(vendors, plain, following, jobs)
