"""Why a wait waits, in sentences for a person. Pure: from the API's view of it, its runs and the time; who asks brings all three."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from waitd.cli.display.formatting import counted, span
from waitd.core.waits.schedule import MAX_UNREACHABLE_PAUSE

#: Moments that lie closer together than this are the same, in seconds.
_SAME = 0.5
#: Between two pokes on the grid lie at most so many intervals.
_LONGEST_GRID_STEP = 1.5


def explain(wait: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """What a wait last saw, when it looks again and who throttles it, and what would end it; of an ended one, how it ended.

    Args:
        wait: as `waitd.models.WaitView` says.
        runs: as `waitd.models.PokeList` says, oldest first.
        now: with a time zone.
    """
    if wait["state"] != "waiting":
        return " ".join([_ended(wait, now), *_delivered(wait["deliveries"]), *_cancelled(wait["submit"])])
    return " ".join([*_submitted(wait["submit"]), _seen(runs, now), _next(wait, now), _end(wait, now)])


def _submitted(submit: Mapping[str, Any] | None) -> list[str]:
    """What is known of the job that it submits itself."""
    if submit is None:
        return []
    match submit["state"]:
        case "submitted" if submit["adopted"]:
            return [f"It waits for the job {_named(submit['handle'])}, which was running already."]
        case "submitted":
            return [f"Its job is submitted: {_named(submit['handle'])}."]
        case "submitting":
            tried = counted(submit["attempts"], "submitting call")
            return [f"There may be a job already: {tried} made, and no answer yet that says so."]
    tried = f" after {counted(submit['attempts'], 'submitting call')}" if submit["attempts"] else ""
    return [f"Its job is not submitted yet{tried}."]


def _named(handle: Any) -> str:
    if isinstance(handle, Mapping):
        return ", ".join(f"{name} {value}" for name, value in handle.items())
    return str(handle)


def _cancelled(submit: Mapping[str, Any] | None) -> list[str]:
    """What becomes of the job of a wait that has ended."""
    cancel = submit["cancel"] if submit else None
    if cancel is None:
        return []
    why = f": {_bare(cancel['last_error'])}" if cancel["last_error"] else ""
    told = {
        "pending": f"Its job is still to be cancelled{why}.",
        "cancelled": "Its job is cancelled.",
        "unneeded": "There was no job to cancel.",
        "failed": f"Its job could not be cancelled{why}.",
        "unknown": f"Nobody can say whether there is a job to cancel{why}.",
    }
    return [told[cancel["state"]]]


def _ended(wait: Mapping[str, Any], now: datetime) -> str:
    outcome = wait["outcome"]
    said = outcome["message"] or outcome["reason"]
    why = f": {_bare(said)}" if said != wait["state"] else ""
    return f"It ended {span(-_until(wait['finished_at'], now))} ago as {wait['state']}{why}."


def _delivered(deliveries: Sequence[Mapping[str, Any]]) -> list[str]:
    queued = sum(delivery["state"] == "queued" for delivery in deliveries)
    dead = sum(delivery["state"] == "dead" for delivery in deliveries)
    said = []
    if queued:
        said.append("Its outcome is still to be delivered.")
    if dead:
        said.append(f"Given up on: {dead} of its deliveries; `waitd redeliver` sends the event anew.")
    return said


def _seen(runs: Sequence[Mapping[str, Any]], now: datetime) -> str:
    if not runs:
        return "It has not been poked yet."
    run = runs[-1]
    what = "Not yet" if run["verdict"] == "pending" else "No answer that counts"
    ago = span(-_until(run["last_at"], now))
    if run["count"] == 1:
        return f"{what}: {_bare(run['message'] or run['reason'])}, seen {ago} ago."
    since = span(-_until(run["first_at"], now))
    return f"{what}: {_bare(run['message'] or run['reason'])}, seen {run['count']} times in {since}, last {ago} ago."


def _next(wait: Mapping[str, Any], now: datetime) -> str:
    on = wait["waiting_on"]
    if on is None:
        return "The daemon has not taken it in hand yet."
    if on["stage"] == "ending":
        return "Its outcome is known and on its way to disk."
    if on["stage"] == "poking":
        return "It is being poked now."
    if on["stage"] == "queued":
        return f"Its next poke has been due for {span(-_until(on['since'], now))}: {_held_up(on)}."
    again = f"It looks again in {span(_until(wait['next_poke_at'], now))}, {_pause(wait)}"
    return f"{again}; {_held_down(on)}." if on["origin_held_down"] else f"{again}."


def _pause(wait: Mapping[str, Any]) -> str:
    """Why then and not sooner."""
    due, quiet_until, last = wait["next_poke_at"], wait["waiting_on"]["quiet_until"], wait["last_poke_at"]
    if abs(_seconds(due, wait["deadline"])) < _SAME:
        return "at its deadline, for the last time"
    if quiet_until and _seconds(due, quiet_until) > -_SAME:
        return "as the target asked by Retry-After"
    seen = wait["last_verdict"]
    if seen and _seconds(last, due) > _LONGEST_GRID_STEP * wait["poke_interval"] + _SAME:
        if seen["verdict"] == "unreachable":
            return f"backed off as long as nobody answers, up to {span(MAX_UNREACHABLE_PAUSE)}"
        if wait["exponential_backoff"]:
            most = f", up to {span(wait['max_wait'])}" if wait["max_wait"] else ""
            return f"backed off from {span(wait['poke_interval'])}{most}"
    return f"as it does every {span(wait['poke_interval'])}"


def _held_up(on: Mapping[str, Any]) -> str:
    origin, limit = on["origin"], on["origin_limit"]
    match on["held_up_by"]:
        case "origin_limit" if on["origin_held_down"]:
            return _held_down(on)
        case "origin_limit":
            return f"{origin} has {counted(on['origin_running'], 'poke')} in flight and gets {limit} at once"
        case "unproven_origins":
            return f"{origin} has not answered yet, and half of all places are taken by others like it"
        case "poke_concurrency":
            return "the daemon is overloaded, all of its poke_concurrency is in use"
    return "its turn is next"


def _held_down(on: Mapping[str, Any]) -> str:
    return f"{on['origin']} timed out three times in a row and gets one poke at a time until it answers"


def _end(wait: Mapping[str, Any], now: datetime) -> str:
    params = wait["params"]
    kind = _ENDS.get(wait["kind"])
    success, failure = kind(params) if kind else (f"its {wait['kind']} is done", "it says that it failed")
    refused = "" if wait["silent_fail"] else "it is refused"
    failed = " or ".join(filter(None, [failure, refused]))
    left = _until(wait["deadline"], now)
    latest = f"in {span(left)}" if left > 0 else "now"
    return f"It succeeds when {success}{f', fails when {failed}' if failed else ''}, and times out {latest}."


def _http_end(params: Mapping[str, Any]) -> tuple[str, str]:
    return params.get("success_when") or "the answer is a 2xx", params.get("failure_when") or ""


def _signal_end(params: Mapping[str, Any]) -> tuple[str, str]:
    came = f"a signal comes under {params['key']}"
    success, failure = params.get("success_when"), params.get("failure_when")
    return came + (f" and {success}" if success else ""), f"one comes and {failure}" if failure else ""


def _s3_key_end(params: Mapping[str, Any]) -> tuple[str, str]:
    keys = params["bucket_key"]
    keys = [keys] if isinstance(keys, str) else keys
    bucket = params.get("bucket_name")
    named = ", ".join(f"s3://{bucket}/{key}" if bucket else key for key in keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    pattern = params.get("wildcard_match") or params.get("use_regex")
    there = "a key matches" if pattern else _there(len(keys))
    subject = f"{there} {named}{more}" if pattern else f"{named}{more} {there}"
    return subject + (f" and {params['check']}" if params.get("check") else ""), ""


def _there(count: int) -> str:
    return "is there" if count == 1 else "are all there"


def _unchanged_end(params: Mapping[str, Any]) -> tuple[str, str]:
    place = f"s3://{params['bucket_name']}/{params['prefix']}"
    period, least = span(params.get("inactivity_period", 3600.0)), params.get("min_objects", 1)
    deleted = "" if params.get("allow_delete", True) else "a key is deleted"
    return f"{counted(least, 'key')} or more below {place} have not changed for {period}", deleted


_ENDS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "http": _http_end, "s3_key": _s3_key_end, "s3_keys_unchanged": _unchanged_end, "signal": _signal_end,
}  # fmt: skip


def _until(time: str, now: datetime) -> float:
    """Seconds from now to an API time; negative where it has passed."""
    return (datetime.fromisoformat(time) - now).total_seconds()


def _seconds(first: str, then: str) -> float:
    """Seconds from one API time to another."""
    return (datetime.fromisoformat(then) - datetime.fromisoformat(first)).total_seconds()


def _bare(sentence: str) -> str:
    return sentence.removesuffix(".")
