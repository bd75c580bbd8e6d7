"""Pokes that the daemon's own trouble prevents, in virtual time."""

import asyncio
import errno

import pytest
from engine_harness import RunPoker
from fakes import after
from submit_harness import SubmitHarness
from virtual_time import in_virtual_time

from waitd.core.local_trouble import NAME_SERVERS_SILENT
from waitd.core.waits.job_cancel import CANCEL_RETRY_DELAYS, CancelState, CancelUnavailable, JobCancelled
from waitd.core.waits.schedule import LOCAL_GRACE, MAX_LOCAL_PAUSE
from waitd.core.waits.submission import Submission, SubmitAccepted, SubmitState, SubmitUnavailable
from waitd.core.waits.verdict import LOCAL_ERROR, Pending, Success, Verdict
from waitd.core.waits.wait import WaitState


async def without_descriptors() -> Verdict:
    raise OSError(errno.EMFILE, "too many open files")


@in_virtual_time
async def test_own_trouble_is_no_poke_no_backoff_and_no_fault_of_the_origin(run_poker: RunPoker) -> None:
    short = True
    async with run_poker(lambda *_: without_descriptors() if short else Pending()) as harness:
        for n in range(20):
            harness.add(f"w{n}", interval=10, timeout=86_400)
        harness.add("rare", interval=3600, timeout=86_400)
        await asyncio.sleep(120)
        progress = harness.live("w0").progress
        assert [(run.verdict, run.reason) for run in progress.runs] == [("unreachable", "local_error")]
        assert (progress.pokes, progress.step) == (0, 0)
        assert max(harness.gaps("w0")) <= 10.1
        assert max(harness.gaps("rare")) <= MAX_LOCAL_PAUSE + 0.1
        assert harness.sample("waitd_local_errors_total", met_by="pokes") > 200
        short = False
        await asyncio.sleep(31)
        assert harness.live("rare").progress.pokes == 1
        assert harness.live("w0").progress.runs[-1].reason == "pending"
        harness.poker.gauges.refresh()
        assert harness.sample("waitd_origins_limited") == 0


@in_virtual_time
async def test_a_final_poke_that_own_trouble_prevents_is_repeated(run_poker: RunPoker) -> None:
    short = True
    async with run_poker(lambda *_: without_descriptors() if short else Success()) as harness:
        harness.add("w", interval=10, timeout=60)
        await asyncio.sleep(120)
        assert harness.state("w") is WaitState.WAITING
        short = False
        await asyncio.sleep(31)
        assert harness.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_a_final_poke_that_own_trouble_prevents_for_long_is_the_last(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: without_descriptors()) as harness:
        harness.add("w", interval=10, timeout=60)
        await asyncio.sleep(60 + LOCAL_GRACE + 15)
        assert harness.state("w") is WaitState.TIMEOUT


@in_virtual_time
async def test_a_final_poke_beside_a_slow_one_is_repeated_too(run_poker: RunPoker) -> None:
    def script(_: str, poke: int) -> object:
        return after(9.0, Pending()) if poke == 1 else without_descriptors() if poke == 2 else Success()

    async with run_poker(script) as harness:
        harness.add("w", interval=10, timeout=5, request_timeout=20.0)
        await asyncio.sleep(40)
        assert harness.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_name_servers_that_answer_for_no_origin_are_own_trouble(run_poker: RunPoker) -> None:
    dead = True
    async with run_poker(
        lambda name, _: NAME_SERVERS_SILENT if dead or name == "bad" else Pending()
    ) as harness:
        for name in ("bad", "b", "c", "d"):
            harness.add(name, host=name, interval=10, timeout=86_400)
        await asyncio.sleep(60)
        assert harness.live("d").progress.runs[-1].reason == "local_error"
        dead = False
        await asyncio.sleep(60)
        assert harness.live("d").progress.runs[-1].reason == "pending"
        assert harness.live("bad").progress.runs[-1].reason == "dns", "that is its own"


NO_DESCRIPTOR = SubmitUnavailable(LOCAL_ERROR, "waitd could not poke: no free file descriptor.")
SILENT = SubmitUnavailable("dns", NAME_SERVERS_SILENT.message)


@in_virtual_time
@pytest.mark.parametrize(("answer", "before"), [(NO_DESCRIPTOR, 0), (SILENT, 2)])
async def test_own_trouble_is_no_failure_of_a_submit(answer: SubmitUnavailable, before: int) -> None:
    """What may be the target's fault counts until a third origin has it."""
    short = True
    harness = SubmitHarness(lambda *_: answer if short else SubmitAccepted(1))
    async with harness.running():
        for host in "abc":
            harness.submit(host, timeout=86_400, host=host)
            await asyncio.sleep(1)
        await asyncio.sleep(600)
        progress = harness.live("c").progress
        assert (progress.pokes, progress.runs[-1].reason) == (0, LOCAL_ERROR)
        assert sum(harness.live(host).progress.pokes for host in "abc") == before
        assert harness.sample("waitd_local_errors_total", met_by="pokes") > 20
        if answer is NO_DESCRIPTOR:
            submission = harness.wait("c").submission
            assert submission is not None
            assert submission.attempts == 0
        short = False
        await asyncio.sleep(31)
        submission = harness.wait("c").submission
        assert submission is not None
        assert submission.state is SubmitState.SUBMITTED


@in_virtual_time
@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize("sign", [NO_DESCRIPTOR, SILENT])
async def test_own_trouble_is_no_attempt_of_a_job_cancel(sign: SubmitUnavailable, uncertain: bool) -> None:
    short = True
    harness = SubmitHarness(
        lambda *_: sign if short else SubmitAccepted(1),
        cancels=lambda _: CancelUnavailable(sign.message, reason=sign.reason) if short else JobCancelled(),
    )
    state = SubmitState.SUBMITTING if uncertain else SubmitState.SUBMITTED
    for host in "abc":
        harness.put_ended(host, Submission(state, None if uncertain else 5, 1), host=host)
    async with harness.running():
        await asyncio.sleep(2 * sum(CANCEL_RETRY_DELAYS))
        short = False
        await asyncio.sleep(3600)
    cancels = [harness.job_cancel(host) for host in "abc"]
    assert [cancel.state for cancel in cancels] == [CancelState.CANCELLED] * 3
    assert min(cancel.attempts for cancel in cancels) == 1
