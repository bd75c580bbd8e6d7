"""The dashboard and the alerts, checked with a real daemon and a real Prometheus."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml
from daemon import Daemon, daemon, job_wait, jobs_and_receiver, serving, submit, until
from manifests import DEPLOY
from prometheus import RULES, promtool, require_prometheus, scraping
from prometheus_client.parser import text_string_to_metric_families

from waitd.bench.children import free_port

DASHBOARD = DEPLOY / "grafana" / "waitd.json"
RUNBOOK = (DEPLOY / "README.md").read_text("utf-8").partition("## Runbook")[2]
#: Metrics that Prometheus itself makes.
PROMETHEUS_METRICS = {"up"}
#: Labels that a scrape adds.
TARGET_LABELS = {"job", "instance"}
#: Values for Grafana's variables.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$job": ".*"}


class Selector(NamedTuple):
    """A metric in a query, and the matchers of its labels."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]

    def matches(self, metric: str, labels: dict[str, str]) -> bool:
        """Whether it selects this series of the daemon."""
        return metric == self.metric and all(
            re.fullmatch(value, labels.get(name, "")) if "~" in operator else labels.get(name) == value
            for name, operator, value in self.matchers
            if name not in TARGET_LABELS
        )


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    for name, value in VARIABLES.items():
        queries = [query.replace(name, value) for query in queries]
    return queries


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    parsed: list[dict[str, Any]] = group["rules"]
    return parsed


def selectors(query: str) -> Iterator[Selector]:
    for metric, braces in re.findall(r"\b((?:waitd|process)_\w+|up)\b(\{[^}]*\})?", query):
        yield Selector(metric, tuple(re.findall(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"', braces)))


def grouped_by(query: str) -> set[str]:
    return {
        name.strip()
        for names in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query)
        for name in names.split(",")
        if name.strip()
    }


@asynccontextmanager
async def busy_daemon(folder: Path) -> AsyncIterator[Daemon]:
    """A daemon with samples of all metrics, also of dead deliveries and of a vault that is down."""
    vault = {"WAITD_VAULT_URL": "http://127.0.0.1:1", "WAITD_VAULT_TOKEN": "t", "WAITD_MAX_LONG_POLLS": "0"}

    async def gone(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=410)

    async with (
        jobs_and_receiver() as (jobs, receiver, client),
        serving("POST", "/{path:.*}", gone) as refusing,
        daemon(folder, **vault) as waitd,
    ):
        dead = job_wait(jobs, receiver, "dead", 0, sinks=[{"kind": "webhook", "url": f"{refusing}/x"}])
        await submit(client, waitd, dead)
        await submit(
            client,
            waitd,
            {"kind": "http", "params": {"http_conn_id": "nowhere", "endpoint": "/x"}, "poke_interval": 1},
        )
        await submit(client, waitd, job_wait(jobs, receiver, "done", 0))
        await submit(client, waitd, job_wait(jobs, receiver, "endless", 3600))
        await until(lambda: len(receiver.digests) == 1)
        await until(lambda: _metrics_contain(waitd.url, client, 'result="dead"'))
        await waitd.kill()
        await waitd.start()  # which counts what is in the store
        await submit(client, waitd, dead)
        await submit(client, waitd, job_wait(jobs, receiver, "again", 0))
        await until(lambda: len(receiver.digests) == 2)
        await until(lambda: _metrics_contain(waitd.url, client, "unavailable"))
        async with client.get(f"{waitd.url}/v1/waits") as answer:
            wait_id = (await answer.json())["waits"][0]["id"]
        async with client.get(f"{waitd.url}/v1/waits/{wait_id}?wait=1") as answer:
            assert answer.status == 429
        await until(lambda: _metrics_contain(waitd.url, client, "waitd_break_even_duration_seconds{"))
        yield waitd


async def _metrics_contain(url: str, client: aiohttp.ClientSession, text: str) -> bool:
    async with client.get(f"{url}/metrics") as answer:
        return text in await answer.text()


def test_every_alert_names_its_entry_in_the_runbook() -> None:
    headings = re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)
    for rule in rules():
        heading = rule["annotations"]["runbook"]
        assert heading in headings
        words = re.sub(r"^(The|It) ", "", heading).split()
        assert rule["alert"] == "Waitd" + "".join(word[0].upper() + word[1:] for word in words)
    # No metric shows that a daemon is not ready; the platform's probe does.
    assert set(headings) - {rule["annotations"]["runbook"] for rule in rules()} == {"Not ready"}


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    for file in (RULES, Path(__file__).parent / "rules_test.yaml"):
        shutil.copy(file, tmp_path)
    done = promtool("test", "rules", str(tmp_path / "rules_test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    tested = (tmp_path / "rules_test.yaml").read_text()
    assert all(tested.count(f"alertname: {rule['alert']}") >= 2 for rule in rules())


@pytest.mark.slow
async def test_every_named_metric_and_label_is_in_a_scrape_of_a_real_daemon(tmp_path: Path) -> None:
    async with (
        busy_daemon(tmp_path) as waitd,
        aiohttp.ClientSession() as client,
        client.get(f"{waitd.url}/metrics") as answer,
    ):
        families = list(text_string_to_metric_families(await answer.text()))
    series = [(sample.name, sample.labels) for family in families for sample in family.samples]
    queries = [*dashboard_queries(), *(rule["expr"] for rule in rules())]
    named = [
        selector
        for query in queries
        for selector in selectors(query)
        if selector.metric not in PROMETHEUS_METRICS
    ]
    assert len(named) > 40
    assert [s for s in named if not any(s.matches(*one) for one in series)] == []
    for query in queries:
        known = {
            name
            for s in selectors(query)
            for metric, labels in series
            if metric == s.metric
            for name in labels
        }
        assert grouped_by(query) <= known | TARGET_LABELS, query


@pytest.mark.slow
async def test_every_query_has_a_result_in_a_real_prometheus(tmp_path: Path) -> None:
    require_prometheus()
    state = tmp_path / "state"
    state.mkdir()
    port = free_port()

    def query_prometheus(target: str) -> tuple[list[str], list[str], dict[str, str]]:
        with scraping(tmp_path, target, port) as server:
            empty_queries = [query for query in dashboard_queries() if not server.series(query)]
            # Without its comparison, an alert's query has a result whether it fires or not.
            expressions = [re.sub(r" (==|>|<) [\d.]+", "", rule["expr"]) for rule in rules()]
            empty_alerts = [query for query in expressions if not server.series(query)]
            health = {
                rule["name"]: rule["health"]
                for group in server.get("/api/v1/rules")["groups"]
                for rule in group["rules"]
            }
            return empty_queries, empty_alerts, health

    async with busy_daemon(state) as waitd:
        empty_queries, empty_alerts, health = await asyncio.to_thread(
            query_prometheus, urlsplit(waitd.url).netloc
        )
    assert (empty_queries, empty_alerts) == ([], [])
    assert health == {rule["alert"]: "ok" for rule in rules()}
