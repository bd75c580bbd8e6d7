"""Builds the probes of presets: those of waitd and those in the operator's directory."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

from waitd.engine.clock import SystemClock
from waitd.metrics import Instruments
from waitd.outgoing import EgressGuard
from waitd.ports import HttpConnections, Probe
from waitd.probes.http.probe import HttpProbe
from waitd.probes.presets.connections import VendorConnections
from waitd.probes.presets.loading import load_presets
from waitd.probes.presets.operations import operation_probe
from waitd.probes.presets.probe import PresetProbe
from waitd.settings import Settings


class Presets(NamedTuple):
    """What presets need.

    Attributes:
        probes: by kind.
        connections: fill in what a vendor's API needs, such as its host.
    """

    probes: Mapping[str, Probe]
    connections: VendorConnections


async def open_presets(
    settings: Settings,
    connections: HttpConnections,
    egress: EgressGuard,
    instruments: Instruments,
    stack: AsyncExitStack,
) -> Presets:
    """The presets of one daemon.

    Raises:
        PresetInvalid: a file in `presets_dir` is invalid.
    """
    presets = load_presets(settings.presets_dir)
    connection_rules = {kind: preset.file.connection for kind, preset in presets.items()}
    vendors = VendorConnections(connections, connection_rules, now=SystemClock.monotonic)
    http_probe = await stack.enter_async_context(
        HttpProbe(vendors, secret_headers=settings.secret_headers, egress=egress)
    )
    operations = await stack.enter_async_context(
        operation_probe(vendors, secret_headers=settings.secret_headers, egress=egress)
    )
    probes: dict[str, Probe] = {}
    for kind, preset in presets.items():
        http = operations if preset.file.request.follow else http_probe
        probes[kind] = PresetProbe(preset, http, vendors, instruments.unknown_states.labels(kind))
    return Presets(probes, vendors)
