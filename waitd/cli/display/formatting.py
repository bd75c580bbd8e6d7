"""Formats durations, times and counts for people."""

from datetime import UTC, datetime


def format_duration(seconds: float) -> str:
    """A duration in its two largest units: `4 h 12 min`, `3.2 s`."""
    if seconds < 10:
        return f"{round(max(seconds, 0), 1):g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours == 0:
        return _two_units(minutes, "min", int(seconds % 60), "s")
    if days == 0:
        return _two_units(hours, "h", minutes % 60, "min")
    return _two_units(days, "d", hours % 24, "h")


def _two_units(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"


def format_relative_time(time: str | None, now: datetime | None = None) -> str:
    """An API time relative to now: `in 3.2 s`, `4 min 10 s ago` or `now`; `-` for None."""
    if time is None:
        return "-"
    seconds = (datetime.fromisoformat(time) - (now or datetime.now(UTC))).total_seconds()
    if abs(seconds) < 0.05:
        return "now"
    return f"in {format_duration(seconds)}" if seconds >= 0 else f"{format_duration(-seconds)} ago"


def pluralize(number: int, thing: str) -> str:
    """A count with its noun: `1 wait`, `2 waits`, `10,000 deliveries`."""
    if number != 1:
        thing = (
            thing.removesuffix("y") + "ies"
            if thing.endswith("y") and thing[-2] not in "aeiou"
            else thing + "s"
        )
    return f"{number:,} {thing}"
