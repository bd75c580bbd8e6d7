"""Quantiles of values and of histograms. Pure."""

from collections.abc import Mapping, Sequence


def quantile(values: Sequence[float], q: float) -> float:
    """The `q`-quantile of `values` (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def bucket_quantile(counts: Mapping[float, float], q: float) -> float:
    """The `q`-quantile of cumulative counts by upper bound, interpolated as Prometheus does."""
    bounds = sorted(counts)
    rank = q * counts[bounds[-1]] if bounds else 0.0
    lower, below = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (counts[bound] - below)
        lower, below = bound, counts[bound]
    return 0.0


def cumulative(bounds: Sequence[float], counts: Sequence[float]) -> dict[float, float]:
    """Makes counts by bucket cumulative, for `bucket_quantile`.

    The last bucket has no upper bound.
    """
    total, result = 0.0, {}
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        total += count
        result[bound] = total
    return result
