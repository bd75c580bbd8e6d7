"""The kind `kubernetes.job` with a real API server and its controllers. No node is needed.

No package index has an API server. The tests run if WAITD_TEST_KUBERNETES is the URL of one, and
WAITD_TEST_KUBERNETES_TOKEN is a token that may create Jobs. They last passed with kube-apiserver
and kube-controller-manager 1.20.2, built from Debian's source.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from daemon import Daemon, daemon, until
from preset_waits import cancel, last_verdict_is, submit_wait, wait_until, wait_until_ended

URL, TOKEN = os.environ.get("WAITD_TEST_KUBERNETES"), os.environ.get("WAITD_TEST_KUBERNETES_TOKEN", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not URL, reason="no package has a Kubernetes API server; set WAITD_TEST_KUBERNETES to the URL of one"
    ),
]
NAMESPACE = "default"
#: No node has this label, so no Pod ever runs.
TEMPLATE = {
    "spec": {
        "restartPolicy": "Never",
        "nodeSelector": {"waitd-test": "none"},
        "containers": [{"name": "orders", "image": "busybox"}],
    }
}


class Cluster:
    """Reads Jobs from the API server, without waitd."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def job(self, name: str) -> dict[str, Any] | None:
        path = f"{URL}/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{name}"
        async with self._client.get(path) as answer:
            job: dict[str, Any] = await answer.json()
            return job if answer.status == 200 else None


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as client:
        yield Cluster(client)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Daemon]:
    valid = {"conn_type": "kubernetes", "host": URL, "password": TOKEN, "extra": {"verify": False}}
    invalid = valid | {"password": "planted-token"}
    connections = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(valid),
        "AIRFLOW_CONN_WRONG": json.dumps(invalid),
    }
    async with daemon(tmp_path, **connections) as running:
        yield running


def job_wait(name: str, spec: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A wait that creates a Job. The cluster deletes it a minute after its end."""
    submit = {
        "job_name": name,
        "spec": {"template": TEMPLATE, "ttlSecondsAfterFinished": 60, **spec},
        **fields,
    }
    params = {"namespace": NAMESPACE}
    return {
        "kind": "kubernetes.job",
        "params": params,
        "submit": submit,
        "poke_interval": 1,
        "timeout": 600,
    }


def unique_name() -> str:
    return f"waitd-{uuid4().hex[:12]}"


async def test_a_job_is_created_and_completes(served: Daemon, cluster: Cluster) -> None:
    name = unique_name()
    wait = await submit_wait(served, **job_wait(name, {"completions": 0}, labels={"team": "orders"}))
    wait = await wait_until_ended(served, wait)
    assert wait["state"] == "success", wait
    assert wait["outcome"]["payload"]["completionTime"]
    created = await cluster.job(name)
    assert created is not None
    assert created["metadata"]["labels"]["team"] == "orders"
    assert created["metadata"]["annotations"]["waitd/idempotency-key"] == wait["id"]


async def test_a_failed_job_fails_its_wait_with_kubernetes_message(served: Daemon) -> None:
    wait = await submit_wait(served, **job_wait(unique_name(), {"activeDeadlineSeconds": 2}))
    await wait_until(served, wait, last_verdict_is("running", "Active"))
    wait = await wait_until_ended(served, wait)
    assert wait["state"] == "failed"
    assert wait["outcome"]["message"].startswith("Failed: DeadlineExceeded: Job was active longer"), wait


async def test_a_cancelled_wait_deletes_its_job(served: Daemon, cluster: Cluster) -> None:
    name = unique_name()
    wait = await submit_wait(served, **job_wait(name, {}, cancel_job_on=["cancelled"]))
    await wait_until(served, wait, last_verdict_is("running", "Active"))
    await cancel(served, wait)

    async def is_deleted() -> bool:
        return await cluster.job(name) is None

    await until(is_deleted, what="the deletion of the Job")


async def test_a_job_of_another_wait_is_not_adopted(served: Daemon, cluster: Cluster) -> None:
    name = unique_name()
    first = await submit_wait(served, **job_wait(name, {}, cancel_job_on=["cancelled"]))
    await wait_until(served, first, last_verdict_is("running", "Active"))
    second = await wait_until_ended(
        served, await submit_wait(served, **job_wait(name, {}, on_conflict="fail"))
    )
    assert second["state"] == "failed", second
    created = await cluster.job(name)
    assert created is not None
    assert created["metadata"]["annotations"]["waitd/idempotency-key"] == first["id"]
    await cancel(served, first)


async def test_a_missing_job_and_an_invalid_token(served: Daemon) -> None:
    missing = await submit_wait(
        served, kind="kubernetes.job", params={"name": unique_name()}, poke_interval=1
    )
    await wait_until(served, missing, last_verdict_is("not_found"))
    params = {"name": unique_name(), "kubernetes_conn_id": "wrong"}
    wait = await wait_until_ended(served, await submit_wait(served, kind="kubernetes.job", params=params))
    assert (wait["state"], wait["outcome"]["reason"]) == ("failed", "http_401")
    assert "planted" not in json.dumps([wait, served.log])
