"""A target repeats all that it is sent, in many ways: the daemon shows and stores no secret."""

import asyncio
import base64
import html
import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from aiohttp import web
from cli_process import run_waitd
from daemon import Receiver, daemon, serving, until
from planted_secrets import PlantedSecrets

pytestmark = pytest.mark.slow


class EchoingTarget:
    """Answers every request with what it was sent; it is a token endpoint, and an S3 store, too."""

    def __init__(self, token: str, in_redirect: str) -> None:
        self.token = token
        self.in_redirect = quote(in_redirect, safe="")
        self.seen = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        sent = [*request.headers.values(), *request.query.values(), await request.text(), request.path_qs]
        text = "\n".join(sent)
        self.seen += text + base64.b64encode(text.encode()).decode()
        if request.path == "/token":
            return web.json_response({"access_token": self.token, "expires_in": 3600})
        if request.path == "/redirect":
            raise web.HTTPFound(f"/success?X-Amz-Signature={self.in_redirect}")
        if request.path.startswith("/bucket"):
            return web.Response(status=400, text=f"<Error><Code>{html.escape(text)}</Code></Error>")
        body = {
            "sent": sent,
            "keys": dict.fromkeys(sent, 1),
            "url": quote(text),
            "hex": text.encode().hex(),
            "base64": [base64.b64encode(b" " * n + text.encode()).decode() for n in range(3)],
            "json in base64": base64.b64encode(orjson.dumps(sent)).decode(),
            "json": json.dumps(json.dumps(text)),
            "html": html.escape(text),
        }
        status = 400 if request.path == "/refused" else 200
        return web.json_response(body, status=status, headers={"X-Echo": quote(text)})


def connections(planted: PlantedSecrets, url: str) -> dict[str, dict[str, Any]]:
    """A connection for each way of authentication."""
    new = planted.new
    oauth2 = {"auth_type": "oauth2_client_credentials", "token_url": f"{url}/token"}
    aws = {"region_name": "eu-west-1", "aws_session_token": new("session token", plain=True)}
    key_id = new("access key id", plain=True)
    return {
        "basic": {"login": new("login", plain=True), "password": new("basic")},
        "login": {"login": new("a login without password", plain=True)},
        "bearer": {"password": new("bearer", plain=True), "extra": {"auth_type": "bearer"}},
        "header": {"password": new("header"), "extra": {"auth_type": "header", "header_name": "X-Any"}},
        "extras": {"extra": {"X-Tenant-Id": new("extra"), "headers": {"Cookie": f"a={new('cookie', plain=True)}"}}},
        "oauth2": {"login": "client", "password": new("client secret"), "extra": oauth2},
        "in_form": {
            "login": "client",
            "password": new("client secret in a form"),
            "extra": oauth2 | {"token_endpoint_auth_method": "client_secret_post"},
        },
        "sigv4": {"login": key_id, "password": "never sent", "extra": aws | {"auth_type": "aws_sigv4", "aws_service": "glue"}},
        "s3": {"conn_type": "aws", "login": key_id, "password": "never sent", "extra": aws | {"endpoint_url": url}},
    }  # fmt: skip


def waits(conn_id: str, in_body: str, sinks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A wait for each outcome, whose texts are all that the target says."""
    if conn_id == "s3":
        params = {"aws_conn_id": "s3", "bucket_key": "s3://bucket/key"}
        return [{"kind": "s3_key", "params": params, "timeout": 1.5, "poke_interval": 0.5}]
    variants: list[dict[str, Any]] = [
        {"endpoint": "success", "success_when": "true", "message": "text"},
        {"endpoint": "redirect", "success_when": "true", "result": "text", "message": "headers['x-echo']"},
        {"endpoint": "refused", "failure_when": "status == 400", "message": "headers['x-echo'] + text"},
        {"endpoint": "never", "success_when": "false", "message": "text"},
        {"endpoint": "body", "method": "POST", "json": {"api_key": in_body}, "success_when": "true"},
    ]
    return [
        {
            "kind": "http",
            "params": {"http_conn_id": conn_id, **each},
            "timeout": 1.5,
            "poke_interval": 0.5,
            "sinks": sinks,
        }
        for each in variants
    ]


async def test_nothing_that_was_sent_comes_back(tmp_path: Path) -> None:
    state, planted = tmp_path / "state", PlantedSecrets()
    state.mkdir()
    target = EchoingTarget(planted.new("fetched token", plain=True), planted.new("redirect"))
    receiver, outputs = Receiver(), dict[str, bytes]()
    stored = PlantedSecrets()
    in_body = stored.new("the body of a wait")
    async with (
        serving("*", "/{path:.*}", target.answer) as url,
        serving("POST", "/{path:.*}", receiver.handle) as receiver.url,
        aiohttp.ClientSession() as client,
    ):
        known = connections(planted, url)
        settings = {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": "http", "host": url} | fields)
            for name, fields in known.items()
        }
        async with daemon(state, WAITD_LOG_LEVEL="debug", **settings) as waitd:
            ids = []
            for conn_id in known:
                for wait in waits(conn_id, in_body, [{"kind": "webhook", "url": receiver.url}]):
                    async with client.post(f"{waitd.url}/v1/waits", json=wait) as answer:
                        assert answer.status == 201, await answer.text()
                        ids.append((await answer.json())["id"])

            async def all_ended() -> bool:
                async with client.get(f"{waitd.url}/v1/waits?state=waiting") as answer:
                    return not (await answer.json())["waits"]

            await until(all_ended, what="the end of all waits")
            await until(lambda: len(receiver.bodies) >= len(ids) - 1, what="the deliveries")
            paths = [
                "/v1/waits?limit=1000",
                "/v1/deliveries?limit=1000",
                "/v1/audit",
                "/metrics",
                "/openapi.json",
                "/docs",
            ]
            paths += [f"/v1/waits/{each}{more}" for each in ids for more in ("", "/pokes")]
            for path in paths:
                async with client.get(waitd.url + path) as answer:
                    outputs[path] = await answer.read()
            for arguments in (["list", "--json"], ["list"], ["show", ids[0]], ["export"]):
                command = partial(run_waitd, *arguments, **dict[str, Any](settings), WAITD_URL=waitd.url)
                done = await asyncio.to_thread(command)
                outputs[f"waitd {arguments[0]}"] = (done.stdout + done.stderr).encode()
            outputs |= {file.name: file.read_bytes() for file in state.iterdir() if file.is_file()}
            await waitd.kill()
            outputs["the log"] = json.dumps(waitd.log, ensure_ascii=False).encode()
    outputs |= {f"the event of {name}": body for name, body in receiver.bodies.items()}
    unsent = [
        where
        for where, secret in planted.secrets.items()
        if secret not in target.seen and where not in IN_BASE64
    ]
    assert unsent == []
    assert planted.find_leaks(outputs) == []
    events = {name: body for name, body in outputs.items() if name.startswith("the event")}
    assert stored.find_leaks(events | {"the log": outputs["the log"]}) == []
    assert all(b"***" in body for body in events.values())
    listed = json.loads(outputs["/v1/waits?limit=1000"])["waits"]
    assert {each["state"] for each in listed} == {"success", "failed", "timeout"}


#: What is sent in base64 only, or escaped in a query.
IN_BASE64 = {
    "basic",
    "login",
    "a login without password",
    "client secret",
    "client secret in a form",
    "redirect",
}
