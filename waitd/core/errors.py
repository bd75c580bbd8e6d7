"""Every error that waitd raises on purpose. Its type says what the caller does next.

WaitdError
├── InvalidInput              mend the input (422); every problem points at its field
│   └── NotSupported               the input is right, but not for this daemon as it is set up now
│       └── NotInstalled      an optional library is missing
├── Unauthenticated           say who you are (401)
├── Forbidden                 who you are is not enough for this (403)
├── NotFound                  there is no such thing (404)
│   └── UnknownConnection     no resolver knows the conn_id, and all of them answered
├── Conflict                  not in this state (409)
└── Unavailable               the same call may go through later (503)
    ├── StoreUnavailable      the database cannot be written now: full disk, locked file
    └── ConnectionUnavailable a resolver is down, so nobody can say whether the conn_id exists
"""

from collections.abc import Iterable
from typing import NamedTuple, Self


class WaitdError(Exception):
    """The root of the tree."""


class Problem(NamedTuple):
    """One thing wrong with an input.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the field, from the root of the body; "" is the body itself.
        detail: what is wrong and what to do, in a sentence.
    """

    pointer: str
    detail: str


class InvalidInput(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The input is wrong; `problems` says where and why."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.detail}" for p in self.problems))

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """One problem at one place."""
        return cls([Problem(pointer, detail)])

    def below(self, prefix: str) -> "InvalidInput":
        """The same problems, seen from further up: `prefix` is put before each pointer."""
        return InvalidInput(Problem(prefix + p.pointer, p.detail) for p in self.problems)


class NotSupported(InvalidInput):
    """This daemon, as it is set up now, cannot do it. No reason to give up what was accepted when it could."""


class NotInstalled(NotSupported):
    """An optional library is missing in this process."""


class Unauthenticated(WaitdError):  # noqa: N818
    """Nobody knows who calls. `reason` is a word for logs; the message is for the caller, and neither tells anything secret."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Forbidden(WaitdError):  # noqa: N818
    """Who calls is known, and may not do this. `reason` is a word for logs."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class NotFound(WaitdError):  # noqa: N818
    """There is no such thing."""


class UnknownConnection(NotFound):
    """No resolver knows this conn_id."""


class Conflict(WaitdError):  # noqa: N818
    """The state forbids it."""


class StoreUnusable(WaitdError):  # noqa: N818
    """The database cannot be opened, and trying again does not help: another daemon has it, a newer waitd wrote it, no right to."""


class Unavailable(WaitdError):  # noqa: N818
    """Not now; the same call may go through later."""


class StoreUnavailable(Unavailable):
    """The database cannot be written now. Nothing was stored."""


class ConnectionUnavailable(Unavailable):
    """The place where credentials are kept does not answer."""
