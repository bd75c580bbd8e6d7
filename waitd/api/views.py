"""Views of waits and deliveries: dicts in the form of the models in `waitd.models`.

They are plain dicts because a list holds a thousand of them.
"""

from collections.abc import Mapping
from typing import Any

from waitd.api.submission.sinks import SinkTargets
from waitd.core.waits.event import rfc3339
from waitd.core.waits.submission import Submission
from waitd.core.waits.wait import Outcome, Progress, VerdictRun, WaitState
from waitd.models import UNREADABLE
from waitd.ports import LiveWait, StoredDelivery, StoredWait, UnreadableWait, WaitingOn


def progress_of(wait: StoredWait, live: LiveWait | None) -> Progress:
    """Returns the latest progress: the poker's while the wait is waiting, else the store's."""
    return live.progress if live is not None and wait.state is WaitState.WAITING else wait.progress


def wait_view(
    wait: StoredWait, live: LiveWait | None, sinks: SinkTargets, cost: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the wait in the form of `WaitView`.

    Args:
        wait: the wait as stored.
        live: its state in the poker; None if the poker does not hold it.
        sinks: tells whether a delivery is signed.
        cost: its `WaitCost`; None if cost is off.
    """
    spec = wait.spec
    waiting = wait.state is WaitState.WAITING
    progress = progress_of(wait, live)
    last = progress.runs[-1] if progress.runs else None
    return {
        "id": wait.id,
        "namespace": wait.namespace,
        "kind": spec.kind,
        "params": dict(spec.params),
        "poke_interval": spec.poke_interval,
        "timeout": spec.timeout,
        "exponential_backoff": spec.exponential_backoff,
        "max_wait": spec.max_wait,
        "soft_fail": spec.soft_fail,
        "silent_fail": spec.silent_fail,
        "sinks": [dict(sink) for sink in spec.sinks],
        "labels": dict(spec.labels),
        "supersede_key": spec.supersede_key,
        "submit": None if wait.submission is None else submission_view(wait, wait.submission),
        "wake_on": spec.wake_on,
        "state": wait.state.value,
        "created_at": rfc3339(wait.created_at),
        "deadline": rfc3339(wait.deadline),
        "next_poke_at": rfc3339(live.next_poke_at) if live is not None and waiting else None,
        "waiting_on": _waiting_on(live.waiting_on)
        if live is not None and live.waiting_on and waiting
        else None,
        "last_poke_at": rfc3339(last.last_at) if last else None,
        "finished_at": optional_time(wait.finished_at),
        "pokes": progress.pokes,
        "last_verdict": _last_verdict(last) if last else None,
        "outcome": _outcome(wait.outcome) if wait.outcome else None,
        "deliveries": [delivery_view(delivery, sinks) for delivery in wait.deliveries],
        "cost": cost,
    }


def unreadable_view(wait: UnreadableWait) -> dict[str, Any]:
    """Returns a wait that cannot be read in the form of `UnreadableWaitView`."""
    return {**wait._asdict(), "state": UNREADABLE}


def submission_view(wait: StoredWait, submission: Submission) -> dict[str, Any]:
    """Returns the wait's job in the form of `SubmissionView`."""
    cancel = wait.job_cancel
    return {
        "state": submission.state.value,
        "handle": submission.handle,
        "adopted": submission.adopted,
        "attempts": submission.attempts,
        "last_error": submission.last_error,
        "cancel": None
        if cancel is None
        else {
            **cancel._asdict(),
            "state": cancel.state.value,
            "next_attempt_at": optional_time(cancel.next_attempt_at),
        },
        "request": dict(wait.spec.submit or {}),
    }


def pokes_view(progress: Progress) -> dict[str, Any]:
    """Returns the runs of verdicts in the form of `PokeList`, oldest first."""
    runs = [
        {
            "verdict": run.verdict,
            "reason": run.reason,
            "message": run.message,
            "first_at": rfc3339(run.first_at),
            "last_at": rfc3339(run.last_at),
            "count": run.times,
        }
        for run in progress.runs
    ]
    return {"pokes": progress.pokes, "runs": runs}


def _waiting_on(waiting: WaitingOn) -> Mapping[str, Any]:
    times = {"since": optional_time(waiting.since), "quiet_until": optional_time(waiting.quiet_until)}
    return {**waiting._asdict(), **times}


def optional_time(at: float | None) -> str | None:
    """Returns Unix seconds as RFC 3339; None stays None."""
    return None if at is None else rfc3339(at)


def _last_verdict(run: VerdictRun) -> Mapping[str, str]:
    return {"verdict": run.verdict, "reason": run.reason, "message": run.message, "at": rfc3339(run.last_at)}


def _outcome(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "state": outcome.state.value,
        "payload": outcome.payload,
        "message": outcome.message,
        "reason": outcome.reason,
    }


def delivery_view(delivery: StoredDelivery, sinks: SinkTargets) -> dict[str, Any]:
    """Returns a delivery in the form of `DeliveryView`."""
    return {
        "id": delivery.id,
        "sink": delivery.sink["kind"],
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_attempt_at": optional_time(delivery.next_attempt_at),
        "last_error": delivery.last_error,
        "signed": sinks.signed(delivery.sink),
    }


def delivery_item(delivery: StoredDelivery, sinks: SinkTargets) -> dict[str, Any]:
    """Returns a delivery in the form of `DeliveryItem`."""
    return delivery_view(delivery, sinks) | {
        "wait_id": delivery.wait_id,
        "namespace": delivery.namespace,
        "created_at": rfc3339(delivery.created_at),
    }
