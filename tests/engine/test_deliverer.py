"""Attempts to deliver, in virtual time: retry delays, refusals, defects, and lost results."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from deliverer_harness import DelivererHarness, running_deliverer
from engine_harness import running
from fakes import RecordingTarget, after, defect
from virtual_time import in_virtual_time

from waitd.core.connections.proxies import note_proxy
from waitd.core.errors import InvalidInput, NotSupported
from waitd.core.local_trouble import NAME_SERVERS_SILENT
from waitd.core.waits.delivery import (
    RETRY_DELAYS,
    Delivered,
    DeliveryFailed,
    DeliveryId,
    DeliveryPostponed,
    DeliveryRejected,
    DeliveryState,
    Receipt,
)
from waitd.ports import OutboxItem


@in_virtual_time
async def test_an_event_is_delivered_at_once_and_once() -> None:
    async with running_deliverer() as harness:
        for n in range(1000):
            harness.queue(f"d{n}")
        await asyncio.sleep(0.1)
        assert len(harness.outbox.settled) == len(harness.sink.items) == 1000


@in_virtual_time
async def test_an_event_that_a_crash_left_in_the_outbox_is_delivered_at_the_start() -> None:
    harness = DelivererHarness()
    harness.outbox.queue("old", "here", harness.clock.now())
    async with running(harness.deliverer.run):
        await asyncio.sleep(0.1)
        assert harness.state("old") is DeliveryState.DELIVERED


@in_virtual_time
async def test_a_first_retry_delay_above_zero_is_kept() -> None:
    harness = DelivererHarness(retry_delays=(5.0, 30.0))
    async with running(harness.deliverer.run):
        harness.outbox.queue("d", "here", harness.clock.now() + 5.0)
        harness.deliverer.wake(["here"])
        await asyncio.sleep(4.9)
        assert not harness.outbox.settled
        await asyncio.sleep(0.2)
        assert harness.state("d") is DeliveryState.DELIVERED


@in_virtual_time
async def test_a_postponed_event_is_retried_after_its_own_delay_and_uses_no_attempt() -> None:
    times: list[float] = []

    def postpone(item: OutboxItem) -> Receipt:
        times.append(asyncio.get_running_loop().time())
        assert item.attempts == 0
        return DeliveryPostponed("not parked yet", 7.0) if len(times) < 50 else Delivered()

    async with running_deliverer(postpone) as harness:
        harness.queue("d")
        await asyncio.sleep(400)
        assert harness.state("d") is DeliveryState.DELIVERED
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([7.0] * 49)
    counts = harness.instruments.deliveries.labels
    assert counts("recording", "postponed")._value.get() == 49
    assert counts("recording", "refused")._value.get() == 0


@in_virtual_time
async def test_a_refused_event_is_dead_after_the_last_retry_delay() -> None:
    times: list[float] = []

    def refuse(_: OutboxItem) -> Receipt:
        times.append(asyncio.get_running_loop().time())
        return DeliveryFailed("500")

    async with running_deliverer(refuse) as harness:
        harness.queue("d")
        await asyncio.sleep(sum(RETRY_DELAYS) + 400)
        assert harness.state("d") is DeliveryState.DEAD
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == len(RETRY_DELAYS)
    assert all(-0.001 <= pause - delay < 1.1 for pause, delay in zip(pauses, RETRY_DELAYS[1:], strict=True))


@in_virtual_time
async def test_a_rejected_event_is_dead_at_once() -> None:
    async with running_deliverer(lambda _: DeliveryRejected("410")) as harness:
        harness.queue("d")
        await asyncio.sleep(1)
        assert harness.state("d") is DeliveryState.DEAD
        assert len(harness.sink.items) == 1


@in_virtual_time
async def test_a_result_that_the_store_refuses_is_saved_later_without_sending_again() -> None:
    async with running_deliverer() as harness:
        harness.outbox.refusing = True
        harness.queue("d")
        await asyncio.sleep(30)
        harness.outbox.refusing = False
        await asyncio.sleep(2)
        assert harness.state("d") is DeliveryState.DELIVERED
        assert len(harness.sink.items) == 1


@in_virtual_time
async def test_a_defect_in_a_sink_loses_no_event() -> None:
    async with running_deliverer(
        lambda _: defect() if len(harness.sink.items) < 3 else Delivered()
    ) as harness:
        harness.queue("d")
        await asyncio.sleep(60)
        assert harness.state("d") is DeliveryState.DELIVERED


@in_virtual_time
async def test_an_attempt_that_times_out_behind_a_proxy_names_it() -> None:
    async def behind_proxy() -> Receipt:
        try:
            return await after(100.0, Delivered())
        except asyncio.CancelledError as error:
            note_proxy(error, "http://proxy:3128")
            raise

    async with running_deliverer(lambda _: behind_proxy()) as harness:
        harness.queue("a")
        await asyncio.sleep(16)
        [(_, attempt)] = harness.outbox.history
    assert attempt.last_error == "No answer within 15 s. The request goes through http://proxy:3128."


@in_virtual_time
async def test_a_missing_sink_is_retried_and_invalid_parameters_are_dead() -> None:
    def parse(params: Mapping[str, Any]) -> RecordingTarget:
        if params["to"] == "away":
            raise NotSupported.at("/conn_id", "the connection is not there now")
        raise InvalidInput.at("/to", "unknown field")

    async with running_deliverer() as harness:
        harness.outbox.queue("none", "none", harness.clock.now())
        at, destination, item = harness.outbox.due[DeliveryId("none")]
        harness.outbox.due[item.id] = (at, destination, replace(item, sink={"kind": "fax"}))
        with patch.object(harness.sink, "parse", parse):
            for name in ("away", "wrong"):
                harness.queue(name, name)
            harness.deliverer.wake(["none"])
            await asyncio.sleep(0.5)
        assert {name: after.last_error for name, after in harness.outbox.history} == {
            "away": "The sink cannot be used now: /conn_id: the connection is not there now",
            "wrong": "The sink's parameters are invalid: /to: unknown field",
            "none": "This waitd has no sink fax.",
        }
        assert harness.state("wrong") is DeliveryState.DEAD
        assert set(harness.outbox.settled) == {"wrong"}


@in_virtual_time
async def test_a_dead_resolver_is_not_blamed_on_destinations() -> None:
    """Once a third destination meets it; an attempt that it prevented does not count."""
    dead = True
    delays = RETRY_DELAYS[:6]
    failed = DeliveryFailed("the host name does not resolve", suspect=NAME_SERVERS_SILENT)
    async with running_deliverer(lambda _: failed if dead else Delivered(), retry_delays=delays) as harness:
        for name in "abc":
            harness.queue(name, name)
            await asyncio.sleep(1)
        await asyncio.sleep(2 * sum(delays))
        assert not harness.outbox.settled, "none is dead"
        assert {after.attempts for name, after in harness.outbox.history if name == "c"} == {0}
        assert harness.instruments.registry.get_sample_value(
            "waitd_local_errors_total", {"met_by": "deliveries"}
        )
        dead = False
        await asyncio.sleep(3600)
        assert {name: harness.state(name) for name in "abc"} == dict.fromkeys("abc", DeliveryState.DELIVERED)


@in_virtual_time
async def test_suspect_failures_count_while_another_destination_is_reached() -> None:
    failed = DeliveryFailed("the host name does not resolve", suspect=NAME_SERVERS_SILENT)
    async with running_deliverer(
        lambda item: Delivered() if item.sink["to"] == "works" else failed
    ) as harness:
        for n in range(30):
            harness.queue(f"works{n}", "works")
            await asyncio.sleep(10)
            if n == 0:
                for name in "abc":
                    harness.queue(name, name)
        attempts = [after.attempts for name, after in harness.outbox.history if name in {*"abc"}]
        assert min(attempts) == 1, "each one counts"
        assert len(attempts) == 3 * max(attempts)


@in_virtual_time
async def test_a_suspect_failure_of_one_destination_counts() -> None:
    failed = DeliveryFailed("the host name does not resolve", suspect=NAME_SERVERS_SILENT)
    async with running_deliverer(lambda _: failed) as harness:
        harness.queue("d")
        await asyncio.sleep(2 * sum(RETRY_DELAYS))
        assert harness.state("d") is DeliveryState.DEAD
