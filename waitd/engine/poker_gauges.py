"""The poker in figures: its gauges, and the memory of a held wait."""

from collections.abc import Callable, Sized
from sys import getsizeof

from waitd.engine.calendar import Calendar
from waitd.engine.held_wait import HeldWait
from waitd.engine.memory_sizing import bytes_each, sampled
from waitd.engine.origins import Origins
from waitd.engine.progress_buffer import ProgressBuffer
from waitd.engine.verdicts import OutcomeWriter
from waitd.metrics import Instruments


class PokerGauges:
    """Reads the poker's parts when they are asked for."""

    def __init__(
        self,
        instruments: Instruments,
        held: dict[str, HeldWait],
        calendar: Calendar,
        origins: Origins,
        *,
        in_progress: Sized,
        outcomes: OutcomeWriter,
        progress_buffer: ProgressBuffer,
        capacity_left: Callable[[], int],
    ) -> None:
        self._instruments = instruments
        self._held = held
        self._calendar = calendar
        self._origins = origins
        self._in_progress = in_progress
        self._outcomes = outcomes
        self._progress_buffer = progress_buffer
        self._capacity_left = capacity_left

    def refresh(self) -> None:
        """Sets the gauges; called before a scrape."""
        instruments = self._instruments
        instruments.pokes_in_flight.set(len(self._in_progress))
        instruments.waits_overdue.set(self._origins.queued)
        instruments.waits_ending.set(self._outcomes.pending)
        instruments.origins_limited.set(self._origins.limited)
        instruments.capacity_left.set(self._capacity_left())

    def bytes_each(self, sample: int) -> float:
        """Estimates the bytes of a held wait from `sample` waits; 0 when none is held."""
        if not self._held:
            return 0.0
        tables = getsizeof(self._held) + self._calendar.bytes() + self._progress_buffer.bytes()
        return bytes_each(sampled(self._held, sample)) + tables / len(self._held)
