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
        yield server


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    with google(tmp_path_factory.mktemp("google")) as server:
        yield server


@pytest.fixture(params=["azurite", "storage"])
def store(request: pytest.FixtureRequest) -> Azure | Google:
    server: Azure | Google = request.getfixturevalue(request.param)
    return server


@pytest.mark.parametrize("pooled", [True, False], ids=["pool", "session"])
async def test_an_absent_file_is_pending_until_it_exists(store: Azure | Google, pooled: bool) -> None:
    name = f"orders/{pooled}.csv"
    async with kinds(store.connection(), pooled=pooled) as probes:
        absent = await probes.poke(store.kind, store.params(name))
        store.put(name, b"12345")
        present = await probes.poke(store.kind, store.params(name))
    what = "blob" if store.kind == "azure_blob" else "object"
    assert absent == Pending("running", f"The {what} is not there.")
    assert isinstance(present, Success)
    payload: dict[str, Any] = present.payload
    assert (payload["name"], int(payload["size"])) == (name, 5)
    if store.kind == "gcs_key":
        assert payload["bucket"] == "landing"
    else:
        assert payload.keys() == {"name", "container", "size", "etag", "last_modified"}
        assert (payload["container"], payload["size"]) == ("landing", 5)
        assert payload["etag"]
        assert payload["last_modified"].endswith("GMT")


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_file_may_have_any_name(store: Azure | Google, name: str) -> None:
    store.put(name, b"1")
    async with kinds(store.connection()) as probes:
        assert isinstance(await probes.poke(store.kind, store.params(name)), Success)


async def test_a_missing_container_fails_the_wait_after_a_while(azurite: Azure) -> None:
    params = {"container_name": "no-such", "blob_name": "a.csv"}
    message = "Not found: ContainerNotFound"
    async with kinds(azurite.connection()) as probes:
        first = await probes.poke("azure_blob", params)
        assert first == Pending("not_found", message)
        progress = record_verdict(EMPTY_PROGRESS, first, probes.now - 300)
        assert await probes.poke("azure_blob", params, progress) == Failure(
            "not_found", message, silenceable=True
        )


async def test_a_wrong_key_fails_the_wait(azurite: Azure) -> None:
    async with kinds(azurite.connection(password="d3Jvbmc=")) as probes:
        verdict = await probes.poke("azure_blob", azurite.params("a.csv"))
    # Azure itself says AuthenticationFailed: see the preset's golden cases.
    assert verdict == Failure("http_403", "AuthorizationFailure", silenceable=True)


async def test_a_store_that_is_down_ends_no_wait() -> None:
    unused = f"http://127.0.0.1:{free_port()}"
    connections = [
        Connection("wasb_default", "wasb", host=f"{unused}/{ACCOUNT}", login=ACCOUNT, password=KEY),
        Connection("google_cloud_default", host=unused, extra={"auth_type": "none"}),
    ]
    async with kinds(*connections) as probes:
        for store in (Azure, Google):
            assert isinstance(await probes.poke(store.kind, store.params("a")), Unreachable)


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
    store = Azure if kind == Azure.kind else Google
    async with kinds(connection) as probes:
        with pytest.raises(InvalidInput, match=words):
            probes.probe(kind).parse(store.params("a"), namespace="default")
