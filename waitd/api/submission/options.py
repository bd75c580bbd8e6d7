"""What many waits have in common: everything about one but what it asks, whom it tells and what it is called.

Submitters send the same of it again and again, so it is checked once and remembered.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from waitd.api.services import Limits
from waitd.core.errors import InvalidInput, Problem
from waitd.core.waits.wait import WaitSpec
from waitd.models import WaitRequest, parsed
from waitd.ports import Probe

#: How many different ones are remembered.
REMEMBERED = 1024
#: The fields of an `WaitOptions` as they stand in a body.
Written = tuple[str, float | UnsetType, float | None, bool, float | None, bool, bool]


class WaitOptions(NamedTuple):
    """What the fields of a `WaitSpec` with these names will be: checked, and complete with defaults."""

    kind: str
    poke_interval: float
    timeout: float
    exponential_backoff: bool
    max_wait: float | None
    soft_fail: bool
    silent_fail: bool

    def around(
        self,
        params: Mapping[str, Any],
        sinks: tuple[Mapping[str, Any], ...],
        labels: Mapping[str, str],
        *,
        supersede_key: str | None,
        wake_on: str | None,
        submit: Mapping[str, Any] | None = None,
    ) -> WaitSpec:
        """The specification of a wait with the rest of its fields."""
        kind, poke_interval, timeout, exponential_backoff, max_wait, soft_fail, silent_fail = self
        return WaitSpec(
            # In their order: by name they cost half as much again.
            kind, params, poke_interval, timeout, exponential_backoff, max_wait, soft_fail, silent_fail,
            sinks, labels, supersede_key, submit, wake_on,
        )  # fmt: skip


class OptionsChecker:
    """Makes envelopes of bodies, by the limits of this daemon and the paces of its kinds."""

    def __init__(self, probes: Mapping[str, Probe], limits: Limits) -> None:
        self._limits = limits
        self._probes = probes
        #: That of a body's fields; raises InvalidInput.
        self.checked = lru_cache(maxsize=REMEMBERED)(self._check)

    def _check(self, written: Written) -> WaitOptions:
        fields = dict(zip(WaitOptions._fields, written, strict=True))
        if fields["poke_interval"] is UNSET:
            del fields["poke_interval"]
        envelope = self.filled(parsed(WaitRequest, fields))
        if problems := [*self.problems(envelope)]:
            raise InvalidInput(problems)
        return envelope

    def filled(self, request: WaitRequest) -> WaitOptions:
        """That of a body, complete with defaults, its figures still to be checked."""
        probe, poke_interval = self._probes.get(request.kind), request.poke_interval
        default = None if probe is None else probe.default_poke_interval
        if default is not None and "poke_interval" not in request.model_fields_set:
            poke_interval = default
        return WaitOptions(
            request.kind,
            poke_interval,
            self._limits.default_timeout if request.timeout is None else request.timeout,
            request.exponential_backoff,
            request.max_wait,
            request.soft_fail,
            request.silent_fail,
        )

    def problems(self, envelope: WaitOptions) -> Iterator[Problem]:
        """What is wrong with its figures."""
        probe, poke_interval = self._probes.get(envelope.kind), envelope.poke_interval
        shortest = None if probe is None else probe.min_poke_interval
        if poke_interval < self._limits.min_poke_interval:
            yield Problem("/poke_interval", f"at least {self._limits.min_poke_interval:g} seconds here")
        elif shortest is not None and poke_interval < shortest:
            yield Problem("/poke_interval", f"at least {shortest:g} seconds for {envelope.kind}")
        if envelope.timeout > self._limits.max_timeout:
            yield Problem("/timeout", f"at most {self._limits.max_timeout:g} seconds here")
        if envelope.max_wait is not None and envelope.max_wait < poke_interval:
            yield Problem("/max_wait", "at least the poke_interval")
