"""What a wait has learned, as it is stored: compact JSON of at most 4 KiB, or NULL where nothing has been seen."""

from dataclasses import replace
from typing import Any

import orjson

from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, VerdictRun
from waitd.stores.text import well_formed

#: The largest stored progress in bytes.
LIMIT = 4096
#: To what length messages are cut, in characters, until everything fits.
_MESSAGE_LENGTHS = (120, 60, 20, 0)


def encode_progress(progress: Progress) -> str | None:
    """The stored form of `progress`.

    Where it would be larger than `LIMIT`, messages are cut, and after that the oldest runs are left out; counts and the probe's own
    state (≤ 1 KiB, see `Pending.state`) are never touched.
    """
    if progress == EMPTY_PROGRESS:
        return None
    encoded = _dumps(progress)
    for length in _MESSAGE_LENGTHS:
        if len(encoded) <= LIMIT:
            break
        encoded = _dumps(
            replace(progress, runs=tuple(replace(run, message=run.message[:length]) for run in progress.runs))
        )
    runs = tuple(replace(run, message="") for run in progress.runs)
    while len(encoded) > LIMIT and runs:
        runs = runs[1:]
        encoded = _dumps(replace(progress, runs=runs))
    return encoded.decode()


def decode_progress(stored: str | None) -> Progress:
    """The progress whose stored form is `stored`."""
    if stored is None:
        return EMPTY_PROGRESS
    pokes, step, state, runs = orjson.loads(stored)
    return Progress(pokes, step, state, tuple([VerdictRun(*run) for run in runs]))


def _dumps(progress: Progress) -> bytes:
    try:
        return orjson.dumps(_values(progress))
    except TypeError:  # text that is no Unicode, from a hostile target
        state = None if progress.state is None else well_formed(progress.state)
        runs = tuple(
            replace(run, reason=well_formed(run.reason), message=well_formed(run.message))
            for run in progress.runs
        )
        return orjson.dumps(_values(replace(progress, state=state, runs=runs)))


def _values(progress: Progress) -> tuple[Any, ...]:
    runs = [
        (run.verdict, run.reason, run.message, run.first_at, run.last_at, run.times) for run in progress.runs
    ]
    return progress.pokes, progress.step, progress.state, runs
