"""The probe of a preset's kind, which pokes through the probe of the kind `http`."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import structlog
from pydantic import BaseModel

from waitd.core.errors import NotSupported
from waitd.core.http.job_answer import NOT_FOUND, UNKNOWN_STATE
from waitd.core.waits.verdict import Failure, Pending, Verdict
from waitd.ports import CancelPoke, OnVerdicts, Pokeable, Probe
from waitd.probes.http.probe import HttpProbe
from waitd.probes.presets.connections import VendorConnections
from waitd.probes.presets.preset import Preset, PresetTarget
from waitd.probes.presets.submit import preset_submit_request
from waitd.probes.submit.plan import SubmitRequest

#: How many different unknown states of a kind are logged: a target that invents states must fill
#: neither log nor memory.
MAX_LOGGED = 100
_RECONSIDERED = frozenset({UNKNOWN_STATE, NOT_FOUND})

log = structlog.get_logger(__name__)


class Counter(Protocol):
    """A child of a metric."""

    def inc(self) -> None:
        """Adds one."""


class PresetProbe(Probe):
    """Pokes the jobs of one kind. The HTTP probe belongs to its owner, who starts and closes it."""

    def __init__(
        self,
        preset: Preset,
        http: HttpProbe,
        connections: VendorConnections,
        unknown_states: Counter,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`http` resolves its connections in `connections`; `now` gives Unix seconds."""
        self.preset = preset
        self._http = http
        self._connections = connections
        self._unknown_states = unknown_states
        self._now = now
        self._logged: set[str] = set()
        self.default_poke_interval = preset.file.pace.poke_interval
        self.min_poke_interval = preset.file.pace.min_poke_interval

    @property
    def params_model(self) -> type[BaseModel]:
        """See `Probe.params_model`."""
        return self.preset.params_model

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> PresetTarget:
        """Parses a wait's `params`.

        Raises:
            InvalidInput: with pointers relative to `params`.
            NotSupported: the egress rules refuse the origin, or the connection lacks something.
        """
        target = self.preset.target(params, namespace=namespace)
        self._check_connection(target.template.conn_id)
        if target.origin is not None:
            self._http.admit(target.origin)
        return target

    def parse_submit(
        self, submit: Mapping[str, Any], params: Mapping[str, Any], *, namespace: str
    ) -> SubmitRequest:
        """See `Probe.parse_submit`."""
        return preset_submit_request(self.preset, submit, params, namespace=namespace)

    def _check_connection(self, name: str | None) -> None:
        """Raises NotSupported when a cached connection lacks what the vendor's API needs."""
        if name is None:
            return
        try:
            self._connections.check(name)
        except ValueError as error:
            field = f"/{self.preset.file.connection.param}"
            raise NotSupported.at(
                field, f"the connection cannot be used for {self.preset.file.kind}: {error}"
            ) from None

    def origin(self, target: PresetTarget) -> str:
        """See `Probe.origin`."""
        return self._http.origin(target)

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """See `Probe.poke`."""
        return self._reconsider(group, await self._http.poke(group))

    def start_poke(self, group: Sequence[Pokeable], on_verdicts: OnVerdicts) -> CancelPoke:
        """See `Probe.start_poke`."""
        return self._http.start_poke(group, partial(self._on_verdicts, group, on_verdicts))

    def _on_verdicts(
        self, group: Sequence[Pokeable], on_verdicts: OnVerdicts, result: Sequence[Verdict] | BaseException
    ) -> None:
        on_verdicts(result if isinstance(result, BaseException) else self._reconsider(group, result))

    def _reconsider(self, group: Sequence[Pokeable], verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """Counts unknown states, and lets a missing job be missing for a while."""
        if all(verdict.reason not in _RECONSIDERED for verdict in verdicts):
            return verdicts
        return [self._reconsider_one(wait, verdict) for wait, verdict in zip(group, verdicts, strict=True)]

    def _reconsider_one(self, wait: Pokeable, verdict: Verdict) -> Verdict:
        if verdict.reason == UNKNOWN_STATE:
            self._note_unknown(verdict.message)
        elif verdict.reason == NOT_FOUND and isinstance(verdict, Failure):
            return self._allow_missing(wait, verdict)
        return verdict

    def _note_unknown(self, message: str) -> None:
        self._unknown_states.inc()
        if message not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(message)
            log.warning("unknown_state", kind=self.preset.file.kind, message=message)

    def _allow_missing(self, wait: Pokeable, missing: Failure) -> Verdict:
        """Lets a job be missing for less than `not_found_grace`.

        The first message is kept: one that differs each time, such as one with the id of the
        request, must not begin the period again.
        """
        target: PresetTarget = wait.target
        last = wait.progress.runs[-1] if wait.progress.runs else None
        if last is None or last.reason != NOT_FOUND:
            return Pending(NOT_FOUND, missing.message) if target.not_found_grace else missing
        return (
            Pending(NOT_FOUND, last.message)
            if self._now() - last.first_at < target.not_found_grace
            else missing
        )
