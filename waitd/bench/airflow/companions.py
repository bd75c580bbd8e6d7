"""What runs next to a real Airflow: a job server, and a waitd that can be killed and restarted."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waitd.bench.airflow.environment import AirflowFailed
from waitd.bench.airflow.instance import USERS
from waitd.bench.airflow.processes import Process, eventually, without
from waitd.bench.children import JOB_SERVER, free_port


def connection(conn_type: str, url: str, **more: Any) -> str:
    """A connection as an AIRFLOW_CONN_* variable holds it."""
    return json.dumps({"conn_type": conn_type, "host": url, **more})


@contextmanager
def job_server() -> Iterator[str]:
    """A job server in a child process; yields its URL. Raises AirflowFailed."""
    command = [sys.executable, "-m", JOB_SERVER, "--exit-with-parent"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as process:  # noqa: S603 - the command is built here
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise AirflowFailed("The job server did not start.")
            yield json.loads(line)["urls"][0]
        finally:
            process.kill()


class WaitdDaemon:
    """A waitd with its own state directory.

    It has the connection `jobs`, and `airflow` from its start on.
    """

    def __init__(self, home: Path, jobs_url: str, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are further environment variables."""
        bind = f"127.0.0.1:{free_port()}"
        self.url = f"http://{bind}"
        self._log = home / "daemon.log"
        self._process: Process | None = None
        self._environment = without(("WAITD_", "AIRFLOW_CONN_"), os.environ) | {
            "WAITD_BIND": bind,
            "WAITD_STATE_DIR": str(home / "state"),
            "WAITD_LOG_FORMAT": "json",
            "WAITD_DELIVERY_RETRY_DELAYS": json.dumps([0.0, *[1.0] * 60]),
            "AIRFLOW_CONN_JOBS": connection("http", jobs_url),
            **(settings or {}),
        }

    @property
    def pids(self) -> list[int]:
        """The ids of its processes; empty if it is not running."""
        return [] if self._process is None else self._process.pids

    def start(self, airflow_url: str) -> None:
        """Starts it and returns when it is ready. Raises AirflowFailed."""
        airflow = connection("airflow", airflow_url, login="waitd", password=USERS["waitd"][1])
        environment = self._environment | {"AIRFLOW_CONN_AIRFLOW": airflow}
        self._process = Process([sys.executable, "-m", "waitd", "serve"], self._log, env=environment)
        eventually(self._ready, 60, "waitd")

    def get(self, path: str) -> Any:
        """The decoded response to a GET. Raises OSError."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:  # noqa: S310 - a loopback URL
            return json.loads(response.read())

    def kill(self) -> None:
        """Sends SIGKILL and waits for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Sends SIGTERM and waits for the end; does nothing if it is not running."""
        self._end(signal.SIGTERM)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.stop(signum)
            self._process = None

    def _ready(self) -> bool:
        try:
            self.get("/readyz")
        except OSError:
            return False
        return True
