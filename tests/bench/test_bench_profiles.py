"""Loads: the mix of waits, their ends and their ports."""

from collections import Counter

import pytest

from waitd.bench.jobs import BEHAVIOURS, Fault, parse_job
from waitd.bench.profiles import (
    DEADLINES,
    JOBS_END,
    ON_404,
    ORIGINS,
    PROFILES,
    Load,
    LoadKind,
    origins_of,
    plan_waits,
    pokes_due,
)


@pytest.mark.parametrize("name", PROFILES)
def test_each_hundred_waits_have_the_profiles_mix(name: str) -> None:
    mix = PROFILES[name].mix
    assert sum(mix.values()) == 100
    waits = [wait.path.split("/")[2] for wait in plan_waits(Load(300, 1, 10, profile=name), 1)]
    for start in (0, 100, 200):
        assert Counter(waits[start : start + 100]) == Counter(mix)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", LoadKind)
def test_a_load_is_reproducible_and_all_ends_lie_in_their_span(name: str, kind: LoadKind) -> None:
    load = Load(200, 1, 20, kind, name)
    waits = list(plan_waits(load, 2))
    assert waits == list(plan_waits(load, 2))
    assert len({wait.path for wait in waits}) == 200
    for wait in waits:
        job = parse_job(wait.path)
        if job.behaviour.ends is None:
            assert DEADLINES[0] * 20 <= wait.timeout <= DEADLINES[1] * 20
            assert wait.expected == "timeout"
        else:
            assert JOBS_END[0] * 20 <= job.seconds <= JOBS_END[1] * 20
            assert wait.expected == job.behaviour.ends


def test_a_mixed_load_is_half_keys_and_keys_neither_fail_lie_nor_hang() -> None:
    waits = list(plan_waits(Load(400, 1, 10, LoadKind.MIXED, "storm"), 1))
    on_keys = {wait.path.split("/")[2] for wait in waits if wait.kind == "s3_key"}
    assert Counter(wait.kind for wait in waits) == {"http": 200, "s3_key": 200}
    assert all(BEHAVIOURS[name].ends != "failed" and not BEHAVIOURS[name].lies for name in on_keys)
    assert not any(Fault.HANGS in BEHAVIOURS[name].pattern for name in on_keys)


@pytest.mark.parametrize("name", PROFILES)
def test_jobs_that_answer_badly_have_separate_ports(name: str) -> None:
    ports = origins_of(tuple(PROFILES[name].mix))
    good = {port for wait, own in ports.items() for port in own if BEHAVIOURS[wait].plain or wait == "latent"}
    bad = [set(own) for wait, own in ports.items() if not BEHAVIOURS[wait].plain and wait != "latent"]
    assert max(port for own in ports.values() for port in own) < ORIGINS
    assert all(own and not own & good for own in bad)
    if len(bad) <= ORIGINS // 2:
        assert sum(len(own) for own in bad) == len(set().union(*bad))


def test_the_jobs_of_a_burst_end_at_three_moments() -> None:
    waits = plan_waits(Load(300, 1, 10, profile="burst"), 1)
    assert len({parse_job(wait.path).seconds for wait in waits if wait.expected != "timeout"}) == 3


def test_servers_share_the_jobs_evenly() -> None:
    waits = plan_waits(Load(300, 1, 10), 3)
    assert set(Counter(wait.server for wait in waits).values()) == {100}


def test_replaced_for_404_every_job_answers_404_while_it_runs() -> None:
    behaviours = {
        parse_job(wait.path).behaviour for wait in plan_waits(Load(100, 1, 10, profile="storm"), 1, ON_404)
    }
    assert {behaviour.running for behaviour in behaviours} == {404}
    assert {behaviour.ends for behaviour in behaviours} == {None, "success"}


def test_the_pokes_that_are_due_are_those_on_jobs_that_answer_and_have_not_ended() -> None:
    load = Load(100, 1.0, 10)
    assert pokes_due(load, (0.0, 1.0)) == pytest.approx(80)
    assert pokes_due(load, (7.0, 8.0)) == pytest.approx(50)
    assert pokes_due(load, (10.0, 11.0)) == 0
