"""The loop of `waitd until`, in virtual time."""

from fakes import ScriptedProbe, ScriptedTarget, after, hang
from virtual_time import VirtualClock, in_virtual_time

from waitd.cli.until_loop import StandaloneWait, run_wait
from waitd.core.waits.schedule import Pacing
from waitd.core.waits.step import Finish
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.core.waits.wait import WaitState


async def waited(
    script: object, lasts: float, *, interval: float = 10.0, request_timeout: float = 10.0
) -> tuple[Finish, list[float]]:
    """How it ended, and when it looked, in seconds from the beginning; the end is the last of them."""
    clock = VirtualClock()
    probe = ScriptedProbe(script, clock.now)  # type: ignore[arg-type]  # lambdas
    began = clock.now()
    wait = StandaloneWait(
        ScriptedTarget("t", key="t", request_timeout=request_timeout), Pacing(interval), began + lasts
    )
    finish = await run_wait(wait, probe, clock, lambda: None)
    return finish, [round(at - began, 3) for at in (*probe.looks["t"], clock.now())]


@in_virtual_time
async def test_the_first_look_is_at_once_and_the_next_lie_on_a_grid() -> None:
    finish, looks = await waited(lambda _, n: Success() if n == 4 else Pending(), 1000)
    assert finish.outcome.state is WaitState.SUCCESS
    assert looks[0] == 0
    assert 5 <= looks[1] <= 15
    assert (round(looks[2] - looks[1], 3), round(looks[3] - looks[2], 3)) == (10, 10)


@in_virtual_time
async def test_one_look_always_starts_at_the_deadline_and_wins() -> None:
    finish, looks = await waited(lambda _, n: Success() if n == 2 else Pending(), 3)
    assert (finish.outcome.state, looks) == (WaitState.SUCCESS, [0, 3, 3])


@in_virtual_time
async def test_a_pending_answer_at_the_deadline_is_the_timeout() -> None:
    finish, looks = await waited(lambda *_: Pending(message="still running"), 3)
    assert (finish.outcome.state, looks) == (WaitState.TIMEOUT, [0, 3, 3])
    assert "still running" in finish.outcome.message


@in_virtual_time
async def test_a_target_that_always_hangs_times_out_one_second_after_the_deadline() -> None:
    finish, looks = await waited(lambda *_: hang(), 3)
    assert (finish.outcome.state, looks) == (WaitState.TIMEOUT, [0, 3, 4])


@in_virtual_time
async def test_a_look_in_flight_at_the_deadline_may_still_answer_for_a_second() -> None:
    finish, looks = await waited(lambda _, n: after(3.9, Success()) if n == 1 else hang(), 3)
    assert (finish.outcome.state, looks) == (WaitState.SUCCESS, [0, 3, 3.9])
    finish, looks = await waited(lambda _, n: after(4.1, Success()) if n == 1 else hang(), 3)
    assert (finish.outcome.state, looks) == (WaitState.TIMEOUT, [0, 3, 4])


@in_virtual_time
async def test_the_look_at_the_deadline_counts_though_an_older_one_hangs() -> None:
    finish, looks = await waited(lambda _, n: hang() if n == 1 else Success(), 3)
    assert (finish.outcome.state, looks) == (WaitState.SUCCESS, [0, 3, 3])


@in_virtual_time
async def test_a_look_in_flight_that_answers_before_the_deadline_is_not_the_last() -> None:
    finish, looks = await waited(lambda _, n: after(2, Pending()) if n == 1 else Success(), 3)
    assert (finish.outcome.state, looks) == (WaitState.SUCCESS, [0, 3, 3])


@in_virtual_time
async def test_not_seeing_is_not_failing_and_a_failure_ends_it() -> None:
    finish, looks = await waited(lambda _, n: Failure("gone") if n == 4 else Unreachable("http_503"), 1000)
    assert (finish.outcome.state, len(looks)) == (WaitState.FAILED, 5)


@in_virtual_time
async def test_a_hanging_look_is_cut_at_its_request_timeout() -> None:
    finish, looks = await waited(lambda _, n: hang() if n == 1 else Success(), 1000, request_timeout=2)
    assert finish.outcome.state is WaitState.SUCCESS
    assert finish.progress.runs[0].reason == "timeout"
    assert looks[1] >= 5
