"""The waits of a load: on which jobs they are, when those end, and how each wait must end. Pure.

Everything follows from a wait's number, so a load is the same in every run and on every system.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from waitd.bench.jobs import BEHAVIOURS, expected_state, job_path, parse_job

#: Ports per job server. The first half serves only jobs that answer.
ORIGINS = 16
#: The shares of the duration between which jobs end, and between which waits on endless jobs time
#: out.
JOBS_END = (0.1, 0.7)
DEADLINES = (0.85, 1.0)
#: The golden ratio: multiples of it modulo 1 spread evenly.
_SPREAD = 0.618033988749895


class LoadKind(StrEnum):
    """The kinds of the waits."""

    HTTP = "http"
    S3_KEY = "s3_key"
    MIXED = "mixed"


class Profile(NamedTuple):
    """One way of loading a daemon.

    Attributes:
        description: one sentence, for the help text.
        mix: the number of waits in a hundred by the behaviour of their job.
        moments: the number of moments at which jobs end; 0: they end one after the other.
    """

    description: str
    mix: Mapping[str, int]
    moments: int = 0


PROFILES: Mapping[str, Profile] = {
    "steady": Profile(
        "targets that answer, a fifth of them with log-normal latency; jobs end one after the other",
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
        "a third of the targets hang, always or every third time",
        {"endless": 30, "succeed": 20, "latent": 10, "fail": 6, "dead": 24, "hangs": 10},
    ),
}  # fmt: skip
#: Replacements for waits on keys: a key cannot report a failure or lie, and the small S3 never
#: hangs.
ON_S3: Mapping[str, str] = {
    "fail": "succeed", "lies": "latent", "liar": "endless", "truncates": "resets", "slow": "latent", "dead": "endless", "hangs": "unavailable",
}  # fmt: skip
#: Replacements for Airflow's HttpSensorTrigger, which goes on waiting only after a 404.
ON_404: Mapping[str, str] = {
    name: "missing" if b.ends is None else "absent" for name, b in BEHAVIOURS.items()
}


class Load(NamedTuple):
    """The size and shape of a load. Times in seconds.

    Attributes:
        waits: the number of waits.
        poke_interval: of each wait.
        duration: from the acceptance of a wait until the last one times out.
        kind: the kinds of the waits.
        profile: a name in PROFILES.
    """

    waits: int
    poke_interval: float
    duration: float
    kind: LoadKind = LoadKind.HTTP
    profile: str = "steady"

    @property
    def patience(self) -> float:
        """The timeout of a wait whose job ends; no delay turns its success into a timeout."""
        return 2 * self.duration + 20 * self.poke_interval + 60

    @property
    def warm_up(self) -> float:
        """Seconds until every wait is on its grid, at most a quarter of the duration."""
        return min(1.5 * self.poke_interval, self.duration / 4)

    @property
    def measured_until(self) -> float:
        """Seconds until measuring ends: when the first wait on an endless job times out."""
        return DEADLINES[0] * self.duration


def pokes_due(load: Load, window: tuple[float, float]) -> float:
    """The pokes that are due in a window of a load, on jobs that answer at once.

    `window` is in seconds after the load has begun.
    """
    first, last = window
    due = 0.0
    for wait in plan_waits(load, 1):
        job = parse_job(wait.path)
        if job.behaviour.plain:
            ends = wait.timeout if wait.expected == "timeout" else job.seconds
            due += max(0.0, min(last, ends) - first) / load.poke_interval
    return due


class PlannedWait(NamedTuple):
    """A wait of a load; `server` and `origin` are the job server and the port of its job."""

    path: str
    kind: str
    timeout: float
    server: int
    origin: int

    @property
    def expected(self) -> str:
        """The state in which it must end."""
        return expected_state(parse_job(self.path), self.timeout)


def plan_waits(
    load: Load, processes: int, replaced: Mapping[str, str] | None = None
) -> Iterator[PlannedWait]:
    """Yields every wait of a load on so many job servers.

    `replaced` maps behaviours to their replacements.
    """
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
        path = job_path(name, seconds, f"job-{n}")
        yield PlannedWait(path, kind, timeout, n % processes, ports[n // processes % len(ports)])


def _times(load: Load, moments: int, name: str, share: float) -> tuple[float, float]:
    """The seconds of a job and the timeout of its wait.

    `share`, in [0, 1), is its position among all jobs.
    """
    if BEHAVIOURS[name].ends is None:
        first, last = DEADLINES
        return 0.0, round(load.duration * (first + (last - first) * share), 3)
    if moments:
        share = (int(share * moments) + 0.5) / moments
    first, last = JOBS_END
    return round(load.duration * (first + (last - first) * share), 2), load.patience


def origins_of(names: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """The ports by behaviour; jobs that answer share the first half of all ports."""
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
