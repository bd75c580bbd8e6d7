"""What many waits have in common: everything about one but what it asks, whom it tells and what it is called.

Submitters send the same of it again and again, so it is checked once and remembered by its JSON text.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from waitd.api.services import Limits
from waitd.core.errors import InvalidInput, Problem
from waitd.models import WaitRequest, parsed
from waitd.ports import Paced, Probe

#: How many different ones are remembered, and how long the JSON text of one may be for that, in bytes.
REMEMBERED = 1024
REMEMBERED_LENGTH = 512
#: Fields that differ from wait to wait.
_OF_EACH = frozenset({"params", "sinks", "labels", "supersede_key", "wake_on", "submit"})


class Envelope(NamedTuple):
    """What the fields of a `WaitSpec` with these names will be: checked, and complete with defaults."""

    kind: str
    poke_interval: float
    timeout: float
    exponential_backoff: bool
    max_wait: float | None
    soft_fail: bool
    silent_fail: bool


class Envelopes:
    """Makes envelopes of bodies, by the limits of this daemon and the paces of its kinds."""

    def __init__(self, probes: Mapping[str, Probe], limits: Limits) -> None:
        self._limits = limits
        self._paces = {kind: probe for kind, probe in probes.items() if isinstance(probe, Paced)}
        self._checked = lru_cache(maxsize=REMEMBERED)(self._check)

    def checked(self, raw: Mapping[str, Any]) -> Envelope:
        """That of a decoded body; the fields that differ from wait to wait are not looked at.

        Raises:
            InvalidInput: something is wrong; what, says a look at the body as a whole.
            TypeError: it is no JSON.
        """
        text = orjson.dumps({name: value for name, value in raw.items() if name not in _OF_EACH})
        return self._checked(text) if len(text) <= REMEMBERED_LENGTH else self._check(text)

    def _check(self, text: bytes) -> Envelope:
        envelope = self.filled(parsed(WaitRequest, orjson.loads(text)))
        if problems := [*self.problems(envelope)]:
            raise InvalidInput(problems)
        return envelope

    def filled(self, request: WaitRequest) -> Envelope:
        """That of a body, complete with defaults, its figures still to be checked."""
        pace = self._paces.get(request.kind)
        poke_interval = request.poke_interval
        if pace is not None and "poke_interval" not in request.model_fields_set:
            poke_interval = pace.default_poke_interval
        return Envelope(
            request.kind,
            poke_interval,
            self._limits.default_timeout if request.timeout is None else request.timeout,
            request.exponential_backoff,
            request.max_wait,
            request.soft_fail,
            request.silent_fail,
        )

    def problems(self, envelope: Envelope) -> Iterator[Problem]:
        """What is wrong with its figures."""
        pace, poke_interval = self._paces.get(envelope.kind), envelope.poke_interval
        if poke_interval < self._limits.min_poke_interval:
            yield Problem("/poke_interval", f"at least {self._limits.min_poke_interval:g} seconds here")
        elif pace is not None and poke_interval < pace.min_poke_interval:
            yield Problem(
                "/poke_interval", f"at least {pace.min_poke_interval:g} seconds for {envelope.kind}"
            )
        if envelope.timeout > self._limits.max_timeout:
            yield Problem("/timeout", f"at most {self._limits.max_timeout:g} seconds here")
        if envelope.max_wait is not None and envelope.max_wait < poke_interval:
            yield Problem("/max_wait", "at least the poke_interval")
