"""Namespaces at the same origin, and at the same destination, in virtual time."""

import asyncio
from collections import Counter
from math import inf

import pytest
from deliverer_harness import running_deliverer
from engine_harness import RunPoker
from fakes import after
from virtual_time import in_virtual_time

from waitd.core.waits.delivery import Delivered
from waitd.core.waits.verdict import Pending
from waitd.engine import deliverer

WEIGHTS = {"heavy": 3.0}


def weight(namespace: str) -> float:
    return WEIGHTS.get(namespace, 1.0)


@in_virtual_time
async def test_pokes_at_one_origin_are_shared_out_by_weight(run_poker: RunPoker) -> None:
    options = {"per_host_concurrency": 2, "weight": weight}
    async with run_poker(lambda *_: after(0.5, Pending()), **options) as harness:
        for n in range(400):
            harness.add(f"storm-{n}", namespace="storm", interval=1, timeout=100_000)
        await asyncio.sleep(100)
        for n in range(40):  # fewer waits, of intervals of two magnitudes, that come later
            harness.add(f"heavy-{n}", namespace="heavy", interval=1 + 4 * (n % 2), timeout=100_000)
        before = sum(harness.pokes(f"heavy-{n}") for n in range(40))
        storms = sum(harness.pokes(f"storm-{n}") for n in range(400))
        await asyncio.sleep(100)
        heavy = sum(harness.pokes(f"heavy-{n}") for n in range(40)) - before
        storm = sum(harness.pokes(f"storm-{n}") for n in range(400)) - storms
        # 4 pokes a second are possible; the heavy namespace wants 24.
        assert storm + heavy == pytest.approx(400, abs=4)
        assert heavy == pytest.approx(300, abs=4)
        fewest, most = (f([harness.pokes(f"storm-{n}") for n in range(400)]) for f in (min, max))
        assert most - fewest <= 1, "the order within a namespace is kept"


@in_virtual_time
async def test_a_namespace_that_wants_less_than_its_share_is_not_late(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: after(0.1, Pending()), per_host_concurrency=1) as harness:
        for n in range(1000):
            harness.add(f"storm-{n}", namespace="storm", interval=1, timeout=100_000)
        for n in range(10):
            harness.add(f"quiet-{n}", namespace="quiet", interval=10, timeout=100_000)
        await asyncio.sleep(300)
        gaps = [gap for n in range(10) for gap in harness.gaps(f"quiet-{n}")[1:]]
        assert len(gaps) >= 10 * 25
        assert max(gaps) <= 10.3


@in_virtual_time
async def test_deliveries_to_one_destination_are_shared_out_by_weight() -> None:
    async with running_deliverer(lambda _: after(1, Delivered()), weight=weight) as harness:
        for n in range(2000):
            harness.queue(f"storm-{n:04}", namespace="storm")
        await asyncio.sleep(10.5)
        for n in range(1000):
            harness.queue(f"heavy-{n:04}", namespace="heavy")
        sent = len(harness.sink.items)
        await asyncio.sleep(200)
        later = harness.sink.items[sent:]
        counts = Counter(item.namespace for item in later)
        assert counts["heavy"] == pytest.approx(600, abs=8)
        assert counts["storm"] == pytest.approx(200, abs=8)
        for namespace in counts:
            ids = [item.id for item in later if item.namespace == namespace]
            assert ids == sorted(ids), "the order within a namespace is kept"
        await asyncio.sleep(600)
        assert len(harness.outbox.settled) == 3000


@in_virtual_time
async def test_a_namespace_with_thousands_of_hanging_destinations_takes_no_ones_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliverer, "MAX_QUEUES", 8)
    async with running_deliverer(
        lambda item: after(inf if item.namespace == "storm" else 0, Delivered())
    ) as harness:
        for n in range(2000):
            harness.queue(f"storm-{n}", f"hanging {n}", namespace="storm")
        await asyncio.sleep(1)
        harness.queue("quiet", "works", namespace="quiet")
        await asyncio.sleep(31)  # an attempt at a hanging destination takes 15 s
        assert "quiet" in harness.outbox.settled
