"""Debian's Prometheus and promtool, and a server that scrapes one daemon."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from installation import require_apt_package
from manifests import DEPLOY

RULES = DEPLOY / "prometheus" / "rules.yaml"
SECONDS_TO_START = 60


def has_prometheus() -> bool:
    return shutil.which("promtool") is not None and shutil.which("prometheus") is not None


def require_prometheus() -> None:
    """Installs Prometheus if it is missing."""
    require_apt_package("prometheus", has_prometheus)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    require_prometheus()
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
        """The result of a query now."""
        result: list[Any] = self.get("/api/v1/query", query=query)["result"]
        return result


@contextmanager
def scraping(folder: Path, target: str, port: int) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target` (HOST:PORT) as the job waitd, with the alert rules."""
    require_prometheus()
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
            if len(server.series("count_over_time(up[1m]) >= 8")) == 1:  # enough samples for a rate
                return server
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"Prometheus did not scrape: {log.read_text()[-2000:]}")
