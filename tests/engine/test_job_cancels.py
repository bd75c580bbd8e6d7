"""The cancelling of ended waits' jobs in virtual time: retries, unclear jobs, defects."""

import asyncio

import pytest
from fakes import defect, fail_first
from msgspec import structs
from submit_harness import SubmitHarness
from virtual_time import in_virtual_time

from waitd.core.waits.job_cancel import (
    CANCEL_RETRY_DELAYS,
    CancelState,
    CancelUnavailable,
    JobCancel,
    JobCancelled,
)
from waitd.core.waits.submission import (
    PENDING_SUBMISSION,
    Submission,
    SubmitAccepted,
    SubmitRejected,
    SubmitState,
    SubmitUncertain,
)
from waitd.core.waits.wait import WaitId

SUBMITTED = Submission(SubmitState.SUBMITTED, 5, 1)
SUBMITTING = Submission(SubmitState.SUBMITTING, attempts=1)


@in_virtual_time
async def test_a_job_that_a_crash_left_is_cancelled_and_a_failed_cancel_is_retried() -> None:
    harness = SubmitHarness(cancels=lambda n: CancelUnavailable("HTTP 503") if n < 4 else JobCancelled())
    harness.put_ended("a", SUBMITTED)
    async with harness.running():
        await asyncio.sleep(120)
    assert harness.job_cancel("a") == JobCancel(CancelState.CANCELLED, 4)
    assert len(harness.jobs.cancelled) == 4


@in_virtual_time
async def test_a_job_that_may_exist_is_found_by_its_idempotency_key_and_cancelled() -> None:
    harness = SubmitHarness(
        lambda _, n: SubmitUncertain("disconnected", "No answer.") if n < 3 else SubmitAccepted(8)
    )
    harness.put_ended("a", SUBMITTING)
    harness.put_ended("b", SUBMITTING, idempotent=False)
    harness.put_ended("c", PENDING_SUBMISSION)
    async with harness.running():
        await asyncio.sleep(120)
    assert harness.jobs.cancelled == [("a", 8)]
    assert harness.job_cancel("a") == JobCancel(CancelState.CANCELLED, 3)
    assert harness.job_cancel("b") == JobCancel(CancelState.UNKNOWN)
    assert harness.job_cancel("c") == JobCancel(CancelState.UNNEEDED)
    assert set(harness.jobs.calls) == {"a"}


@in_virtual_time
async def test_a_store_that_refuses_loses_no_cancel() -> None:
    harness = SubmitHarness()
    harness.put_ended("a", SUBMITTED)
    harness.store.refusing = True
    async with harness.running():
        await asyncio.sleep(10)
        assert harness.jobs.cancelled
        harness.store.refusing = False
        await asyncio.sleep(10)
    assert harness.job_cancel("a") == JobCancel(CancelState.CANCELLED, 1)


@in_virtual_time
async def test_a_job_that_cannot_or_need_not_be_cancelled_is_reported_as_such() -> None:
    harness = SubmitHarness(
        lambda wait_id, _: SubmitAccepted(9, adopted=True) if wait_id == "c" else SubmitRejected("no")
    )
    harness.put_ended("a", SUBMITTED)
    harness.store.update(WaitId("a"), spec=structs.replace(harness.wait("a").spec, kind="unknown"))
    harness.put_ended("b", Submission(SubmitState.UNKNOWN, attempts=2, last_error="no answer"))
    harness.put_ended("c", SUBMITTING)
    harness.put_ended("d", SUBMITTING)
    async with harness.running():
        await asyncio.sleep(60)
    assert harness.jobs.cancelled == []
    assert harness.job_cancel("a").state is CancelState.FAILED
    assert "unknown submits no job" in (harness.job_cancel("a").last_error or "")
    assert harness.job_cancel("b") == JobCancel(CancelState.UNKNOWN, 0, "no answer")
    assert harness.job_cancel("c") == JobCancel(CancelState.UNNEEDED)
    assert harness.job_cancel("d").state is CancelState.UNKNOWN


@in_virtual_time
async def test_a_job_whose_wait_is_gone_or_whose_cancel_is_done_is_not_cancelled_again() -> None:
    harness = SubmitHarness()
    for name in ("gone", "done"):
        harness.put_ended(name, SUBMITTED)
    gone, done = harness.wait("gone"), harness.wait("done")
    del harness.store.waits[gone.id]
    harness.store.update(done.id, job_cancel=JobCancel(CancelState.CANCELLED, 1))
    async with harness.running():
        harness.cancels.add(gone)
        harness.cancels.add(done)
        await asyncio.sleep(60)
    assert harness.jobs.cancelled == []


@in_virtual_time
async def test_a_defect_in_a_cancel_leaves_it_requested_and_delays_no_other() -> None:
    harness = SubmitHarness(cancels=lambda n: defect() if n == 1 else JobCancelled())
    harness.put_ended("a", SUBMITTED)
    harness.put_ended("b", SUBMITTED)
    async with harness.running():
        await asyncio.sleep(60)
    assert sorted(harness.job_cancel(name).state for name in "ab") == ["cancelled", "pending"]


@in_virtual_time
async def test_jobs_to_cancel_are_read_again_if_the_store_fails_at_the_start() -> None:
    harness = SubmitHarness()
    harness.put_ended("a", SUBMITTED)
    fail_first(harness.store, "jobs_to_cancel", times=2)
    async with harness.running():
        await asyncio.sleep(60)
    assert harness.job_cancel("a") == JobCancel(CancelState.CANCELLED, 1)


@pytest.mark.parametrize("jump", [7200.0, -7200.0, 30 * 86_400.0, -30 * 86_400.0])
@in_virtual_time
async def test_a_step_of_the_wall_clock_neither_delays_nor_hurries_a_cancel(jump: float) -> None:
    harness = SubmitHarness(cancels=lambda n: CancelUnavailable("HTTP 503") if n < 4 else JobCancelled())
    harness.put_ended("a", SUBMITTED)
    async with harness.running():
        await asyncio.sleep(3)  # the second retry is due in three seconds
        harness.jump(jump)
        await asyncio.sleep(2)
        assert len(harness.jobs.cancelled) == 2
        await asyncio.sleep(120)
    assert harness.job_cancel("a") == JobCancel(CancelState.CANCELLED, 4)


@pytest.mark.parametrize("attempts", [0, 2])
@in_virtual_time
async def test_a_clock_that_was_set_back_over_a_restart_delays_no_cancel(attempts: int) -> None:
    harness = SubmitHarness()
    harness.put_ended("a", SUBMITTED)
    ahead = harness.clock.now() + 30 * 86_400
    harness.store.update(WaitId("a"), job_cancel=JobCancel(attempts=attempts, next_attempt_at=ahead))
    async with harness.running():
        await asyncio.sleep(CANCEL_RETRY_DELAYS[attempts] + 0.1)
    assert harness.jobs.cancelled
