"""Token buckets: how much goes through in which time, debts, and how many buckets are kept."""

from hypothesis import given, settings
from hypothesis import strategies as st

from waitd.core.auth.rate_limit import RateLimiter


def served(limit: RateLimiter, times: list[float], key: str = "a") -> list[float]:
    """When a call came through, of calls at these times."""
    through = []
    for now in times:
        if limit.delay(key, now) == 0.0:
            limit.consume(key, now)
            through.append(now)
    return through


def test_a_burst_goes_through_at_once_and_then_one_for_each_token() -> None:
    limit = RateLimiter(rate=2.0, burst=3)
    assert served(limit, [0.0] * 5) == [0.0] * 3
    assert limit.delay("a", 0.0) == 0.5
    assert served(limit, [0.4, 0.5, 0.6, 1.0, 9.0, 9.0, 9.0, 9.0]) == [0.5, 1.0, 9.0, 9.0, 9.0]


def test_one_key_does_not_draw_on_the_bucket_of_another() -> None:
    limit = RateLimiter(rate=1.0, burst=1)
    assert served(limit, [0.0, 0.0], "a") == [0.0]
    assert served(limit, [0.0, 0.0], "b") == [0.0]


def test_a_debt_is_refilled_before_the_next_draw() -> None:
    limit = RateLimiter(rate=10.0, burst=10)
    limit.consume("a", 0.0, 110)
    assert limit.delay("a", 0.0) == 10.1
    assert limit.delay("a", 10.0) > 0.0
    assert limit.delay("a", 10.11) == 0.0


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 100), max_size=200),
    st.floats(0.1, 100),
    st.integers(1, 20),
)
def test_never_more_than_the_burst_and_the_rate_go_through(
    times: list[float], rate: float, burst: int
) -> None:
    through = served(RateLimiter(rate, burst), sorted(times))
    for first, begin in enumerate(through):
        for last, end in enumerate(through[first:], first):
            assert last - first + 1 <= burst + (end - begin) * rate + 1e-6


def test_the_number_of_buckets_is_limited_and_busy_ones_are_kept() -> None:
    limit = RateLimiter(rate=0.001, burst=1, max_buckets=100)
    limit.consume("busy", 0.0)
    for n in range(10_000):
        limit.consume(n, 1.0)
        if n % 50 == 0:
            limit.consume("busy", 1.0)
        assert len(limit) <= 100
    assert limit.delay("busy", 1.0) > 0.0
    assert limit.delay(0, 1.0) == 0.0


def test_buckets_that_are_full_again_are_not_kept() -> None:
    limit = RateLimiter(rate=1.0, burst=5)
    for n in range(1000):
        limit.consume(n, float(n) * 10)
    assert len(limit) <= 2
