"""Connections with secrets in every resolver, and a target that echoes its requests."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web
from daemon import serving
from fake_vault import FakeVault, vault_server
from planted_secrets import PlantedSecrets
from stream_server import stream_server
from token_endpoint import TokenEndpoint, token_endpoint

#: The outcome of a wait for each path of the hostile target.
OUTCOMES = {"ok": "success", "fail": "failed", "401": "failed", "hang": "timeout", "garbled": "timeout", "reset": "timeout", "elsewhere": "failed", "500": "timeout"}  # fmt: skip
#: Invalid connections; a delivery through them reports the mistake.
INVALID_CONNECTIONS = ("env_unsendable", "broken", "file_no_token", "vault_broken")


class HostileTarget:
    """A server with every kind of answer.

    It echoes the request where an error message might quote it.
    """

    def __init__(self) -> None:
        #: The heads of all requests.
        self.heads: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8", "replace")
                self.heads.append(head)
                path = head.split(" ")[1].partition("?")[0].rpartition("/")[2]
                if path == "hang":
                    await reader.read()  # until the client gives up
                    return
                echo = re.sub(r"[\r\n]+", " ", head).encode("utf-8", "replace")
                if path == "reset":
                    writer.transport.abort()
                    return
                writer.write(_answer(path, echo))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()


def _answer(path: str, echo: bytes) -> bytes:
    if path == "garbled":
        return b"HTTP/1.1 2x0 " + echo + b"\r\n\r\n"  # the client's error message quotes the line
    if path == "elsewhere":
        return (
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/?"
            + echo.replace(b" ", b"")
            + b"\r\nContent-Length: 0\r\n\r\n"
        )
    status = {"401": b"401 Unauthorized", "500": b"500 " + echo}.get(path, b"200 OK")
    body = json.dumps({"state": path}).encode()
    lines = [b"HTTP/1.1 " + status, b"X-Echo: " + echo, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@asynccontextmanager
async def hostile_target() -> AsyncIterator[HostileTarget]:
    target = HostileTarget()
    async with stream_server(target.serve) as port:
        target.url = f"http://127.0.0.1:{port}"
        yield target


class SecretSources:
    """Every system that has a secret, and the connections with these secrets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.planted = PlantedSecrets()
        self.environment: dict[str, str] = {}
        self.conn_ids: list[str] = []
        self.target = HostileTarget()
        self.vault: FakeVault
        self.tokens: TokenEndpoint
        self.aws_secrets: dict[str, str] = {}

    def add_environment(self) -> None:
        new = self.planted.new
        for conn_id, password, extra in (
            ("env_basic", new("environment, basic"), {}),
            ("env_bearer", new("environment, bearer", plain=True), {"auth_type": "bearer"}),
            ("env_header", new("environment, header"), {"auth_type": "header", "header_name": "X-Key"}),
            ("env_unsendable", new("environment, unsendable") + "\r\nX: y", {"auth_type": "bearer"}),
        ):
            value = {
                "conn_type": "http",
                "host": self.target.url,
                "login": "u",
                "password": password,
                "extra": extra,
            }
            self.environment[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(value)
            self.conn_ids.append(conn_id)
        broken = new("environment, broken")
        self.environment["AIRFLOW_CONN_BROKEN"] = f'{{"password": "{broken}"'
        self.conn_ids.append("broken")

    def add_file(self) -> None:
        secret, client = self.planted.new("file, oauth2"), "client-of-file"
        token_url = f"{self.tokens.url}/token"
        self.tokens.clients[client] = secret
        airbyte = self.planted.new("file, airbyte")
        self.tokens.clients["client-of-airbyte"] = airbyte
        values = {
            "file_oauth2": {"login": client, "password": secret, "extra": {"auth_type": "oauth2_client_credentials", "token_url": token_url}},
            "file_airbyte": {"login": "client-of-airbyte", "password": airbyte, "extra": {"auth_type": "airbyte", "token_url": token_url}},
            "file_no_token": {
                "login": client,
                "password": self.planted.new("file, refused client"),
                "extra": {"auth_type": "oauth2_client_credentials", "token_url": token_url, "token_endpoint_auth_method": "client_secret_post"},
            },
        }  # fmt: skip
        file = self.directory / "connections.yaml"
        file.write_text(
            json.dumps(
                {
                    name: {"conn_type": "http", "host": self.target.url, **value}
                    for name, value in values.items()
                }
            )
        )
        self.environment["WAITD_CONNECTIONS_FILE"] = str(file)
        self.conn_ids += values

    def add_directory(self) -> None:
        directory = self.directory / "secrets"
        directory.mkdir()
        google = self.tokens.connections(self.target.url)["google_id"]
        keyfile = google.extra["keyfile_dict"]
        self.planted.add("directory, google key", keyfile["private_key"].split("\n")[5])
        value = {"conn_type": "http", "host": google.host, "extra": dict(google.extra)}
        (directory / "dir_google").write_text(json.dumps(value))
        header = self.planted.new("directory, extra headers", plain=True)
        (directory / "dir_headers").write_text(
            json.dumps(
                {"conn_type": "http", "host": self.target.url, "extra": {"headers": {"X-Extra": header}}}
            )
        )
        self.environment["WAITD_CONNECTIONS_DIRECTORY"] = str(directory)
        self.conn_ids += ["dir_google", "dir_headers"]

    def add_vault(self) -> None:
        self.vault.secret_id = self.planted.new("vault, its secret id")
        token = self.planted.new("vault, bearer", plain=True)
        self.vault.secrets["secret/data/connections/vault_bearer"] = {
            "conn_type": "http",
            "host": self.target.url,
            "extra": json.dumps({"auth_type": "bearer", "token": token}),
        }
        odd = self.planted.new("vault, broken")
        self.vault.secrets["secret/data/connections/vault_broken"] = {"host": "h", "password": odd, odd: odd}
        self.environment |= {
            "WAITD_VAULT_URL": self.vault.url,
            "WAITD_VAULT_AUTH": "approle",
            "WAITD_VAULT_ROLE_ID": self.vault.role_id,
            "WAITD_VAULT_SECRET_ID": self.vault.secret_id,
        }
        self.conn_ids += ["vault_bearer", "vault_broken"]

    def add_secrets_manager(self, url: str) -> None:
        secret = self.planted.new("secrets manager, sigv4")
        self.aws_secrets["airflow/connections/aws_sigv4"] = json.dumps(
            {
                "conn_type": "http",
                "host": self.target.url,
                "login": "AKIA",
                "password": secret,
                "extra": {
                    "auth_type": "aws_sigv4",
                    "aws_service": "glue",
                    "region_name": "eu-west-1",
                    "aws_session_token": self.planted.new("secrets manager, session token", plain=True),
                },
            }
        )
        self.environment |= {
            "WAITD_SECRETS_MANAGER_REGION": "eu-west-1",
            "WAITD_SECRETS_MANAGER_ENDPOINT": url,
            "AWS_ACCESS_KEY_ID": "AKIAENV",
            "AWS_SECRET_ACCESS_KEY": self.planted.new("secrets manager, the daemon's own key"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.conn_ids.append("aws_sigv4")

    async def secrets_manager(self, request: web.Request) -> web.Response:
        name = json.loads(await request.read())["SecretId"]
        if name in self.aws_secrets:
            return web.json_response({"SecretString": self.aws_secrets[name]})
        return web.json_response({"__type": "ResourceNotFoundException"}, status=400)


@asynccontextmanager
async def secret_sources(directory: Path) -> AsyncIterator[SecretSources]:
    sources = SecretSources(directory)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        sources.target = await enter(hostile_target())
        sources.tokens = await enter(token_endpoint(sources.planted.new("fetched tokens", plain=True)))
        sources.vault = await enter(vault_server(asyncio.get_running_loop().time))
        aws = await enter(serving("POST", "/", sources.secrets_manager))
        sources.add_environment()
        sources.add_file()
        sources.add_directory()
        sources.add_vault()
        sources.add_secrets_manager(aws)
        webhook = sources.planted.new("the webhook_secret setting", plain=True)
        sources.environment["WAITD_WEBHOOK_SECRET"] = webhook
        yield sources
