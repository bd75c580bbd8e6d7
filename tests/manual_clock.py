"""A clock that a test moves by hand."""

from dataclasses import dataclass


@dataclass
class ManualClock:
    """Returns `at`, in seconds."""

    at: float = 1000.0

    def __call__(self) -> float:
        return self.at
