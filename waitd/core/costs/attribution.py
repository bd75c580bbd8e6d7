"""Whose the CPU time is: least squares over samples of what was done and what it took.

A poke has no CPU clock of its own. Its work is spread over many turns of the loop (the calendar, the connection, the parser, the verdict),
between others' turns, in threads too, and timing each turn would cost more than some of them take. So the process's CPU time is sampled
together with how much was done of each thing, and what one of each takes is the slope: cpu = Σ cost · times + idle · seconds, the costs not
negative, older samples forgotten. What no work explains stays with `idle`: it is overhead.

Costs that the samples cannot tell apart, because there has been nothing but one steady load, stay near what they were taken for at first:
then the poke bears what an idle process would not use.
"""

from collections.abc import Mapping, Sequence

#: The name of what is used while nothing is done, in CPU-seconds a second.
IDLE = "idle"
#: How firmly the first guess stands: as firmly as one sample in which so much was done. A guess of `idle` is worth so many seconds.
GUESS_WORTH = 100.0
IDLE_WORTH = 2.0


class CpuAttribution:
    """The regression, with its memory. A sample costs the cube of the number of different things that have been done so far."""

    def __init__(self, guesses: Mapping[str, float], *, remembered: float) -> None:
        """`guesses`: CPU-seconds that one of each thing takes at first, `idle` among them; `remembered`: after how many samples one counts
        for a third.
        """
        self._guesses = dict(guesses)
        self._forget = 1.0 - 1.0 / remembered
        #: What has been done so far. What has not is left out of the sums, and costs what it was taken for.
        self._seen: list[str] = []
        self._products: list[list[float]] = []
        self._targets: list[float] = []
        self._costs: Mapping[str, float] = dict(guesses)

    def expect(self, name: str, guess: float) -> None:
        """One more thing that may be done, and what one of it takes at first."""
        self._guesses[name] = guess
        self._costs = {**self._costs, name: guess}

    @property
    def costs(self) -> Mapping[str, float]:
        """What one of each thing takes, in CPU-seconds; `idle` in CPU-seconds a second."""
        return self._costs

    def learn(self, done: Mapping[str, float], seconds: float, cpu_seconds: float) -> None:
        """One sample: how often each thing was done within `seconds`, and the CPU time that the process used meanwhile."""
        times = {**done, IDLE: seconds}
        for name in self._guesses:
            if times.get(name) and name not in self._seen:
                self._add(name)
        values = [times.get(name, 0.0) for name in self._seen]
        for row, (products, value) in enumerate(zip(self._products, values, strict=True)):
            self._targets[row] = self._targets[row] * self._forget + value * cpu_seconds
            for column, other in enumerate(values):
                products[column] = products[column] * self._forget + value * other
        self._costs = {**self._guesses, **dict(zip(self._seen, self._solved(), strict=True))}

    def _add(self, name: str) -> None:
        for products in self._products:
            products.append(0.0)
        self._seen.append(name)
        self._products.append([0.0] * len(self._seen))
        self._targets.append(0.0)

    def _solved(self) -> list[float]:
        """The costs; what would be negative is none, one after the other from the most negative on."""
        worth = [(IDLE_WORTH if name == IDLE else GUESS_WORTH) ** 2 for name in self._seen]
        guesses = [self._guesses[name] for name in self._seen]
        costs, free = [0.0] * len(worth), list(range(len(worth)))
        while free:
            found = solve(
                [[self._products[i][j] + (worth[i] if i == j else 0.0) for j in free] for i in free],
                [self._targets[i] + worth[i] * guesses[i] for i in free],
            )
            worst = min(range(len(free)), key=found.__getitem__)
            if found[worst] >= 0:
                for index, cost in zip(free, found, strict=True):
                    costs[index] = cost
                break
            del free[worst]
        return costs


def solve(matrix: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float]:
    """The x of matrix · x = targets, for a symmetric and positive definite matrix, by Gauss's elimination."""
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
