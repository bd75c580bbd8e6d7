"""What a load is made of follows from its numbers alone."""

from collections import Counter

import pytest

from waitd.bench.jobs import BEHAVIOURS, Fault, job_of
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
)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profiles_shares_are_of_a_hundred_and_each_hundred_has_them(name: str) -> None:
    mix = PROFILES[name].mix
    assert sum(mix.values()) == 100
    waits = [wait.path.split("/")[2] for wait in plan_waits(Load(300, 1, 10, profile=name), 1)]
    for start in (0, 100, 200):
        assert Counter(waits[start : start + 100]) == Counter(mix)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", LoadKind)
def test_a_load_is_the_same_each_time_and_every_end_lies_in_its_time(name: str, kind: LoadKind) -> None:
    load = Load(200, 1, 20, kind, name)
    waits = list(plan_waits(load, 2))
    assert waits == list(plan_waits(load, 2))
    assert len({wait.path for wait in waits}) == 200
    for wait in waits:
        job = job_of(wait.path)
        if job.behaviour.ends is None:
            assert DEADLINES[0] * 20 <= wait.timeout <= DEADLINES[1] * 20
            assert wait.expected == "timeout"
        else:
            assert JOBS_END[0] * 20 <= job.seconds <= JOBS_END[1] * 20
            assert wait.expected == job.behaviour.ends


def test_a_mixed_load_is_half_and_half_and_keys_are_asked_for_nothing_that_keys_cannot_say() -> None:
    waits = list(plan_waits(Load(400, 1, 10, LoadKind.MIXED, "storm"), 1))
    on_keys = {wait.path.split("/")[2] for wait in waits if wait.kind == "s3_key"}
    assert Counter(wait.kind for wait in waits) == {"http": 200, "s3_key": 200}
    assert all(BEHAVIOURS[name].ends != "failed" and not BEHAVIOURS[name].lies for name in on_keys)
    assert not any(Fault.HANGS in BEHAVIOURS[name].pattern for name in on_keys)


@pytest.mark.parametrize("name", PROFILES)
def test_who_answers_badly_has_ports_of_its_own(name: str) -> None:
    ports = origins_of(tuple(PROFILES[name].mix))
    good = {
        port for wait, found in ports.items() for port in found if BEHAVIOURS[wait].plain or wait == "latent"
    }
    bad = [set(found) for wait, found in ports.items() if not BEHAVIOURS[wait].plain and wait != "latent"]
    assert max(port for found in ports.values() for port in found) < ORIGINS
    assert all(found and not found & good for found in bad)
    if len(bad) <= ORIGINS // 2:
        assert sum(len(found) for found in bad) == len(set().union(*bad))


def test_a_bursts_jobs_end_at_three_moments() -> None:
    waits = plan_waits(Load(300, 1, 10, profile="burst"), 1)
    assert len({job_of(wait.path).seconds for wait in waits if wait.expected != "timeout"}) == 3


def test_processes_share_the_jobs_evenly() -> None:
    waits = plan_waits(Load(300, 1, 10), 3)
    assert set(Counter(wait.fleet for wait in waits).values()) == {100}


def test_for_a_poller_that_knows_only_404_every_job_waits_with_it() -> None:
    behaviours = {
        job_of(wait.path).behaviour for wait in plan_waits(Load(100, 1, 10, profile="storm"), 1, ON_404)
    }
    assert {behaviour.running for behaviour in behaviours} == {404}
    assert {behaviour.ends for behaviour in behaviours} == {None, "success"}
