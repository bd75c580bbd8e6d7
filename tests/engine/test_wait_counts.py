"""How many waits there are in which state, told without a query."""

from waitd.engine.wait_counts import WaitCounts
from waitd.metrics import Instruments


def test_counts_are_taken_from_the_store_and_what_is_gone_is_none() -> None:
    instruments = Instruments(version="test")
    wait_counts = WaitCounts(instruments)

    def shown(state: str, kind: str) -> float | None:
        return instruments.registry.get_sample_value("waitd_waits", {"state": state, "kind": kind})

    wait_counts.reset({("waiting", "http"): 3, ("failed", "http"): 1, ("waiting", "sql"): 2})
    assert (shown("waiting", "http"), shown("failed", "http"), dict(wait_counts.waiting())) == (
        3,
        1,
        {"http": 3, "sql": 2},
    )
    wait_counts.reset({("waiting", "http"): 1})
    wait_counts.refresh_gauges()
    assert (shown("waiting", "http"), shown("failed", "http"), shown("waiting", "sql")) == (1, 0, 0)
    assert dict(wait_counts.waiting()) == {"http": 1}
