"""Explains in sentences why a wait still waits, or how it ended.

Pure functions of the API's views.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from waitd.cli.display.formatting import format_duration, pluralize
from waitd.core.waits.schedule import MAX_UNREACHABLE_PAUSE

#: Times closer together than this many seconds count as equal.
_TOLERANCE = 0.5
#: The longest regular step between two pokes, in intervals. A longer one is due to a backoff.
_LONGEST_REGULAR_STEP = 1.5


def explain(wait: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """Explains a wait.

    For a waiting one: its last result, its next poke and what delays it, and what would end it. For
    an ended one: its outcome and what is still to be delivered.

    Args:
        wait: a `waitd.models.WaitView`.
        runs: the runs of a `waitd.models.PokeList`, oldest first.
        now: with a time zone.
    """
    if wait["state"] != "waiting":
        return " ".join(
            [_outcome(wait, now), *_deliveries(wait["deliveries"]), *_job_cancellation(wait["submit"])]
        )
    return " ".join(
        [*_submitted_job(wait["submit"]), _last_result(runs, now), _next_poke(wait, now), _end(wait, now)]
    )


def _submitted_job(submit: Mapping[str, Any] | None) -> list[str]:
    """The state of the job that the wait submits."""
    if submit is None:
        return []
    match submit["state"]:
        case "submitted" if submit["adopted"]:
            return [f"It waits for the job {_format_handle(submit['handle'])}, which was already running."]
        case "submitted":
            return [f"Its job is submitted: {_format_handle(submit['handle'])}."]
        case "submitting":
            attempts = pluralize(submit["attempts"], "attempt")
            return [f"Its job may be submitted: {attempts} so far, not confirmed yet."]
    attempts = f" after {pluralize(submit['attempts'], 'attempt')}" if submit["attempts"] else ""
    return [f"Its job is not submitted yet{attempts}."]


def _format_handle(handle: Any) -> str:
    if isinstance(handle, Mapping):
        return ", ".join(f"{name} {value}" for name, value in handle.items())
    return str(handle)


def _job_cancellation(submit: Mapping[str, Any] | None) -> list[str]:
    """Whether the job of an ended wait was cancelled."""
    cancel = submit["cancel"] if submit else None
    if cancel is None:
        return []
    error = f": {_without_period(cancel['last_error'])}" if cancel["last_error"] else ""
    sentences = {
        "pending": f"Its job is not cancelled yet{error}.",
        "cancelled": "Its job is cancelled.",
        "unneeded": "There was no job to cancel.",
        "failed": f"Its job could not be cancelled{error}.",
        "unknown": f"It is not known whether there is a job to cancel{error}.",
    }
    return [sentences[cancel["state"]]]


def _outcome(wait: Mapping[str, Any], now: datetime) -> str:
    outcome = wait["outcome"]
    message = outcome["message"] or outcome["reason"]
    detail = f": {_without_period(message)}" if message != wait["state"] else ""
    return f"It ended {format_duration(-_seconds_until(wait['finished_at'], now))} ago as {wait['state']}{detail}."


def _deliveries(deliveries: Sequence[Mapping[str, Any]]) -> list[str]:
    queued = sum(delivery["state"] == "queued" for delivery in deliveries)
    dead = sum(delivery["state"] == "dead" for delivery in deliveries)
    sentences = []
    if queued:
        sentences.append(f"Deliveries in progress: {queued}.")
    if dead:
        sentences.append(f"Dead deliveries: {dead}; `waitd redeliver` tries again.")
    return sentences


def _last_result(runs: Sequence[Mapping[str, Any]], now: datetime) -> str:
    if not runs:
        return "It has not been poked yet."
    run = runs[-1]
    result = "Not done yet" if run["verdict"] == "pending" else "No usable answer"
    message = _without_period(run["message"] or run["reason"])
    last = format_duration(-_seconds_until(run["last_at"], now))
    if run["count"] == 1:
        return f"{result}: {message} ({last} ago)."
    first = format_duration(-_seconds_until(run["first_at"], now))
    return f"{result}: {message} ({run['count']} times in {first}, last {last} ago)."


def _next_poke(wait: Mapping[str, Any], now: datetime) -> str:
    waiting_on = wait["waiting_on"]
    if waiting_on is None:
        return "The daemon has not scheduled it yet."
    match waiting_on["stage"]:
        case "ending":
            return "Its outcome is known and is being stored."
        case "poking":
            return "It is being poked now."
        case "queued":
            due_for = format_duration(-_seconds_until(waiting_on["since"], now))
            return f"Its next poke has been due for {due_for}: {_queue_reason(waiting_on)}."
    next_poke = format_duration(_seconds_until(wait["next_poke_at"], now))
    slowed = f"; {_timeouts(waiting_on)}" if waiting_on["origin_held_down"] else ""
    return f"The next poke is in {next_poke}, {_schedule_reason(wait)}{slowed}."


def _schedule_reason(wait: Mapping[str, Any]) -> str:
    """Why the next poke is due at that time and not sooner."""
    due, quiet_until, last = wait["next_poke_at"], wait["waiting_on"]["quiet_until"], wait["last_poke_at"]
    if abs(_seconds_between(due, wait["deadline"])) < _TOLERANCE:
        return "the last one, at the deadline"
    if quiet_until and _seconds_between(due, quiet_until) > -_TOLERANCE:
        return "as the target's Retry-After asked"
    verdict, interval = wait["last_verdict"], format_duration(wait["poke_interval"])
    if verdict and _seconds_between(last, due) > _LONGEST_REGULAR_STEP * wait["poke_interval"] + _TOLERANCE:
        if verdict["verdict"] == "unreachable":
            limit = format_duration(MAX_UNREACHABLE_PAUSE)
            return f"backed off from {interval} up to {limit} until there is an answer"
        if wait["exponential_backoff"]:
            limit = f" up to {format_duration(wait['max_wait'])}" if wait["max_wait"] else ""
            return f"backed off from {interval}{limit}"
    return f"at its interval of {interval}"


def _queue_reason(waiting_on: Mapping[str, Any]) -> str:
    """Why a poke that is due has not started."""
    origin, limit = waiting_on["origin"], waiting_on["origin_limit"]
    match waiting_on["held_up_by"]:
        case "origin_limit" if waiting_on["origin_held_down"]:
            return _timeouts(waiting_on)
        case "origin_limit":
            running = pluralize(waiting_on["origin_running"], "poke")
            return f"{origin} has {running} in flight, and its limit is {limit}"
        case "origin_pace":
            return f"{origin} answers again after a fault, and is poked no faster than before at first"
        case "unproven_origins":
            return f"{origin} has not answered yet, and origins like it may use only half of poke_concurrency"
        case "poke_concurrency":
            return "the daemon is overloaded; all of its poke_concurrency is in use"
    return "it is next in the queue"


def _timeouts(waiting_on: Mapping[str, Any]) -> str:
    return (
        f"{waiting_on['origin']} timed out three times in a row and gets one poke at a time until it answers"
    )


def _end(wait: Mapping[str, Any], now: datetime) -> str:
    conditions = _CONDITIONS.get(wait["kind"])
    success, failure = (
        conditions(wait["params"])
        if conditions
        else (f"its {wait['kind']} is done", "that reports a failure")
    )
    refused = "" if wait["silent_fail"] else "a poke is refused"
    failures = " or ".join(filter(None, [failure, refused]))
    left = _seconds_until(wait["deadline"], now)
    timeout = f"in {format_duration(left)}" if left > 0 else "now"
    fails = f", fails when {failures}" if failures else ""
    return f"It succeeds when {success}{fails}, and times out {timeout}."


def _http_conditions(params: Mapping[str, Any]) -> tuple[str, str]:
    return params.get("success_when") or "the status is 2xx", params.get("failure_when") or ""


def _signal_conditions(params: Mapping[str, Any]) -> tuple[str, str]:
    arrives = f"a signal arrives for {params['key']}"
    success, failure = params.get("success_when"), params.get("failure_when")
    return arrives + (f" and {success}" if success else ""), f"one arrives and {failure}" if failure else ""


def _s3_key_conditions(params: Mapping[str, Any]) -> tuple[str, str]:
    keys = params["bucket_key"]
    keys = [keys] if isinstance(keys, str) else keys
    bucket = params.get("bucket_name")
    names = ", ".join(f"s3://{bucket}/{key}" if bucket else key for key in keys[:3])
    names += f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    if params.get("wildcard_match") or params.get("use_regex"):
        success = f"a key matches {names}" if len(keys) == 1 else f"keys match each of {names}"
    else:
        success = f"{names} exists" if len(keys) == 1 else f"{names} all exist"
    return success + (f" and {params['check']}" if params.get("check") else ""), ""


def _unchanged_conditions(params: Mapping[str, Any]) -> tuple[str, str]:
    prefix = f"s3://{params['bucket_name']}/{params['prefix']}"
    period = format_duration(params.get("inactivity_period", 3600.0))
    failure = "" if params.get("allow_delete", True) else "a key is deleted"
    least = params.get("min_objects", 1)
    keys = f"{pluralize(least, 'key')} {'exists' if least == 1 else 'exist'}"
    return f"at least {keys} below {prefix} and none has changed for {period}", failure


#: When waits of each kind succeed and fail; "" is never. Presets use the default in `_end`.
_CONDITIONS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "http": _http_conditions,
    "s3_key": _s3_key_conditions,
    "s3_keys_unchanged": _unchanged_conditions,
    "signal": _signal_conditions,
}


def _seconds_until(time: str, now: datetime) -> float:
    """Seconds from now to an API time; negative if it has passed."""
    return (datetime.fromisoformat(time) - now).total_seconds()


def _seconds_between(first: str, then: str) -> float:
    """Seconds from one API time to another."""
    return (datetime.fromisoformat(then) - datetime.fromisoformat(first)).total_seconds()


def _without_period(sentence: str) -> str:
    return sentence.removesuffix(".")
