"""Job systems as they really are, in processes of their own on free ports of 127.0.0.1: Spark's standalone cluster, Prefect, moto's server.

Spark and Prefect come by `pip` into environments of their own, at the versions that `pins` names.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from own_environment import own_environment

from waitd.bench.children import free_port

PINS = Path(__file__).with_name("pins")
SECONDS_TO_START = 180
SPARK_JOB = """
import sys, time
from pyspark.sql import SparkSession
how = sys.argv[1]
if how == "count":
    assert SparkSession.builder.getOrCreate().range(100).count() == 100
if how == "hang":
    time.sleep(600)
if how == "fail":
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


class JobServer(ABC):
    """Processes over a directory; `with` starts them and ends them, and what they started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        directory.mkdir(parents=True, exist_ok=True)

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

    def kill(self) -> None:
        """SIGKILL, to the whole process group of each process."""
        while self.processes:
            process = self.processes.pop()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def spawn(self, *command: object, **environment: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [str(part) for part in command],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **environment},
                    cwd=self.directory,
                    start_new_session=True,
                )
            )

    def until(self, url: str, wanted: str = "") -> Any:
        """Waits until a URL answers with JSON that holds a text; what it answers."""
        limit = time.monotonic() + SECONDS_TO_START
        while True:
            with suppress(OSError), urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
                if wanted in text:
                    return json.loads(text)
            log = (self.directory / "log").read_text(errors="replace")[-2000:]
            assert all(process.poll() is None for process in self.processes), f"it ended: {log}"
            assert time.monotonic() < limit, f"{url} does not answer: {log}"
            time.sleep(0.1)


class SparkCluster(JobServer):
    """A master with its REST server (`url`), a worker, and an application (`job`) that counts, hangs or fails as it is told."""

    def start(self) -> None:
        found = own_environment(PINS / "spark.txt") / "lib"
        home = next(found.glob("python*/site-packages/pyspark"))
        self.job = self.directory / "job.py"
        self.job.write_text(SPARK_JOB)
        main, self.page = free_port(), free_port()
        self.master = f"spark://127.0.0.1:{main}"
        rest = f"-Dspark.master.rest.enabled=true -Dspark.master.rest.host=127.0.0.1 -Dspark.master.rest.port={self.port}"
        local = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        deploy = (home / "bin" / "spark-class", "org.apache.spark.deploy.")
        here = ("--host", "127.0.0.1", "--port")
        self.spawn(
            *(deploy[0], f"{deploy[1]}master.Master", *here, main, "--webui-port", self.page),
            **(local | {"SPARK_MASTER_OPTS": rest}),
        )
        self.until(f"http://127.0.0.1:{self.page}/json/")
        work = ("--cores", 2, "--memory", "3g", "--work-dir", self.directory / "work", "--webui-port", 0)
        self.spawn(
            *(deploy[0], f"{deploy[1]}worker.Worker", *here, free_port(), *work, self.master),
            **local,
        )
        self.until(f"http://127.0.0.1:{self.page}/json/", '"state" : "ALIVE"')

    def drivers(self) -> dict[str, str]:
        """What the master itself says of each driver that it was ever given: its state by its id."""
        told = self.until(f"http://127.0.0.1:{self.page}/json/")
        return {driver["id"]: driver["state"] for driver in told["activedrivers"] + told["completeddrivers"]}


class PrefectServer(JobServer):
    """A server (`url`), and a process that runs what is asked of its one deployment."""

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
        self.until(f"{self.url}/api/health")
        (self.directory / "flows.py").write_text(PREFECT_FLOW)
        self.spawn(python, "flows.py", **settings)
        self.deployment = self.until(f"{self.url}/api/deployments/name/load/real")["id"]

    def run(self, run_id: str) -> Any:
        """What the server itself says of a run."""
        return self.until(f"{self.url}/api/flow_runs/{run_id}")


def install_java() -> str:
    """Installs a Java runtime by apt where that is possible. Returns why not, else ""."""
    if shutil.which("java"):
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return (
            "there is no Java, and only root on Debian can install it (apt-get install default-jre-headless)"
        )
    command = ["apt-get", "install", "-y", "--no-install-recommends", "default-jre-headless"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return (
        ""
        if shutil.which("java")
        else f"apt-get could not install default-jre-headless: {done.stderr[-300:]}"
    )
