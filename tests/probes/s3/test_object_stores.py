"""The kinds `gcs_key` and `azure_blob` with emulators of the services."""

from collections.abc import Iterator
from typing import Any

import pytest
from object_stores import ACCOUNT, KEY, Azure, Google, azure, google
from preset_probes import kinds

from waitd.bench.children import free_port
from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.core.waits.wait import EMPTY_PROGRESS, record_verdict

ODD_NAMES = ["plain.csv", "a/b/c.csv", "a b.csv", "ü€.csv", "50%.csv", "a+b=c&d.csv", "q?*#.csv", "a//b"]


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    with azure(tmp_path_factory.mktemp("azurite")) as server:
        server.container("landing")
        yield server


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    with google(tmp_path_factory.mktemp("google")) as server:
        server.bucket("landing")
        yield server


@pytest.fixture
def unused() -> str:
    return f"http://127.0.0.1:{free_port()}"


def emulator(server: Google) -> Connection:
    return Connection("google_cloud_default", host=server.url, extra={"auth_type": "none"})


def wasb(server: Azure, password: str = KEY) -> Connection:
    return Connection("wasb_default", "wasb", host=server.url, login=ACCOUNT, password=password)


@pytest.mark.parametrize("pooled", [True, False], ids=["pool", "session"])
async def test_an_absent_blob_is_pending_until_it_exists(azurite: Azure, pooled: bool) -> None:
    name = f"orders/{pooled}.csv"
    params = {"container_name": "landing", "blob_name": name}
    async with kinds(wasb(azurite), pooled=pooled) as probes:
        assert await probes.poke("azure_blob", params) == Pending("running", "The blob is not there.")
        azurite.put("landing", name, b"12345")
        seen = await probes.poke("azure_blob", params)
    assert isinstance(seen, Success)
    assert isinstance(seen.payload, dict)
    assert {**seen.payload, "etag": "", "last_modified": ""} == {
        "name": name, "container": "landing", "size": 5, "etag": "", "last_modified": "",
    }  # fmt: skip
    assert seen.payload["etag"]
    assert seen.payload["last_modified"].endswith("GMT")


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_blob_may_have_any_name(azurite: Azure, name: str) -> None:
    azurite.put("landing", name, b"1")
    async with kinds(wasb(azurite)) as probes:
        seen = await probes.poke("azure_blob", {"container_name": "landing", "blob_name": name})
    assert isinstance(seen, Success)


async def test_a_missing_container_fails_the_wait_after_a_while(azurite: Azure) -> None:
    params = {"container_name": "no-such", "blob_name": "a.csv"}
    message = "Not found: ContainerNotFound"
    async with kinds(wasb(azurite)) as probes:
        first = await probes.poke("azure_blob", params)
        assert first == Pending("not_found", message)
        seen = record_verdict(EMPTY_PROGRESS, first, probes.now - 61)
        assert await probes.poke("azure_blob", params, seen) == Failure(
            "not_found", message, silenceable=True
        )


async def test_a_wrong_key_fails_the_wait(azurite: Azure) -> None:
    async with kinds(wasb(azurite, "d3Jvbmc=")) as probes:
        seen = await probes.poke("azure_blob", {"container_name": "landing", "blob_name": "a.csv"})
    # Azure itself says AuthenticationFailed: see the preset's golden cases.
    assert seen == Failure("http_403", "AuthorizationFailure", silenceable=True)


async def test_a_store_that_is_down_ends_no_wait(unused: str) -> None:
    connections = [
        Connection("wasb_default", "wasb", host=f"{unused}/{ACCOUNT}", login=ACCOUNT, password=KEY),
        Connection("google_cloud_default", host=unused, extra={"auth_type": "none"}),
    ]
    async with kinds(*connections) as probes:
        blob = await probes.poke("azure_blob", {"container_name": "landing", "blob_name": "a"})
        key = await probes.poke("gcs_key", {"bucket": "landing", "object": "a"})
    assert {type(blob), type(key)} == {Unreachable}


@pytest.mark.parametrize("pooled", [True, False], ids=["pool", "session"])
async def test_an_absent_object_is_pending_until_it_exists(storage: Google, pooled: bool) -> None:
    name = f"orders/{pooled}.csv"
    params = {"bucket": "landing", "object": name}
    async with kinds(emulator(storage), pooled=pooled) as probes:
        assert await probes.poke("gcs_key", params) == Pending("running", "The object is not there.")
        storage.put("landing", name, b"12345")
        seen = await probes.poke("gcs_key", params)
    assert isinstance(seen, Success)
    assert isinstance(seen.payload, dict)
    assert {key: seen.payload[key] for key in ("bucket", "name")} == {"bucket": "landing", "name": name}
    assert int(seen.payload["size"]) == 5


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_object_may_have_any_name(storage: Google, name: str) -> None:
    storage.put("landing", name, b"1")
    async with kinds(emulator(storage)) as probes:
        seen = await probes.poke("gcs_key", {"bucket": "landing", "object": name})
    assert isinstance(seen, Success)


IN_PARTS = 'give its parts instead, as in {"%s":"landing","%s":"orders/2026-11-21/part-0.parquet"}'
WRONG = [
    ("gcs_key", {"bucket": "landing"}, "/object", "Field required"),
    ("gcs_key", {"bucket": "Landing", "object": "a"}, "/bucket", "pattern"),
    ("gcs_key", {"bucket": "landing", "object": "gs://landing/a"}, "/object", IN_PARTS % ("bucket", "object")),
    ("gcs_key", {"bucket": "landing", "object": "a/../b"}, "/object", "segments"),
    ("gcs_key", {"bucket": "landing", "object": "a*", "use_glob": True}, "/use_glob", "unknown field; known are: bucket, "),
    ("azure_blob", {"container_name": "landing"}, "/blob_name", "Field required"),
    ("azure_blob", {"container_name": "a--b", "blob_name": "a"}, "/container_name", "pattern"),
    ("azure_blob", {"container_name": "landing", "blob_name": "abfs://landing@a/b"}, "/blob_name", IN_PARTS % ("container_name", "blob_name")),
    ("azure_blob", {"container_name": "landing", "blob_name": "a*", "wildcard_match": True}, "/wildcard_match", "unknown field"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "params", "pointer", "words"), WRONG)
async def test_wrong_parameters_are_refused_at_submit(
    kind: str, params: dict[str, Any], pointer: str, words: str
) -> None:
    async with kinds() as probes:
        with pytest.raises(InvalidInput) as caught:
            probes.probe(kind).parse(params, namespace="default")
    [problem] = caught.value.problems
    assert problem.pointer == pointer
    assert words in problem.detail


@pytest.mark.parametrize(
    ("kind", "connection", "words"),
    [
        ("azure_blob", Connection("wasb_default", "wasb", login="a", password=KEY), "it has no host"),
        ("azure_blob", Connection("wasb_default", "wasb", host="https://a.example"), "it has no credentials"),
        ("gcs_key", Connection("google_cloud_default"), "it has no credentials"),
    ],
)
async def test_an_incomplete_connection_is_refused_at_submit(
    kind: str, connection: Connection, words: str
) -> None:
    params = (
        {"container_name": "landing", "blob_name": "a"}
        if kind == "azure_blob"
        else {"bucket": "landing", "object": "a"}
    )
    async with kinds(connection) as probes:
        with pytest.raises(InvalidInput, match=words):
            probes.probe(kind).parse(params, namespace="default")
