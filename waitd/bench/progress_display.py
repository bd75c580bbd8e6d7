"""How a long run is told to whoever shows it to a person."""

from typing import Protocol


class ProgressDisplay(Protocol):
    """Whoever shows a run; see `waitd.cli.display.progress`."""

    def step(self, text: str) -> None:
        """Something was done; one sentence."""

    def broke(self, text: str) -> None:
        """Something was broken on purpose; one sentence."""

    def progress(self, done: int, total: int, text: str) -> None:
        """How far it is: so many of so many, and what else to say; called several times a second."""
