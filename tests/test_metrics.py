"""The metrics of the hot path, compared with those of prometheus_client."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from waitd.metrics import HotCounter, HotHistogram, Instruments


def samples(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_a_hot_histogram_exposes_the_same_samples_as_an_ordinary_one() -> None:
    hot_registry, plain_registry, bounds = CollectorRegistry(), CollectorRegistry(), (0.1, 1.0, 10.0)
    hot = HotHistogram("h", "help", ["kind"], registry=hot_registry, buckets=bounds).labels("http")
    plain = Histogram("h", "help", ["kind"], registry=plain_registry, buckets=bounds).labels("http")
    for value in (0.0, 0.1, 0.10001, 1.0, 5.0, 10.0, 11.0, 1e9):
        hot.observe(value)
        plain.observe(value)
    assert samples(hot_registry) == samples(plain_registry)


def test_a_hot_counter_counts_by_label() -> None:
    registry = CollectorRegistry()
    counter = HotCounter("c", "help", ["verdict"], registry=registry)
    counter.labels("pending").inc()
    counter.labels("pending").inc(2)
    counter.labels("success").inc()
    assert registry.get_sample_value("c_total", {"verdict": "pending"}) == 3
    assert registry.get_sample_value("c_total", {"verdict": "success"}) == 1
    assert counter.counts("verdict") == {"pending": 3, "success": 1}


def test_two_daemons_in_one_process_do_not_share_counts() -> None:
    one, other = Instruments(version="1"), Instruments(version="1")
    one.pokes.labels("http", "pending").inc()
    assert (
        other.registry.get_sample_value("waitd_pokes_total", {"kind": "http", "verdict": "pending"}) is None
    )


def test_every_documented_metric_exists() -> None:
    names = {family.name for family in Instruments(version="1").registry.collect()}
    assert names >= {
        "waitd_waits", "waitd_waits_finished", "waitd_wait_duration_seconds", "waitd_detection_delay_seconds",
        "waitd_pokes", "waitd_pokes_coalesced", "waitd_poke_duration_seconds", "waitd_poke_lateness_seconds",
        "waitd_pokes_in_flight", "waitd_waits_overdue", "waitd_waits_ending", "waitd_origins_limited",
        "waitd_deliveries", "waitd_delivery_delay_seconds", "waitd_outbox_deliveries",
        "waitd_event_loop_lag_seconds", "waitd_capacity_left", "waitd_secret_lookups", "waitd_name_lookups", "waitd_build_info",
        "waitd_slots_held", "waitd_slot_seconds", "waitd_cpu_seconds", "waitd_memory_byte_seconds", "waitd_cost",
        "waitd_resident_bytes_per_wait", "waitd_poke_cpu_seconds",
    }  # fmt: skip
