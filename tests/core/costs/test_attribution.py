"""The attribution of CPU time finds the costs from which samples were made."""

import random

import pytest

from waitd.core.costs.attribution import IDLE, CpuAttribution, solve

ESTIMATES = {"poke http": 120e-6, "poke s3_key": 120e-6, "accepted": 100e-6, IDLE: 0.002}
TRUE = {"poke http": 90e-6, "poke s3_key": 300e-6, "accepted": 60e-6, IDLE: 0.01}


def attributed(
    samples: list[dict[str, float]], true: dict[str, float], *, noise: float = 0.0
) -> CpuAttribution:
    rng = random.Random(1)
    attribution = CpuAttribution(ESTIMATES, memory=3600)
    for counts in samples:
        cpu = sum(true[name] * times for name, times in counts.items()) + true[IDLE]
        attribution.add_sample(counts, 1.0, cpu * (1 + noise * rng.gauss(0, 1)))
    return attribution


def varied(samples: int) -> list[dict[str, float]]:
    rng = random.Random(2)
    return [
        {
            "poke http": rng.uniform(0, 5000),
            "poke s3_key": rng.uniform(0, 500),
            "accepted": rng.choice([0, 0, 1000]),
        }
        for _ in range(samples)
    ]


def test_costs_are_found_if_the_load_varies() -> None:
    costs = attributed(varied(300), TRUE).costs
    for name, cost in TRUE.items():
        assert costs[name] == pytest.approx(cost, rel=0.1 if name == IDLE else 0.03), name


def test_a_tenth_of_noise_changes_the_cost_of_a_poke_by_less_than_a_tenth() -> None:
    costs = attributed(varied(600), TRUE, noise=0.1).costs
    assert costs["poke http"] == pytest.approx(TRUE["poke http"], rel=0.1)


def test_under_a_steady_load_the_poke_is_charged_for_what_idling_does_not_explain() -> None:
    true = {**TRUE, IDLE: 0.002}
    costs = attributed([{"poke http": 1000.0}] * 600, true).costs
    assert costs["poke http"] == pytest.approx(true["poke http"], rel=0.05)
    assert costs["poke s3_key"] == pytest.approx(ESTIMATES["poke s3_key"]), "no sample has it"


def test_samples_of_an_idle_process_leave_the_cost_of_a_poke() -> None:
    costs = attributed([{}] * 600, TRUE).costs
    assert costs["poke http"] == pytest.approx(ESTIMATES["poke http"])
    assert costs[IDLE] == pytest.approx(TRUE[IDLE], rel=0.05)


def test_no_cost_is_negative() -> None:
    """In these samples, more submits happen to go with less CPU time."""
    attribution = CpuAttribution(ESTIMATES, memory=3600)
    for n in range(200):
        accepted = 1000.0 * (n % 2)
        attribution.add_sample({"poke http": 1000.0, "accepted": accepted}, 1.0, 0.2 - accepted * 1e-4)
    assert attribution.costs["accepted"] == 0.0
    assert all(cost >= 0 for cost in attribution.costs.values())


def test_old_samples_lose_their_weight() -> None:
    attribution = CpuAttribution(ESTIMATES, memory=100)
    for cost in (90e-6, 200e-6):
        for counts in varied(1000):
            attribution.add_sample(counts, 1.0, counts["poke http"] * cost + 0.01)
    assert attribution.costs["poke http"] == pytest.approx(200e-6, rel=0.03)


def test_a_system_of_equations_is_solved() -> None:
    assert solve([[4.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.5, 1.0, 5.0]], [5.5, 5.0, 6.5]) == pytest.approx(
        [1, 1, 1]
    )
