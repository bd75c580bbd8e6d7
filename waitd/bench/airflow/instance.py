"""A real Airflow on PostgreSQL, with LocalExecutor and optionally a triggerer.

The end-to-end tests, the demo and the benchmarks run it.
"""

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from waitd.bench.airflow.environment import AirflowFailed, link_provider
from waitd.bench.airflow.processes import Postgres, Process, eventually, without
from waitd.bench.children import free_port

#: The path prefix of the API, as behind an ingress.
PREFIX = "/airflow"
#: Users of the simple auth manager: role and password by name.
USERS = {"waitd": ("op", "waitd-pw"), "user": ("user", "user-pw"), "viewer": ("viewer", "viewer-pw")}
JWT_SECRET = "worthless outside this run, and longer than sixty-four bytes because HS512 requires it"  # noqa: S105 - loopback only
#: `[workers] min_heartbeat_interval` in seconds; the default is 5. waitd holds tasks off for 5 s
#: more.
HEARTBEAT = 1
#: Seconds within which everything must run and the DAGs must be parsed; an idle machine needs 30.
PATIENCE = 300.0
#: Timeout of a request to the API, seconds.
_ANSWER_TIMEOUT = 90.0


class Airflow:
    """An Airflow with its own home directory. Every method raises AirflowFailed."""

    def __init__(
        self,
        environment: Path,
        dags: Path,
        *,
        parallelism: int = 4,
        triggerer: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepares it.

        Args:
            environment: the virtual environment; see `airflow_environment`.
            dags: the DAGs folder.
            parallelism: the number of worker slots.
            triggerer: whether a triggerer runs.
            settings: further environment variables, e.g. `AIRFLOW_CONN_JOBS`.
        """
        self._environment = environment
        self.home = Path(mkdtemp(prefix="waitd-airflow-"))
        self.home.chmod(0o755)  # PostgreSQL may run as another user
        (self.home / "postgres").mkdir()
        self._postgres = Postgres(environment, self.home / "postgres")
        self._names = ["dag-processor", "scheduler", *(["triggerer"] if triggerer else []), "api-server"]
        self._processes: dict[str, Process] = {}
        self._dags = dags
        self._tokens: dict[str, str] = {}
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{PREFIX}"
        self._settings = (
            self._fixed(port) | {"AIRFLOW__CORE__PARALLELISM": str(parallelism)} | dict(settings or {})
        )

    def _fixed(self, port: int) -> dict[str, str]:
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({name: password for name, (_, password) in USERS.items()}), "utf-8")
        users = ",".join(f"{name}:{role}" for name, (role, _) in USERS.items())
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "200",
            "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "200",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
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
            "PYTHONPATH": link_provider(self.home / "provider"),
        }

    def start(self) -> None:
        """Starts everything and returns when the DAGs are parsed."""
        self._settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self._postgres.start()
        migrated = subprocess.run(  # noqa: S603 - the command is built here
            [self._program, "db", "migrate"], env=self._inherited(), capture_output=True, check=False
        )
        if migrated.returncode != 0:
            raise AirflowFailed(
                f"airflow db migrate failed:\n{migrated.stderr.decode(errors='replace')[-2000:]}"
            )
        for name in self._names:
            self.start_process(name)
        eventually(self._has_parsed, PATIENCE, "the DAGs")

    def start_process(self, name: str, **settings: str) -> None:
        """Starts `api-server`, `scheduler`, `dag-processor` or `triggerer` unless it runs.

        Waits until the api-server answers.
        """
        if name not in self._processes:
            command = [
                self._program,
                name,
                *(["--skip-serve-logs"] if name in {"scheduler", "triggerer"} else []),
            ]
            variables = self._inherited() | settings
            self._processes[name] = Process(command, self.home / f"{name}.log", env=variables, cwd=self.home)
        if name == "api-server":
            eventually(self._answers, PATIENCE, "Airflow's API")

    def stop_process(self, name: str, signum: signal.Signals = signal.SIGTERM) -> None:
        """Ends one of them and all its descendants."""
        self._processes.pop(name).stop(signum)

    def stop(self) -> None:
        """Ends everything and deletes the home directory."""
        for name in list(self._processes):
            self.stop_process(name, signal.SIGKILL)
        self._postgres.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def pids(self) -> dict[str, list[int]]:
        """The process ids by name, descendants included; one name is `postgres`."""
        return {name: process.pids for name, process in self._processes.items()} | {
            "postgres": self._postgres.pids
        }

    def logs(self) -> str:
        """The last lines of all logs."""
        logs = sorted(self.home.glob("*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}" for log in logs)

    @property
    def _program(self) -> str:
        return str(self._environment / "bin" / "airflow")

    def _inherited(self) -> dict[str, str]:
        # Bytecode halves the time of the next start.
        inherited = without(("AIRFLOW", "WAITD_", "PYTHONDONTWRITEBYTECODE"), os.environ)
        path = f"{self._environment / 'bin'}:{os.environ.get('PATH', '')}"
        return inherited | self._settings | {"PATH": path}

    def _answers(self) -> bool:
        self._refuse_ended()
        try:
            return self.request("GET", "/api/v2/version")[0] == 200
        except OSError:
            return False

    def _has_parsed(self) -> bool:
        self._refuse_ended()
        names = {path.stem for path in self._dags.glob("*.py")}
        _, errors = self.request("GET", "/api/v2/importErrors")
        if errors["import_errors"]:
            raise AirflowFailed(f"A DAG cannot be imported: {errors['import_errors']}")
        _, dags = self.request("GET", "/api/v2/dags?limit=100")
        return names <= {Path(dag["relative_fileloc"]).stem for dag in dags["dags"]}

    def _refuse_ended(self) -> None:
        ended = [name for name, process in self._processes.items() if process.process.poll() is not None]
        if ended:
            raise AirflowFailed(f"Airflow's {ended[0]} ended early:\n{self.logs()}")

    def token(self, user: str = "waitd") -> str:
        """An API token of one of USERS."""
        if user not in self._tokens:
            status, answer = self._exchange(
                "POST", "/auth/token", {"username": user, "password": USERS[user][1]}, {}
            )
            if status != 201:
                raise AirflowFailed(f"Airflow refused a token for {user}: {status} {answer}")
            self._tokens[user] = answer["access_token"]
        return self._tokens[user]

    def request(self, method: str, path: str, body: Any = None, user: str = "waitd") -> tuple[int, Any]:
        """Sends a request to Airflow's public API; returns status and decoded body.

        Raises OSError, too.
        """
        return self._exchange(method, path, body, {"Authorization": f"Bearer {self.token(user)}"})

    def _exchange(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - a loopback URL
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_TIMEOUT) as response:  # noqa: S310
                return response.status, _decoded(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())


def _decoded(body: bytes) -> Any:
    return json.loads(body) if body else None
