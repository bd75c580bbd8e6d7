"""What waiting costs: of one wait, as it is shown with it; and `GET /v1/cost`, what ended waits have cost, added up."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from aiohttp import web

from waitd.api import queries
from waitd.api.callers import seen_by
from waitd.api.problems import refusal
from waitd.api.requests import json_response
from waitd.api.services import Services
from waitd.core.costs.model import CostMode, ResourceUsage, WaitingTotals, resource_usage
from waitd.core.waits.wait import Progress
from waitd.ports import Metering, StoredWait

#: Looked up once: every answer with a wait in it has all of them.
_MODES = tuple((mode, mode.value) for mode in CostMode)


class Costs:
    """The handler of `/v1/cost`, and the cost of single waits."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._meter = services.meter
        self._amounts = None if services.meter is None else _Amounts(services.meter)
        self._now = services.now

    def of_wait(
        self, wait: StoredWait, progress: Progress, until: float | None = None
    ) -> Mapping[str, Any] | None:
        """What a wait has cost until then (Unix seconds; None: until it ended, or now), in the shape of `WaitCost`; None where that is
        not measured.
        """
        if self._meter is None or self._amounts is None:
            return None
        ended = wait.finished_at is not None
        if until is None:
            until = self._now() if wait.finished_at is None else wait.finished_at
        seconds = max(0.0, until - wait.created_at)
        measured = wait.measured or self._meter.measured(wait.spec, progress.pokes, seconds, ended=ended)
        spec = wait.spec
        waiting = WaitingTotals.of(
            spec.kind, spec.sinks, seconds=seconds, pokes=progress.pokes, measured=measured
        )
        return self._amounts.of_one(waiting if ended else waiting._replace(resumed=0.0))

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/cost`: what waits that ended since a day have cost under each mode."""
        if self._meter is None or self._amounts is None:
            raise refusal(
                "not-found", "this daemon does not measure what waiting costs: cost.enabled is false"
            )
        today = datetime.fromtimestamp(self._now(), UTC).date()
        wanted = queries.cost_filter(request.query, seen_by(request), self._meter.labels, today)
        found = await self._store.find_costs(wanted)
        return json_response(
            {
                "since": wanted.since,
                "by": wanted.by,
                "currency": self._meter.prices.currency,
                "rows": [{"name": name, **self._amounts.row(parts)} for name, parts in found.rows],
                "more": found.more,
                "total": self._amounts.row(found.total),
                "overhead": self._amounts.used(ResourceUsage(0.0, *found.overhead)),
            }
        )


class _Amounts:
    """Sums as they are shown."""

    def __init__(self, meter: Metering) -> None:
        self._constants = meter.constants
        self._prices = meter.prices
        #: `modes` of one; those just submitted cost the same.
        self.of_one = lru_cache(maxsize=64)(self.modes)

    def row(self, parts: Iterable[WaitingTotals]) -> dict[str, Any]:
        """Sums of several kinds, in the shape of `CostTotal`."""
        parts = list(parts)
        return {
            "waits": round(sum(part.waits for part in parts)),
            "wait_seconds": sum(part.seconds for part in parts),
            "pokes": round(sum(part.pokes for part in parts)),
            **self.modes(*parts),
        }

    def modes(self, *parts: WaitingTotals) -> Mapping[str, Any]:
        """What they occupy in each mode, in the shape of `WaitCost`."""
        sums = {}
        for mode, name in _MODES:
            used = [resource_usage(mode, part, self._constants) for part in parts]
            sums[name] = self.used(used[0] if len(used) == 1 else sum(used, ResourceUsage()))
        return sums

    def used(self, used: ResourceUsage) -> Mapping[str, float | str]:
        """In the shape of `ModeCost`."""
        return {
            "slot_seconds": used.slot_seconds,
            "cpu_seconds": used.cpu_seconds,
            "memory_byte_seconds": used.memory_byte_seconds,
            "cost": used.money(self._prices),
            "currency": self._prices.currency,
        }
