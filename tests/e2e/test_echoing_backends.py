"""Databases and brokers repeat all that they are sent: the daemon shows and stores no secret."""

import asyncio
import json
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import Receiver, daemon, serving, until
from planted_secrets import PlantedSecrets
from stream_server import stream_server

pytestmark = pytest.mark.slow

NATS_INFO = (
    b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576,"auth_required":true,"headers":true}\r\n'
)


def postgres_error(text: bytes) -> bytes:
    """An ErrorResponse of PostgreSQL's protocol."""
    fields = b"SFATAL\0C28P01\0M" + text.replace(b"\0", b" ") + b"\0D" + text.replace(b"\0", b" ") + b"\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


def on_one_line(text: bytes) -> bytes:
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


class EchoingBackend:
    """A server that greets, and then answers everything with an error that repeats it."""

    def __init__(self, answer: Callable[[bytes], bytes], greeting: bytes = b"") -> None:
        self._answer = answer
        self._greeting = greeting
        self.seen = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self._greeting)
            while data := await reader.read(65536):
                self.seen += data
                writer.write(self._answer(data))
                await writer.drain()
        except ConnectionError:
            pass  # the client has what it wants to know
        finally:
            writer.close()


def postgres_answer(data: bytes) -> bytes:
    """Refuses TLS, asks for the password in plain text, and repeats it."""
    if data[4:8] == (80877103).to_bytes(4, "big"):
        return b"N"
    return postgres_error(data) if data[:1] == b"p" else b"R\0\0\0\x08\0\0\0\x03"


def mysql_packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


#: Without TLS; the capabilities are protocol 4.1, secure connections and authentication by plugins.
MYSQL_GREETING = mysql_packet(
    0,
    b"\x0a11.4.2-MariaDB\0" + bytes(4) + b"12345678\0" + struct.pack("<HBHHB", 0x8200, 45, 2, 0x0008, 21)
    + bytes(10) + b"123456789012\0mysql_native_password\0",
)  # fmt: skip


def mysql_answer(data: bytes) -> bytes:
    """Asks for the password in plain text, and repeats it."""
    number = data[3]
    if number == 1:
        return mysql_packet(2, b"\xfemysql_clear_password\0")
    return mysql_packet(number + 1, b"\xff" + struct.pack("<H", 1045) + b"#28000" + data[4:])


def amqp_answer(data: bytes) -> bytes:
    """Asks for PLAIN, and closes the connection with what the login contained."""
    if data.startswith(b"AMQP"):
        method = struct.pack(">HHBBII5sI5s", 10, 10, 0, 9, 0, 5, b"PLAIN", 5, b"en_US")
    else:
        text = data[-200:]
        method = struct.pack(">HHHB", 10, 50, 403, len(text)) + text + bytes(4)
    return struct.pack(">BHI", 1, 0, len(method)) + method + b"\xce"


def kafka_answer(data: bytes) -> bytes:
    """Asks for SASL PLAIN, and repeats the login in the error."""
    key, _, number = struct.unpack(">hhi", data[4:12])
    answers = {
        18: struct.pack(">hi", 0, 5) + struct.pack(">15h", 0, 0, 7, 3, 0, 5, 17, 0, 1, 18, 0, 0, 36, 0, 0),
        17: struct.pack(">hih5s", 0, 1, 5, b"PLAIN"),
        36: struct.pack(">hh", 58, len(data)) + data + struct.pack(">i", -1),
    }
    answer = struct.pack(">i", number) + answers[key]
    return struct.pack(">i", len(answer)) + answer


BACKENDS: dict[str, Callable[[], EchoingBackend]] = {
    "postgres": lambda: EchoingBackend(postgres_answer),
    "redis": lambda: EchoingBackend(lambda data: b"-ERR " + on_one_line(data) + b"\r\n"),
    "nats": lambda: EchoingBackend(lambda data: b"-ERR '" + on_one_line(data) + b"'\r\n", NATS_INFO),
    "mysql": lambda: EchoingBackend(mysql_answer, MYSQL_GREETING),
    "amqp": lambda: EchoingBackend(amqp_answer),
    "kafka": lambda: EchoingBackend(kafka_answer),
}


async def test_nothing_that_a_database_or_broker_was_sent_comes_back(tmp_path: Path) -> None:
    state, planted, outputs = tmp_path / "state", PlantedSecrets(), dict[str, bytes]()
    state.mkdir()
    receiver = Receiver()
    backends = {name: make() for name, make in BACKENDS.items()}
    async with (
        AsyncExitStack() as stack,
        serving("POST", "/{path:.*}", receiver.handle) as receiver.url,
        aiohttp.ClientSession() as client,
    ):
        settings = {}
        for name, backend in backends.items():
            port = await stack.enter_async_context(stream_server(backend.serve))
            connection: dict[str, Any] = {
                "conn_type": name,
                "host": "127.0.0.1",
                "port": port,
                "login": "u",
                "password": planted.new(name, plain=True),
                "schema": "db",
            }
            if name == "kafka":
                connection["extra"] = {
                    "bootstrap.servers": f"127.0.0.1:{port}",
                    "security.protocol": "SASL_PLAINTEXT",
                    "sasl.mechanism": "PLAIN",
                    "sasl.username": "u",
                    "sasl.password": connection.pop("password"),
                }
            settings[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)
        wait: dict[str, Any] = {
            "kind": "sql",
            "params": {"conn_id": "postgres", "sql": "SELECT 1"},
            "poke_interval": 0.5,
            "timeout": 1.5,
            "sinks": [
                {"kind": "redis", "conn_id": "redis", "stream": "s"},
                {"kind": "nats", "conn_id": "nats", "subject": "s"},
                {"kind": "amqp", "conn_id": "amqp", "exchange": "e"},
                {"kind": "kafka", "conn_id": "kafka", "topic": "t"},
                {"kind": "webhook", "url": receiver.url},
            ],
        }
        of_mysql = wait | {"params": wait["params"] | {"conn_id": "mysql"}, "sinks": []}
        async with daemon(state, WAITD_LOG_LEVEL="debug", **settings) as waitd:
            ids = []
            for each in (wait, of_mysql):
                async with client.post(f"{waitd.url}/v1/waits", json=each) as answer:
                    assert answer.status == 201, await answer.text()
                    ids.append((await answer.json())["id"])
            async with asyncio.timeout(60), client.get(f"{waitd.url}/v1/events") as stream:
                assert stream.status == 200, await stream.text()
                outputs["/v1/events"] = b""
                for _ in ids:
                    outputs["/v1/events"] += await stream.content.readuntil(b"data: ")
                    outputs["/v1/events"] += await stream.content.readuntil(b"\n\n")

            async def deliveries() -> list[dict[str, Any]]:
                async with client.get(f"{waitd.url}/v1/deliveries") as answer:
                    outputs["/v1/deliveries"] = await answer.read()
                listed: list[dict[str, Any]] = json.loads(outputs["/v1/deliveries"])["deliveries"]
                return listed

            async def are_tried() -> bool:
                return all(each["attempts"] for each in await deliveries())

            await until(are_tried, what="an attempt of each delivery")
            of_waits = [f"/v1/waits/{wait_id}{more}" for wait_id in ids for more in ("", "/pokes")]
            for path in (*of_waits, "/metrics", "/readyz"):
                async with client.get(waitd.url + path) as answer:
                    outputs[path] = await answer.read()
            await waitd.kill()
            outputs |= {file.name: file.read_bytes() for file in state.iterdir() if file.is_file()}
            outputs["the log"] = json.dumps(waitd.log, ensure_ascii=False).encode()
    outputs |= {f"the event of {name}": body for name, body in receiver.bodies.items()}
    assert len(receiver.bodies) == 1
    for name, backend in backends.items():
        assert planted.secrets[name].encode() in backend.seen, f"{name} was sent its password"
    assert planted.find_leaks(outputs) == []
