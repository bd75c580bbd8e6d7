"""Estimates the CPU cost of each kind of work by least squares over samples of the whole process.

A poke has no CPU clock of its own. Its work is spread over many turns of the event loop and over
threads, and timing each turn would cost more than some turns take. So the CPU time of the process
is sampled together with how often each kind of work was done, and the costs are the slopes:

    cpu = Σ cost · count + idle · seconds

Costs are not negative, and older samples lose weight. CPU time that no work explains remains in
`idle`: it is overhead.

Under one steady load the samples cannot separate the costs. They then stay near their first
estimates, and the poke is charged what an idle process would not use.
"""

from collections.abc import Mapping, Sequence

#: The name of the CPU time that is used without work, in CPU-seconds per second.
IDLE = "idle"
#: The weight of a first estimate: that of one sample with so much work. For `idle`, in seconds.
ESTIMATE_WEIGHT = 100.0
IDLE_WEIGHT = 2.0


class CpuAttribution:
    """The regression with its state.

    A sample costs O(n³) for n kinds of work that have occurred.
    """

    def __init__(self, estimates: Mapping[str, float], *, memory: float) -> None:
        """Starts with estimates and no samples.

        Args:
            estimates: the first estimate of each kind of work in CPU-seconds, and that of `idle`.
            memory: after this many further samples, a sample's weight has fallen to a third (1/e).
        """
        self._estimates = dict(estimates)
        self._decay = 1.0 - 1.0 / memory
        #: Kinds that have occurred. The others are left out of the sums and keep their estimate.
        self._seen: list[str] = []
        self._products: list[list[float]] = []
        self._targets: list[float] = []
        #: CPU-seconds of one of each kind of work; for `idle`, CPU-seconds per second.
        self.costs: Mapping[str, float] = dict(estimates)

    def add_kind(self, name: str, estimate: float) -> None:
        """Adds a kind of work with its first estimate in CPU-seconds."""
        self._estimates[name] = estimate
        self.costs = {**self.costs, name: estimate}

    def add_sample(self, counts: Mapping[str, float], seconds: float, cpu_seconds: float) -> None:
        """Adds a sample: how often each kind occurred within `seconds`, and the CPU time used."""
        counts = {**counts, IDLE: seconds}
        for name in self._estimates:
            if counts.get(name) and name not in self._seen:
                self._add(name)
        values = [counts.get(name, 0.0) for name in self._seen]
        for row, (products, value) in enumerate(zip(self._products, values, strict=True)):
            self._targets[row] = self._targets[row] * self._decay + value * cpu_seconds
            for column, other in enumerate(values):
                products[column] = products[column] * self._decay + value * other
        self.costs = {**self._estimates, **dict(zip(self._seen, self._solve(), strict=True))}

    def _add(self, name: str) -> None:
        for products in self._products:
            products.append(0.0)
        self._seen.append(name)
        self._products.append([0.0] * len(self._seen))
        self._targets.append(0.0)

    def _solve(self) -> list[float]:
        """The costs. As long as one is negative, the most negative one is set to zero."""
        weights = [(IDLE_WEIGHT if name == IDLE else ESTIMATE_WEIGHT) ** 2 for name in self._seen]
        estimates = [self._estimates[name] for name in self._seen]
        costs, free = [0.0] * len(weights), list(range(len(weights)))
        while free:
            solution = solve(
                [[self._products[i][j] + (weights[i] if i == j else 0.0) for j in free] for i in free],
                [self._targets[i] + weights[i] * estimates[i] for i in free],
            )
            worst = min(range(len(free)), key=solution.__getitem__)
            if solution[worst] >= 0:
                for index, cost in zip(free, solution, strict=True):
                    costs[index] = cost
                break
            del free[worst]
        return costs


def solve(matrix: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float]:
    """Solves matrix · x = targets for a symmetric positive definite matrix, by elimination."""
    rows = [[*row, target] for row, target in zip(matrix, targets, strict=True)]
    size = len(rows)
    for pivot in range(size):
        for below in range(pivot + 1, size):
            factor = rows[below][pivot] / rows[pivot][pivot]
            for column in range(pivot, size + 1):
                rows[below][column] -= factor * rows[pivot][column]
    result = [0.0] * size
    for row in reversed(range(size)):
        known = sum(rows[row][column] * result[column] for column in range(row + 1, size))
        result[row] = (rows[row][size] - known) / rows[row][row]
    return result
