"""The poke loop of `waitd until`, in virtual time."""

from fakes import ScriptedProbe, ScriptedTarget, after, hang
from virtual_time import VirtualClock, in_virtual_time

from waitd.cli.until_loop import StandaloneWait, run_wait
from waitd.core.waits.schedule import Pacing
from waitd.core.waits.step import Finish
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.core.waits.wait import WaitState


async def run_until_ended(
    script: object, seconds: float, *, interval: float = 10.0, request_timeout: float = 10.0
) -> tuple[Finish, list[float]]:
    """The result, and the times of the pokes and of the end, in seconds from the start."""
    clock = VirtualClock()
    probe = ScriptedProbe(script, clock.now)  # type: ignore[arg-type]  # lambdas
    began = clock.now()
    wait = StandaloneWait(
        ScriptedTarget("t", key="t", request_timeout=request_timeout), Pacing(interval), began + seconds
    )
    finish = await run_wait(wait, probe, clock, lambda: None)
    return finish, [round(at - began, 3) for at in (*probe.poked_at["t"], clock.now())]


@in_virtual_time
async def test_the_first_poke_is_immediate_and_the_next_lie_on_a_grid() -> None:
    finish, pokes = await run_until_ended(lambda _, n: Success() if n == 4 else Pending(), 1000)
    assert finish.outcome.state is WaitState.SUCCESS
    assert pokes[0] == 0
    assert 5 <= pokes[1] <= 15
    assert (round(pokes[2] - pokes[1], 3), round(pokes[3] - pokes[2], 3)) == (10, 10)


@in_virtual_time
async def test_a_poke_starts_at_the_deadline_and_its_answer_counts() -> None:
    finish, pokes = await run_until_ended(lambda _, n: Success() if n == 2 else Pending(), 3)
    assert (finish.outcome.state, pokes) == (WaitState.SUCCESS, [0, 3, 3])


@in_virtual_time
async def test_a_pending_answer_at_the_deadline_is_the_timeout() -> None:
    finish, pokes = await run_until_ended(lambda *_: Pending(message="still running"), 3)
    assert (finish.outcome.state, pokes) == (WaitState.TIMEOUT, [0, 3, 3])
    assert "still running" in finish.outcome.message


@in_virtual_time
async def test_a_target_that_always_hangs_times_out_one_second_after_the_deadline() -> None:
    finish, pokes = await run_until_ended(lambda *_: hang(), 3)
    assert (finish.outcome.state, pokes) == (WaitState.TIMEOUT, [0, 3, 4])


@in_virtual_time
async def test_a_poke_in_flight_at_the_deadline_counts_for_another_second() -> None:
    finish, pokes = await run_until_ended(lambda _, n: after(3.9, Success()) if n == 1 else hang(), 3)
    assert (finish.outcome.state, pokes) == (WaitState.SUCCESS, [0, 3, 3.9])
    finish, pokes = await run_until_ended(lambda _, n: after(4.1, Success()) if n == 1 else hang(), 3)
    assert (finish.outcome.state, pokes) == (WaitState.TIMEOUT, [0, 3, 4])


@in_virtual_time
async def test_the_poke_at_the_deadline_counts_while_an_older_one_hangs() -> None:
    finish, pokes = await run_until_ended(lambda _, n: hang() if n == 1 else Success(), 3)
    assert (finish.outcome.state, pokes) == (WaitState.SUCCESS, [0, 3, 3])


@in_virtual_time
async def test_a_poke_that_answers_before_the_deadline_is_not_the_last() -> None:
    finish, pokes = await run_until_ended(lambda _, n: after(2, Pending()) if n == 1 else Success(), 3)
    assert (finish.outcome.state, pokes) == (WaitState.SUCCESS, [0, 3, 3])


@in_virtual_time
async def test_an_unreachable_target_does_not_end_the_wait_and_a_failure_does() -> None:
    finish, pokes = await run_until_ended(
        lambda _, n: Failure("gone") if n == 4 else Unreachable("http_503"), 1000
    )
    assert (finish.outcome.state, len(pokes)) == (WaitState.FAILED, 5)


@in_virtual_time
async def test_a_hanging_poke_is_cancelled_at_its_request_timeout() -> None:
    finish, pokes = await run_until_ended(
        lambda _, n: hang() if n == 1 else Success(), 1000, request_timeout=2
    )
    assert finish.outcome.state is WaitState.SUCCESS
    assert finish.progress.runs[0].reason == "timeout"
    assert pokes[1] >= 5
