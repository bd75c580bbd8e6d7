"""Token buckets: bursts, debts, and how many buckets are kept."""

from hypothesis import given
from hypothesis import strategies as st

from waitd.core.auth.rate_limit import RateLimiter


def allowed(limiter: RateLimiter, times: list[float], key: str = "a") -> list[float]:
    """The times, of these, at which a call was allowed."""
    allowed_at = []
    for now in times:
        if limiter.delay(key, now) == 0.0:
            limiter.consume(key, now)
            allowed_at.append(now)
    return allowed_at


def test_a_burst_is_allowed_at_once_and_then_one_call_per_token() -> None:
    limiter = RateLimiter(rate=2.0, burst=3)
    assert allowed(limiter, [0.0] * 5) == [0.0] * 3
    assert limiter.delay("a", 0.0) == 0.5
    assert allowed(limiter, [0.4, 0.5, 0.6, 1.0, 9.0, 9.0, 9.0, 9.0]) == [0.5, 1.0, 9.0, 9.0, 9.0]


def test_each_key_has_its_own_bucket() -> None:
    limiter = RateLimiter(rate=1.0, burst=1)
    assert allowed(limiter, [0.0, 0.0], "a") == [0.0]
    assert allowed(limiter, [0.0, 0.0], "b") == [0.0]


def test_a_debt_is_refilled_before_the_next_call() -> None:
    limiter = RateLimiter(rate=10.0, burst=10)
    limiter.consume("a", 0.0, 110)
    assert limiter.delay("a", 0.0) == 10.1
    assert limiter.delay("a", 10.0) > 0.0
    assert limiter.delay("a", 10.11) == 0.0


@given(
    st.lists(st.floats(0, 100), max_size=200),
    st.floats(0.1, 100),
    st.integers(1, 20),
)
def test_no_more_calls_than_burst_and_rate_are_allowed(times: list[float], rate: float, burst: int) -> None:
    allowed_at = allowed(RateLimiter(rate, burst), sorted(times))
    for first, begin in enumerate(allowed_at):
        for last, end in enumerate(allowed_at[first:], first):
            assert last - first + 1 <= burst + (end - begin) * rate + 1e-6


def test_the_number_of_buckets_is_limited_and_busy_ones_are_kept() -> None:
    limiter = RateLimiter(rate=0.001, burst=1, max_buckets=100)
    limiter.consume("busy", 0.0)
    for n in range(10_000):
        limiter.consume(n, 1.0)
        if n % 50 == 0:
            limiter.consume("busy", 1.0)
        assert len(limiter) <= 100
    assert limiter.delay("busy", 1.0) > 0.0
    assert limiter.delay(0, 1.0) == 0.0


def test_full_buckets_are_dropped() -> None:
    limiter = RateLimiter(rate=1.0, burst=5)
    for n in range(1000):
        limiter.consume(n, float(n) * 10)
    assert len(limiter) <= 2
