"""What a load is made of: how many waits on jobs of which behaviour, when those end, and how each wait must end. Pure data and arithmetic.

Every share, every length and every origin follows from a wait's number, so the same load is the same in every run, for whoever holds it.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from waitd.bench.jobs import BEHAVIOURS, expected_state, job_of, path_of

#: On how many ports each process of the fleet serves its jobs; the first half of them has only jobs that answer.
ORIGINS = 16
#: Between which shares of the duration jobs end, and between which waits time out on those that do not.
JOBS_END = (0.1, 0.7)
DEADLINES = (0.85, 1.0)
#: In 0 to 1, one after the other evenly spread (the golden ratio).
_SPREAD = 0.618033988749895


class LoadKind(StrEnum):
    """How waits look at their jobs."""

    HTTP = "http"
    S3_KEY = "s3_key"
    MIXED = "mixed"


class Profile(NamedTuple):
    """One way of loading a daemon.

    Attributes:
        says: what it is, for people.
        mix: how many of a hundred waits are on jobs of which behaviour.
        moments: at how many moments jobs end; 0: one after the other.
    """

    says: str
    mix: Mapping[str, int]
    moments: int = 0


PROFILES: Mapping[str, Profile] = {
    "steady": Profile(
        "targets that answer, a fifth of them within a log-normal while; jobs end one after the other",
        {"endless": 50, "succeed": 20, "latent": 20, "fail": 10},
    ),
    "burst": Profile(
        "the same, but jobs end at three moments, all at once",
        {"endless": 20, "succeed": 40, "latent": 30, "fail": 10},
        moments=3,
    ),
    "storm": Profile(
        "503s in a row and in outages, 429 with Retry-After, resets, broken and slow bodies, answers that look like success and are not",
        {
            "endless": 20, "succeed": 10, "fail": 10, "latent": 10, "absent": 4, "unavailable": 6, "throttled": 6, "outages": 8,
            "resets": 6, "truncates": 6, "slow": 4, "lies": 6, "liar": 4,
        },
    ),
    "hang": Profile(
        "a third of the targets hang, for ever or every third time",
        {"endless": 30, "succeed": 20, "latent": 10, "fail": 6, "dead": 24, "hangs": 10},
    ),
}  # fmt: skip
#: What a job's keys are asked for instead: a key cannot say that its job failed, nor lie, and the small S3 never hangs.
ON_S3: Mapping[str, str] = {
    "fail": "succeed", "lies": "latent", "liar": "endless", "truncates": "resets", "slow": "latent", "dead": "endless", "hangs": "unavailable",
}  # fmt: skip
#: What Airflow's HttpSensorTrigger is given instead: to it a 404 is the only "not yet", and whatever else comes is the end or an error.
ON_404: Mapping[str, str] = {
    name: "missing" if b.ends is None else "absent" for name, b in BEHAVIOURS.items()
}


class Load(NamedTuple):
    """How much of what. Times in seconds.

    Attributes:
        waits: how many.
        poke_interval: of each.
        duration: when the last of them times out, counted from its acceptance.
        kind: how they look.
        profile: at what.
    """

    waits: int
    poke_interval: float
    duration: float
    kind: LoadKind = LoadKind.HTTP
    profile: str = "steady"

    @property
    def patience(self) -> float:
        """The timeout of a wait whose job ends: far beyond it, back-offs included, because the truth must not hang on a race."""
        return 2 * self.duration + 20 * self.poke_interval + 60

    @property
    def warm_up(self) -> float:
        """After how many seconds every wait has come to its grid, or a quarter of the time is over; measuring begins then."""
        return min(1.5 * self.poke_interval, self.duration / 4)

    @property
    def measured_until(self) -> float:
        """When the first of those time out that never end; measuring is over then."""
        return DEADLINES[0] * self.duration


class PlannedWait(NamedTuple):
    """One wait to be. `fleet` and `origin`: which process serves its job, and on which of its ports."""

    path: str
    kind: str
    timeout: float
    fleet: int
    origin: int

    @property
    def expected(self) -> str:
        """The state in which it must end."""
        return expected_state(job_of(self.path), self.timeout)


def plan_waits(
    load: Load, processes: int, replaced: Mapping[str, str] | None = None
) -> Iterator[PlannedWait]:
    """Every wait of a load, on a fleet of so many processes; with `replaced`, behaviours by what stands in for them."""
    profile = PROFILES[load.profile]
    names = [name for name, share in profile.mix.items() for _ in range(share)]
    origins = origins_of(tuple(profile.mix))
    for n in range(load.waits):
        # 37 and 100 have no common factor: every hundred has the whole mix, well shuffled.
        name = names[n * 37 % len(names)]
        kind = ("http", "s3_key")[n // len(names) % 2] if load.kind is LoadKind.MIXED else load.kind.value
        if kind == "s3_key":
            name = ON_S3.get(name, name)
        ports = origins.get(name, range(1))
        name = (replaced or {}).get(name, name)
        seconds, timeout = _times(load, profile.moments, name, n * _SPREAD % 1)
        path = path_of(name, seconds, f"job-{n}")
        yield PlannedWait(path, kind, timeout, n % processes, ports[n // processes % len(ports)])


def _times(load: Load, moments: int, name: str, share: float) -> tuple[float, float]:
    """When a job ends and its wait does, seconds; `share` in [0, 1) says where among the others."""
    if BEHAVIOURS[name].ends is None:
        first, last = DEADLINES
        return 0.0, round(load.duration * (first + (last - first) * share), 3)
    if moments:
        share = (int(share * moments) + 0.5) / moments
    first, last = JOBS_END
    return round(load.duration * (first + (last - first) * share), 2), load.patience


def origins_of(names: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """On which ports the jobs of each behaviour are: those that answer share the first half, each other has a part of the second."""
    half = ORIGINS // 2
    good = [name for name in names if BEHAVIOURS[name].plain or name == "latent"]
    bad = [name for name in names if name not in good]
    shares = {
        name: range(
            half + half * n // len(bad),
            max(half + half * (n + 1) // len(bad), half + half * n // len(bad) + 1),
        )
        for n, name in enumerate(bad)
    }
    return {**dict.fromkeys(good, range(half)), **shares}
