"""The number of waits by state and kind, kept without a query."""

from waitd.engine.wait_counts import WaitCounts
from waitd.metrics import Instruments


def test_counts_come_from_the_store_and_a_kind_that_is_gone_is_zero() -> None:
    instruments = Instruments(version="test")
    wait_counts = WaitCounts(instruments)

    def gauge(state: str, kind: str) -> float | None:
        return instruments.registry.get_sample_value("waitd_waits", {"state": state, "kind": kind})

    wait_counts.reset({("waiting", "http"): 3, ("failed", "http"): 1, ("waiting", "sql"): 2})
    assert (gauge("waiting", "http"), gauge("failed", "http")) == (3, 1)
    assert wait_counts.waiting() == {"http": 3, "sql": 2}
    wait_counts.reset({("waiting", "http"): 1})
    wait_counts.refresh_gauges()
    assert (gauge("waiting", "http"), gauge("failed", "http"), gauge("waiting", "sql")) == (1, 0, 0)
    assert wait_counts.waiting() == {"http": 1}
