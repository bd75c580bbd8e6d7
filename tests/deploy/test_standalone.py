"""A real daemon with the settings, variables, mounted files and probes of the manifests."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from certificates import Authority
from daemon import Daemon, daemon
from manifests import Object, Pod, find_object, pod_of, probe_actions

pytestmark = pytest.mark.slow
WAIT = {"kind": "http", "params": {"http_conn_id": "batch_api", "endpoint": "/jobs/1"}, "poke_interval": 3600}


class Mounts:
    """The pod's volumes as directories of the test."""

    def __init__(self, folder: Path, pod: Pod) -> None:
        self._directories: dict[str, Path] = {}
        for mount in pod.container["volumeMounts"]:
            self._directories[mount["mountPath"]] = folder / mount["name"]
            (folder / mount["name"]).mkdir()

    def local_path(self, text: str) -> str:
        """The test's path for a path in the container; other texts are unchanged."""
        for mount_path, directory in self._directories.items():
            if text == mount_path or text.startswith(mount_path + "/"):
                return str(directory) + text.removeprefix(mount_path)
        return text

    def write(self, path: str, content: str | bytes) -> None:
        """Writes a file to a path in the container."""
        file = Path(self.local_path(path))
        assert file.parent.is_dir(), f"nothing is mounted at {path}"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def create_key(role: str, namespace: str = "default") -> tuple[str, str]:
    """A new key and its line in the keys file, as in deploy/README.md."""
    options = ["--role", role, "--namespace", namespace]
    done = subprocess.run(
        [sys.executable, "-m", "waitd", "keys", "create", *options, "--offline", "--json"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    created = json.loads(done.stdout)
    return created["key"], created["line"]


@asynccontextmanager
async def started(
    folder: Path, objects: list[Object], authority: Authority
) -> AsyncIterator[tuple[Daemon, str, str]]:
    """The daemon of these manifests, a key for it, and one for its metrics.

    Only `bind` is changed: it listens on a free port of loopback.
    """
    pod = pod_of(find_object(objects, "StatefulSet", "waitd"))
    mounts = Mounts(folder, pod)
    environment = {
        name: mounts.local_path(value) for name, value in pod.environment.items() if name != "WAITD_BIND"
    }
    assert pod.environment["WAITD_BIND"].startswith("0.0.0.0:")
    (settings,) = [o for o in objects if o["kind"] == "ConfigMap"]
    mounts.write("/etc/waitd/waitd.toml", settings["data"]["waitd.toml"])
    key, line = create_key("submitter")
    metrics_key, metrics_line = create_key("viewer", "*")
    lines = f"# written by the test\n{line}\n{metrics_line}\n"
    mounts.write(pod.environment["WAITD_API_KEYS_FILE"], lines)
    mounts.write("/etc/waitd-connections/batch_api", "http://user:password@127.0.0.1:9")
    if "WAITD_TLS_CERTIFICATE" in pod.environment:
        certificate, private = authority.pair()
        mounts.write(pod.environment["WAITD_TLS_CERTIFICATE"], certificate)
        mounts.write(pod.environment["WAITD_TLS_KEY"], private)
    command, *arguments = pod.container["args"]
    assert command == "serve"
    state = Path(mounts.local_path("/var/lib/waitd"))
    async with daemon(state, arguments=[mounts.local_path(a) for a in arguments], **environment) as waitd:
        assert (state / "waitd.db").is_file()
        yield waitd, key, metrics_key


@pytest.mark.parametrize("variant", ["standalone", "everything"])
async def test_the_daemon_answers_its_probes_and_accepts_waits_with_a_mounted_key_only(
    tmp_path: Path, deployments: dict[str, list[Object]], variant: str
) -> None:
    objects, monitored = deployments[variant], deployments["everything"]
    authority = Authority(tmp_path)
    connector = aiohttp.TCPConnector(ssl=authority.context())
    async with (
        started(tmp_path, objects, authority) as (waitd, key, metrics_key),
        aiohttp.ClientSession(connector=connector) as client,
    ):
        assert waitd.url.startswith("https:" if variant == "everything" else "http:")
        (endpoint,) = find_object(monitored, "ServiceMonitor", "waitd")["spec"]["endpoints"]
        address = {"Host": "10.1.2.3:8795"}  # the kubelet and Prometheus use the pod's address
        for how, path in probe_actions(pod_of(find_object(objects, "StatefulSet", "waitd"))):
            assert how == "httpGet"
            async with client.get(waitd.url + path, headers=address) as answer:
                assert answer.status == 200, path
        assert endpoint["authorization"] == {"credentials": {"name": "waitd-metrics-key", "key": "key"}}
        for scraper, status in (({}, 401), ({"Authorization": f"Bearer {metrics_key}"}, 200)):
            async with client.get(waitd.url + endpoint["path"], headers=address | scraper) as answer:
                assert answer.status == status
        url = waitd.url + "/v1/waits"
        for headers in ({}, {"Authorization": "Bearer waitd_nobody_" + "x" * 43}):
            async with client.post(url, json=WAIT, headers=headers) as answer:
                assert answer.status == 401
            async with client.get(url, headers=headers) as answer:
                assert answer.status == 401
        known = {"Authorization": f"Bearer {key}", "Host": "waitd.waitd.svc:8795"}
        async with client.post(url, json=WAIT, headers=known) as answer:
            assert answer.status == 201, await answer.text()
        async with client.get(url, headers=known) as answer:
            assert len((await answer.json())["waits"]) == 1


def test_a_daemon_without_keys_does_not_start_off_loopback(
    tmp_path: Path, deployments: dict[str, list[Object]]
) -> None:
    environment = pod_of(find_object(deployments["standalone"], "StatefulSet", "waitd")).environment
    done = subprocess.run(
        [sys.executable, "-m", "waitd", "serve"],
        env={"WAITD_BIND": environment["WAITD_BIND"], "WAITD_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "WAITD_API_KEYS_FILE" in done.stderr
