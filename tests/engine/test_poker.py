"""The poker in virtual time: when it pokes, and how it withstands targets and a full disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import pytest
from fakes import (
    MemoryStore,
    Script,
    ScriptedProbe,
    after,
    done_at,
    hang,
    waiting,
)
from msgspec.structs import replace
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.core.waits.wait import WaitState
from waitd.engine.held_wait_factory import MAX_PACINGS
from waitd.engine.poker import Poker
from waitd.engine.progress_buffer import MAX_PER_FLUSH
from waitd.metrics import Instruments


class Bench:
    """A poker with its store, clock and probe."""

    def __init__(self, script: Script, **limits: int) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore()
        self.probe = ScriptedProbe(script, self.clock.now)
        self.instruments = Instruments(version="test")
        chosen: dict[str, Any] = {
            "capacity": 1000,
            "poke_concurrency": 100,
            "per_host_concurrency": 16,
        } | limits
        self.poker = Poker(
            self.store, {"scripted": self.probe}, self.clock, self.instruments, jitter=lambda: 0.0, **chosen
        )

    def add(self, name: str, **params: Any) -> None:
        self.poker.adopt(self.store.put(waiting(name, self.clock.now(), **params)))

    def state(self, name: str) -> WaitState:
        return self.store.waits[name].state  # type: ignore[index]  # a plain name is an id in these tests

    def reason(self, name: str) -> str:
        outcome = self.store.waits[name].outcome  # type: ignore[index]  # as above
        assert outcome is not None
        return outcome.reason

    def gaps(self, name: str) -> list[float]:
        return [round(b - a, 2) for a, b in pairwise(self.probe.looks[name])]

    def sample(self, name: str) -> float:
        value = self.instruments.registry.get_sample_value(name)
        assert value is not None
        return value


@asynccontextmanager
async def running(script: Script, **limits: int) -> AsyncIterator[Bench]:
    bench = Bench(script, **limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poker.run)
        await asyncio.sleep(0)
        yield bench
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_the_first_poke_is_at_once_and_the_rest_lie_on_a_grid() -> None:
    async with running(lambda *_: Pending()) as bench:
        start = bench.clock.now()
        bench.add("w", interval=10)
        await asyncio.sleep(100)
        looks = bench.probe.looks["w"]
        assert looks[0] - start < 0.03
        assert 5 <= looks[1] - start < 15.03
        assert all(abs(gap - 10) < 0.02 for gap in bench.gaps("w")[1:])


@in_virtual_time
async def test_a_success_is_stored_once_and_the_wait_is_let_go() -> None:
    async with running(done_at(3)) as bench:
        bench.add("w")
        await asyncio.sleep(60)
        assert bench.state("w") is WaitState.SUCCESS
        assert len(bench.probe.looks["w"]) == 3
        assert bench.poker.held == 0
        assert bench.sample("waitd_detection_delay_seconds_count") == 1


@in_virtual_time
async def test_equal_targets_that_are_due_together_share_one_look() -> None:
    async with running(lambda *_: Pending()) as bench:
        for n in range(50):
            bench.store.put(waiting(f"w{n}", bench.clock.now(), key="same"))
        bench.poker.adopt(
            [
                replace(w, spec=replace(w.spec, params={"name": "same", "key": "same"}))
                for w in bench.store.waits.values()
            ]
        )
        await asyncio.sleep(35)
        assert set(bench.probe.groups) == {50}
        assert bench.sample("waitd_pokes_coalesced_total") == 49 * len(bench.probe.groups)


@in_virtual_time
async def test_pokes_that_are_due_together_begin_together() -> None:
    begun: list[str] = []
    first = asyncio.Event()

    def script(name: str, look: int) -> Any:
        if look == 1:  # its answer proves the origin
            return Pending()
        begun.append(name)
        first.set()
        return hang()

    async with running(script, per_host_concurrency=64) as bench:
        for n in range(20):
            bench.add(f"w{n}")
        await asyncio.sleep(4)
        for n in range(20):
            bench.poker.poke_now(f"w{n}")
        await first.wait()
        await asyncio.sleep(0)
        assert len(begun) == 20


@in_virtual_time
async def test_a_wait_times_out_by_the_verdict_of_a_poke_at_its_deadline() -> None:
    async with running(lambda *_: Pending("http_404", "not there")) as bench:
        deadline = bench.clock.now() + 25
        bench.add("w", interval=10, timeout=25)
        await asyncio.sleep(24.9)
        assert bench.state("w") is WaitState.WAITING
        await asyncio.sleep(0.2)
        assert bench.state("w") is WaitState.TIMEOUT
        assert deadline <= bench.probe.looks["w"][-1] < deadline + 0.05


@in_virtual_time
async def test_a_success_seen_by_the_poke_at_the_deadline_wins() -> None:
    started: list[float] = []
    async with running(
        lambda *_: Success() if asyncio.get_running_loop().time() >= started[0] + 25 else Pending()
    ) as bench:
        started.append(asyncio.get_running_loop().time())
        bench.add("w", interval=1000, timeout=25)
        await asyncio.sleep(30)
        assert bench.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_a_wait_on_a_hanging_target_times_out_one_second_after_its_deadline_and_is_poked_there() -> (
    None
):
    async with running(lambda *_: hang()) as bench:
        deadline = bench.clock.now() + 95
        bench.add("w", interval=10, timeout=95)
        await asyncio.sleep(95.9)
        assert bench.state("w") is WaitState.WAITING
        await asyncio.sleep(0.2)
        assert bench.state("w") is WaitState.TIMEOUT
        assert bench.probe.looks["w"][-1] >= deadline


@in_virtual_time
async def test_the_answer_of_a_poke_in_flight_at_the_deadline_counts() -> None:
    def script(_: str, n: int) -> Any:
        return after(5.5, Success()) if n == 1 else hang()

    async with running(script) as bench:
        bench.add("w", interval=10, timeout=5)
        await asyncio.sleep(5.8)
        assert bench.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_every_wait_at_a_full_hanging_origin_still_gets_its_poke_at_the_deadline() -> None:
    async with running(lambda *_: hang(), poke_concurrency=8) as bench:
        for n in range(100):
            bench.add(f"w{n}", interval=1, timeout=20)
        await asyncio.sleep(40)
        assert {bench.state(f"w{n}") for n in range(100)} == {WaitState.TIMEOUT}
        deadline = bench.store.waits["w0"].deadline  # type: ignore[index]  # as above
        assert all(sum(look >= deadline for look in bench.probe.looks[f"w{n}"]) == 1 for n in range(100))


@in_virtual_time
async def test_no_more_pokes_are_under_way_than_may_be_and_at_a_deadline_as_many_again() -> None:
    async with running(lambda *_: hang(), poke_concurrency=4) as bench:
        for n in range(40):
            bench.add(f"w{n}", host=f"h{n}", timeout=20, request_timeout=100.0)
        flying = []
        for _ in range(500):
            await asyncio.sleep(0.1)
            bench.poker.refresh_gauges()
            flying.append(bench.sample("waitd_pokes_in_flight"))
        assert max(flying[:190]) == 2, "half of them at origins that have not answered"
        assert max(flying) == 8
        assert [n for n in range(40) if bench.state(f"w{n}") is not WaitState.TIMEOUT] == []


@in_virtual_time
async def test_a_wait_whose_deadline_is_far_and_whose_origin_is_stuck_is_poked_at_its_deadline() -> None:
    async with running(lambda *_: hang(), per_host_concurrency=1) as bench:
        bench.add("stuck", request_timeout=1000.0, timeout=3600)
        await asyncio.sleep(1)
        for n in range(3):
            bench.add(f"w{n}", interval=1000, timeout=95)
        await asyncio.sleep(97)
        assert {bench.state(f"w{n}") for n in range(3)} == {WaitState.TIMEOUT}


@in_virtual_time
async def test_a_wait_loaded_after_its_deadline_is_poked_exactly_once() -> None:
    async with running(lambda *_: Pending()) as bench:
        late = waiting("late", bench.clock.now() - 7200, timeout=3600)
        bench.poker.adopt(bench.store.put(late))
        await asyncio.sleep(60)
        assert bench.state("late") is WaitState.TIMEOUT
        assert len(bench.probe.looks["late"]) == 1


@in_virtual_time
async def test_an_unreachable_target_never_ends_a_wait_and_is_backed_off_to_five_minutes() -> None:
    async with running(lambda *_: Unreachable("http_503")) as bench:
        bench.add("w", interval=10, timeout=86400)
        await asyncio.sleep(7200)
        assert bench.state("w") is WaitState.WAITING
        assert all(
            abs(gap - rung) < 0.02
            for gap, rung in zip(bench.gaps("w")[1:], [20, 40, 80, 160, 300], strict=False)
        )
        assert max(bench.gaps("w")) <= 300.05


@in_virtual_time
async def test_the_first_answer_brings_a_wait_back_to_its_grid() -> None:
    async with running(lambda _, n: Unreachable("http_503") if n < 6 else Pending()) as bench:
        bench.add("w", interval=10)
        await asyncio.sleep(600)
        assert all(abs(gap - 10) < 0.02 for gap in bench.gaps("w")[-5:])


@in_virtual_time
async def test_retry_after_is_honoured() -> None:
    async with running(
        lambda _, n: Unreachable("http_429", retry_after=120) if n == 1 else Pending()
    ) as bench:
        bench.add("w", interval=10)
        await asyncio.sleep(300)
        assert 120 <= bench.gaps("w")[0] < 131


@in_virtual_time
async def test_hanging_origins_do_not_delay_the_pokes_of_a_healthy_one() -> None:
    async with running(
        lambda name, _: hang() if name.startswith("bad") else Pending(), poke_concurrency=400
    ) as bench:
        for origin in range(100):
            for n in range(20):
                bench.add(f"bad{origin}-{n}", host=f"bad{origin}", interval=1)
        for n in range(200):
            bench.add(f"good{n}", host="good", interval=1)
        await asyncio.sleep(120)
        late = [gap for n in range(200) for gap in bench.gaps(f"good{n}")[1:]]
        assert len(late) > 200 * 110
        assert max(late) < 1.1
        assert bench.poker._origins.limited == 100


@in_virtual_time
async def test_an_origin_that_answers_again_gets_its_places_back() -> None:
    sick = True

    def script(_: str, __: int) -> Any:
        return hang() if sick else after(0.5, Pending())

    async with running(script) as bench:
        for n in range(64):
            bench.add(f"w{n}", interval=30)
        await asyncio.sleep(60)
        assert bench.poker._origins.limited == 1
        sick = False
        await asyncio.sleep(300)
        bench.poker.refresh_gauges()
        assert bench.sample("waitd_origins_limited") == 0
        assert bench.sample("waitd_waits_overdue") == 0


@in_virtual_time
async def test_an_outcome_that_cannot_be_stored_is_kept_and_tried_until_it_is() -> None:
    async with running(lambda *_: Success({"n": 1})) as bench:
        bench.store.refusing = True
        for n in range(10):
            bench.add(f"w{n}")
        await asyncio.sleep(60)
        looks = sum(map(len, bench.probe.looks.values()))
        assert bench.poker.outcomes.pending == 10
        assert bench.store.refused > 20
        bench.store.refusing = False
        await asyncio.sleep(6)
        assert bench.poker.outcomes.pending == 0
        assert {bench.state(f"w{n}") for n in range(10)} == {WaitState.SUCCESS}
        assert sum(map(len, bench.probe.looks.values())) == looks == 10


@in_virtual_time
async def test_a_cancelled_wait_is_poked_no_more_and_its_late_answer_changes_nothing() -> None:
    async with running(lambda *_: after(5, Success())) as bench:
        bench.add("w")
        await asyncio.sleep(1)
        bench.store.cancel("w")
        bench.poker.drop("w")
        await asyncio.sleep(60)
        assert bench.state("w") is WaitState.CANCELLED
        assert len(bench.probe.looks["w"]) == 1


@in_virtual_time
async def test_a_wait_that_ended_in_the_store_without_the_poker_hearing_of_it_is_let_go() -> None:
    async with running(lambda *_: Success()) as bench:
        bench.store.put(waiting("w", bench.clock.now()))
        wait = bench.store.waits["w"]  # type: ignore[index]  # as above
        bench.store.cancel("w")
        bench.poker.adopt([wait])
        await asyncio.sleep(5)
        assert bench.state("w") is WaitState.CANCELLED
        assert bench.poker.held == 0


@in_virtual_time
async def test_poke_now_looks_at_once() -> None:
    async with running(done_at(2)) as bench:
        bench.add("w", interval=3600, timeout=90000)
        await asyncio.sleep(1)
        assert bench.poker.poke_now("w")
        await asyncio.sleep(0.1)
        assert bench.state("w") is WaitState.SUCCESS
        assert not bench.poker.poke_now("w")


@in_virtual_time
async def test_a_probe_with_a_defect_ends_no_wait() -> None:
    def script(_: str, n: int) -> Any:
        if n < 3:
            raise ZeroDivisionError
        return Success()

    async with running(script) as bench:
        bench.add("w")
        await asyncio.sleep(120)
        assert bench.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_a_wait_that_is_not_understood_any_more_lives_until_its_deadline() -> None:
    async with running(done_at(1)) as bench:
        strange = waiting("w", bench.clock.now(), timeout=60)
        bench.poker.adopt(bench.store.put(replace(strange, spec=replace(strange.spec, kind="of_the_future"))))
        await asyncio.sleep(30)
        live = bench.poker.live("w")
        assert live is not None
        assert live.progress.runs[-1].reason == "not_understood"
        await asyncio.sleep(40)
        assert bench.state("w") is WaitState.TIMEOUT


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_jump_of_the_wall_clock_ends_no_wait_unseen_and_stops_no_poke(jump: float) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with running(lambda *_: Pending()) as bench:
            bench.add("short", interval=10, timeout=1800)
            bench.add("long", interval=10, timeout=86400)
            await asyncio.sleep(35)
            before = bench.clock.now()
            bench.clock.jump(jump)
            bench.poker.reanchor()
            looks = {name: len(bench.probe.looks[name]) for name in ("short", "long")}
            await asyncio.sleep(40)
            assert bench.state("long") is WaitState.WAITING
            assert 3 <= len(bench.probe.looks["long"]) - looks["long"] <= 5
            if jump > 0:
                assert bench.state("short") is WaitState.TIMEOUT
                assert any(look > before + 1 for look in bench.probe.looks["short"])
            else:
                assert bench.state("short") is WaitState.WAITING

    scenario()


@in_virtual_time
async def test_a_forward_jump_brings_a_distant_deadline_forward() -> None:
    async with running(lambda *_: Pending()) as bench:
        bench.add("w", interval=3000, timeout=3600)
        await asyncio.sleep(1)
        bench.clock.jump(7200)
        bench.poker.reanchor()
        await asyncio.sleep(1)
        assert bench.state("w") is WaitState.TIMEOUT
        assert len(bench.probe.looks["w"]) == 2


@in_virtual_time
async def test_progress_is_stored_at_most_once_a_minute_and_all_of_it_on_drain() -> None:
    async with running(lambda *_: Pending()) as bench:
        bench.add("w", interval=1)
        for _ in range(300):
            await asyncio.sleep(1)
            await bench.poker.progress_buffer.flush()
        assert 4 <= len(bench.store.progress_writes) <= 5
        await bench.poker.drain(5)
        await bench.poker.progress_buffer.flush(everything=True)
        live = bench.poker.live("w")
        assert live is not None
        assert bench.store.waits["w"].progress == live.progress  # type: ignore[index]  # as above


@in_virtual_time
async def test_the_progress_of_a_crowd_is_stored_bit_by_bit() -> None:
    async with running(lambda *_: Pending(), capacity=10_000) as bench:
        for n in range(3 * MAX_PER_FLUSH):
            bench.add(f"w{n}", interval=1000)
        await asyncio.sleep(70)
        await bench.poker.progress_buffer.flush()
        assert MAX_PER_FLUSH <= len(bench.store.progress_writes) < 3 * MAX_PER_FLUSH
        for _ in range(3):
            await bench.poker.progress_buffer.flush()
        assert len(set(bench.store.progress_writes)) == len(bench.store.progress_writes) == 3 * MAX_PER_FLUSH


@in_virtual_time
async def test_a_probes_own_state_is_stored_at_once() -> None:
    async with running(lambda _, n: Pending(state=f"seen {n // 3}")) as bench:
        bench.add("w", interval=1)
        await bench.poker.progress_buffer.state_changed.wait()
        await bench.poker.progress_buffer.flush()
        assert bench.store.waits["w"].progress.state == "seen 0"  # type: ignore[index]  # as above


@in_virtual_time
async def test_progress_that_the_store_refused_is_not_forgotten() -> None:
    from waitd.core.errors import StoreUnavailable

    async with running(lambda *_: Pending()) as bench:
        bench.add("w", interval=1)
        await asyncio.sleep(70)
        bench.store.refusing = True
        with pytest.raises(StoreUnavailable):
            await bench.poker.progress_buffer.flush()
        bench.store.refusing = False
        await bench.poker.progress_buffer.flush()
        assert bench.store.progress_writes == ["w"]


@in_virtual_time
async def test_draining_finishes_what_is_in_flight_and_starts_nothing_new() -> None:
    async with running(lambda *_: after(3, Pending())) as bench:
        bench.add("w", interval=1)
        await asyncio.sleep(1)
        await bench.poker.drain(10)
        looks = len(bench.probe.looks["w"])
        live = bench.poker.live("w")
        assert live is not None
        assert live.progress.pokes == looks
        await asyncio.sleep(30)
        assert len(bench.probe.looks["w"]) == looks


@in_virtual_time
async def test_draining_does_not_wait_for_ever() -> None:
    async with running(lambda *_: hang()) as bench:
        bench.add("w")
        await asyncio.sleep(1)
        before = bench.clock.monotonic()
        await bench.poker.drain(4)
        assert 4 <= bench.clock.monotonic() - before < 4.2


@in_virtual_time
async def test_overdue_waits_met_again_after_a_restart_are_looked_at_soon_and_spread() -> None:
    async with running(lambda *_: Pending()) as bench:
        now = bench.clock.now()
        from waitd.core.waits.wait import record_verdict

        for n in range(200):
            wait = waiting(f"w{n}", now - 7200, interval=3600, timeout=86400)
            bench.poker.adopt(
                bench.store.put(replace(wait, progress=record_verdict(wait.progress, Pending(), now - 7000)))
            )
        await asyncio.sleep(10.5)
        looks = sorted(looks[0] - now for looks in bench.probe.looks.values())
        assert len(looks) == 200
        assert looks[100] > 2
        assert looks[0] < 1


@in_virtual_time
async def test_silent_fail_pokes_a_refusal_again() -> None:
    async with running(lambda _, n: Failure("http_403", silenceable=True) if n < 3 else Success()) as bench:
        bench.add("loud")
        bench.add("silent", silent_fail=True)
        await asyncio.sleep(120)
        assert bench.state("loud") is WaitState.FAILED
        assert bench.reason("loud") == "http_403"
        assert bench.state("silent") is WaitState.SUCCESS


@in_virtual_time
async def test_what_is_not_in_hand_is_not_known_not_poked_and_not_let_go() -> None:
    async with running(lambda *_: Pending()) as bench:
        assert bench.poker.live("nobody") is None
        assert bench.poker.poke_now("nobody") is False
        bench.poker.drop("nobody")
        assert bench.poker.held == 0


@in_virtual_time
async def test_a_wait_that_is_asked_to_be_poked_while_it_is_being_poked_is_not_poked_twice() -> None:
    async with running(lambda *_: after(5, Pending())) as bench:
        bench.add("w", interval=1000)
        await asyncio.sleep(1)
        assert bench.poker.poke_now("w") is True
        await asyncio.sleep(60)
        assert len(bench.probe.looks["w"]) == 1
        assert bench.poker.poke_now("w") is True
        await asyncio.sleep(10)
        assert len(bench.probe.looks["w"]) == 2


@in_virtual_time
async def test_a_wait_that_is_met_twice_is_held_once() -> None:
    async with running(lambda *_: Pending()) as bench:
        bench.add("w", interval=1000)
        bench.add("w", interval=1000)
        await asyncio.sleep(10)
        assert (bench.poker.held, len(bench.probe.looks["w"])) == (1, 1)


@pytest.mark.parametrize("change", [{"kind": "unheard_of"}, {"submit": {"endpoint": "/jobs"}}])
@in_virtual_time
async def test_a_wait_that_this_waitd_does_not_understand_waits_for_one_that_does(
    change: dict[str, Any],
) -> None:
    async with running(lambda *_: Pending()) as bench:
        wait = waiting("w", bench.clock.now(), timeout=60)
        bench.poker.adopt(bench.store.put(replace(wait, spec=replace(wait.spec, **change))))
        await asyncio.sleep(50)
        live = bench.poker.live("w")
        assert live is not None
        assert live.progress.runs[-1].reason == "not_understood"
        assert bench.state("w") is WaitState.WAITING
        await asyncio.sleep(20)
        assert bench.state("w") is WaitState.TIMEOUT
        assert not bench.probe.looks


@in_virtual_time
async def test_what_the_store_refuses_is_counted_while_it_does() -> None:
    async with running(done_at(1)) as bench:
        bench.store.refusing = True
        bench.add("w")
        await asyncio.sleep(1)
        assert (bench.poker.outcomes.refused, bench.state("w")) == (1, WaitState.WAITING)
        bench.store.refusing = False
        await asyncio.sleep(60)
        assert (bench.poker.outcomes.refused, bench.state("w")) == (0, WaitState.SUCCESS)


@in_virtual_time
async def test_a_defect_met_with_one_wait_keeps_no_other_waiting() -> None:
    async with running(lambda *_: Pending()) as bench:
        good, bad = (waiting(name, bench.clock.now()) for name in ("good", "bad"))
        bench.store.put(good, bad)
        parse = bench.probe.parse

        def broken(params: Any, *, namespace: str) -> Any:
            if params["name"] == "bad":
                raise RuntimeError("a defect")
            return parse(params, namespace=namespace)

        bench.probe.parse = broken  # type: ignore[method-assign]  # such a kind
        with pytest.raises(RuntimeError, match="a defect"):
            bench.poker.adopt([good, bad])
        await asyncio.sleep(1)
        assert bench.poker.holds("good")
        assert bench.probe.looks.keys() == {"good"}


@in_virtual_time
async def test_equal_paces_are_one_object_and_strange_ones_do_not_pile_up() -> None:
    async with running(lambda *_: Pending(), capacity=2 * MAX_PACINGS) as bench:
        for n in range(MAX_PACINGS + 5):
            bench.add(f"w{n}", interval=10.0 + n)
            bench.add(f"v{n}", interval=10.0 + n)
        held, shared = bench.poker._held, bench.poker._factory.pacing.cache_info()
        assert held["w1"].pacing is held["v1"].pacing
        assert held[f"w{MAX_PACINGS + 1}"].pacing == held[f"v{MAX_PACINGS + 1}"].pacing
        assert shared.currsize == MAX_PACINGS


@in_virtual_time
async def test_a_target_that_is_not_polled_is_looked_at_when_it_begins_and_at_its_deadline() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedProbe, "polled", False)
        async with running(lambda *_: Pending()) as bench:
            bench.add("w", interval=1, timeout=600)
            await asyncio.sleep(700)
            assert bench.state("w") is WaitState.TIMEOUT
            assert len(bench.probe.looks["w"]) <= 3


@in_virtual_time
async def test_a_wait_whose_deadline_comes_while_it_queues_is_looked_at_there_and_then() -> None:
    async with running(
        lambda name, _: hang() if name == "slow" else Pending(), per_host_concurrency=1
    ) as bench:
        bench.add("slow", interval=10, timeout=3600, request_timeout=300.0)
        await asyncio.sleep(1)
        deadline = bench.clock.now() + 30
        bench.add("queued", interval=10, timeout=30)
        await asyncio.sleep(35)
        assert bench.state("queued") is WaitState.TIMEOUT
        assert deadline <= bench.probe.looks["queued"][-1] < deadline + 0.1
