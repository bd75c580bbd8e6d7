"""A daemon's metrics as a scrape has them."""

from typing import Self

from prometheus_client.parser import text_string_to_metric_families


class ScrapedMetrics(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Samples by name and labels."""

    @classmethod
    def of(cls, text: str) -> Self:
        """From what `/metrics` answered."""
        families = text_string_to_metric_families(text)
        return cls({(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples})

    def total(self, name: str) -> float:
        """The sum over all labels."""
        return sum(value for (sample, _), value in self.items() if sample == name)

    def buckets(self, name: str) -> dict[float, float]:
        """A histogram's cumulative counts by upper bound."""
        return {
            float(dict(labels)["le"]): value
            for (sample, labels), value in self.items()
            if sample == name + "_bucket"
        }

    def histogram_since(self, before: "ScrapedMetrics", name: str) -> dict[float, float]:
        """What a histogram took in since, cumulative by upper bound."""
        earlier = before.buckets(name)
        return {bound: count - earlier.get(bound, 0.0) for bound, count in self.buckets(name).items()}
