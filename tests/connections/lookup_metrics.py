"""The metric of lookups."""

from waitd.metrics import Instruments


def count_lookups(instruments: Instruments, backend: str, result: str) -> float:
    """How many lookups of a backend had this result."""
    labels = {"backend": backend, "result": result}
    return instruments.registry.get_sample_value("waitd_secret_lookups_total", labels) or 0.0
