"""Caches hold no more than they may."""

from waitd.core.bounded_dict import BoundedDict


def test_the_key_that_was_set_longest_ago_is_dropped_first() -> None:
    cache: BoundedDict[str, int] = BoundedDict(2)
    cache["a"] = 1
    cache["b"] = 2
    cache["a"] = 3
    assert cache.get("b") == 2  # reading a key makes it no newer
    cache["c"] = 4
    assert dict(cache) == {"a": 3, "c": 4}


def test_a_default_is_set_within_the_bound() -> None:
    cache: BoundedDict[str, int] = BoundedDict(1)
    assert cache.setdefault("a", 1) == 1
    assert cache.setdefault("a", 2) == 1
    assert cache.setdefault("b", 3) == 3
    assert dict(cache) == {"b": 3}
