"""Every error that waitd raises on purpose. The type says what the caller does next.

WaitdError
├── InvalidInput              correct the input (422); each problem points at a field
│   └── NotSupported          the input is valid, but not supported by this daemon's configuration
│       └── NotInstalled      an optional library is missing
├── AccessDenied
│   ├── Unauthenticated       authenticate (401)
│   └── Forbidden             ask for more rights (403)
├── NotFound                  it does not exist (404)
│   └── UnknownConnection     all resolvers answered, and none has the conn_id
├── LimitReached              the caller or its namespace has as much as it may (429)
├── Conflict                  the current state forbids it (409)
│   └── Unreadable            its stored row cannot be read
├── StoreUnusable             the database cannot be opened; trying again does not help
└── Unavailable               try again later (503)
    ├── StoreUnavailable      the database cannot be written now: full disk, locked file
    ├── DiskNearlyFull        what would make the database grow is refused (507)
    └── ConnectionUnavailable a resolver is down, so it is unknown whether the conn_id exists
"""

from collections.abc import Iterable
from typing import NamedTuple, Self, TypeVar


class WaitdError(Exception):
    """The base class of all errors."""


class Problem(NamedTuple):
    """One problem of an input.

    Attributes:
        pointer: a JSON pointer (RFC 6901) to the field, from the root of the body; "" is the body.
        detail: a sentence that says what is wrong and what to do.
    """

    pointer: str
    detail: str


class InvalidInput(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The input is invalid; `problems` says where and why."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.detail}" for p in self.problems))

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """An error with one problem."""
        return cls([Problem(pointer, detail)])

    def below(self, prefix: str) -> "InvalidInput":
        """The same problems with `prefix` before each pointer, as seen from an enclosing object."""
        return InvalidInput(Problem(prefix + p.pointer, p.detail) for p in self.problems)


class NotSupported(InvalidInput):
    """This daemon's present configuration does not support it.

    A wait that was accepted under another configuration is kept, not failed.
    """


class NotInstalled(NotSupported):
    """An optional library is not installed."""


class AccessDenied(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The caller may not do it.

    `reason` is a word for logs; neither it nor the message has a secret.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Unauthenticated(AccessDenied):
    """The caller is unknown."""


class Forbidden(AccessDenied):
    """The caller is known and lacks the right."""


class NotFound(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The requested thing does not exist."""


class UnknownConnection(NotFound):
    """All resolvers answered, and none has this conn_id."""


class Conflict(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The current state forbids the operation."""


class LimitReached(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The caller or its namespace has as much of something as a limit allows. Nothing was stored.

    Attributes:
        limit: its name, that of a setting below `limits`.
        retry_after: after how many seconds the same call may succeed.
    """

    def __init__(self, limit: str, holder: str, most: float, retry_after: float) -> None:
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(f"{holder} may have {most:,.15g} (the limit {limit})")


class Unreadable(Conflict):
    """The stored row of a wait cannot be read, so nothing can be done with the wait."""

    def __init__(self, wait_id: str, error: str) -> None:
        self.wait_id = wait_id
        super().__init__(
            f"the stored row of the wait {wait_id} cannot be read ({error}), so its sinks are unknown and nothing"
            " can be done with it: save it with `waitd export`, stop the daemon, and mend or delete the row"
        )


class StoreUnusable(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The database cannot be opened, and trying again does not help.

    Another daemon uses it, a newer waitd wrote it, or the file permissions forbid it.
    """


class Unavailable(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """It fails now; the same call may succeed later."""


class StoreUnavailable(Unavailable):
    """The database cannot be written now. Nothing was stored."""


class DiskNearlyFull(Unavailable):
    """The rest of the database's disk is kept for the ends of waits. Nothing was stored."""


class ConnectionUnavailable(Unavailable):
    """A secrets backend does not answer."""


Error = TypeVar("Error", bound=Exception)


def copy_error(error: Error) -> Error:
    """A copy for one caller: an instance that many tasks raise would collect all their tracebacks.

    It keeps the cause, which may be the daemon's own trouble.
    """
    copied = type(error)(*error.args)
    copied.__cause__ = error.__cause__ or error.__context__
    return copied
