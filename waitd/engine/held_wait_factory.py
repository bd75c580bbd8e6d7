"""Makes held waits from stored ones, sharing what equal waits have in common."""

from collections.abc import Mapping
from functools import lru_cache

import structlog

from waitd.core.errors import InvalidInput
from waitd.core.waits.schedule import Pacing, grid_phase
from waitd.engine.held_wait import HeldWait, ProbeKind, UnknownTarget
from waitd.engine.submitter import Submitter
from waitd.metrics import Instruments
from waitd.ports import Probe, StoredWait, Target

log = structlog.get_logger(__name__)

#: How many different pacings are shared between waits.
MAX_PACINGS = 1000


class HeldWaitFactory:
    """Finds a wait's kind, target and pacing. `pacing` makes a shared `Pacing` of its fields."""

    def __init__(
        self, probes: Mapping[str, Probe], instruments: Instruments, submitter: Submitter | None
    ) -> None:
        self._probes = probes
        self._kinds: dict[tuple[str, str], ProbeKind] = {}
        self._instruments = instruments
        self._submitter = submitter
        self.pacing = lru_cache(MAX_PACINGS)(Pacing)

    def create(self, wait: StoredWait) -> HeldWait:
        """Creates a held wait that is not scheduled yet.

        One with an unknown kind or invalid parameters gets an `UnknownTarget`.
        """
        spec = wait.spec
        pacing = self.pacing(spec.poke_interval, spec.exponential_backoff, spec.max_wait)
        try:
            kind, target = self._target(wait)
            if spec.submit is None and not kind.probe.polled:
                pacing = Pacing(spec.timeout)
        except InvalidInput as error:
            log.warning("wait_not_understood", wait_id=wait.id, kind=spec.kind, why=str(error))
            kind, target = self._unknown(wait, str(error))
        except Exception as error:  # a defect met in one wait is no other's
            log.exception("wait_not_understood", wait_id=wait.id, kind=spec.kind)
            kind, target = self._unknown(wait, f"{type(error).__name__}, see the daemon's log")
        return HeldWait(
            wait.id,
            kind,
            target,
            pacing,
            grid_phase(target.key or wait.id, pacing.poke_interval),
            wait.deadline,
            spec.silent_fail,
            wait.progress,
        )

    def _unknown(self, wait: StoredWait, why: str) -> tuple[ProbeKind, Target]:
        probe = UnknownTarget(f"This waitd does not understand the wait: {why}")
        return ProbeKind(wait.spec.kind, probe, self._instruments, wait.namespace), probe

    def _kind(self, name: str, namespace: str) -> ProbeKind:
        kind = self._kinds.get((name, namespace))
        if kind is None:
            probe = self._probes.get(name)
            if probe is None:
                raise InvalidInput.at("/kind", f"this waitd has no kind {name}")
            kind = self._kinds[name, namespace] = ProbeKind(name, probe, self._instruments, namespace)
        return kind

    def _target(self, wait: StoredWait) -> tuple[ProbeKind, Target]:
        """Raises InvalidInput when this daemon cannot poke the wait."""
        spec = wait.spec
        kind = self._kind(spec.kind, wait.namespace)
        if spec.submit is None:
            return kind, wait.target or kind.probe.parse(spec.params, namespace=wait.namespace)
        if self._submitter is None:
            raise InvalidInput.at("/submit", "this waitd submits no jobs")
        return self._submitter.target_of(wait, kind)
