"""Times and counts in words. Pure."""

from datetime import UTC, datetime


def span(seconds: float) -> str:
    """A duration in its two largest units: `4 h 12 min`, `3.2 s`."""
    if seconds < 10:
        return f"{round(max(seconds, 0), 1):g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours == 0:
        return _of_two(minutes, "min", int(seconds % 60), "s")
    if days == 0:
        return _of_two(hours, "h", minutes % 60, "min")
    return _of_two(days, "d", hours % 24, "h")


def _of_two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"


def when(time: str | None, now: datetime | None = None) -> str:
    """An API time as a person thinks of it: `in 3.2 s`, `4 min 10 s ago`, `now`; `-` for none."""
    if time is None:
        return "-"
    seconds = (datetime.fromisoformat(time) - (now or datetime.now(UTC))).total_seconds()
    if abs(seconds) < 0.05:
        return "now"
    return f"in {span(seconds)}" if seconds >= 0 else f"{span(-seconds)} ago"


def counted(number: int, thing: str) -> str:
    """`1 wait`, `2 waits`, `10,000 deliveries`."""
    if number != 1:
        thing = (
            thing.removesuffix("y") + "ies"
            if thing.endswith("y") and thing[-2] not in "aeiou"
            else thing + "s"
        )
    return f"{number:,} {thing}"
