"""Probes of presets over fake connections, with a clock that tests set."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fakes import FakeConnections
from raw_server import Poked, Transport, poke_group

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, record_verdict
from waitd.metrics import Tally
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe
from waitd.probes.presets.connections import VendorConnections
from waitd.probes.presets.loading import built_in_presets
from waitd.probes.presets.operations import operation_probe
from waitd.probes.presets.probe import PresetProbe


@dataclass
class Kinds:
    """The probes of the presets that come with waitd, over one set of connections.

    Attributes:
        known: the connections as Airflow has them; `connections` completes them for the vendors.
        unknown_states: the count of unknown states.
        now: the probes' clock.
    """

    known: FakeConnections
    connections: VendorConnections
    plain: HttpProbe
    following: HttpProbe
    jobs: HttpJobs
    unknown_states: Tally = field(default_factory=Tally)
    now: float = 1_000.0
    _probes: dict[str, PresetProbe] = field(default_factory=dict)

    def probe(self, kind: str) -> PresetProbe:
        if kind not in self._probes:
            preset = built_in_presets()[kind]
            http = self.following if preset.file.request.follow else self.plain
            self._probes[kind] = PresetProbe(
                preset, http, self.connections, self.unknown_states, now=lambda: self.now
            )
        return self._probes[kind]

    async def poke(
        self, kind: str, params: Mapping[str, Any], progress: Progress = EMPTY_PROGRESS
    ) -> Verdict:
        probe = self.probe(kind)
        [verdict] = await poke_group(probe, [Poked(probe.parse(params, namespace="default"), progress)])
        return verdict

    async def poke_repeatedly(self, kind: str, params: Mapping[str, Any], times: int) -> Sequence[Verdict]:
        """Pokes one wait `times` times, each time with the progress that the last verdict left."""
        progress, verdicts = EMPTY_PROGRESS, []
        for _ in range(times):
            verdicts.append(await self.poke(kind, params, progress))
            progress = record_verdict(progress, verdicts[-1], self.now)
        return verdicts


@asynccontextmanager
async def kinds(*connections: Connection, pooled: bool = True) -> AsyncIterator[Kinds]:
    """Probes of all presets that come with waitd. With `Transport.warm`, connections are cached."""
    tables = {kind: preset.file.connection for kind, preset in built_in_presets().items()}
    known = FakeConnections(*connections)
    if Transport.warm:
        known.cached_fresh = known.cached_any  # type: ignore[method-assign]  # all of them are fresh
    vendors = VendorConnections(known, tables, now=lambda: 0.0)
    async with (
        HttpProbe(vendors, secret_headers=(), pooled=pooled) as plain,
        operation_probe(vendors, secret_headers=(), pooled=pooled) as following,
        HttpJobs(vendors, secret_headers=()) as jobs,
    ):
        yield Kinds(known, vendors, plain, following, jobs)
