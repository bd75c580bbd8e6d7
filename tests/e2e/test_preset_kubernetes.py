"""The kind `kubernetes.job` on a real API server with its controllers; no node is needed.

No API server comes by package, so these tests run where WAITD_TEST_KUBERNETES names one, by its URL, and WAITD_TEST_KUBERNETES_TOKEN holds
a token that may create Jobs. They were last seen to pass on kube-apiserver and kube-controller-manager 1.20.2, built from Debian's source.
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
from preset_waits import last_verdict_is, post, submit_wait, wait_until, wait_until_ended

URL, TOKEN = os.environ.get("WAITD_TEST_KUBERNETES"), os.environ.get("WAITD_TEST_KUBERNETES_TOKEN", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not URL, reason="no API server of Kubernetes comes by package; WAITD_TEST_KUBERNETES names one"
    ),
]
NAMESPACE = "default"
#: No node has this label, so nothing ever runs.
TEMPLATE = {
    "spec": {
        "restartPolicy": "Never",
        "nodeSelector": {"waitd-test": "none"},
        "containers": [{"name": "orders", "image": "busybox"}],
    }
}


class Cluster:
    """The API server itself, past waitd."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def job(self, name: str) -> dict[str, Any] | None:
        path = f"{URL}/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{name}"
        async with self._client.get(path) as answer:
            found: dict[str, Any] = await answer.json()
            return found if answer.status == 200 else None


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as client:
        yield Cluster(client)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Daemon]:
    right = {"conn_type": "kubernetes", "host": URL, "password": TOKEN, "extra": {"verify": False}}
    wrong = right | {"password": "planted-token"}
    connections = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(right),
        "AIRFLOW_CONN_WRONG": json.dumps(wrong),
    }
    async with daemon(tmp_path, **connections) as running:
        yield running


def job(name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A wait that creates a Job; its ends take it away again."""
    submit = {"job_name": name, "spec": {"template": TEMPLATE, "ttlSecondsAfterFinished": 60, **spec}, **more}
    params = {"namespace": NAMESPACE}
    return {
        "kind": "kubernetes.job",
        "params": params,
        "submit": submit,
        "poke_interval": 1,
        "timeout": 600,
    }


def fresh() -> str:
    return f"waitd-{uuid4().hex[:12]}"


async def test_a_job_is_created_and_completes(served: Daemon, cluster: Cluster) -> None:
    name = fresh()
    wait = await submit_wait(served, **job(name, {"completions": 0}, labels={"team": "orders"}))
    wait = await wait_until_ended(served, wait)
    assert wait["state"] == "success", wait
    assert wait["outcome"]["payload"]["completionTime"]
    made = await cluster.job(name)
    assert made is not None
    assert made["metadata"]["labels"]["team"] == "orders"
    assert made["metadata"]["annotations"]["waitd/idempotency-key"] == wait["id"]


async def test_a_job_that_fails_fails_its_wait_in_kubernetes_words(served: Daemon) -> None:
    wait = await submit_wait(served, **job(fresh(), {"activeDeadlineSeconds": 2}))
    await wait_until(served, wait, last_verdict_is("running", "Active"))
    wait = await wait_until_ended(served, wait)
    assert wait["state"] == "failed"
    assert wait["outcome"]["message"].startswith("Failed: DeadlineExceeded: Job was active longer"), wait


async def test_a_cancelled_wait_deletes_its_job(served: Daemon, cluster: Cluster) -> None:
    name = fresh()
    wait = await submit_wait(served, **job(name, {}, cancel_job_on=["cancelled"]))
    await wait_until(served, wait, last_verdict_is("running", "Active"))
    status, _ = await post(f"{served.url}/v1/waits/{wait['id']}:cancel")
    assert status == 200

    async def gone() -> bool:
        return await cluster.job(name) is None

    await until(gone, what="the Job's end")


async def test_a_name_that_is_taken_is_no_job_of_ours(served: Daemon, cluster: Cluster) -> None:
    name = fresh()
    first = await submit_wait(served, **job(name, {}, cancel_job_on=["cancelled"]))
    await wait_until(served, first, last_verdict_is("running", "Active"))
    second = await wait_until_ended(served, await submit_wait(served, **job(name, {}, on_conflict="fail")))
    assert second["state"] == "failed", second
    made = await cluster.job(name)
    assert made is not None
    assert made["metadata"]["annotations"]["waitd/idempotency-key"] == first["id"]
    await post(f"{served.url}/v1/waits/{first['id']}:cancel")


async def test_a_job_that_is_not_there_and_a_token_that_is_wrong(served: Daemon) -> None:
    missing = await submit_wait(served, kind="kubernetes.job", params={"name": fresh()}, poke_interval=1)
    await wait_until(served, missing, last_verdict_is("not_found"))
    params = {"name": fresh(), "kubernetes_conn_id": "wrong"}
    wait = await wait_until_ended(served, await submit_wait(served, kind="kubernetes.job", params=params))
    assert (wait["state"], wait["outcome"]["reason"]) == ("failed", "http_401")
    assert "planted" not in json.dumps([wait, served.log])
