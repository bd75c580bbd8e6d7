"""The probe of a preset's kind: asks and judges by the machinery of kind `http`; here is only what presets have besides."""

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import structlog
from pydantic import BaseModel

from waitd.core.errors import NotSupported
from waitd.core.http.job_answer import NOT_FOUND, UNKNOWN_STATE
from waitd.core.waits.verdict import Failure, Pending, Verdict
from waitd.ports import Landing, Pokeable
from waitd.probes.http.probe import HttpProbe
from waitd.probes.presets.compiling import Preset, PresetTarget
from waitd.probes.presets.connections import VendorConnections
from waitd.probes.presets.submitting import preset_submit_request
from waitd.probes.submit.plan import SubmitRequest

#: How many different unknown states of one kind are told of; a target that makes up ever new ones must not fill the log, or the memory.
MAX_TOLD = 100
_LOOKED_AT_AGAIN = frozenset({UNKNOWN_STATE, NOT_FOUND})

log = structlog.get_logger(__name__)


class Counts(Protocol):
    """A child of an instrument."""

    def inc(self) -> None:
        """One more."""


class PresetProbe:
    """Pokes the jobs of one kind. What it pokes through is started and closed by its owner."""

    def __init__(
        self,
        preset: Preset,
        http: HttpProbe,
        connections: VendorConnections,
        unknown_states: Counts,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`http` looks its connections up in `connections`; `now`: Unix seconds."""
        self.preset = preset
        self._http = http
        self._connections = connections
        self._unknown_states = unknown_states
        self._now = now
        self._told: set[str] = set()
        self.default_poke_interval = preset.file.pace.poke_interval
        self.min_poke_interval = preset.file.pace.min_poke_interval

    @property
    def params_model(self) -> type[BaseModel]:
        """What the API's document shows of its parameters."""
        return self.preset.params_model

    @property
    def submit_model(self) -> type[BaseModel] | None:
        """And of its `submit`."""
        return self.preset.submit_model

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> PresetTarget:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
            NotSupported: the egress rules do not let it through.
        """
        target = self.preset.target(params, namespace=namespace)
        self._check_connection(target.template.conn_id)
        if target.origin is not None:
            self._http.admit(target.origin)
        return target

    def parse_submit(
        self, submit: Mapping[str, Any], params: Mapping[str, Any], *, namespace: str
    ) -> SubmitRequest:
        """What is submitted before the first poke. Raises InvalidInput, with pointers relative to the wait."""
        return preset_submit_request(self.preset, submit, params, namespace=namespace)

    def _check_connection(self, name: str | None) -> None:
        """Raises InvalidInput where a connection that is at hand lacks what this vendor's API needs."""
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
        """See `waitd.ports.Probe`."""
        return self._http.origin(target)

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """See `waitd.ports.Probe`."""
        return self.reconsidered(group, await self._http.poke(group))

    def begin(self, group: Sequence[Pokeable], landing: Landing) -> Callable[[], None] | None:
        """See `waitd.ports.Begin`."""
        return self._http.begin(group, _Reconsidering(self, group, landing))

    def reconsidered(self, group: Sequence[Pokeable], verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """What the verdicts of kind `http` come to for jobs of this kind."""
        if all(verdict.reason not in _LOOKED_AT_AGAIN for verdict in verdicts):
            return verdicts
        return [self._second_thought(wait, verdict) for wait, verdict in zip(group, verdicts, strict=True)]

    def _second_thought(self, wait: Pokeable, verdict: Verdict) -> Verdict:
        if verdict.reason == UNKNOWN_STATE:
            self._note_unknown(verdict.message)
        elif isinstance(verdict, Failure) and verdict.reason == NOT_FOUND and self._may_still_come(wait):
            return Pending(NOT_FOUND, verdict.message)
        return verdict

    def _note_unknown(self, message: str) -> None:
        self._unknown_states.inc()
        if message not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(message)
            log.warning("unknown_state", kind=self.preset.file.kind, message=message)

    def _may_still_come(self, wait: Pokeable) -> bool:
        """Whether the job has been missing for less than a while: many systems know a job only some time after they took it."""
        grace, runs = self.preset.file.pace.not_found_grace, wait.progress.runs
        if not grace:
            return False
        last = runs[-1] if runs else None
        return last is None or last.reason != NOT_FOUND or self._now() - last.first_at < grace


class _Reconsidering:
    """A landing whose verdicts are reconsidered first."""

    __slots__ = ("_group", "_landing", "_probe")

    def __init__(self, probe: PresetProbe, group: Sequence[Pokeable], landing: Landing) -> None:
        self._probe = probe
        self._group = group
        self._landing = landing

    def landed(self, verdicts: Sequence[Verdict]) -> None:
        """See `Landing`."""
        self._landing.landed(self._probe.reconsidered(self._group, verdicts))

    def unfinished(self, rest: Coroutine[Any, Any, Sequence[Verdict]]) -> None:
        """See `Landing`."""
        self._landing.unfinished(self._rest(rest))

    async def _rest(self, rest: Coroutine[Any, Any, Sequence[Verdict]]) -> Sequence[Verdict]:
        return self._probe.reconsidered(self._group, await rest)
