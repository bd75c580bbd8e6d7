"""The cost of waiting: of one wait for its view, and of ended waits for `GET /v1/cost`."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
from aiohttp import web

from waitd.api import queries
from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies
from waitd.api.handlers.lists import Lists
from waitd.api.problems import refusal
from waitd.core.costs.model import CostMode, ResourceUsage, WaitingTotals, resource_usage
from waitd.core.waits.wait import Progress
from waitd.ports import Metering, StoredWait

#: Every answer with a wait has every mode, so their names are looked up once.
_MODES = tuple((mode, mode.value) for mode in CostMode)


class CostHandlers:
    """The handler of `/v1/cost`, and the cost of one wait."""

    def __init__(self, dependencies: ApiDependencies, lists: Lists) -> None:
        self._lists = lists
        self._dependencies = dependencies
        self._meter = dependencies.meter
        self._amounts = None if dependencies.meter is None else _Amounts(dependencies.meter)

    def wait_cost(
        self, wait: StoredWait, progress: Progress, until: float | None = None
    ) -> Mapping[str, Any] | None:
        """Returns what a wait has cost, in the form of `WaitCost`; None if cost is off.

        Args:
            wait: the wait as stored.
            progress: its latest progress.
            until: the end of the time that counts, in Unix seconds; None: when the wait ended,
                or now.
        """
        if self._meter is None or self._amounts is None:
            return None
        ended = wait.finished_at is not None
        if until is None:
            until = self._dependencies.now() if wait.finished_at is None else wait.finished_at
        seconds = max(0.0, until - wait.created_at)
        measured = wait.measured or self._meter.measured(wait.spec, progress.pokes, seconds, ended=ended)
        spec = wait.spec
        waiting = WaitingTotals.from_wait(
            spec.kind, spec.sinks, seconds=seconds, pokes=progress.pokes, measured=measured
        )
        return self._amounts.modes_cached(waiting if ended else waiting._replace(resumed=0.0))

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/cost`: what the waits that ended since a day cost in each mode."""
        if self._meter is None or self._amounts is None:
            raise refusal(
                "not-found", "this daemon does not measure costs: the setting cost.enabled is false"
            )
        today = datetime.fromtimestamp(self._dependencies.now(), UTC).date()
        query = queries.cost_filter(
            request.query, request[PRINCIPAL].visible_namespace, self._meter.labels, today
        )
        amounts, sums = self._amounts, await self._dependencies.store.find_costs(query)

        most_bytes, sent = self._lists.page_bytes(request), 0

        async def rows() -> AsyncGenerator[bytes]:
            nonlocal sent
            size = 0
            for name, parts in sums.rows:
                if size >= most_bytes:
                    return
                row = orjson.dumps({"name": name, **amounts.row(parts)})
                sent, size = sent + 1, size + len(row)
                yield row

        def end() -> bytes:
            more = sums.more or sent < len(sums.rows)
            token = queries.page_token(str(query.skip + sent)) if more else None
            return b"]," + orjson.dumps({"more": more, "next_page_token": token} | rest)[1:]

        head = {"since": query.since, "by": query.by, "currency": self._meter.prices.currency}
        rest = {
            "total": amounts.row(sums.total),
            "overhead": amounts.priced(ResourceUsage(0.0, *sums.overhead)),
        }
        return await self._lists.send(
            request,
            orjson.dumps(head)[:-1] + b',"rows":[',
            rows(),
            end,
        )


class _Amounts:
    """Computes amounts at the configured prices."""

    def __init__(self, meter: Metering) -> None:
        self._constants = meter.constants
        self._prices = meter.prices
        #: `modes`, cached: waits that were just submitted cost the same.
        self.modes_cached = lru_cache(maxsize=64)(self.modes)

    def row(self, parts: Iterable[WaitingTotals]) -> dict[str, Any]:
        """Returns the sums of several kinds, in the form of `CostTotal`."""
        parts = list(parts)
        return {
            "waits": round(sum(part.waits for part in parts)),
            "wait_seconds": sum(part.seconds for part in parts),
            "pokes": round(sum(part.pokes for part in parts)),
            **self.modes(*parts),
        }

    def modes(self, *parts: WaitingTotals) -> Mapping[str, Any]:
        """Returns what they occupy in each mode, in the form of `WaitCost`."""
        sums = {}
        for mode, name in _MODES:
            used = [resource_usage(mode, part, self._constants) for part in parts]
            sums[name] = self.priced(used[0] if len(used) == 1 else sum(used, ResourceUsage()))
        return sums

    def priced(self, used: ResourceUsage) -> Mapping[str, float | str]:
        """Returns the resource_usage with its cost, in the form of `ModeCost`."""
        return {
            "slot_seconds": used.slot_seconds,
            "cpu_seconds": used.cpu_seconds,
            "memory_byte_seconds": used.memory_byte_seconds,
            "cost": used.money(self._prices),
            "currency": self._prices.currency,
        }
