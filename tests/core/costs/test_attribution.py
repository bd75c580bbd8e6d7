"""Sharing out CPU time: what is found again from samples that were made of known costs."""

import random

import pytest

from waitd.core.costs.attribution import IDLE, CpuAttribution, solve

GUESSES = {"poke http": 120e-6, "poke s3_key": 120e-6, "accepted": 100e-6, IDLE: 0.002}
TRUE = {"poke http": 90e-6, "poke s3_key": 300e-6, "accepted": 60e-6, IDLE: 0.01}


def learned(loads: list[dict[str, float]], true: dict[str, float], *, noise: float = 0.0) -> CpuAttribution:
    chance = random.Random(1)
    attribution = CpuAttribution(GUESSES, memory=3600)
    for load in loads:
        cpu = sum(true[name] * times for name, times in load.items()) + true[IDLE]
        attribution.add_sample(load, 1.0, cpu * (1 + noise * chance.gauss(0, 1)))
    return attribution


def varied(samples: int) -> list[dict[str, float]]:
    chance = random.Random(2)
    return [
        {
            "poke http": chance.uniform(0, 5000),
            "poke s3_key": chance.uniform(0, 500),
            "accepted": chance.choice([0, 0, 1000]),
        }
        for _ in range(samples)
    ]


def test_costs_are_found_where_the_load_varies() -> None:
    costs = learned(varied(300), TRUE).costs
    for name, cost in TRUE.items():
        assert costs[name] == pytest.approx(cost, rel=0.1 if name == IDLE else 0.03), name


def test_noise_of_a_tenth_leaves_the_poke_within_a_tenth() -> None:
    costs = learned(varied(600), TRUE, noise=0.1).costs
    assert costs["poke http"] == pytest.approx(TRUE["poke http"], rel=0.1)


def test_under_one_steady_load_the_poke_bears_what_an_idle_process_would_not_use() -> None:
    true = {**TRUE, IDLE: 0.002}
    costs = learned([{"poke http": 1000.0}] * 600, true).costs
    assert costs["poke http"] == pytest.approx(true["poke http"], rel=0.05)
    assert costs["poke s3_key"] == pytest.approx(GUESSES["poke s3_key"]), "nothing was learned of it"


def test_an_idle_process_teaches_nothing_about_pokes() -> None:
    costs = learned([{}] * 600, TRUE).costs
    assert costs["poke http"] == pytest.approx(GUESSES["poke http"])
    assert costs[IDLE] == pytest.approx(TRUE[IDLE], rel=0.05)


def test_nothing_costs_less_than_nothing() -> None:
    """The more submits, the less CPU: an accident of the samples, not a saving."""
    attribution = CpuAttribution(GUESSES, memory=3600)
    for n in range(200):
        accepted = 1000.0 * (n % 2)
        attribution.add_sample({"poke http": 1000.0, "accepted": accepted}, 1.0, 0.2 - accepted * 1e-4)
    assert attribution.costs["accepted"] == 0.0
    assert all(cost >= 0 for cost in attribution.costs.values())


def test_what_was_long_ago_is_forgotten() -> None:
    attribution = CpuAttribution(GUESSES, memory=100)
    for cost in (90e-6, 200e-6):
        for load in varied(1000):
            attribution.add_sample(load, 1.0, load["poke http"] * cost + 0.01)
    assert attribution.costs["poke http"] == pytest.approx(200e-6, rel=0.03)


def test_equations_are_solved() -> None:
    assert solve([[4.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.5, 1.0, 5.0]], [5.5, 5.0, 6.5]) == pytest.approx(
        [1, 1, 1]
    )
