"""The interface through which a long run reports its progress."""

from typing import Protocol


class ProgressDisplay(Protocol):
    """Shows a run to a person; `waitd.cli.display.progress` implements it."""

    def step(self, text: str) -> None:
        """Reports a finished step in one sentence."""

    def broke(self, text: str) -> None:
        """Reports a failure that the run caused on purpose, in one sentence."""

    def progress(self, done: int, total: int, text: str) -> None:
        """Reports that `done` of `total` are finished; called several times a second."""
