"""What a wait has learned, as it is stored: compact JSON of at most 4 KiB, or NULL where nothing has been seen."""

import orjson

from waitd.core.wait import NOTHING_SEEN, Progress, Run
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
    if progress == NOTHING_SEEN:
        return None
    encoded = _dumps(progress)
    for length in _MESSAGE_LENGTHS:
        if len(encoded) <= LIMIT:
            break
        encoded = _dumps(
            progress._replace(runs=tuple(run._replace(message=run.message[:length]) for run in progress.runs))
        )
    runs = tuple(run._replace(message="") for run in progress.runs)
    while len(encoded) > LIMIT and runs:
        runs = runs[1:]
        encoded = _dumps(progress._replace(runs=runs))
    return encoded.decode()


def decode_progress(stored: str | None) -> Progress:
    """The progress whose stored form is `stored`."""
    if stored is None:
        return NOTHING_SEEN
    pokes, step, state, runs = orjson.loads(stored)
    return Progress(pokes, step, state, tuple([Run(*run) for run in runs]))


def _dumps(progress: Progress) -> bytes:
    pokes, step, state, runs = progress
    try:
        return orjson.dumps((pokes, step, state, [tuple(run) for run in runs]))
    except TypeError:  # text that is no Unicode, from a hostile target
        state = None if state is None else well_formed(state)
        runs = tuple(
            run._replace(reason=well_formed(run.reason), message=well_formed(run.message)) for run in runs
        )
        return orjson.dumps((pokes, step, state, [tuple(run) for run in runs]))
