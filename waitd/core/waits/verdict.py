"""The verdict of one poke: `Pending`, `Success`, `Failure` or `Unreachable`.

The type is closed. Probes turn exceptions into `Unreachable`.
"""

from dataclasses import dataclass
from typing import Any

#: The longest message that is kept, in characters. With 8 runs, a wait's progress stays below 4
#: KiB.
MESSAGE_LIMIT = 240


@dataclass(frozen=True, slots=True)
class Pending:
    """The target answered: not yet.

    Attributes:
        reason: a short constant word, e.g. `http_404`; equal reasons form one run.
        message: a sentence for people, without query strings and secrets.
        state: the probe's new state (at most 1 KiB of text), which is stored before the next poke;
            None keeps the previous one.
        retry_after: seconds until the target wants the next request, or None.
        done_at: when the wait succeeds, in Unix seconds, where that is known: it is poked at that
            moment, too.
    """

    reason: str = "pending"
    message: str = ""
    state: str | None = None
    retry_after: float | None = None
    done_at: float | None = None


@dataclass(frozen=True, slots=True)
class Success:
    """The target answered: done. `payload` is JSON-compatible and is sent to the sinks."""

    payload: Any = None
    reason: str = "success"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The target answered: it will not succeed.

    Attributes:
        silenceable: whether `silent_fail` turns it into `Unreachable`. True for a refusal such as a
            403, false for the failure of the job itself.
    """

    reason: str = "failure"
    message: str = ""
    payload: Any = None
    silenceable: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The target did not answer, or its answer says nothing about the job. It never ends a wait.

    Attributes:
        retry_after: seconds until the target wants the next request, or None.
    """

    reason: str
    message: str = ""
    retry_after: float | None = None


Verdict = Pending | Success | Failure | Unreachable

#: The reason of a poke that the daemon's own trouble prevented; see `waitd.core.local_trouble`.
LOCAL_ERROR = "local_error"

#: The name of each type of verdict, as in the API, metrics and stored runs.
VERDICT_NAMES: dict[type, str] = {
    Pending: "pending",
    Success: "success",
    Failure: "failure",
    Unreachable: "unreachable",
}
