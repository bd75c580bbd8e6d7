"""How changes of a set of keys are classified, and how the set is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.aws.keys_unchanged import (
    INLINE_KEYS,
    KeySet,
    KeySetChange,
    KeySetDigest,
    RememberedKeySet,
    compare_key_sets,
    key_hash,
    key_set_digest,
    short_hash,
)

NAMES = st.sets(st.integers(0, 40).map(str), max_size=30)


def key_set(names: dict[str, float] | set[str]) -> KeySet:
    times = names if isinstance(names, dict) else dict.fromkeys(names, 0.0)
    hashed = tuple((key_hash(name), at) for name, at in times.items())
    return KeySet(key_set_digest([key for key, _ in hashed]), hashed)


@given(NAMES, NAMES)
def test_with_known_keys_every_change_is_classified(before: set[str], now: set[str]) -> None:
    known = frozenset(short_hash(key_hash(name)) for name in before)
    expected = (
        KeySetChange.NONE if before == now else KeySetChange.SHRUNK if before - now else KeySetChange.GROWN
    )
    assert compare_key_sets(key_set(before).digest, known, key_set(now)) is expected


@given(NAMES, NAMES)
def test_without_known_keys_no_deletion_is_reported_where_there_was_none(
    before: set[str], now: set[str]
) -> None:
    change = compare_key_sets(key_set(before).digest, None, key_set(now))
    if not before - now:
        assert change in {KeySetChange.NONE if before == now else KeySetChange.GROWN, KeySetChange.UNCLEAR}
    if len(now) <= len(before) and before != now:
        assert change is KeySetChange.SHRUNK
    assert (change is KeySetChange.NONE) == (before == now)


@given(NAMES, NAMES)
def test_without_known_keys_the_newest_keys_distinguish_growth_from_a_deletion(
    before: set[str], more: set[str]
) -> None:
    added = more - before
    times = dict.fromkeys(before, 1.0) | dict.fromkeys(added, 2.0)
    assert compare_key_sets(key_set(before).digest, None, key_set(times)) is (
        KeySetChange.GROWN if added else KeySetChange.NONE
    )


@given(NAMES.filter(bool), NAMES)
def test_a_set_that_also_lost_a_key_is_not_reported_as_grown(before: set[str], more: set[str]) -> None:
    gone = min(before)
    now = (before - {gone}) | {name + "'" for name in more}
    assert compare_key_sets(key_set(before).digest, None, key_set(now)) in {
        KeySetChange.SHRUNK,
        KeySetChange.UNCLEAR,
    }


def test_one_added_key_is_recognized_whatever_its_time() -> None:
    before = {str(n): 9.0 for n in range(1000)}
    assert (
        compare_key_sets(key_set(before).digest, None, key_set(before | {"old": 1.0})) is KeySetChange.GROWN
    )


@given(
    st.integers(0, 100_000),
    st.integers(0, 2**128 - 1),
    st.floats(0, 4e9),
    st.none() | st.frozensets(st.integers(0, 2**48 - 1)),
    st.none() | st.integers(0, 2**64 - 1),
)
def test_a_remembered_set_is_parsed_back(
    size: int, total: int, since: float, keys: frozenset[int] | None, contents: int | None
) -> None:
    remembered = RememberedKeySet(KeySetDigest(size, total), since, keys, contents)
    parsed = RememberedKeySet.from_text(remembered.to_text())
    assert (parsed.digest, parsed.keys, parsed.contents) == (KeySetDigest(size, total), keys, contents)
    assert parsed.since == pytest.approx(since, abs=0.001)


def test_a_remembered_set_takes_at_most_1_kib() -> None:
    keys = frozenset(2**48 - 1 - n for n in range(INLINE_KEYS))
    remembered = RememberedKeySet(KeySetDigest(10**6, 2**128 - 1), 1795000000.123456, keys, 2**64 - 1)
    assert len(remembered.to_text()) <= 1024


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"size":1,"total":"x","since":1}', '{"size":1,"total":"0","since":null}']
)
def test_an_invalid_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        RememberedKeySet.from_text(text)
