"""Callers queue behind the commands and reads of their own namespace, not of others."""

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from store_values import RecordingListener, new_wait

from waitd.core.auth.principal import Principal, Role
from waitd.core.errors import StoreUnavailable
from waitd.core.waits.audit import Caller
from waitd.core.waits.delivery import AfterAttempt, DeliveryId, DeliveryState
from waitd.ports import WaitFilter
from waitd.stores import Store
from waitd.stores.command_queue import GROUP_ROWS, SHARED_ROWS, CommandQueue
from waitd.stores.operations.commands import SaveApiKeys, SaveAttempt, SaveProgress, ShiftSchedules
from waitd.stores.reader_slots import ReaderSlots
from waitd.stores.sqlite.database import READERS


def executed_bytecodes(call: Callable[[], object]) -> int:
    """How many bytecodes the call takes, without those of functions written in C."""
    executed = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal executed
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        executed += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return executed


def by(namespace: str) -> Caller:
    return Caller(Principal(namespace, Role.SUBMITTER, namespace), "")


async def test_a_submit_passes_the_batches_of_another_namespace(
    store: Store, listener: RecordingListener
) -> None:
    order: list[str] = []

    async def submit(namespace: str, count: int) -> None:
        await store.insert([new_wait(namespace=namespace)] * count, by(namespace))
        order.append(namespace)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(6):
            tasks.create_task(submit("storm", GROUP_ROWS + 1))
        for _ in range(30):  # the batches are prepared, a part in each turn, and then queued
            await asyncio.sleep(0)
        for _ in range(3):
            tasks.create_task(submit("quiet", 1))
    assert order.index("quiet") <= 4
    assert [name for name in order if name == "quiet"] == ["quiet"] * 3
    assert len(listener.inserted) == 6 * (GROUP_ROWS + 1) + 3


async def test_groups_keep_the_order_within_a_namespace_and_never_pass_a_shift_of_the_schedules() -> None:
    queue = CommandQueue()
    first = [SaveApiKeys([], by=by("storm")) for _ in range(2 * GROUP_ROWS)]
    quiet = [SaveApiKeys([], by=by("quiet")) for _ in range(10)]
    shift, after = ShiftSchedules(5.0), SaveApiKeys([], by=by("quiet"))
    for command in (*first, *quiet, shift, after):
        queue.append(command)
    groups = []
    while queue:
        groups.append(queue.next_group())
    assert set(quiet) <= set(groups[0])
    assert [len(group) for group in groups] == [SHARED_ROWS, GROUP_ROWS, GROUP_ROWS - SHARED_ROWS + 10, 1, 1]
    assert groups[-2:] == [[shift], [after]]
    of_storm = set(first)
    assert [command for group in groups for command in group if command in of_storm] == first


async def test_what_many_namespaces_have_queued_is_shared_out_in_linear_time() -> None:
    def share_out(namespaces: int) -> int:
        queue, groups = CommandQueue(), []
        for n in range(50 * namespaces):
            queue.append(SaveApiKeys([], by=by(str(n % namespaces))))

        def empty() -> None:
            while queue:
                groups.append(queue.next_group())

        bytecodes = executed_bytecodes(empty)
        assert sum(map(len, groups)) == 50 * namespaces
        assert len({command.by for command in groups[0]}) == namespaces
        return bytecodes

    assert share_out(120) <= 4.4 * share_out(30), "four times as many commands of as many namespaces"


async def test_no_insert_which_may_supersede_passes_the_result_of_an_attempt() -> None:
    queue, result = CommandQueue(), AfterAttempt(DeliveryState.DELIVERED, 1, None, "")
    queue.append(SaveApiKeys([], by=by("storm")))
    for n in range(SHARED_ROWS):
        queue.append(SaveProgress([]))
        queue.append(SaveAttempt(DeliveryId(str(n)), result, 0.0))
    queue.append(SaveApiKeys([], by=by("quiet")))
    first = queue.next_group()
    assert sum(isinstance(command, SaveAttempt) for command in first) == SHARED_ROWS
    assert any(isinstance(command, SaveApiKeys) for command in first)


async def test_reads_take_turns_by_namespace_and_each_slot_is_given_once() -> None:
    slots = ReaderSlots(1)
    order: list[str] = []

    async def read(name: str) -> None:
        async with slots.slot(name, 30):
            order.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(read("storm"))
        gone = [tasks.create_task(read("gone")) for _ in range(5)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        for _ in range(3):
            tasks.create_task(read("quiet"))
    assert order.count("storm") == 20
    assert [n for n, name in enumerate(order) if name == "quiet"][-1] <= 8
    await asyncio.wait_for(read("last"), 30)


async def test_reads_that_timed_out_put_their_namespace_behind_no_other() -> None:
    slots = ReaderSlots(1)
    order: list[str] = []

    async def read(name: str) -> None:
        async with slots.slot(name, 30):
            order.append(name)

    async with asyncio.TaskGroup() as tasks, slots.slot("first", 30):
        for _ in range(20):
            with pytest.raises(StoreUnavailable, match="busy"):
                async with slots.slot("unlucky", 0):
                    pytest.fail("the slot is taken")
        for name in ["other"] * 10 + ["unlucky"] * 3:
            tasks.create_task(read(name))
        await asyncio.sleep(0)
    assert max(n for n, name in enumerate(order) if name == "unlucky") <= 5


async def test_a_list_of_one_namespace_passes_the_queued_lists_of_another(store: Store) -> None:
    await store.insert([new_wait()])
    order: list[str] = []

    async def find(namespace: str) -> None:
        await store.find(WaitFilter(namespace=namespace))
        order.append(namespace)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(100):
            tasks.create_task(find("storm"))
        tasks.create_task(find("quiet"))
    assert order.index("quiet") <= 4 * READERS
