"""Promise 4: no secret appears in a database row, log, metric, error, API answer or output."""

import asyncio
import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from cli_process import run_waitd
from daemon import Daemon, Receiver, daemon, serving, until
from planted_secrets import PlantedSecrets, encodings
from secret_sources import INVALID_CONNECTIONS, OUTCOMES, secret_sources

pytestmark = pytest.mark.slow


def expected_state(conn_id: str, path: str) -> str:
    return "timeout" if conn_id in INVALID_CONNECTIONS else OUTCOMES[path]


def wait(conn_id: str, path: str, sinks: list[dict[str, Any]]) -> dict[str, Any]:
    times_out = expected_state(conn_id, path) == "timeout"
    return {
        "kind": "http",
        "params": {
            "http_conn_id": conn_id,
            "endpoint": f"jobs/{path}",
            "request_timeout": 0.5 if times_out else 30,
            "success_when": "body.state == 'ok'",
            "failure_when": "body.state == 'fail'",
        },
        "poke_interval": 0.5,
        "timeout": 1.5 if times_out else 60,
        "sinks": sinks,
        "labels": {"conn": conn_id.replace("_", "-"), "path": path},
    }


def params_with_secret(secret: str, target: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Params into which a submitter might put a secret, and the pointer of the refusal."""
    host = target.removeprefix("http://")
    yield (
        {"endpoint": target, "headers": {"Authorization": f"Bearer {secret}"}},
        "/params/headers/Authorization",
    )
    yield {"endpoint": target, "headers": {"X-Api-Key": secret}}, "/params/headers/X-Api-Key"
    yield {"endpoint": target, "headers": {"x_refresh_token": secret}}, "/params/headers/x_refresh_token"
    yield {"endpoint": target, "headers": {"Cookie": f"session={secret}"}}, "/params/headers/Cookie"
    yield {"endpoint": f"http://user:{secret}@{host}/"}, "/params/endpoint"
    yield {"endpoint": f"//user:{secret}@{host}/", "http_conn_id": "env_basic"}, "/params/endpoint"


#: What the errors of deliveries must contain: each kind of connection has failed.
DELIVERY_ERRORS = (
    b"control characters",
    b"not a JSON object",
    b"invalid_client",
    b"in Vault cannot be read",
)


async def all_errors_met(client: aiohttp.ClientSession, url: str) -> bool:
    """Whether deliveries have failed with each of these errors."""
    async with client.get(f"{url}/v1/deliveries?limit=1000") as answer:
        text = await answer.read()
    return all(error in text for error in DELIVERY_ERRORS)


async def api_answers(client: aiohttp.ClientSession, url: str, ids: list[str]) -> dict[str, bytes]:
    """All answers of the API, by path."""
    paths = ["/v1/waits?limit=1000", "/metrics", "/openapi.json", "/readyz", "/livez"]
    paths += [f"/v1/waits/{wait_id}{more}" for wait_id in ids for more in ("", "/pokes")]
    paths += ["/v1/deliveries?limit=1000", "/v1/deliveries?state=dead"]
    answers = {}
    for path in paths:
        async with client.get(url + path) as answer:
            answers[path] = await answer.read()
    return answers


async def run_command(waitd: Daemon, environment: dict[str, Any], *arguments: str) -> bytes:
    """The output and errors of a command."""
    done = await asyncio.to_thread(run_waitd, *arguments, **environment, WAITD_URL=waitd.url)
    return (done.stdout + done.stderr).encode()


def rows_without_params(database: Path) -> bytes:
    """All values of the database except the parameters of waits."""
    with sqlite3.connect(database) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        values = []
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            for row in cursor:
                values += [
                    repr(value)
                    for name, value in zip(names, row, strict=True)
                    if name not in {"params", "spec"}
                ]
    connection.close()
    return "\n".join(values).encode()


async def test_no_secret_leaks_anywhere(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    receiver = Receiver()
    async with (
        secret_sources(tmp_path) as sources,
        serving("POST", "/{path:.*}", receiver.handle) as receiver.url,
        aiohttp.ClientSession() as client,
        daemon(state, WAITD_LOG_LEVEL="debug", **sources.environment) as waitd,
    ):
        planted = sources.planted
        outputs: dict[str, bytes] = {}
        sinks = [
            {"kind": "webhook", "url": f"{receiver.url}/hook"},
            {"kind": "webhook", "conn_id": "env_basic", "endpoint": "hook/401"},
            {"kind": "webhook", "conn_id": "file_oauth2", "endpoint": "hook/garbled"},
            {"kind": "webhook", "conn_id": "aws_sigv4", "endpoint": "hook/reset"},
            *({"kind": "webhook", "conn_id": conn_id} for conn_id in INVALID_CONNECTIONS),
        ]
        waits = {}
        for conn_id in sources.conn_ids:
            for path in OUTCOMES:
                async with client.post(f"{waitd.url}/v1/waits", json=wait(conn_id, path, sinks)) as answer:
                    outputs[f"the answer to {conn_id} {path}"] = await answer.read()
                    assert answer.status == 201, await answer.text()
                    waits[(await answer.json())["id"]] = (conn_id, path)
        submitted_secret = planted.new("a submitted wait")
        for number, (params, pointer) in enumerate(params_with_secret(submitted_secret, sources.target.url)):
            async with client.post(
                f"{waitd.url}/v1/waits", json={"kind": "http", "params": params}
            ) as answer:
                outputs[f"the answer to refused wait {number}"] = await answer.read()
                assert answer.status == 422
                assert [problem["pointer"] for problem in (await answer.json())["errors"]] == [pointer]
        query_secrets = PlantedSecrets()
        in_query = query_secrets.new("the query of a wait", plain=True)
        for path in OUTCOMES:
            body = {"kind": "http", "params": {"endpoint": f"{sources.target.url}/{path}?sig={in_query}", "request_timeout": 0.5}, "timeout": 1.5, "poke_interval": 0.5}  # fmt: skip
            async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
                assert answer.status == 201

        async def all_ended() -> bool:
            async with client.get(f"{waitd.url}/v1/waits?state=waiting") as answer:
                return not (await answer.json())["waits"]

        await until(all_ended, what="the end of all waits")
        await until(lambda: len(receiver.bodies) >= len(waits), what="the delivery of all outcomes")
        await until(lambda: all_errors_met(client, waitd.url), what="the errors of deliveries")
        for wait_id, (conn_id, path) in waits.items():
            async with client.get(f"{waitd.url}/v1/waits/{wait_id}") as answer:
                ended = await answer.json()
            assert ended["state"] == expected_state(conn_id, path), (
                conn_id,
                path,
                ended["outcome"],
            )
        sent = "".join(sources.target.heads)
        sent_secrets = {
            "environment, bearer",
            "directory, extra headers",
            "vault, bearer",
            "fetched tokens",
            "secrets manager, session token",
        }
        assert all(planted.secrets[where] in sent for where in sent_secrets), "the secrets reach the target"
        assert base64.b64encode(f"u:{planted.secrets['environment, basic']}".encode()).decode() in sent

        answers = await api_answers(client, waitd.url, list(waits))
        sample = list(waits)[:: len(OUTCOMES)]
        for arguments in (
            ["list", "--limit", "500", "--json"],
            ["list"],
            ["config", "check", "--json"],
            ["show", *sample[:1]],
            ["show", *sample[-1:], "--json"],
        ):
            outputs["waitd " + " ".join(arguments)] = await run_command(
                waitd, sources.environment, *arguments
            )
        outputs["the log"] = "\n".join(map(str, waitd.log)).encode()
        outputs |= answers | {f"the event of {name}": body for name, body in receiver.bodies.items()}
        outputs |= {file.name: file.read_bytes() for file in state.iterdir() if file.is_file()}
        await waitd.kill()
        outputs["the whole log"] = json.dumps(waitd.log, ensure_ascii=False).encode()
        outputs |= {
            f"{file.name} after the kill": file.read_bytes() for file in state.iterdir() if file.is_file()
        }
        assert len(outputs["the log"]) > 1000
        assert len(outputs["/metrics"]) > 1000
        assert planted.find_leaks(outputs) == []
        # An endpoint's query is stored with the wait's params, and must appear nowhere else.
        others = {name: outputs[name] for name in ("the whole log", "/metrics")}
        others["rows"] = rows_without_params(state / "waitd.db")
        assert query_secrets.find_leaks(others) == []


@pytest.mark.parametrize("secret", ["plain0123456789abcdef", "sp/ci+al&=%:ü0123456789"])
def test_the_search_finds_every_encoding(secret: str) -> None:
    forms = encodings(secret)
    for before in ("", "u:", "user:", "ab"):
        for text in (
            secret,
            json.dumps(secret),
            quote(secret),
            base64.b64encode(f"{before}{secret}:after".encode()).decode(),
            base64.urlsafe_b64encode(f"{before}{secret}".encode()).decode(),
        ):
            assert any(form in f"…{before}{text}…".encode() for form in forms), text
