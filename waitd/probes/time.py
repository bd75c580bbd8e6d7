"""The kind `time`: waits for a moment. It sends no request; its poke at that moment succeeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from msgspec import Struct
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from waitd.core.waits.verdict import Pending, Success, Verdict
from waitd.models import Strict, parse_model
from waitd.ports import Pokeable, Probe

#: The moments that have a name, in Unix seconds: from 1970 to the end of the year 9999.
_FIRST, _LAST = 0.0, 253_402_300_799.0


def _seconds(moment: str) -> float:
    """Unix seconds of a moment in ISO 8601. Raises ValueError."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        parsed = None
    if parsed is None or not moment.isprintable():
        raise ValueError("write the moment in ISO 8601, such as 2026-12-01T06:00:00+01:00")
    if parsed.tzinfo is None:
        raise ValueError("the moment has no offset from UTC; add Z or one such as +01:00")
    seconds = parsed.timestamp()
    if not _FIRST <= seconds <= _LAST:
        raise ValueError("the moment must be between the years 1970 and 9999")
    return seconds


def _check(moment: str) -> str:
    try:
        _seconds(moment)
    except ValueError as error:
        raise PydanticCustomError("moment", "{error}", {"error": str(error)}) from None
    return moment


class TimeParams(Strict):
    """The `params` of a wait of kind `time`."""

    at: Annotated[str, AfterValidator(_check)] = Field(
        max_length=64, description="The moment, in ISO 8601 with an offset: `2026-12-01T06:00:00+01:00`."
    )


class TimeTarget(Struct, eq=False, gc=False):
    """The moment of one wait, in Unix seconds."""

    at: float

    conn_id: ClassVar[None] = None
    request_timeout: ClassVar[float] = 10.0

    @property
    def key(self) -> str:
        """The coalescing key: waits for the same moment share one poke."""
        return f"time {self.at!r}"


class TimeProbe(Probe):
    """Looks at the wall clock."""

    #: The model of its parameters in the OpenAPI document.
    params_model = TimeParams
    #: How soon a wall clock that was set forward is noticed, in seconds.
    default_poke_interval = 300.0
    poked_at_start = True

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """`now`: the wall clock, in Unix seconds."""
        self._now = now

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> TimeTarget:  # noqa: ARG002 - the port's shape
        """Returns the target of these parameters.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        return TimeTarget(_seconds(parse_model(TimeParams, dict(params)).at))

    def origin(self, target: TimeTarget) -> str:  # noqa: ARG002 - the port's shape
        """One queue for all moments: no host is involved."""
        return "time"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Returns success for all once the moment has come."""
        at: float = group[0].target.at
        moment = datetime.fromtimestamp(at, UTC).isoformat()
        if self._now() >= at:
            return [Success(moment, message=f"It is {moment} or later.")] * len(group)
        return [Pending("not_yet", f"It is before {moment}.", done_at=at)] * len(group)
