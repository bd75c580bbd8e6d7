"""Prometheus and promtool of Debian: installed where that is possible, and a server that scrapes one daemon."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from manifests import DEPLOY

RULES = DEPLOY / "prometheus" / "rules.yaml"
SECONDS_TO_START = 60


@cache
def missing() -> str:
    """Why there is no Prometheus here; "" where there is one. It is installed by apt where that can be done."""
    if _there():
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return (
            "Prometheus is not installed, and only root on Debian can install it (apt-get install prometheus)"
        )
    # Installing starts the service, which nobody wants here.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    done = subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", "prometheus"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return "" if _there() else f"apt-get could not install prometheus: {done.stderr[-300:]}"


def _there() -> bool:
    return shutil.which("promtool") is not None and shutil.which("prometheus") is not None


def needed() -> None:
    """Skips where there is no Prometheus."""
    if why := missing():
        pytest.skip(why)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    needed()
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120, check=False)


class Prometheus:
    """A server that scrapes each second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(
            f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10
        ) as answer:
            return json.load(answer)["data"]

    def series(self, query: str) -> list[Any]:
        """What a query gives now."""
        found: list[Any] = self.get("/api/v1/query", query=query)["result"]
        return found


@contextmanager
def scraping(folder: Path, target: str, port: int) -> Iterator[Prometheus]:
    """A Prometheus with our rules that scrapes `target` (HOST:PORT) as the job waitd; gone after the block."""
    needed()
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [{"job_name": "waitd", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    arguments = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(["prometheus", *arguments], stdout=log, stderr=log) as process,
    ):
        try:
            yield _ready(Prometheus(f"http://127.0.0.1:{port}"), process, folder / "log")
        finally:
            process.terminate()


def _ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> Prometheus:
    limit = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < limit and process.poll() is None:
        try:
            if len(server.series("count_over_time(up[1m]) >= 8")) == 1:  # enough to make a rate of
                return server
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"Prometheus did not scrape: {log.read_text()[-2000:]}")
