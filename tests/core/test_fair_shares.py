"""Fair shares: between any two flows with demand, over every span of turns, and within a flow."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from waitd.core.fair_shares import REMEMBERED, FairBacklog, FairShares

WEIGHTS = st.lists(st.floats(0.1, 10), min_size=2, max_size=5)
COSTS = st.lists(st.floats(0.1, 10), min_size=1, max_size=20)


@given(weights=WEIGHTS, costs=COSTS, turns=st.integers(2, 120), data=st.data())
def test_flows_with_demand_get_their_shares_over_any_span_give_or_take_an_item_of_each(
    weights: list[float], costs: list[float], turns: int, data: st.DataObject
) -> None:
    """The bound of the theorem, for the first two flows; the others come and go."""
    shares = FairShares(lambda flow: weights[int(flow)])
    got = [0.0] * len(weights)
    leads = [0.0]
    for turn in range(turns):
        others = range(2, len(weights))
        flows = ["0", "1", *(str(n) for n in others if data.draw(st.booleans()))]
        flow, cost = shares.next(flows), costs[turn % len(costs)]
        shares.charge(flow, cost)
        got[int(flow)] += cost / weights[int(flow)]
        leads.append(got[0] - got[1])
    assert max(leads) - min(leads) <= max(costs) * (1 / weights[0] + 1 / weights[1]) + 1e-6


@given(items=st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_everything_is_served_once_and_each_flow_in_its_order(items: list[tuple[str, bool]]) -> None:
    backlog: FairBacklog[tuple[str, int]] = FairBacklog(FairShares())
    served = []
    for n, (flow, pops) in enumerate(items):
        backlog.append(flow, (flow, n))
        if pops:
            served.append(backlog.pop())
    while backlog:
        served.append(backlog.pop())
    assert sorted(served, key=lambda item: item[1]) == [(flow, n) for n, (flow, _) in enumerate(items)]
    for flow in "abc":
        assert all(a < b for a, b in pairwise(n for name, n in served if name == flow))


def test_a_flow_that_comes_late_is_next_and_has_saved_nothing_up() -> None:
    shares = FairShares(lambda flow: 2 if flow == "heavy" else 1)
    for _ in range(1000):
        shares.charge(shares.next(["heavy", "light"]))
    turns = []
    for _ in range(400):
        turns.append(shares.next(["heavy", "light", "late"]))
        shares.charge(turns[-1])
    assert turns.index("late") <= 2
    assert Counter(turns) == {"heavy": 200, "light": 100, "late": 100}


def test_thousands_of_flows_that_come_once_are_forgotten() -> None:
    shares = FairShares()
    for n in range(10_000):
        shares.charge(shares.next([str(n), "steady"]))
        shares.charge(shares.next([str(n), "steady"]))
    assert len(shares._next_start) <= REMEMBERED + 1
