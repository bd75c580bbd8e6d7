"""Connections in a file and in a directory of secrets."""

import json
import os
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from waitd.connections.directory import DirectoryResolver
from waitd.connections.file import FileResolver
from waitd.core.errors import ConnectionUnavailable, UnknownConnection

EXAMPLE = Path(__file__).parents[2] / "config" / "connections.example.toml"
TOML = """
uri = "http://u:planted@h.example"
[api]
conn_type = "http"
host = "api.example"
port = 8443
password = "planted"
extra = { auth_type = "bearer" }
"""
YAML = """
uri: http://u:planted@h.example
api: {conn_type: http, host: api.example, port: 8443, password: planted, extra: {auth_type: bearer}}
"""


@pytest.mark.parametrize(("name", "text"), [("c.toml", TOML), ("c.yaml", YAML), ("c.yml", YAML)])
async def test_a_file_holds_tables_of_fields_and_uris(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    resolver = FileResolver(file)
    api, uri = await resolver.lookup("api"), await resolver.lookup("uri")
    assert (api.host, api.port, api.password, api.extra) == (
        "api.example",
        8443,
        "planted",
        {"auth_type": "bearer"},
    )
    assert (uri.host, uri.login) == ("h.example", "u")
    with pytest.raises(UnknownConnection):
        await resolver.lookup("other")


async def test_a_changed_or_replaced_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('api = "http://one"')
    resolver = FileResolver(file)
    assert (await resolver.lookup("api")).host == "one"
    new = tmp_path / "new"
    new.write_text('api = "http://two"')
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    new.rename(file)
    assert (await resolver.lookup("api")).host == "two"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'api = "http://planted'), ("c.toml", "planted"), ("c.yaml", "{planted"), ("c.yaml", "- planted"), ("c.yaml", "1: planted"),
        ("c.yaml", f"api: {'[' * 5000}planted"), ("c.toml", f"api = {'[' * 5000}planted"), ("c.json", f"{'[' * 100_000}planted"),
        ("c.yaml", "api: {conn_type: http, extra: {1: planted}}"),
        ("c.toml", "api = 7"), ("c.toml", '[api]\nplanted = "x"'), ("c.toml", 'api = "planted"'), ("c.yaml", "api: !!python/object:os.planted {}"),
    ],
)  # fmt: skip
async def test_an_unreadable_file_is_unavailable_and_not_quoted(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConnectionUnavailable, match=name) as raised:
        await FileResolver(file).lookup("api")
    assert "planted" not in str(raised.value)
    assert raised.value.__cause__ is None


EXPORTED = {
    "api": {
        "conn_type": "http", "description": None, "login": "u", "password": "p", "host": "h", "port": 80, "schema": "",
        "extra": '{"apikey": "K"}',
    },
    "bare": {"conn_id": "bare", "conn_type": "aws", "login": None, "extra": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"), [("c.json", json.dumps(EXPORTED)), ("c.yaml", yaml.safe_dump(EXPORTED))]
)
async def test_what_airflow_exports_is_taken_as_it_is(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    resolver = FileResolver(tmp_path / name)
    api, bare = await resolver.lookup("api"), await resolver.lookup("bare")
    assert (api.login, api.port, api.extra) == ("u", 80, {"apikey": "K"})
    assert (bare.conn_type, bare.login, bare.extra) == ("aws", None, {})


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("c.toml", 'a = "http://h"\nplanted\n', "line 2 is not valid TOML"),
        ("c.toml", 'a = "planted', "line 1 is not valid TOML"),
        ("c.yaml", "a: http://h\n\nb: {planted\n", "line [34] is not valid YAML"),
        ("c.yaml", "a: http://h\nb: planted\0", "line 2 is not valid YAML"),
        ("c.json", '{\n"a": "http://h",\nplanted}', "line 3 is not valid JSON"),
    ],
)
async def test_the_line_of_a_mistake_is_named(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConnectionUnavailable, match=f"{name} cannot be read: .*({why})") as refused:
        await FileResolver(tmp_path / name).load()
    assert "planted" not in str(refused.value)


async def test_a_file_that_breaks_later_leaves_the_last_good_one(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('api = "http://one"')
    resolver = FileResolver(file)
    assert (await resolver.lookup("api")).host == "one"
    file.write_text('api = "http://two')
    with capture_logs() as logs:
        assert [(await resolver.lookup("api")).host for _ in range(2)] == ["one", "one"]
    assert [line["event"] for line in logs] == ["connections_file_unreadable"]
    assert "c.toml" in resolver.trouble
    file.unlink()
    assert (await resolver.lookup("api")).host == "one"
    file.write_text('api = "http://three"')
    assert (await resolver.lookup("api")).host == "three"
    assert resolver.trouble == ""


async def test_a_missing_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ConnectionUnavailable, match="FileNotFoundError"):
        await FileResolver(tmp_path / "none.toml").lookup("api")


async def test_the_example_file_is_valid() -> None:
    import tomllib

    from waitd.core.connections.auth import AUTH_TYPES, build_credentials

    resolver = FileResolver(EXAMPLE)
    kinds = set()
    for conn_id in tomllib.loads(EXAMPLE.read_text()):
        connection = await resolver.lookup(conn_id)
        if connection.conn_type in {"http", "airflow", "wasb"}:
            build_credentials(connection)
            default = "airflow" if connection.conn_type == "airflow" else "basic"
            kinds.add(connection.extra.get("auth_type", default))
    assert kinds == set(AUTH_TYPES)


def mount(directory: Path, generation: str, **secrets: str) -> None:
    """Mounts a secret as Kubernetes does: files are links through `..data`, which is replaced."""
    new = directory / f"..{generation}"
    new.mkdir(parents=True)
    for name, value in secrets.items():
        (new / name).write_text(value)
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    (directory / "..data_tmp").symlink_to(new.name)
    (directory / "..data_tmp").rename(directory / "..data")


async def test_a_changed_mounted_secret_takes_effect(tmp_path: Path) -> None:
    mount(tmp_path, "2026_1", api="http://one\n", other='{"host": "h"}')
    resolver = DirectoryResolver(tmp_path)
    assert (await resolver.lookup("api")).host == "one"
    assert (await resolver.lookup("other")).host == "h"
    mount(tmp_path, "2026_2", api="http://two")
    assert (await resolver.lookup("api")).host == "two"
    with pytest.raises(UnknownConnection):
        await resolver.lookup("other")


@pytest.mark.parametrize(
    "conn_id", ["../secret", "a/b", "/etc/passwd", "..data", ".hidden", "a\\b", "a:b", "..", "."]
)
async def test_a_conn_id_cannot_escape_the_directory(tmp_path: Path, conn_id: str) -> None:
    inside = tmp_path / "inside"
    mount(inside, "1", api="http://one")
    (tmp_path / "secret").write_text("http://planted")
    with pytest.raises(UnknownConnection):
        await DirectoryResolver(inside).lookup(conn_id)


async def test_a_missing_directory_and_an_invalid_secret_are_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ConnectionUnavailable, match="no directory"):
        await DirectoryResolver(tmp_path / "none").lookup("api")
    (tmp_path / "api").write_bytes(b"\xffplanted")
    (tmp_path / "odd").write_text("planted")
    for conn_id in ("api", "odd"):
        with pytest.raises(ConnectionUnavailable, match="cannot be read") as raised:
            await DirectoryResolver(tmp_path).lookup(conn_id)
        assert "planted" not in str(raised.value)
