"""Promise 4: a secret is in no row, log, metric, error, API answer or output, whatever becomes of the waits that use it."""

import asyncio
import base64
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from daemon import Daemon, Receiver, daemon, serving, until
from planted_secrets import Planted, forms_of
from secret_places import ENDINGS, UNUSABLE, world

pytestmark = pytest.mark.slow


def wait(conn_id: str, path: str, sinks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "http",
        "params": {
            "http_conn_id": conn_id,
            "endpoint": f"jobs/{path}",
            "request_timeout": 0.5,
            "success_when": "body.state == 'ok'",
            "failure_when": "body.state == 'fail'",
        },
        "poke_interval": 0.5,
        "timeout": 1.5,
        "sinks": sinks,
        "labels": {"conn": conn_id.replace("_", "-"), "path": path},
    }


#: What a submitter might put a secret into, and where the answer must point.
def careless(secret: str, target: str) -> Iterator[tuple[dict[str, Any], str]]:
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


async def texts(client: aiohttp.ClientSession, url: str, ids: list[str]) -> dict[str, bytes]:
    """All that the API says."""
    paths = ["/v1/waits?limit=1000", "/metrics", "/openapi.json", "/readyz", "/livez"]
    paths += [f"/v1/waits/{wait_id}{more}" for wait_id in ids for more in ("", "/pokes")]
    paths += ["/v1/deliveries", "/v1/deliveries?state=dead"]
    answers = {}
    for path in paths:
        async with client.get(url + path) as answer:
            answers[path] = await answer.read()
    return answers


async def cli(waitd: Daemon, environment: dict[str, str], *arguments: str) -> bytes:
    """Output and errors of a command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "waitd", *arguments),
        env={**os.environ, **environment, "WAITD_URL": waitd.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output


def rows_without_params(database: Path) -> bytes:
    """Every value of the database but the waits' own parameters."""
    with sqlite3.connect(database) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found = []
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            for row in cursor:
                found += [
                    repr(value)
                    for name, value in zip(names, row, strict=True)
                    if name not in {"params", "spec"}
                ]
    connection.close()
    return "\n".join(found).encode()


async def test_no_secret_is_written_or_said_anywhere(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    receiver = Receiver()
    async with (
        world(tmp_path) as made,
        serving("POST", "/{path:.*}", receiver.take) as receiver.url,
        aiohttp.ClientSession() as client,
        daemon(state, WAITD_LOG_LEVEL="debug", **made.environment) as waitd,
    ):
        planted = made.planted
        places: dict[str, bytes] = {}
        sinks = [
            {"kind": "webhook", "url": f"{receiver.url}/hook"},
            {"kind": "webhook", "conn_id": "env_basic", "endpoint": "hook/401"},
            {"kind": "webhook", "conn_id": "file_oauth2", "endpoint": "hook/garbled"},
            {"kind": "webhook", "conn_id": "aws_sigv4", "endpoint": "hook/reset"},
            *({"kind": "webhook", "conn_id": conn_id} for conn_id in UNUSABLE),
        ]
        waits = {}
        for conn_id in made.conn_ids:
            for path in ENDINGS:
                async with client.post(f"{waitd.url}/v1/waits", json=wait(conn_id, path, sinks)) as answer:
                    places[f"the answer to {conn_id} {path}"] = await answer.read()
                    assert answer.status == 201, await answer.text()
                    waits[(await answer.json())["id"]] = (conn_id, path)
        careless_secret = planted.new("a careless submitter")
        for number, (params, pointer) in enumerate(careless(careless_secret, made.target.url)):
            async with client.post(
                f"{waitd.url}/v1/waits", json={"kind": "http", "params": params}
            ) as answer:
                places[f"the answer to careless wait {number}"] = await answer.read()
                assert answer.status == 422
                assert [problem["pointer"] for problem in (await answer.json())["errors"]] == [pointer]
        query_secret = Planted()
        in_query = query_secret.new("the query of a wait", plain=True)
        for path in ENDINGS:
            body = {"kind": "http", "params": {"endpoint": f"{made.target.url}/{path}?sig={in_query}", "request_timeout": 0.5}, "timeout": 1.5, "poke_interval": 0.5}  # fmt: skip
            async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
                assert answer.status == 201

        async def all_ended() -> bool:
            async with client.get(f"{waitd.url}/v1/waits?state=waiting") as answer:
                return not (await answer.json())["waits"]

        await until(all_ended, what="the end of all waits")
        await until(lambda: len(receiver.bodies) >= len(waits), what="the outcomes' arrival")
        for wait_id, (conn_id, path) in waits.items():
            async with client.get(f"{waitd.url}/v1/waits/{wait_id}") as answer:
                ended = await answer.json()
            assert ended["state"] == ("timeout" if conn_id in UNUSABLE else ENDINGS[path]), (
                conn_id,
                path,
                ended["outcome"],
            )
        sent = "".join(made.target.heads)
        used = {
            "environment, bearer",
            "directory, extra headers",
            "vault, bearer",
            "fetched tokens",
            "secrets manager, session token",
        }
        assert all(planted.secrets[where] in sent for where in used), "the secrets did reach their target"
        assert base64.b64encode(f"u:{planted.secrets['environment, basic']}".encode()).decode() in sent

        answers = await texts(client, waitd.url, list(waits))
        some = list(waits)[:: len(ENDINGS)]
        for arguments in (
            ["list", "--limit", "500", "--json"],
            ["list"],
            ["config", "check", "--json"],
            ["show", *some[:1]],
            ["show", *some[-1:], "--json"],
        ):
            places["waitd " + " ".join(arguments)] = await cli(waitd, made.environment, *arguments)
        places["the log"] = "\n".join(map(str, waitd.log)).encode()
        places |= answers | {f"the event of {name}": body for name, body in receiver.bodies.items()}
        places |= {file.name: file.read_bytes() for file in state.iterdir() if file.is_file()}
        await waitd.kill()
        places["the whole log"] = json.dumps(waitd.log, ensure_ascii=False).encode()
        places |= {
            f"{file.name} after the kill": file.read_bytes() for file in state.iterdir() if file.is_file()
        }
        told = answers["/v1/deliveries?state=dead"] + answers["/v1/deliveries"]
        assert all(
            why in told
            for why in (
                b"control characters",
                b"no JSON object",
                b"invalid_client",
                b"in Vault cannot be read",
            )
        )
        assert len(places["the log"]) > 1000
        assert len(places["/metrics"]) > 1000
        assert planted.found_in(places) == []
        # A query is part of the wait's own parameters, and stored as such; nothing else repeats it.
        beside = {name: places[name] for name in ("the whole log", "/metrics")}
        beside["rows"] = rows_without_params(state / "waitd.db")
        assert query_secret.found_in(beside) == []


@pytest.mark.parametrize("secret", ["plain0123456789abcdef", "sp/ci+al&=%:ü0123456789"])
def test_the_search_finds_every_form(secret: str) -> None:
    forms = forms_of(secret)
    for before in ("", "u:", "user:", "ab"):
        for text in (
            secret,
            json.dumps(secret),
            quote(secret),
            base64.b64encode(f"{before}{secret}:after".encode()).decode(),
            base64.urlsafe_b64encode(f"{before}{secret}".encode()).decode(),
        ):
            assert any(form in f"…{before}{text}…".encode() for form in forms), text
