"""What one poke says. There is no fifth answer, and an exception is none: a probe turns it into `Unreachable`."""

from dataclasses import dataclass
from typing import Any

#: The longest message kept of one verdict, in characters; with 8 runs it keeps a wait's progress under 4 KiB.
MESSAGE_LIMIT = 240


@dataclass(frozen=True, slots=True)
class Pending:
    """The target answered: not yet.

    Attributes:
        reason: a short constant word, e.g. `http_404`; equal reasons form one run.
        message: one sentence for a person; never a query string, never a secret.
        state: the probe's own new memory (≤ 1 KiB of text), stored before the next poke; None leaves it as it was.
        retry_after: seconds that the target asked to be left alone, or None.
    """

    reason: str = "pending"
    message: str = ""
    state: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Success:
    """The target answered: done. `payload` is JSON-able and goes to the sinks."""

    payload: Any = None
    reason: str = "success"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The target answered: it will not succeed.

    Attributes:
        silenceable: True where `silent_fail` turns it into "not seen" (a refusal such as 403, not the job's own failure).
    """

    reason: str = "failure"
    message: str = ""
    payload: Any = None
    silenceable: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The target could not be asked, or gave no answer that means anything. Never ends a wait.

    Attributes:
        retry_after: seconds that the target asked to be left alone, or None.
    """

    reason: str
    message: str = ""
    retry_after: float | None = None


Verdict = Pending | Success | Failure | Unreachable


def verdict_name(verdict: Verdict) -> str:
    """`pending`, `success`, `failure` or `unreachable`: the word in the API, the metrics and the stored runs."""
    return VERDICT_NAMES[type(verdict)]


#: The word for each kind of verdict.
VERDICT_NAMES: dict[type, str] = {
    Pending: "pending",
    Success: "success",
    Failure: "failure",
    Unreachable: "unreachable",
}
