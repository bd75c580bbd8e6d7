"""Starts a real Spark standalone cluster and a real Prefect server on free ports of 127.0.0.1.

`pip` installs each into its own environment, at the versions in `pins`.
"""

import json
import shutil
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from own_environment import own_environment
from process_groups import ProcessGroups

from waitd.bench.children import free_port

PINS = Path(__file__).with_name("pins")
START_TIMEOUT = 180
SPARK_JOB = """
import sys, time
from pyspark.sql import SparkSession
behaviour = sys.argv[1]
if behaviour == "count":
    assert SparkSession.builder.getOrCreate().range(100).count() == 100
if behaviour == "hang":
    time.sleep(600)
if behaviour == "fail":
    raise SystemExit("no rows")
"""
PREFECT_FLOW = """
import time
from prefect import flow

@flow
def load(rows: int = 3, seconds: float = 0.0) -> int:
    if rows < 0:
        raise ValueError("no rows")
    time.sleep(seconds)
    return rows

if __name__ == "__main__":
    load.serve(name="real", pause_on_shutdown=False)
"""


class RealJobSystem(ProcessGroups, ABC):
    """A context manager that runs processes in a directory, and kills them with their children."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def start(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def fetch_json(self, url: str, containing: str = "") -> Any:
        """Waits until a URL answers with JSON that contains a text, and returns it."""
        limit = time.monotonic() + START_TIMEOUT
        while True:
            with suppress(OSError), urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
                if containing in text:
                    return json.loads(text)
            assert all(process.poll() is None for process in self.processes), self.log()
            assert time.monotonic() < limit, f"{url} does not answer: {self.log()}"
            time.sleep(0.1)


class SparkCluster(RealJobSystem):
    """A master with its REST server (`url`), a worker, and an application (`job`).

    The application counts, hangs or fails, according to its argument.
    """

    def start(self) -> None:
        libraries = own_environment(PINS / "spark.txt") / "lib"
        home = next(libraries.glob("python*/site-packages/pyspark"))
        self.job = self.directory / "job.py"
        self.job.write_text(SPARK_JOB)
        port, self.page = free_port(), free_port()
        self.master = f"spark://127.0.0.1:{port}"
        rest = f"-Dspark.master.rest.enabled=true -Dspark.master.rest.host=127.0.0.1 -Dspark.master.rest.port={self.port}"
        local = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        deploy = (home / "bin" / "spark-class", "org.apache.spark.deploy.")
        host = ("--host", "127.0.0.1", "--port")
        self.spawn(
            *(deploy[0], f"{deploy[1]}master.Master", *host, port, "--webui-port", self.page),
            **(local | {"SPARK_MASTER_OPTS": rest}),
        )
        self.fetch_json(f"http://127.0.0.1:{self.page}/json/")
        work = ("--cores", 2, "--memory", "3g", "--work-dir", self.directory / "work", "--webui-port", 0)
        self.spawn(
            *(deploy[0], f"{deploy[1]}worker.Worker", *host, free_port(), *work, self.master),
            **local,
        )
        self.fetch_json(f"http://127.0.0.1:{self.page}/json/", '"state" : "ALIVE"')

    def drivers(self) -> dict[str, str]:
        """The state of every driver, by id, as the master shows it."""
        page = self.fetch_json(f"http://127.0.0.1:{self.page}/json/")
        return {driver["id"]: driver["state"] for driver in page["activedrivers"] + page["completeddrivers"]}


class PrefectServer(RealJobSystem):
    """A server (`url`), and a process that runs the flows of its one deployment."""

    def start(self) -> None:
        python = own_environment(PINS / "prefect.txt") / "bin" / "python"
        settings = {
            "PREFECT_HOME": str(self.directory / "home"),
            "PREFECT_PROFILES_PATH": str(self.directory / "profiles.toml"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }
        server = ("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--no-ui", "--port", self.port)
        self.spawn(python, *server, **settings)
        self.fetch_json(f"{self.url}/api/health")
        (self.directory / "flows.py").write_text(PREFECT_FLOW)
        self.spawn(python, "flows.py", **settings)
        self.deployment = self.fetch_json(f"{self.url}/api/deployments/name/load/real")["id"]

    def run(self, run_id: str) -> Any:
        """A flow run, as the server shows it."""
        return self.fetch_json(f"{self.url}/api/flow_runs/{run_id}")


def has_java() -> bool:
    return shutil.which("java") is not None
