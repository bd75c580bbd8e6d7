"""A wait's progress is stored unchanged, and within its limit."""

from hypothesis import given
from hypothesis import strategies as st

from waitd.core.waits.verdict import MESSAGE_LIMIT
from waitd.core.waits.wait import EMPTY_PROGRESS, RUNS_KEPT, Progress, VerdictRun
from waitd.stores.codec import PROGRESS_LIMIT, decode_progress, encode_progress

times = st.floats(min_value=0, max_value=1e11)
counts = st.integers(min_value=0, max_value=2**53)
verdicts = st.sampled_from(["pending", "success", "failure", "unreachable"])


def runs_of(
    reasons: st.SearchStrategy[str], texts: st.SearchStrategy[str]
) -> st.SearchStrategy[tuple[VerdictRun, ...]]:
    return st.lists(
        st.builds(VerdictRun, verdicts, reasons, texts, times, times, counts), max_size=RUNS_KEPT
    ).map(tuple)


ascii_characters = st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\')
ascii_messages = st.text(ascii_characters, max_size=MESSAGE_LIMIT)
states = st.none() | st.text(ascii_characters, max_size=1024)


@given(st.builds(Progress, counts, counts, states, runs_of(st.just("http_404"), ascii_messages)))
def test_progress_with_ordinary_messages_is_stored_unchanged(progress: Progress) -> None:
    stored = encode_progress(progress)
    assert decode_progress(stored) == progress
    assert stored is None or len(stored.encode()) <= PROGRESS_LIMIT


hostile = st.text(st.characters(), max_size=MESSAGE_LIMIT) | st.text(
    "\x01\ud800\U0001f600", min_size=200, max_size=MESSAGE_LIMIT
)


@given(st.builds(Progress, counts, counts, states, runs_of(hostile, hostile)))
def test_progress_with_hostile_messages_keeps_its_counts_and_state_within_the_limit(
    progress: Progress,
) -> None:
    stored = encode_progress(progress)
    again = decode_progress(stored)
    assert stored is None or len(stored.encode()) <= PROGRESS_LIMIT
    assert (again.pokes, again.step, again.state) == (progress.pokes, progress.step, progress.state)
    kept = progress.runs[len(progress.runs) - len(again.runs) :]
    assert [(r.verdict, r.first_at, r.last_at, r.times) for r in again.runs] == [
        (r.verdict, r.first_at, r.last_at, r.times) for r in kept
    ]


def test_messages_are_shortened_before_runs_are_left_out() -> None:
    runs = tuple(
        VerdictRun("pending", f"reason_{n}", "ä" * MESSAGE_LIMIT, 1.0, 2.0, 3) for n in range(RUNS_KEPT)
    )
    again = decode_progress(encode_progress(Progress(9, 1, "s" * 1024, runs)))
    assert [run.reason for run in again.runs] == [run.reason for run in runs]
    assert all(run.message and run.message == "ä" * len(run.message) for run in again.runs)


def test_empty_progress_is_stored_as_null() -> None:
    assert encode_progress(EMPTY_PROGRESS) is None
    assert decode_progress(None) is EMPTY_PROGRESS
