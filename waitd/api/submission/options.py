"""The options of a wait: its intervals, timeout and flags.

Most submitters send the same options again and again, so the checked values are cached.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from msgspec import UnsetType

from waitd.api.dependencies import Limits
from waitd.core.errors import Problem
from waitd.models import DEFAULT_POKE_INTERVAL
from waitd.ports import Probe

#: How many different combinations of options are cached.
CACHED_OPTIONS = 1024
#: The fields of `WaitOptions` as a request gives them.
RequestedOptions = tuple[str, float | UnsetType, float | None, bool, float | None, bool, bool]


class WaitOptions(NamedTuple):
    """The options of a wait, complete with defaults, and what is wrong with them."""

    poke_interval: float
    timeout: float
    exponential_backoff: bool
    max_wait: float | None
    soft_fail: bool
    silent_fail: bool
    problems: tuple[Problem, ...] = ()


class OptionsChecker:
    """Checks options against the daemon's limits and those of the kind."""

    def __init__(self, probes: Mapping[str, Probe], limits: Limits) -> None:
        self._probes = probes
        self._limits = limits
        #: Returns the options of a request; their `problems` are empty when they are valid.
        self.check = lru_cache(maxsize=CACHED_OPTIONS)(self._check)

    def _check(self, requested: RequestedOptions) -> WaitOptions:
        kind, poke_interval, timeout, exponential_backoff, max_wait, soft_fail, silent_fail = requested
        if isinstance(poke_interval, UnsetType):
            probe = self._probes.get(kind)
            default = None if probe is None else probe.default_poke_interval
            poke_interval = DEFAULT_POKE_INTERVAL if default is None else default
        if timeout is None:
            timeout = self._limits.default_timeout
        options = WaitOptions(poke_interval, timeout, exponential_backoff, max_wait, soft_fail, silent_fail)
        return options._replace(problems=tuple(self._problems(kind, options)))

    def _problems(self, kind: str, options: WaitOptions) -> Iterator[Problem]:
        probe, limits = self._probes.get(kind), self._limits
        shortest = None if probe is None else probe.min_poke_interval
        if options.poke_interval < limits.min_poke_interval:
            yield Problem("/poke_interval", f"at least {limits.min_poke_interval:,.15g} seconds here")
        elif shortest is not None and options.poke_interval < shortest:
            yield Problem("/poke_interval", f"at least {shortest:g} seconds for {kind}")
        if options.timeout > limits.max_timeout:
            yield Problem("/timeout", f"at most {limits.max_timeout:,.15g} seconds here")
        if options.max_wait is not None and options.max_wait < options.poke_interval:
            yield Problem("/max_wait", "at least the poke_interval")
